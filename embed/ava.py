"""AVA's own files: votes and tags from AVA.txt, and its three splits by name."""

import csv
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embed.tables import DatasetError

N_FIELDS = 15
SPLIT_NAMES = ("paper", "official", "random")


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
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    rows = [line.split() for line in lines]
    for number, row in enumerate(rows, start=1):
        if row and (len(row) != N_FIELDS or not all(cell.isdecimal() for cell in row)):
            raise DatasetError(
                f"{path} line {number}: expected {N_FIELDS} whole numbers (index, id, ten counts, two tags, "
                f"challenge), got {lines[number - 1][:80]!r}"
            )
    filled = [row for row in rows if row]
    if not filled:
        raise DatasetError(f"{path} holds no label rows")
    values = np.array(filled, dtype=np.int64)
    ids, counts = np.unique(values[:, 1], return_counts=True)
    if (counts > 1).any():
        raise DatasetError(f"{path}: image {ids[counts > 1][0]} stands {counts.max()} times")
    votes = values[:, 2:12]
    if (empty := np.flatnonzero(votes.sum(axis=1) == 0)).size:
        raise DatasetError(f"{path}: image {values[empty[0], 1]} has no votes ({empty.size} such rows)")
    return AvaLabels(values[:, 1].astype(str), votes, values[:, 12], values[:, 13], values[:, 14])


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
            return [str(row["image_id"] if isinstance(row, dict) else row) for row in json.loads(text)]
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
    if not bare:
        raise ValueError(f"{text!r} is no image id")
    return bare


def split_from_lists(
    image_id: np.ndarray, options: Mapping[str, Any], resolve: Any, name: str
) -> tuple[np.ndarray, dict[str, int]]:
    """'train', 'test' or '' per image from `train_list` and `test_list` (each a path or several).

    Returns the split and the number of listed ids that have no image. An id in both lists is an error.
    """
    sides: dict[str, set[str]] = {}
    for side in ("train", "test"):
        given = options.get(f"{side}_list")
        if not given:
            raise DatasetError(
                f"the split {name!r} needs train_list and test_list: files with the image ids of each side. "
                f"Add: -o {side}_list=FILE (docs/datasets.md says where they are kept)"
            )
        files = given if isinstance(given, list) else [given]
        sides[side] = {i for file in files for i in read_id_list(resolve(file))}
    both = sides["train"] & sides["test"]
    if both:
        raise DatasetError(f"{len(both)} images are in both train and test, the first {sorted(both)[0]}")
    split = np.array(
        ["train" if i in sides["train"] else "test" if i in sides["test"] else "" for i in image_id.tolist()],
        dtype=str,
    )
    known = set(image_id.tolist())
    return split, {side: len(ids - known) for side, ids in sides.items()}
