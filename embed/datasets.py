"""Data sets: named once in a readable file, each kind giving one ImageTable."""

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from embed.ava import paths_by_id, read_ava_labels, split_from_lists
from embed.dataset_options import KINDS, PATHS, TEST_SHARE, check_options, format_toml
from embed.image_files import IMAGE_SUFFIXES, counted, natural_key
from embed.sources import FolderSource, ImageFile, RemoteSource, Source, TarSource, open_source
from embed.tables import DatasetError, Ratings, match_files, read_ratings
from embed.urls import is_url
from store.digests import digest_of_strings
from store.durable import make_folder, publish
from store.errors import TableError, UnsafeNameError
from store.file_names import dataset_folder
from store.text import read_toml

logger = logging.getLogger(__name__)

_N_COMPARED = 2000
"""Files looked through for names like those that were not found."""


@dataclass(frozen=True)
class ImageTable:
    """The images of a data set in their order, with what people said about them."""

    dataset: str
    root: Path
    image_id: np.ndarray
    path: np.ndarray
    """POSIX path of each file below `root`."""
    votes: np.ndarray | None = None
    scores: np.ndarray | None = None
    split: np.ndarray = field(default_factory=lambda: np.array([], dtype=str))
    split_name: str = "none"
    threshold: float = 0.0
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    missing_files: list[str] = field(default_factory=list)
    """What has a label and no file: its file's name where the labels say one, else its id."""
    unlabelled_files: list[str] = field(default_factory=list)
    """Files that have no label."""
    notes: tuple[str, ...] = ()
    """What else was noticed while building, one sentence each."""
    passed_over: Mapping[str, int] = field(default_factory=dict)
    """How many files at that place are no images, by their ending."""
    source: TarSource | RemoteSource | None = None
    """Where the files are read from, if that is no folder."""

    def __post_init__(self) -> None:
        n = len(self.image_id)
        if n and len(self.split) == 0:
            object.__setattr__(self, "split", np.full(n, "", dtype="U5"))
        arrays = {"path": self.path, "split": self.split, **self.columns}
        arrays |= {k: v for k in ("votes", "scores") if (v := getattr(self, k)) is not None}
        if wrong := {name: len(values) for name, values in arrays.items() if len(values) != n}:
            raise DatasetError(f"{self.dataset}: {n} image ids, but other lengths: {wrong}")
        ids = self.image_id.tolist()
        if len(set(ids)) != n:
            twice = next(i for i, count in Counter(ids).items() if count > 1)
            raise DatasetError(f"{self.dataset}: two images have the id {twice!r}; ids must be unique")

    def __len__(self) -> int:
        return len(self.image_id)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over (image_id, path) rows; votes may change without a new embedding."""
        return digest_of_strings(self.image_id, self.path)

    @property
    def location(self) -> str:
        """Folder, tar files or URL of the images, for people."""
        return str(self.root) if self.source is None else self.source.location

    def absolute(self, row: int) -> ImageFile:
        """File of one image: a path, or whatever else can be read."""
        path = str(self.path[row])
        return self.root / path if self.source is None else self.source.at(path)


@dataclass(frozen=True)
class DatasetConfig:
    """What `dataset.toml` says; relative paths are relative to its folder."""

    name: str
    kind: str
    options: dict[str, Any]
    folder: Path

    @property
    def exif_rotate(self) -> bool:
        """True if images are turned as EXIF says: by default only personal folders are."""
        return bool(self.options.get("exif_rotate", self.kind == "folder"))

    @property
    def exclude(self) -> list[str]:
        """Patterns of what is left out, besides the defaults."""
        given = self.options.get("exclude", [])
        patterns = given.split(",") if isinstance(given, str) else given
        return [pattern.strip() for pattern in patterns if pattern.strip()]

    @property
    def images(self) -> str:
        """Where the images are: an absolute path or pattern, or a URL."""
        location = str(self.options["images"])
        return location if is_url(location) else str(self.resolve(location))

    def resolve(self, path: str | Path) -> Path:
        """A path of the configuration, absolute or below the data set's folder."""
        return (self.folder / Path(path).expanduser()).absolute()


def add_dataset(
    data_root: Path, name: str, kind: str, overwrite: bool = False, **options: Any
) -> DatasetConfig:
    """Write `<data root>/<name>/dataset.toml` and return what it says.

    Relative paths start from the working directory and are written as absolute ones.
    Raises DatasetError for a bad name or kind, an unknown option, files that are not there or cannot be
    read, or an existing data set of other settings (unless `overwrite`).
    """
    if kind not in KINDS or kind == "demo":
        raise DatasetError(f"kind {kind!r} is unknown; the kinds are table, ava, folder (demo is built in)")
    if name == "demo":
        raise DatasetError("'demo' cannot name another data set: demo is built in")
    folder = _folder_of(data_root, name)
    cleaned = {k: _from_here(v) if k in PATHS else v for k, v in options.items() if v is not None}
    existing = folder / "dataset.toml"
    if kind == "table" and "ids" not in cleaned and not _had_stems(data_root, name):
        cleaned["ids"] = "path"
    config = DatasetConfig(name, kind, cleaned, folder)
    check_options(kind, config.options, existing)
    if existing.exists() and not overwrite:
        found = load_config(data_root, name)
        if (found.kind, found.options) != (kind, cleaned):
            raise DatasetError(
                f"{existing} names another data set: kind {found.kind}, {found.options}. "
                "Choose another name, edit that file, or replace it: --overwrite"
            )
        return found
    build_table(config, data_root)  # every complaint before anything is written
    make_folder(folder)
    partial = existing.with_name("dataset.toml.partial")
    partial.write_text(format_toml(name, kind, cleaned), encoding="utf-8")
    publish(partial, existing)
    return config


def _had_stems(data_root: Path, name: str) -> bool:
    """True for a data set of before `ids` was written down: its ids stay, so that nothing is embedded
    again."""
    if not (data_root / name / "dataset.toml").is_file():
        return False
    try:
        found = load_config(data_root, name)
    except DatasetError:  # said where it is not replaced
        return False
    return found.kind == "table" and "ids" not in found.options


def load_config(data_root: Path, name: str) -> DatasetConfig:
    """The configuration of a data set; `demo` needs none. Raises DatasetError for an unknown name."""
    folder = _folder_of(data_root, name)
    if name == "demo":
        return DatasetConfig("demo", "demo", {}, folder)
    file = folder / "dataset.toml"
    if not file.is_file():
        known = ", ".join(_names(data_root))
        raise DatasetError(
            f"no data set {name!r} in {data_root}; there are: {known}. "
            f"Add it: iaa dataset add {name} --images DIR --kind folder, or table or ava with --ratings FILE"
        )
    try:
        content = read_toml(file)
    except TableError as error:
        raise DatasetError(str(error)) from error
    kind = content.pop("kind", None)
    if kind not in KINDS:
        raise DatasetError(f"{file}: kind is {kind!r}, expected one of {', '.join(KINDS)}")
    check_options(kind, content, file)
    return DatasetConfig(name, kind, content, folder)


def _folder_of(data_root: Path, name: str) -> Path:
    try:
        return dataset_folder(data_root, name)
    except UnsafeNameError as error:
        raise DatasetError(str(error)) from error


def list_datasets(data_root: Path) -> list[DatasetConfig]:
    """All data sets of a data root, the built-in demo first. One that cannot be read is logged as a warning
    and hides no other."""
    found = []
    for name in _names(data_root):
        try:
            found.append(load_config(data_root, name))
        except DatasetError as error:
            logger.warning("%s", error)
    return found


def _names(data_root: Path) -> list[str]:
    return ["demo", *sorted(file.parent.name for file in data_root.glob("*/dataset.toml"))]


def build_table(config: DatasetConfig, data_root: Path, progress: bool = False) -> ImageTable:
    """The image table of a data set. The demo's images are rendered the first time.

    Raises DatasetError where files are missing or malformed.
    """
    if config.kind == "demo":
        return _demo_table(data_root / "demo" / "images", progress)
    shard_in_id = bool(config.options.get("shard_in_id", False))
    source = open_source(config.images, config.name, shard_in_id, config.exclude)
    build = {"folder": _folder_table, "ava": _ava_table, "table": _rated_table}[config.kind]
    table = build(config, source)
    table = replace(table, notes=(*source.notes, *table.notes), passed_over=source.passed_over)
    return replace(
        table, **({"root": source.root} if isinstance(source, FolderSource) else {"source": source})
    )


def hash_split(
    image_id: np.ndarray, test_share: float = TEST_SHARE, seed: int = 0
) -> Shaped[np.ndarray, " n_images"]:
    """'test' for about `test_share` of the images, by a hash of each id alone: adding images moves none.

    Seed 0 hashes the bare id, another seed "seed:id".
    """
    limit = int(test_share * 2**64)
    prefix = f"{seed}:" if seed else ""
    names = ((prefix + str(i)).encode("utf-8", "surrogateescape") for i in image_id.tolist())
    drawn = (int.from_bytes(hashlib.sha256(name).digest()[:8], "big") < limit for name in names)
    return np.array(["test" if is_test else "train" for is_test in drawn], dtype="U5")


def default_threshold(n_levels: int) -> float:
    """The middle vote below which an image is not high: 5 for 1..10 (the paper), 4 for 1..7."""
    return float((n_levels + 1) // 2)


def _demo_table(folder: Path, progress: bool) -> ImageTable:
    from embed.demo_world import render_world

    world = render_world(folder, progress=progress)
    return ImageTable(
        dataset="demo",
        root=folder,
        image_id=world.image_id,
        path=world.path,
        votes=world.votes,
        split=world.split,
        split_name="demo",
        threshold=5.0,
        columns=dict(world.columns),
    )


def _folder_table(config: DatasetConfig, source: Source) -> ImageTable:
    files = sorted(source.files, key=natural_key)
    if not files:
        others = f". Passed over: {counted(Counter(source.passed_over))}" if source.passed_over else ""
        raise DatasetError(
            f"{source.location} holds no images (looked for {', '.join(IMAGE_SUFFIXES)}, also in subfolders, "
            f"hidden files left out){others}"
        )
    paths = np.array(files, dtype=str)
    return ImageTable(config.name, config.folder, paths, paths)


def _rated_table(config: DatasetConfig, source: Source) -> ImageTable:
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
    _require_some(config, there, source.location, ratings.path, files)
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
        split, split_name = _random_split(config, image_id), "random"
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


def _ava_table(config: DatasetConfig, source: Source) -> ImageTable:
    labels = read_ava_labels(config.resolve(config.options["ratings"]))
    ids = labels.image_id.tolist()
    files = source.files
    by_id = paths_by_id(source.location, files, ids)
    there = np.array([i in by_id for i in ids], dtype=bool)
    _require_some(config, there, source.location, np.array([f"{i}.jpg" for i in ids[:3]]), files)
    split_name = str(config.options.get("split", "random"))
    notes: list[str] = []
    if split_name == "random":
        split = _random_split(config, labels.image_id)
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


def _random_split(config: DatasetConfig, image_id: np.ndarray) -> np.ndarray:
    options = config.options
    return hash_split(
        image_id, float(options.get("test_share", TEST_SHARE)), int(options.get("split_seed", 0))
    )


def _require_some(
    config: DatasetConfig, there: np.ndarray, location: str, listed: np.ndarray, files: Sequence[str]
) -> None:
    """Raise DatasetError, with what either side is called, where no rated image has a file."""
    if there.any():
        return
    message = f"none of the {len(there):,} rated images of {config.name!r} is in {location}, which holds "
    names = listed[:3].tolist()
    message += f"{len(files):,} image files. Rated: {', '.join(map(repr, names))}, ..."
    if files:
        some = sorted(files, key=natural_key)[:_N_COMPARED]
        close = [n for name in names for n in get_close_matches(name, some, 1, 0.5)]
        shown = dict.fromkeys([*close, *some[:3]])
        message += f" Files: {', '.join(map(repr, list(shown)[:3]))}, ..."
    if len(names):
        message += (
            " Right folder? Names must be relative to it. Another column: -o file_column=NAME"
            if config.kind == "table"
            else " Right folder? File names must be relative to it"
        )
    raise DatasetError(message)


def _threshold(
    config: DatasetConfig, ratings: Ratings, scores: np.ndarray | None, train: np.ndarray
) -> float:
    if "threshold" in config.options:
        return float(config.options["threshold"])
    if ratings.votes is not None:
        return default_threshold(ratings.votes.shape[1])
    if ratings.n_levels is not None:
        return default_threshold(ratings.n_levels)
    assert scores is not None
    return float(np.median(scores[train] if train.any() else scores))


def _from_here(value: Any) -> Any:
    """A path, or each of several, made absolute: `add` is typed where the paths start from."""
    if isinstance(value, list | tuple):
        return [_from_here(v) for v in value]
    if not isinstance(value, str | Path) or not str(value) or is_url(str(value)):
        return value
    path = Path(value).expanduser()
    return str(path.resolve() if ".." in path.parts else path.absolute())
