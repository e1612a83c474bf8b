"""Heads: fitted probes as files of the data root, and those that others have fitted."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from iaa.library.errors import UsageError
from iaa.library.extras import naming_extras
from iaa.library.layout import Layout, cache_folder, head_path, named_head
from iaa.library.opening import check_new_head, existing_head, head_base, open_embedded
from iaa.library.progress import Progress, show_progress
from iaa.library.table import Table, facts

if TYPE_CHECKING:
    from embed.backbones.published_heads import PublishedHead


def list_heads(root: Path) -> Table:
    """The heads of a data root, those that come with the project, and those that others have published: name,
    backbone and output they belong to, what they were fitted on and what that was measured to reach. One that
    cannot be read has the reason there."""
    from analysis.probing.heads import HeadError, head_files, load_head
    from embed.backbones.published_heads import PUBLISHED

    rows = []
    for path in head_files(root / "heads"):
        try:
            head = load_head(path)
            rows.append([path.stem, head.backbone, head.output, head.origin, head.reaches])
        except HeadError as error:
            rows.append([path.stem, "", "", f"cannot be read: {error}", ""])
    here = {row[0] for row in rows}
    for each in PUBLISHED.values():
        if each.name not in here:
            how = f"fetched on first use ({each.trust})" if each.is_fetched else f"not fetched: {each.url}"
            rows.append([each.name, each.backbone, each.output, f"{each.what}; {each.licence}; {how}", ""])
    columns = ("head", "backbone", "output", "fitted_on", "reaches")
    cells = {name: [row[i] for row in rows] for i, name in enumerate(columns)}
    return Table(f"Heads in {root / 'heads'}, of the project, and published by others", cells)


def _in_words(value: Any) -> Any:
    """A part of a card for people: a metric with its interval in one, what belongs together in a row."""
    if isinstance(value, dict):
        parts = ((key, _in_words(each), isinstance(each, dict)) for key, each in value.items())
        return ", ".join(f"{key} ({told})" if is_in else f"{key} {told}" for key, told, is_in in parts)
    if isinstance(value, list) and len(value) == 3 and all(isinstance(each, float) for each in value):
        return "{:.3f} [{:.3f}, {:.3f}]".format(*value)
    return value


class Described(dict[str, Any]):
    """What a head expects and where it comes from, as plain values; and as people read it."""

    dataset: str | None = None
    """Of which the importance of the dimensions was measured."""

    def table(self) -> Table:
        """A row per fact; the layers by their widths, from features to the one score."""
        layers, widths = self["layers"], "not fetched yet"
        if layers:
            widths = " -> ".join(map(str, [layers[0][1], *(shape[0] for shape in layers)]))
        told = {**self, "layers": widths, **{key: _in_words(value) for key, value in self["about"].items()}}
        for key, value in told.pop("importance", {}).items():
            told[f"Figure 3 on {self.dataset}: {key}"] = value
        return facts(f"Head {self['name']}", {key: value for key, value in told.items() if key != "about"})


def describe_head(root: Path, head: str, dataset: str | None = None) -> Described:
    """What a head expects and where it comes from; with a data set, how concentrated its importance is there.
    Of a published one that is not here yet what is known of it; nothing is fetched for that.

    Raises MissingFileError, HeadError.
    """
    from analysis.probing.heads import load_head

    if dataset is None and (published := _not_here(root, head)) is not None:
        about = {
            "origin": published.what, "licence": published.licence, "url": published.url,
            "sha256": published.sha256 or published.trust,
            "fetched": "on first use" if published.is_fetched else "never, because of its licence",
        }  # fmt: skip
        return Described(
            name=head, backbone=published.backbone, output=published.output, unit_norm=True, layers=[],
            about=about,
        )  # fmt: skip
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


@naming_extras()
def fetch_head(root: Path, name: str, progress: Progress | None = None) -> Path:
    """Fetch a published head (embed.backbones.published_heads) into the data root's heads; returns its file.

    Raises HeadUnavailable where it cannot be had, which says which file, from where and to where.
    """
    from embed.backbones.laion import convert_head
    from embed.backbones.published_heads import PUBLISHED
    from embed.backbones.published_heads import fetch_head as fetch

    head = PUBLISHED[name]
    with (progress or show_progress)(f"fetching {head.file}", 0, "bytes") as bar:
        checkpoint, _ = fetch(head, cache_folder() / "heads", bar.update)
    about = {"origin": head.what, "licence": head.licence, "url": head.url, "checked_against": head.trust}
    written: Path = convert_head(checkpoint, named_head(root, name), head.backbone, head.output, about)
    return written


def _not_here(root: Path, name: str) -> "PublishedHead | None":
    """The published head of that name, unless one of that name is on this machine."""
    from analysis.probing.heads import head_files
    from embed.backbones.published_heads import PUBLISHED

    here = {path.stem for path in head_files(root / "heads")}
    return None if name in here else PUBLISHED.get(name)


def remove_head(root: Path, head: str) -> list[Path]:
    """Delete a head's two files and return them. Raises MissingFileError for an unknown head, UsageError for
    one that comes with the project."""
    from analysis.probing.heads import SHIPPED

    base = head_base(existing_head(root, head, may_fetch=False))
    if base.parent == SHIPPED:
        raise UsageError(f"{head} comes with the project and stays; one of yours of that name goes before it")
    files = [path for end in (".json", ".safetensors") if (path := Path(f"{base}{end}")).exists()]
    for path in files:
        path.unlink()
    return files
