"""Data sets: described, and removed."""

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iaa.library.errors import UsageError
from iaa.library.extras import naming_extras
from iaa.library.layout import Layout, data_root
from iaa.library.table import Table, facts

if TYPE_CHECKING:
    from embed.images.datasets import ImageTable


def told_kinds() -> str:
    """The kinds of data sets that can be added, with what each is, for the command line's help."""
    from embed.images.kinds import KINDS

    added = {name: kind.about for name, kind in KINDS.items() if not kind.is_built_in}
    return ", ".join(f"{name} ({about})" if about else name for name, about in added.items())


@naming_extras()
def list_datasets(data: Path | str | None = None) -> Table:
    """The data sets of a data root, the built-in demo first."""
    from embed.images.datasets import list_datasets as found_in

    configs = found_in(data_root(None if data is None else Path(data)))
    return Table("Data sets", {"name": [c.name for c in configs], "kind": [c.kind for c in configs]})


def parse_options(kind: str, given: Sequence[str]) -> dict[str, Any]:
    """Settings of a kind from KEY=VALUE as typed. Raises UsageError for anything else."""
    from embed.images.datasets import parse_option

    options: dict[str, Any] = {}
    for entry in given:
        key, separator, value = entry.partition("=")
        if not separator:
            raise UsageError(f"--option takes KEY=VALUE, got {entry!r}")
        options[key] = parse_option(kind, key, value)
    return options


def read_table(layout: Layout) -> "ImageTable":
    """The images that a data set lists now; nothing is written. Raises DatasetError."""
    from embed.images.datasets import build_table, load_config

    return build_table(load_config(layout.root, layout.dataset))


class Summary(dict[str, Any]):
    """Counts of images, splits and ratings, and of what is missing, as plain values."""

    def __init__(self, layout: Layout, values: dict[str, Any], gaps: list[str]) -> None:
        super().__init__(values)
        self.layout = layout
        self.gaps = gaps
        """What was noticed while listing, one sentence each."""

    def table(self) -> Table:
        """A row per fact."""
        return facts(f"Data set {self.layout.dataset}", self)

    def notes_on_added(self) -> list[str]:
        """What to know about a data set that was just named, and what is next."""
        return [
            f"wrote {self.layout.folder / 'dataset.toml'}: {self['n_images']:,} images",
            *self.gaps,
            "Other backbones than the default: iaa backbone list, then iaa embed --backbone ID",
            f"Next: iaa embed --dataset {self.layout.dataset}",
        ]


def describe_dataset(layout: Layout, table: "ImageTable") -> Summary:
    """Counts of images, splits and ratings, and of what is missing; for people and JSON."""
    from analysis.evidence.labels import high_from_targets
    from iaa.library.embedding import targets_of

    summary: dict[str, Any] = {
        "dataset": layout.dataset,
        "images": table.location,
        "n_images": len(table),
        "split_name": table.split_name,
        "splits": {str(k) or "none": v for k, v in Counter(table.split.tolist()).items()},
        "ratings": "votes" if table.votes is not None else "scores" if table.scores is not None else "none",
        "n_labels_without_file": len(table.missing_files),
        "n_files_without_label": len(table.unlabelled_files),
        "n_files_passed_over": dict(table.passed_over),
        "digest": table.digest,
        "notes": list(table.notes),
    }
    if summary["ratings"] != "none":
        high = high_from_targets(targets_of(table))
        n_high = int(high.sum())
        summary |= {
            "threshold": table.threshold,
            "n_high": n_high,
            "majority_accuracy_of_all": max(n_high, len(high) - n_high) / len(high),
        }
    return Summary(layout, summary, gaps(table))


def gaps(table: "ImageTable") -> list[str]:
    """What was noticed while listing, one sentence each: passed-over files, labels and files without the
    other."""
    from embed.images.files import counted

    said = list(table.notes)
    if table.passed_over:
        n, endings = sum(table.passed_over.values()), counted(Counter(table.passed_over))
        said.append(f"passed over: {n:,} files that are no photographs ({endings})")
    for files, what in (
        (table.missing_files, "labels without a file"),
        (table.unlabelled_files, "files without a label"),
    ):
        if files:
            said.append(f"{what}: {len(files):,}, the first: {files[0]}")
    return said


def made_files(layout: Layout) -> list[Path]:
    """What the program has made for a data set: everything that `remove_dataset` deletes."""
    from embed.images.datasets import built_in

    made = [layout.folder / "dataset.toml", layout.targets, layout.features, layout.folder / "prompts"]
    made += [layout.derived, layout.finetuned, layout.report, layout.logs, layout.variants.folder]
    if built_in(layout.dataset):
        made.append(layout.folder / "images")
    locks = layout.folder.glob("*.lock")
    return [path for path in (*made, *locks) if path.exists()]


def remove_dataset(layout: Layout) -> list[Path]:
    """Delete what the program has made for a data set, and its folder if nothing else lies there; returns
    what was deleted. Photographs and ratings are where they were.

    Raises DatasetError for an unknown data set.
    """
    from iaa.library.opening import check_known

    check_known(layout)
    removed = made_files(layout)
    for path in removed:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    if not any(layout.folder.iterdir()):
        layout.folder.rmdir()
    return removed
