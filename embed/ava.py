"""AVA's own files: votes and tags from AVA.txt, and its three splits by name."""

import csv
import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embed.tables import DatasetError

N_FIELDS = 15
PAPER_SIZES = (229_971, 25_551)
_COUNT = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True)
class AvaLabels:
    """The rows of AVA.txt, in file order."""

    image_id: np.ndarray
    votes: np.ndarray
    tag_1: np.ndarray
    tag_2: np.ndarray
    challenge: np.ndarray


def read_ava_labels(path: Path) -> AvaLabels:
    """AVA.txt: per line index, id, counts of the votes 1 to 10, two tags, challenge.

    Raises DatasetError naming the line for a wrong number of fields, a field that is no count, an image
    without votes, or an id that stands twice.
    """
    if not path.is_file():
        raise DatasetError(
            f"{path} does not exist; expected AVA.txt (docs/datasets.md says where it is kept)"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of an empty file, refused below
            warnings.simplefilter("error", DeprecationWarning)  # of a vote such as 3.7
            values = np.loadtxt(path, dtype=np.int64, comments=None, ndmin=2, encoding="utf-8-sig")
    except (ValueError, OverflowError, DeprecationWarning) as error:
        raise _first_bad_line(path) from error
    if values.size == 0:
        raise DatasetError(f"{path} holds no label rows")
    if values.shape[1] != N_FIELDS or (values < 0).any():
        raise _first_bad_line(path)
    ids, counts = np.unique(values[:, 1], return_counts=True)
    if (counts > 1).any():
        raise DatasetError(f"{path}: image {ids[counts > 1][0]} stands {counts.max()} times")
    votes = np.ascontiguousarray(values[:, 2:12])
    if (empty := np.flatnonzero(votes.sum(axis=1) == 0)).size:
        raise DatasetError(f"{path}: image {values[empty[0], 1]} has no votes ({empty.size} such rows)")
    image_id = np.array(values[:, 1].astype(str).tolist())
    return AvaLabels(image_id, votes, *np.ascontiguousarray(values[:, 12:].T))


def _first_bad_line(path: Path) -> DatasetError:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            cells = line.split()
            if cells and (len(cells) != N_FIELDS or not all(map(_COUNT.fullmatch, cells))):
                return DatasetError(
                    f"{path} line {number}: expected {N_FIELDS} whole numbers (index, id, ten counts, "
                    f"two tags, challenge), got {line.strip()[:80]!r}"
                )
    return DatasetError(f"{path} cannot be read as AVA.txt: {N_FIELDS} whole numbers per line")


def paths_by_id(root: Path | str, files: Iterable[str], labelled: Iterable[str]) -> dict[str, str]:
    """The file of each labelled id, by its name without ending; two files for one id are an error."""
    wanted = set(labelled)
    by_id: dict[str, str] = {}
    for path in files:
        image_id = os.path.splitext(path.rpartition("/")[2])[0]
        if image_id not in wanted:
            continue
        if image_id in by_id:
            first, second = sorted((by_id[image_id], path))
            raise DatasetError(
                f"image {image_id} has two files below {root}: {first} and {second}. "
                "Keep one, or point `images` at the folder that is meant"
            )
        by_id[image_id] = path
    return by_id


def read_id_list(path: Path) -> list[str]:
    """Image ids of one side of a split.

    Reads idealo's JSON (a list of {"image_id", "label"}), CSV files with an `image_id` or `id` column (the
    authors'), and plain lists of ids, one per line (AVA's own `.jpgl`).
    """
    if not path.is_file():
        raise DatasetError(f"{path} does not exist; expected a list of the split's image ids")
    text = path.read_text(encoding="utf-8-sig")
    try:
        if path.suffix.lower() == ".json":
            rows = json.loads(text)
            if not isinstance(rows, list):
                raise TypeError(f"expected a list, got {type(rows).__name__}")
            return [_bare_id(str(row["image_id"] if isinstance(row, dict) else row)) for row in rows]
        if path.suffix.lower() == ".csv":
            reader = csv.DictReader(text.splitlines())
            names = [n for n in ("image_id", "id", "ID", "image") if n in (reader.fieldnames or [])]
            if not names:
                raise DatasetError(f"{path} has no image_id column; it has {reader.fieldnames}")
            return [_bare_id(row[names[0]]) for row in reader]
        return [_bare_id(line) for line in text.split()]
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path} is no list of image ids: {type(error).__name__} {error}") from error


def _bare_id(text: str) -> str:
    bare = re.sub(r"\.jpe?g$", "", text.strip().rsplit("/", 1)[-1], flags=re.IGNORECASE)
    if not _COUNT.fullmatch(bare):
        raise ValueError(f"{text!r} is no image id")
    return bare


def split_from_lists(
    image_id: np.ndarray, options: Mapping[str, Any], resolve: Callable[[str], Path], name: str
) -> tuple[np.ndarray, list[str]]:
    """'train', 'test' or '' per image from `train_list` and `test_list` (each a path or several).

    Returns the split and what is odd about the lists, one sentence each. An id in both is an error.
    """
    sides: dict[str, list[str]] = {}
    for side in ("train", "test"):
        given = options.get(f"{side}_list")
        if not given:
            raise DatasetError(
                f"the split {name!r} needs train_list and test_list: files with the image ids of each side. "
                f"Add: -o {side}_list=FILE (docs/datasets.md says where they are kept)"
            )
        files = given if isinstance(given, list) else [given]
        sides[side] = [i for file in files for i in read_id_list(resolve(file))]
    train, test = set(sides["train"]), set(sides["test"])
    if both := train & test:
        raise DatasetError(
            f"{len(both):,} images are in both train and test, the first {min(both)}. "
            f"Files: {options['train_list']}, {options['test_list']}"
        )
    split = np.array(
        ["train" if i in train else "test" if i in test else "" for i in image_id.tolist()], dtype="U5"
    )
    known = set(image_id.tolist())
    oddities = {"label rows are in neither list": image_id[split == ""].tolist()}
    for side, ids in sides.items():
        oddities[f"ids of {side}_list have no label row"] = [i for i in ids if i not in known]
        oddities[f"ids are repeated in {side}_list"] = [i for i, n in Counter(ids).items() if n > 1]
    notes = [_note_ids(what, ids) for what, ids in oddities.items() if ids]
    if name == "paper" and (len(train), len(test)) != PAPER_SIZES:
        notes.append(
            f"the lists name {len(train):,} train and {len(test):,} test images; "
            f"the paper's split has {PAPER_SIZES[0]:,} and {PAPER_SIZES[1]:,}"
        )
    return split, notes


def _note_ids(what: str, ids: Sequence[str]) -> str:
    return f"{len(ids):,} {what}: {', '.join(ids[:5])}{', ...' if len(ids) > 5 else ''}"
