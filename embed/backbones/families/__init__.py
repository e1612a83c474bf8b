"""Families of backbones: each is one file that says all that differs from library to library.

A family's file defines `FAMILY` and imports its library inside its functions, so that backbones are listed
and ids are read without it. The rest of `embed.backbones` asks the family and knows none by name.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from embed.backbones.spec import BackboneError, BackboneSpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

FAMILIES: dict[str, str] = {
    "mlsp": "embed.backbones.families.mlsp",
    "open_clip": "embed.backbones.families.open_clip",
    "timm": "embed.backbones.families.timm",
    "transformers": "embed.backbones.families.transformers",
}
"""The prefix of ids, which is the name of the library's package or of a wrapper of ours, and the module with
its `FAMILY`."""

_OURS = {"embed.backbones.levels": "mlsp"}
"""Families whose models are classes of this project, by the module of these."""

#: A module of a family's library; torch types the attributes of modules too loosely to check.
Model = Any
Transform = Callable[..., "Tensor"]


class BytePairs(NamedTuple):
    """What a byte-pair tokenizer is made of; its texts are mended and made small before."""

    vocabulary: Mapping[str, int]
    merges: Sequence[tuple[str, str]]
    """In their order."""
    end_of_word: str
    pattern: str
    """Regular expression of words, read without regard to case."""
    special: Mapping[str, int]
    start: int
    end: int


def _no_pairs(tokenizer: Any) -> BytePairs | None:
    return None


@dataclass(frozen=True)
class Texts:
    """The text towers of a family."""

    tower: Callable[[Model], "nn.Module | None"]
    """The module of a model's text tower; None where it has none."""
    tokenizer: Callable[[BackboneSpec], Callable[..., "Tensor"]]
    """Texts and `context_length` to token ids (b, context_length), cut or padded; nothing is built."""
    length_of: Callable[[BackboneSpec], int]
    """The number of tokens that the tower reads, without building it."""
    length: Callable[[Model], int]
    """The same of a model."""
    embedding: Callable[[Model, "Tensor"], "Tensor"]
    """Joint-space vectors (b, dim) of token ids, raw; causal towers take any length that fits."""
    is_causal: Callable[[Model], bool]
    """Whether tokens after the end token cannot change a text's vector, so that padding can go."""
    byte_pairs: Callable[[Any], BytePairs | None] = _no_pairs
    """What a tokenizer is made of, if it is CLIP's; None for any other."""


def _no_own(spec: BackboneSpec) -> bool:
    return False


def _no_file(spec: BackboneSpec) -> Path | None:
    return None


def _no_settings(spec: BackboneSpec) -> tuple[Path, ...]:
    return ()


def _unchanged(state: "dict[str, Tensor]", model: Model) -> "dict[str, Tensor]":
    return state


def _nothing_to_fit(model: Model, state: "dict[str, Tensor]") -> None:
    return None


@dataclass(frozen=True)
class Family:
    """What one library needs to know and do; whatever has a default is what most libraries need."""

    packages: Mapping[str, str]
    """Short name and distribution of the packages whose versions are recorded."""
    published: str
    """Id of the library's own weights, as a format of a spec's fields."""
    form: str
    """The form of ids with an example, for messages."""
    parse: Callable[[str], BackboneSpec | None]
    """The spec of what follows the prefix in an id; None where it is malformed."""
    check: Callable[[BackboneSpec, bool], None]
    """Raises BackboneError where the library does not know the names, or knows that they do not go together;
    True says that a weights file is given, so that the name of the weights may be one's own."""
    build: Callable[[BackboneSpec, "torch.device"], "tuple[nn.Module, Transform]"]
    """The architecture on a device, its weights not yet set, and its evaluation transform."""
    image_outputs: Callable[[Model, "Tensor"], "dict[str, Tensor]"]
    """All named outputs (b, dim) of normalised images from one pass, raw."""
    hub_location: Callable[[BackboneSpec], tuple[str, tuple[str, ...], str]]
    """Hub repository, names of the weights file to try there in order, and plain URL, '' where none."""
    activations: tuple[str, ...]
    """Where the classes of its activation functions are defined, besides torch."""
    texts: Texts | None = None
    own_form: str = ""
    """The form of ids for weights of one's own, given by file."""
    named_by_user: Callable[[BackboneSpec], bool] = _no_own
    """True if the name of the weights is none of the library's."""
    own_file: Callable[[BackboneSpec], Path | None] = _no_file
    """The weights file that the id itself names; None for those of the hub."""
    settings: Callable[[BackboneSpec], tuple[Path, ...]] = _no_settings
    """Files besides the weights from which the backbone is made; a change of them makes another."""
    to_layout: "Callable[[dict[str, Tensor], Model], dict[str, Tensor]]" = _unchanged
    """The tensors of foreign layouts under the names of the model."""
    fit_classifier: "Callable[[Model, dict[str, Tensor]], None]" = _nothing_to_fit
    """Gives the model as many classes as the weights have, be it none."""
    default_weights: Callable[[Model], str] = lambda model: ""
    """The name of the weights that an id without one means."""


def family(name: str) -> Family:
    """The family of a prefix. Raises KeyError for an unknown one."""
    found: Family = importlib.import_module(FAMILIES[name]).FAMILY
    return found


def family_of(model: Model) -> Family:
    """The family whose library a model's class comes from."""
    for kind in type(model).__mro__:
        name = _OURS.get(kind.__module__) or kind.__module__.partition(".")[0]
        if name in FAMILIES:
            return family(name)
    raise BackboneError(f"{type(model).__name__} is no model of {', '.join(FAMILIES)}")


def unknown_name(spec: BackboneSpec, what: str, name: str, known: list[str]) -> str:
    """The message that a library has no such name, with near ones."""
    lower = {entry.lower(): entry for entry in known}
    close = [lower[e] for e in get_close_matches(name.lower(), lower, n=3, cutoff=0.5)]
    listed = ", ".join(close or known[:20]) + (" ..." if not close and len(known) > 20 else "")
    return f"backbone {spec.id!r}: {spec.library} has no {what} {name!r}. It has: {listed}"


def unknown_weights(spec: BackboneSpec, name: str, tags: list[str]) -> str:
    """The message that a library has no such weights, with near ones and the way to one's own."""
    said = unknown_name(spec, f"weights for {spec.architecture.partition('.')[0]}", name, tags)
    own = f"{spec.library}:{spec.architecture}/{spec.pretrained}"
    return f"{said}. Weights of your own: --backbone {own} --weights FILE"
