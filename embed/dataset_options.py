"""The settings of each kind of data set: what they mean, which are needed, how dataset.toml shows them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embed.tables import DatasetError

KINDS = ("ava", "table", "folder", "demo")
TEST_SHARE = 0.10

_IMAGES = {
    "images": "folder of the photographs with all its subfolders, tar files (a pattern), or a URL of either",
    "exclude": "names or patterns of what is left out besides previews and waste, such as drafts,*_small.jpg",
    "shard_in_id": "true lets the ids of images in tar files begin with the tar's name (default false)",
}
_RANDOM = {
    "test_share": f"with split random: share of test images (default {TEST_SHARE})",
    "split_seed": "with split random: another number draws other test images (default 0)",
}
_EXIF = "true turns images as their EXIF orientation says"

#: Every setting by kind, with the comment it gets in dataset.toml. docs/datasets.md has examples.
OPTIONS: dict[str, dict[str, str]] = {
    "ava": {
        **_IMAGES,
        "ratings": "AVA.txt: index, id, ten vote counts, two tags, challenge",
        "split": "paper, official or random (default)",
        "train_list": "with split paper or official: file, or list of files, with the train ids",
        "test_list": "with split paper or official: file, or list of files, with the test ids",
        **_RANDOM,
        "threshold": "high is a mean vote strictly above this (default 5)",
        "exif_rotate": f"{_EXIF} (default false, as in the authors' code)",
    },
    "table": {
        **_IMAGES,
        "ratings": "CSV or Parquet file, one row per image (or per vote, see rows)",
        "test_ratings": "a second file with the same columns: its images are for testing, those of ratings "
        "for training",
        "encoding": "of a CSV that is neither UTF-8 nor has a byte order mark, such as cp1252",
        "file_column": "column of the files, relative to images (default file, filename, path, image, "
        "image_name)",
        "id_column": "column of the image ids (default image_id, id; without one see ids)",
        "ids": "without an id column: path, the file below images with its ending, as for folders; or "
        "stem, without",
        "score_column": "column of one score per image (default votes_1..votes_k, else score, mos, mean)",
        "votes_prefix": "name that the columns of vote counts have before their number (c for c1, c2, ...)",
        "rater_columns": "columns of one rater's votes each: a list, or names with commas; * for any letters",
        "rows": "images (default), or votes: each row is one person's vote (default where there is a rater "
        "column)",
        "rater_column": "with a row per vote: column of who voted (default rater, user_id, worker, ...)",
        "n_levels": "votes counted from single ones go from 1 to this (default the highest there is)",
        "split": "given (default where there is a split column), random or none",
        "split_column": "column with train, test or nothing (default split)",
        "validation": "what validation images of the split column are for: train, test or none (no default)",
        **_RANDOM,
        "threshold": "high is strictly above this (default middle vote, or median of the train scores)",
        "exif_rotate": f"{_EXIF} (default false)",
    },
    "folder": {
        **_IMAGES,
        "exif_rotate": f"{_EXIF} (default true)",
    },
    "demo": {},
}
_NEEDED = {"ava": ("images", "ratings"), "table": ("images", "ratings"), "folder": ("images",), "demo": ()}
_SPLITS = {"ava": ("paper", "official", "random"), "table": ("given", "random", "none")}
_LISTS = ("train_list", "test_list")
PATHS = ("images", "ratings", "test_ratings", *_LISTS)
FLAGS = ("exif_rotate", "shard_in_id")
NUMBERS = ("threshold", "test_share", "split_seed", "n_levels")
_CHOICES = {
    "ids": ("path", "stem"),
    "rows": ("images", "votes"),
    "validation": ("train", "test", "none"),
}


def check_options(kind: str, options: Mapping[str, Any], file: Path) -> None:
    """Raise DatasetError for settings that are unknown, missing, or of the wrong type or range."""
    known = OPTIONS[kind]
    if unknown := set(options) - set(known):
        raise DatasetError(
            f"{file}: unknown settings {sorted(unknown)} for kind {kind}; known: {sorted(known)}"
        )
    for needed in _NEEDED[kind]:
        if needed not in options:
            raise DatasetError(f"{file}: kind {kind} needs {needed!r} (--{needed})")
    for key, value in options.items():
        if expected := _expected(kind, key, value):
            raise DatasetError(f"{file}: {key} is {value!r}, expected {expected}")
    if "test_ratings" in options and ("split_column" in options or options.get("split", "given") != "given"):
        raise DatasetError(f"{file}: test_ratings says what is for testing: leave out split and split_column")
    for key in ("test_share", "split_seed"):
        if key in options and options.get("split", "random") != "random":
            raise DatasetError(f'{file}: {key} is for split "random", but split is {options["split"]!r}')
    if kind == "ava" and options.get("split", "random") == "random":
        for key in _LISTS:
            if key in options:
                raise DatasetError(f"{file}: {key} is given, but split is random. Say paper or official")


def _expected(kind: str, key: str, value: Any) -> str:
    """What a setting should be, or '' where it is that."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if key in FLAGS:
        return "" if isinstance(value, bool) else "true or false, without quotes"
    if key == "threshold":
        return "" if is_number and abs(value) < float("inf") else "a number"
    if key == "test_share":
        return "" if is_number and 0 < value < 1 else "a share between 0 and 1 such as 0.1"
    if key == "split_seed":
        return "" if type(value) is int else "a whole number"
    if key == "split":
        return "" if value in _SPLITS[kind] else f"one of {', '.join(_SPLITS[kind])}"
    if key == "exclude":
        patterns = value if isinstance(value, list) else [value]
        is_text = bool(patterns) and all(isinstance(v, str) and v.strip() for v in patterns)
        return "" if is_text else "a name or pattern in quotes, or a list of them"
    if key in _CHOICES:
        return "" if value in _CHOICES[key] else f"one of {', '.join(_CHOICES[key])}"
    if key == "n_levels":
        return "" if type(value) is int and 2 <= value <= 100 else "a whole number from 2 to 100"
    if key == "rater_columns" and isinstance(value, list):
        return "" if value and all(isinstance(v, str) and v for v in value) else "names of columns"
    if key in _LISTS and isinstance(value, list):
        return "" if value and all(isinstance(v, str) and v for v in value) else "file names"
    if not isinstance(value, str) or not value:
        return "a name in quotes"
    return "" if _is_utf8(value) else "a name in UTF-8"


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def format_toml(name: str, kind: str, options: Mapping[str, Any]) -> str:
    """The text of dataset.toml: every setting with its meaning, those not set as comments."""
    lines = [
        f"# Data set {name!r}. You may edit this by hand; docs/datasets.md explains every setting.",
        "# Relative paths are relative to this file's folder.",
        f"kind = {_toml_value(kind)}",
    ]
    for key, meaning in OPTIONS[kind].items():
        lines += ["", f"# {meaning}"]
        lines.append(f"{key} = {_toml_value(options[key])}" if key in options else f"# {key} =")
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    """A string, number, boolean or list in TOML; JSON's escapes are TOML's but for DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
