"""What is known about a backbone before anything is loaded, and the errors of those that cannot be used.

Nothing heavy is imported here: the command line lists backbones at once.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

TORCH, ONNXRUNTIME = ENGINES = ("torch", "onnxruntime")
"""What can compute a backbone's image outputs: torch is the reference (embed.backbones.engines)."""


class BackboneError(Exception):
    """A backbone that cannot be used as asked; the message says what to do."""


class UnknownBackbone(BackboneError):  # noqa: N818
    """No backbone has this id."""


class PromptTooLong(BackboneError):  # noqa: N818
    """A text has more tokens than the text tower reads; cutting it would embed another text."""


@dataclass(frozen=True)
class BackboneSpec:
    """What is known about a backbone before anything is loaded.

    `library` names the family (`embed.backbones.families`). `outputs` maps output name to dimension; it is
    empty for ids with a family's prefix, whose outputs are measured at loading. `preprocessing` names the
    model whose transform is used, where that is not the architecture's own. `key_order` says that the
    weights file of `package` names its tensors differently but lists them in the architecture's order.
    With `preprocessing` set, the library knows the architecture but not these weights.
    `sha256` pins the file that `package` or `config` brings. `cells` has the rows and columns of outputs that
    are a grid of vectors, one cell after the other; they are long, and kept as float16.
    """

    id: str
    library: str
    architecture: str
    pretrained: str
    outputs: Mapping[str, int]
    has_text: bool
    source: str
    licence: str = ""
    note: str = ""
    hub_repo: str = ""
    hub_file: str = ""
    url: str = ""
    package: str = ""
    package_file: str = ""
    config: Path | None = None
    sha256: str = ""
    num_classes: int | None = None
    preprocessing: str = ""
    key_order: bool = False
    activation: str = ""
    registered: bool = field(default=True, repr=False)
    cells: Mapping[str, tuple[int, int]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "outputs", MappingProxyType(dict(self.outputs)))

    @property
    def file_stem(self) -> str:
        """The id as a file name."""
        from store.file_names import file_stem  # the store needs numpy, the registry does not

        return file_stem(self.id)


def read_config(spec: BackboneSpec) -> dict[str, object]:
    """The model configuration of a backbone that brings its own (the demo backbones)."""
    if spec.config is None:
        raise BackboneError(f"backbone {spec.id!r} has no configuration file of its own")
    if not spec.config.is_file():
        raise BackboneError(
            f"backbone {spec.id!r}: its configuration {spec.config.name} is missing from "
            f"{spec.config.parent}. Reinstall the package, or rebuild it: make demo-weights"
        )
    config: dict[str, object] = json.loads(spec.config.read_text(encoding="utf-8"))
    return config
