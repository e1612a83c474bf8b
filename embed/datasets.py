"""Data sets: named once in a readable file, each kind giving one ImageTable."""

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from embed.ava import SPLIT_NAMES, read_ava_labels, split_from_lists
from embed.tables import DatasetError, read_ratings
from store.digests import digest_of_strings

KINDS = ("ava", "table", "folder", "demo")
SUFFIXES = frozenset(
    f".{s}" for s in ("jpg", "jpeg", "png", "webp", "tif", "tiff", "bmp", "gif", "heic", "heif", "avif")
)
TEST_SHARE = 0.10
_OPTIONS = {
    "ava": {
        "images", "ratings", "split", "train_list", "test_list", "threshold", "exif_rotate", "test_share",
    },
    "table": {
        "images", "ratings", "file_column", "id_column", "score_column", "split_column", "threshold",
        "exif_rotate", "test_share",
    },
    "folder": {"images", "exif_rotate"},
    "demo": set[str](),
}  # fmt: skip


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
    unlabelled_files: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.image_id)

    @property
    def digest(self) -> str:
        """SHA-256 over (image_id, path) rows; votes may change without a new embedding."""
        return digest_of_strings(self.image_id, self.path)

    def absolute(self, row: int) -> Path:
        """File of one image."""
        return self.root / str(self.path[row])


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

    def resolve(self, path: str | Path) -> Path:
        """A path of the configuration, absolute or below the data set's folder."""
        return (self.folder / Path(path).expanduser()).absolute()


def add_dataset(
    data_root: Path, name: str, kind: str, overwrite: bool = False, **options: Any
) -> DatasetConfig:
    """Write `<data root>/<name>/dataset.toml` and return what it says.

    Raises DatasetError for a bad name or kind, an unknown option, files that are not there or cannot be
    read, or an existing data set of other settings (unless `overwrite`).
    """
    if kind not in KINDS or kind == "demo":
        raise DatasetError(f"kind {kind!r} is unknown; the kinds are table, ava, folder (demo is built in)")
    if name == "demo" or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise DatasetError(
            f"{name!r} cannot name a data set: use letters, digits, '.', '_', '-'; demo is built in"
        )
    cleaned = {k: _plain(v) for k, v in options.items() if v is not None}
    folder = data_root / name
    config = DatasetConfig(name, kind, cleaned, folder)
    _check_options(config)
    existing = folder / "dataset.toml"
    if existing.exists() and not overwrite:
        found = load_config(data_root, name)
        if (found.kind, found.options) != (kind, cleaned):
            raise DatasetError(
                f"{existing} names another data set: kind {found.kind}, {found.options}. "
                "Choose another name, edit that file, or replace it: --overwrite"
            )
        return found
    build_table(config, data_root)  # every complaint before anything is written
    folder.mkdir(parents=True, exist_ok=True)
    partial = existing.with_name("dataset.toml.partial")
    partial.write_text(_toml(config), encoding="utf-8")
    os.replace(partial, existing)
    return config


def load_config(data_root: Path, name: str) -> DatasetConfig:
    """The configuration of a data set; `demo` needs none. Raises DatasetError for an unknown name."""
    folder = data_root / name
    if name == "demo":
        return DatasetConfig("demo", "demo", {}, folder)
    file = folder / "dataset.toml"
    if not file.is_file():
        known = ", ".join(c.name for c in list_datasets(data_root))
        raise DatasetError(
            f"no data set {name!r} in {data_root}; there are: {known}. "
            f"Add it: iaa dataset add {name} --kind table --images DIR --ratings FILE"
        )
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{file} is not valid TOML: {error}") from error
    kind = content.pop("kind", None)
    if kind not in KINDS:
        raise DatasetError(f"{file}: kind is {kind!r}, expected one of {', '.join(KINDS)}")
    config = DatasetConfig(name, kind, content, folder)
    _check_options(config)
    return config


def list_datasets(data_root: Path) -> list[DatasetConfig]:
    """All data sets of a data root, the built-in demo first."""
    files = sorted(data_root.glob("*/dataset.toml"))
    return [load_config(data_root, n) for n in ["demo", *(f.parent.name for f in files)]]


def build_table(config: DatasetConfig, data_root: Path, progress: bool = False) -> ImageTable:
    """The image table of a data set. The demo's images are rendered the first time.

    Raises DatasetError where files are missing or malformed.
    """
    if config.kind == "demo":
        return _demo_table(data_root / "demo" / "images", progress)
    root = config.resolve(config.options["images"])
    if not root.is_dir():
        raise DatasetError(f"{root} is no folder; expected the images of {config.name!r} there")
    if config.kind == "folder":
        return _folder_table(config, root)
    if config.kind == "ava":
        return _ava_table(config, root)
    return _rated_table(config, root)


def hash_split(image_id: np.ndarray, test_share: float = TEST_SHARE) -> np.ndarray:
    """'test' for about `test_share` of the images, by a hash of each id alone: adding images moves none."""
    limit = int(test_share * 2**64)
    hashes = (hashlib.sha256(i.encode("utf-8", "surrogateescape")).digest() for i in image_id.tolist())
    return np.array(["test" if int.from_bytes(h[:8], "big") < limit else "train" for h in hashes], dtype=str)


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


def _folder_table(config: DatasetConfig, root: Path) -> ImageTable:
    files = sorted(_image_files(root), key=_natural)
    if not files:
        raise DatasetError(
            f"{root} holds no images (looked for {', '.join(sorted(SUFFIXES))}, also in subfolders)"
        )
    paths = np.array(files, dtype=str)
    return ImageTable(config.name, root, paths, paths, split=np.full(len(paths), "", dtype="U5"))


def _rated_table(config: DatasetConfig, root: Path) -> ImageTable:
    ratings = read_ratings(config.resolve(config.options["ratings"]), config.options)
    files = set(_image_files(root))
    # Files of other suffixes are looked up one by one, so that a table may name any image.
    there = np.array([p in files or (root / p).is_file() for p in ratings.path.tolist()], dtype=bool)
    _require_some(config, there, root, ratings.path)
    split, split_name = ratings.split, "given"
    if split is None:
        share = float(config.options.get("test_share", TEST_SHARE))
        split, split_name = hash_split(ratings.image_id, share), "random"
    return ImageTable(
        dataset=config.name,
        root=root,
        image_id=ratings.image_id[there],
        path=ratings.path[there],
        votes=None if ratings.votes is None else ratings.votes[there],
        scores=None if ratings.scores is None else ratings.scores[there],
        split=split[there],
        split_name=split_name,
        threshold=_threshold(config, ratings.votes, ratings.scores, split == "train"),
        columns={name: values[there] for name, values in ratings.columns.items()},
        missing_files=ratings.image_id[~there].tolist(),
        unlabelled_files=sorted(files - set(ratings.path.tolist()), key=_natural),
    )


def _ava_table(config: DatasetConfig, root: Path) -> ImageTable:
    labels = read_ava_labels(config.resolve(config.options["ratings"]))
    by_id: dict[str, str] = {}
    for file in sorted(_image_files(root), key=_natural):
        by_id.setdefault(Path(file).stem, file)
    there = np.array([i in by_id for i in labels.image_id.tolist()], dtype=bool)
    _require_some(config, there, root, np.array([f"{i}.jpg" for i in labels.image_id.tolist()]))
    split_name = str(config.options.get("split", "random"))
    if split_name == "random":
        share = float(config.options.get("test_share", TEST_SHARE))
        split = hash_split(labels.image_id, share)
    else:
        split, _ = split_from_lists(labels.image_id, config.options, config.resolve, split_name)
    ids = labels.image_id[there]
    return ImageTable(
        dataset=config.name,
        root=root,
        image_id=ids,
        path=np.array([by_id[i] for i in ids.tolist()], dtype=str),
        votes=labels.votes[there],
        split=split[there],
        split_name=split_name,
        threshold=_threshold(config, labels.votes, None, split == "train"),
        columns={name: getattr(labels, name)[there] for name in ("challenge", "tag_1", "tag_2")},
        missing_files=labels.image_id[~there].tolist(),
        unlabelled_files=sorted(
            (f for i, f in by_id.items() if i not in set(labels.image_id.tolist())), key=_natural
        )
        if len(by_id) > there.sum()
        else [],
    )


def _require_some(config: DatasetConfig, there: np.ndarray, root: Path, path: np.ndarray) -> None:
    if not there.any():
        first = f", the first {str(path[0])!r}" if len(path) else ""
        raise DatasetError(
            f"none of the {len(there):,} rated images of {config.name!r} is in {root}{first}. Right folder? "
            "File names must be relative to it"
        )


def _threshold(
    config: DatasetConfig, votes: np.ndarray | None, scores: np.ndarray | None, train: np.ndarray
) -> float:
    if "threshold" in config.options:
        return float(config.options["threshold"])
    if votes is not None:
        return default_threshold(votes.shape[1])
    assert scores is not None
    return float(np.median(scores[train] if train.any() else scores))


def _image_files(root: Path) -> Iterator[str]:
    """Relative POSIX paths of all image files below a folder; hidden ones are left out, link loops end."""
    pending = [("", os.path.realpath(root), frozenset[str]())]
    while pending:
        prefix, folder, above = pending.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    real = os.path.realpath(entry.path)
                    if real not in above and real != folder:
                        pending.append((f"{prefix}{entry.name}/", real, above | {folder}))
                elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                    yield prefix + entry.name


def _natural(path: str) -> list[tuple[int, int, str]]:
    """Sort key under which img2 comes before img10."""
    cells = re.split(r"([0-9]+)", path)
    return [(0, int(c), "") if c.isdecimal() else (1, 0, c) for c in cells] + [(2, 0, path)]


def _check_options(config: DatasetConfig) -> None:
    where = config.folder / "dataset.toml"
    known = _OPTIONS[config.kind]
    if unknown := set(config.options) - known:
        raise DatasetError(
            f"{where}: unknown settings {sorted(unknown)} for kind {config.kind}; known: {sorted(known)}"
        )
    needed = {"folder": ["images"], "demo": []}.get(config.kind, ["images", "ratings"])
    for name in needed:
        if name not in config.options:
            raise DatasetError(f"{where}: kind {config.kind} needs {name!r} (--{name})")
    split = config.options.get("split")
    if split is not None and split not in SPLIT_NAMES:
        raise DatasetError(f"{where}: split is {split!r}, expected one of {', '.join(SPLIT_NAMES)}")


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value.expanduser().absolute())
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def _toml(config: DatasetConfig) -> str:
    lines = [
        f"# Data set {config.name!r}. You may edit this by hand; docs/datasets.md explains every setting.",
        "# Relative paths are relative to this file's folder.",
        f"kind = {json.dumps(config.kind)}",
    ]
    lines += [f"{k} = {json.dumps(v, ensure_ascii=False)}" for k, v in sorted(config.options.items())]
    return "\n".join(lines) + "\n"
