"""Heads: fitted probes as files of the data root, and those that others have fitted."""

from pathlib import Path
from typing import Any

from iaa.library.errors import UsageError
from iaa.library.layout import Layout, head_path, named_head
from iaa.library.opening import check_new_head, existing_head, head_base, open_embedded
from iaa.library.table import Table, facts


def list_heads(root: Path) -> Table:
    """The heads of a data root and those that come with the project: name, backbone and output they belong
    to, what they were fitted on and what that was measured to reach. One that cannot be read has the reason
    there."""
    from analysis.probing.heads import HeadError, head_files, load_head

    rows = []
    for path in head_files(root / "heads"):
        try:
            head = load_head(path)
            rows.append([path.stem, head.backbone, head.output, head.origin, head.reaches])
        except HeadError as error:
            rows.append([path.stem, "", "", f"cannot be read: {error}", ""])
    columns = ("head", "backbone", "output", "fitted_on", "reaches")
    cells = {name: [row[i] for row in rows] for i, name in enumerate(columns)}
    return Table(f"Heads in {root / 'heads'} and of the project", cells)


class Described(dict[str, Any]):
    """What a head expects and where it comes from, as plain values; and as people read it."""

    dataset: str | None = None
    """Of which the importance of the dimensions was measured."""

    def table(self) -> Table:
        """A row per fact; the layers by their widths, from features to the one score."""
        layers = self["layers"]
        widths = " -> ".join(map(str, [layers[0][1], *(shape[0] for shape in layers)]))
        told = {**self, "layers": widths, **self["about"]}
        for key, value in told.pop("importance", {}).items():
            told[f"Figure 3 on {self.dataset}: {key}"] = value
        return facts(f"Head {self['name']}", {key: value for key, value in told.items() if key != "about"})


def describe_head(root: Path, head: str, dataset: str | None = None) -> Described:
    """What a head expects and where it comes from; with a data set, how concentrated its importance is there.

    Raises MissingFileError, HeadError.
    """
    from analysis.probing.heads import load_head

    loaded = load_head(existing_head(root, head))
    described = Described(
        name=loaded.name,
        backbone=loaded.backbone,
        output=loaded.output,
        unit_norm=loaded.unit_norm,
        layers=[list(weight.shape) for weight, _ in loaded.layers],
        about=loaded.about,
    )
    if dataset is not None:
        described.dataset = dataset
        described["importance"] = measure_importance(Layout(root, dataset), head)
    return described


def measure_importance(layout: Layout, head: str) -> dict[str, Any]:
    """How concentrated the head's |weight x std| is, the features' spread taken over a data set."""
    import numpy as np

    from analysis.probing.heads import check_features, feature_std, head_importance, load_head
    from analysis.probing.importance import CONCENTRATION

    loaded = load_head(existing_head(layout.root, head))
    with open_embedded(layout, loaded.backbone) as features:
        check_features(loaded, features)
        importance = head_importance(loaded, feature_std(features, loaded.output, loaded.unit_norm))
    largest = np.argsort(-importance)[:10]
    measured = {name: round(float(measure(importance)), 4) for name, measure in CONCENTRATION.items()}
    return {**measured, "largest_dimensions": largest.tolist()}


def import_head(
    root: Path, checkpoint: Path, backbone: str, save: str | None = None, overwrite: bool = False
) -> Path:
    """Keep a head of LAION's aesthetic predictors, bound to its backbone; returns its file.

    Raises UsageError for a file that is not there or a name that is taken, HeadError for one of another form.
    """
    from embed.backbones.laion import convert_head

    if not checkpoint.is_file():
        raise UsageError(f"{checkpoint} does not exist")
    target = head_path(root, save) if save else named_head(root, checkpoint.name.removesuffix(".pth"))
    check_new_head(target, overwrite)
    written: Path = convert_head(checkpoint, head_base(target), backbone)
    return written


def remove_head(root: Path, head: str) -> list[Path]:
    """Delete a head's two files and return them. Raises MissingFileError for an unknown head, UsageError for
    one that comes with the project."""
    from analysis.probing.heads import SHIPPED

    base = head_base(existing_head(root, head))
    if base.parent == SHIPPED:
        raise UsageError(f"{head} comes with the project and stays; one of yours of that name goes before it")
    files = [path for end in (".json", ".safetensors") if (path := Path(f"{base}{end}")).exists()]
    for path in files:
        path.unlink()
    return files
