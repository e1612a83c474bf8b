"""AVA: votes and tags from its own files, and its three splits by name."""

import io
import logging
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embed.images import options as setting
from embed.images.config import DatasetConfig, Kind
from embed.images.errors import DatasetError
from embed.images.files import natural_key
from embed.images.kinds.shared import IMAGES, RANDOM, check_random, exif, random_split, require_some
from embed.images.options import Option
from embed.images.sources import Source
from embed.images.table import ImageTable, default_threshold
from store.errors import MissingFileError, TableError
from store.json_files import parse_json
from store.text import read_text

logger = logging.getLogger(__name__)

N_FIELDS = 15
PAPER_SIZES = (229_971, 25_551)
_COUNT = re.compile(r"[0-9]{1,18}")

OPTIONS: dict[str, Option] = {
    **IMAGES,
    "ratings": setting.path("AVA.txt: index, id, ten vote counts, two tags, challenge"),
    "split": setting.choice("paper, official or random (default)", "paper", "official", "random"),
    "train_list": setting.paths("with split paper or official: file, or list of files, with the train ids"),
    "test_list": setting.paths("with split paper or official: file, or list of files, with the test ids"),
    **RANDOM,
    "threshold": setting.number("high is a mean vote strictly above this (default 5)"),
    "exif_rotate": exif("false, as in the authors' code"),
}


@dataclass(frozen=True)
class AvaLabels:
    """The rows of AVA.txt, in file order."""

    image_id: np.ndarray
    votes: np.ndarray
    columns: dict[str, np.ndarray]
    """challenge, tag_1 and tag_2 of AVA.txt; of a table, whatever it has."""
    notes: tuple[str, ...] = ()


def read_ava_labels(path: Path) -> AvaLabels:
    """AVA.txt: per line index, id, counts of the votes 1 to 10, two tags, challenge. Or a table with a
    header, as AVA goes round on Kaggle: a column of ids (image_num, image_id) and ten of counts (vote_1,
    ...).

    Raises DatasetError naming the line for a wrong number of fields, a field that is no count, an image
    without votes, or an id that stands twice.
    """
    try:
        text = read_text(path)
    except MissingFileError as error:
        raise DatasetError(
            f"{path} does not exist; expected AVA.txt (docs/datasets.md says where it is kept)"
        ) from error
    except TableError as error:
        raise DatasetError(str(error)) from error
    if re.match(r"\s*\S*[A-Za-z]", text):
        return _read_ava_table(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of an empty file, refused below
            warnings.simplefilter("error", DeprecationWarning)  # of a vote such as 3.7
            values = np.loadtxt(io.StringIO(text), dtype=np.int64, comments=None, ndmin=2)
    except (ValueError, OverflowError, DeprecationWarning) as error:
        raise _first_bad_line(path, text) from error
    if values.size == 0:
        raise DatasetError(f"{path} holds no label rows")
    if values.shape[1] != N_FIELDS or (values < 0).any():
        raise _first_bad_line(path, text)
    ids, counts = np.unique(values[:, 1], return_counts=True)
    if (counts > 1).any():
        raise DatasetError(f"{path}: image {ids[counts > 1][0]} stands {counts.max()} times")
    votes = np.ascontiguousarray(values[:, 2:12])
    if (empty := np.flatnonzero(votes.sum(axis=1) == 0)).size:
        raise DatasetError(f"{path}: image {values[empty[0], 1]} has no votes ({empty.size} such rows)")
    image_id = np.array(values[:, 1].astype(str).tolist())
    columns = {"challenge": values[:, 14], "tag_1": values[:, 12], "tag_2": values[:, 13]}
    return AvaLabels(image_id, votes, {name: np.ascontiguousarray(c) for name, c in columns.items()})


def _read_ava_table(path: Path) -> AvaLabels:
    from embed.images.ratings.tables import read_ratings

    ratings = read_ratings(path, {"ids": "path"})
    if ratings.votes is None or ratings.votes.shape[1] != 10:
        raise DatasetError(
            f"{path} has no ten columns of vote counts (votes_1 to votes_10); expected AVA.txt or a table "
            "of AVA's "
            "votes. For a table of something else: --kind table"
        )
    try:
        ids = [_bare_id(name) for name in (ratings.image_id if ratings.has_ids else ratings.path).tolist()]
    except ValueError as error:
        raise DatasetError(
            f"{path}: {error}; AVA's are numbers. For other photographs: --kind table"
        ) from error
    return AvaLabels(np.array(ids), ratings.votes, ratings.columns, ratings.notes)


def _first_bad_line(path: Path, text: str) -> DatasetError:
    for number, line in enumerate(text.split("\n"), start=1):
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

    Reads idealo's JSON (a list of {"image_id", "label"}), tables with a column of ids (image_id, id,
    image_num, the authors'), and plain lists (AVA's own `.jpgl`): one id per line, or an id and a label,
    which is left out.

    Raises DatasetError, naming the line, for what is no id, and for lines with several ids.
    """
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return _ids_of_table(path)
        text = read_text(path)
        if path.suffix.lower() == ".json" or text.lstrip()[:1] in ("[", "{"):
            rows = parse_json(text)
            if not isinstance(rows, list):
                raise TypeError(f"expected a list, got {type(rows).__name__}")
            return [_bare_id(_id_of_entry(row)) for row in rows]
        if path.suffix.lower() == ".csv" and not re.match(r"\s*[0-9]", text):
            return _ids_of_table(path)
        return _ids_of_lines(path, text)
    except MissingFileError as error:
        raise DatasetError(f"{path} does not exist; expected a list of the split's image ids") from error
    except TableError as error:
        raise DatasetError(str(error)) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DatasetError(f"{path} is no list of image ids: {type(error).__name__} {error}") from error


def _id_of_entry(row: Any) -> str:
    value = row["image_id"] if isinstance(row, dict) else row
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no image id")
    return str(value)


def _ids_of_table(path: Path) -> list[str]:
    from store.tables import column_text, plain, read_table

    table = read_table(path)
    wanted = ("imageid", "id", "imagenum", "image", "filename", "file", "imagename")
    found = [n for name in wanted for n in table.column_names if plain(n) == name]
    if not found:
        raise DatasetError(f"{path} has no image_id column; it has {', '.join(table.column_names)}")
    return [_bare_id(name) for name in column_text(table, found[0])]


def _ids_of_lines(path: Path, text: str) -> list[str]:
    """Every entry of every line; where each line is an id and a number up to 10, that is a label and no
    id."""
    lines = [re.findall(r"[^\s,;]+", line) for line in text.split("\n")]
    filled = [number for number, entries in enumerate(lines) if entries]
    is_labelled = [len(e := lines[i]) == 2 and _is_label(e[1]) and not _is_label(e[0]) for i in filled]
    if any(is_labelled) and not all(is_labelled):
        number = filled[is_labelled.index(False)] + 1
        raise DatasetError(
            f"{path} line {number}: {' '.join(lines[number - 1])[:60]!r}, where other lines are an id and "
            "its label. "
            "Expected one image id per line, or a label on every line"
        )
    return [_bare_id(entry) for entries in lines for entry in (entries[:1] if any(is_labelled) else entries)]


def _is_label(entry: str) -> bool:
    try:
        return abs(float(entry)) <= 10
    except ValueError:
        return False


def _bare_id(text: str) -> str:
    bare = re.sub(r"\.(jpe?g|png|0+)$", "", text.strip().rsplit("/", 1)[-1], flags=re.IGNORECASE)
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


def check(options: Mapping[str, Any]) -> str:
    """What is wrong with settings that are right one by one, or ''."""
    if options.get("split", "random") == "random":
        for key in ("train_list", "test_list"):
            if key in options:
                return f"{key} is given, but split is random. Say paper or official"
    return check_random(options)


def build(config: DatasetConfig, source: Source) -> ImageTable:
    """The images with labels and a file, in the order of the labels."""
    labels = read_ava_labels(config.resolve(config.options["ratings"]))
    ids = labels.image_id.tolist()
    files = source.files
    by_id = paths_by_id(source.location, files, ids)
    there = np.array([i in by_id for i in ids], dtype=bool)
    listed = np.array([f"{i}.jpg" for i in ids[:3]])
    require_some(config, there, source.location, listed, files, "File names must be relative to it")
    split_name = str(config.options.get("split", "random"))
    notes: list[str] = []
    if split_name == "random":
        split = random_split(config, labels.image_id)
    else:
        split, notes = split_from_lists(labels.image_id, config.options, config.resolve, split_name)
    for note in notes:
        logger.warning("%s: %s", config.name, note)
    path = np.array([by_id[i] for i in ids if i in by_id], dtype=str)
    return ImageTable(
        dataset=config.name,
        root=config.folder,
        image_id=labels.image_id[there],
        path=path,
        votes=labels.votes[there],
        split=split[there],
        split_name=split_name,
        threshold=float(config.options.get("threshold", default_threshold(labels.votes.shape[1]))),
        columns={name: values[there] for name, values in labels.columns.items()},
        missing_files=labels.image_id[~there].tolist(),
        unlabelled_files=sorted(set(files).difference(path.tolist()), key=natural_key),
        notes=(*labels.notes, *notes),
    )


KIND = Kind(
    options=OPTIONS, build=build, about="AVA's own files", needed=("images", "ratings"), check=check
)
