"""Data sets: described, and removed."""

import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iaa.library.embedding import targets_of
from iaa.library.layout import Layout
from iaa.library.opening import check_known

if TYPE_CHECKING:
    from embed.images.datasets import ImageTable


def told_kinds() -> str:
    """The kinds of data sets that can be added, with what each is, for the command line's help."""
    from embed.images.kinds import KINDS

    added = {name: kind.about for name, kind in KINDS.items() if not kind.is_built_in}
    return ", ".join(f"{name} ({about})" if about else name for name, about in added.items())


def read_table(layout: Layout) -> "ImageTable":
    """The images that a data set lists now; nothing is written. Raises DatasetError."""
    from embed.images.datasets import build_table, load_config

    return build_table(load_config(layout.root, layout.dataset))


def describe_dataset(layout: Layout, table: "ImageTable") -> dict[str, Any]:
    """Counts of images, splits and ratings, and of what is missing; values are plain, for people and JSON."""
    from analysis.evidence.labels import high_from_targets

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
    return summary


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
    made += [layout.derived, layout.finetuned, layout.report, layout.logs]
    if built_in(layout.dataset):
        made.append(layout.folder / "images")
    locks = layout.folder.glob("*.lock")
    return [path for path in (*made, *locks) if path.exists()]


def remove_dataset(layout: Layout) -> list[Path]:
    """Delete what the program has made for a data set, and its folder if nothing else lies there; returns
    what was deleted. Photographs and ratings are where they were.

    Raises DatasetError for an unknown data set.
    """
    check_known(layout)
    removed = made_files(layout)
    for path in removed:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    if not any(layout.folder.iterdir()):
        layout.folder.rmdir()
    return removed
