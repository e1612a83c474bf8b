"""Rated photographs of any origin: a table with a row per image or per vote."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from embed.images import options as setting
from embed.images.config import DatasetConfig, Kind
from embed.images.errors import DatasetError
from embed.images.files import natural_key
from embed.images.kinds.shared import IMAGES, RANDOM, check_random, exif, random_split, require_some
from embed.images.options import Option
from embed.images.sources import FolderSource, Source
from embed.images.table import ImageTable, default_threshold

if TYPE_CHECKING:
    from embed.images.ratings.tables import Ratings

OPTIONS: dict[str, Option] = {
    **IMAGES,
    "ratings": setting.path("CSV or Parquet file, one row per image (or per vote, see rows)"),
    "test_ratings": setting.path(
        "a second file with the same columns: its images are for testing, those of ratings for training",
    ),
    "encoding": setting.text("of a CSV that is neither UTF-8 nor has a byte order mark, such as cp1252"),
    "file_column": setting.text(
        "column of the files, relative to images (default file, filename, path, image, image_name)",
    ),
    "id_column": setting.text("column of the image ids (default image_id, id; without one see ids)"),
    "ids": setting.choice(
        "without an id column: path, the file below images with its ending, as for folders; or stem, without",
        "path",
        "stem",
    ),
    "score_column": setting.text(
        "column of one score per image (default votes_1..votes_k, else score, mos, mean)"
    ),
    "votes_prefix": setting.text(
        "name that the columns of vote counts have before their number (c for c1, c2, ...)"
    ),
    "rater_columns": setting.texts(
        "columns of one rater's votes each: a list, or names with commas; * for any letters",
        "names of columns",
    ),
    "rows": setting.choice(
        "images (default), or votes: each row is one person's vote (default where there is a rater column)",
        "images",
        "votes",
    ),
    "rater_column": setting.text(
        "with a row per vote: column of who voted (default rater, user_id, worker, ...)"
    ),
    "n_levels": setting.whole(
        "votes counted from single ones go from 1 to this (default the highest there is)", 2, 100
    ),
    "split": setting.choice(
        "given (default where there is a split column), random or none", "given", "random", "none"
    ),
    "split_column": setting.text("column with train, test or nothing (default split)"),
    "validation": setting.choice(
        "what validation images of the split column are for: train, test or none (no default)",
        "train",
        "test",
        "none",
    ),
    **RANDOM,
    "threshold": setting.number(
        "high is strictly above this (default middle vote, or median of the train scores)"
    ),
    "exif_rotate": exif("false"),
}


def check(options: Mapping[str, Any]) -> str:
    """What is wrong with settings that are right one by one, or ''."""
    if "test_ratings" in options and ("split_column" in options or options.get("split", "given") != "given"):
        return "test_ratings says what is for testing: leave out split and split_column"
    return check_random(options)


def build(config: DatasetConfig, source: Source) -> ImageTable:
    """The rated images that have a file, in the order of the ratings."""
    from embed.images.ratings.tables import match_files, read_ratings

    test_ratings = config.options.get("test_ratings")
    ratings = read_ratings(
        config.resolve(config.options["ratings"]),
        config.options,
        config.resolve(test_ratings) if test_ratings else None,
    )
    files = source.files
    root = source.root if isinstance(source, FolderSource) else None
    found, notes = match_files(root, ratings.path.tolist(), files)
    there = np.array([path is not None for path in found], dtype=bool)
    require_some(
        config,
        there,
        source.location,
        ratings.path,
        files,
        "Names must be relative to it. Another column: -o file_column=NAME",
    )
    path = np.array([p for p in found if p is not None], dtype=str)
    image_id = ratings.image_id
    if not ratings.has_ids and config.options.get("ids") == "path":
        image_id = np.array([p or i for p, i in zip(found, image_id.tolist(), strict=True)], dtype=str)
    split, split_name = ratings.split, "given"
    wanted = config.options.get("split", "random" if split is None else "given")
    if wanted == "given" and not {"test_share", "split_seed"}.isdisjoint(config.options):
        raise DatasetError(
            f"{config.name}: test_share and split_seed are for a random split, but the ratings have a "
            'split column. Say split = "random", or leave them out'
        )
    if wanted == "none":
        split, split_name = np.full(len(there), "", dtype="U5"), "none"
    elif wanted == "random":
        split, split_name = random_split(config, image_id), "random"
    elif split is None:
        raise DatasetError(
            f'{config.name}: split = "given", but the ratings have no column split. '
            "Name it: -o split_column=NAME"
        )
    assert split is not None
    scores = None if ratings.scores is None else ratings.scores[there]
    return ImageTable(
        dataset=config.name,
        root=config.folder,
        image_id=image_id[there],
        path=path,
        votes=None if ratings.votes is None else ratings.votes[there],
        scores=scores,
        split=split[there],
        split_name=split_name,
        threshold=_threshold(config, ratings, scores, split[there] == "train"),
        columns={name: values[there] for name, values in ratings.columns.items()},
        missing_files=ratings.path[~there].tolist(),
        unlabelled_files=sorted(set(files).difference(path.tolist()), key=natural_key),
        notes=(*ratings.notes, *notes),
    )


def _threshold(
    config: DatasetConfig, ratings: "Ratings", scores: np.ndarray | None, train: np.ndarray
) -> float:
    if "threshold" in config.options:
        return float(config.options["threshold"])
    if ratings.votes is not None:
        return default_threshold(ratings.votes.shape[1])
    if ratings.n_levels is not None:
        return default_threshold(ratings.n_levels)
    assert scores is not None
    return float(np.median(scores[train] if train.any() else scores))


KIND = Kind(
    options=OPTIONS,
    build=build,
    about="CSV or Parquet with ratings",
    needed=("images", "ratings"),
    check=check,
    written={"ids": "path"},
)
