"""Data sets: named once in a readable file, each kind giving one ImageTable."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from embed.images.config import DatasetConfig, Kind
from embed.images.errors import DatasetError
from embed.images.kinds import KINDS
from embed.images.options import format_toml
from embed.images.sources import FolderSource, is_url, open_source
from embed.images.table import ImageTable, default_threshold, hash_split
from store.durable import make_folder, whole_file
from store.errors import TableError, UnsafeNameError, did_you_mean, hinting
from store.file_names import dataset_folder
from store.text import read_toml

__all__ = [
    "DatasetConfig", "DatasetError", "ImageTable", "add_dataset", "build_table", "built_in",
    "default_threshold", "hash_split", "is_named", "list_datasets", "load_config", "parse_option",
]  # fmt: skip

logger = logging.getLogger(__name__)


def add_dataset(
    data_root: Path, name: str, kind: str, overwrite: bool = False, **options: Any
) -> DatasetConfig:
    """Write `<data root>/<name>/dataset.toml` and return what it says.

    Relative paths start from the working directory and are written as absolute ones.
    Raises DatasetError for a bad name or kind, an unknown option, files that are not there or cannot be
    read, or an existing data set of other settings (unless `overwrite`).
    """
    if kind not in KINDS or KINDS[kind].is_built_in:
        known = ", ".join(k for k, v in KINDS.items() if not v.is_built_in)
        there = ", ".join(_built_in_names())
        raise DatasetError(f"kind {kind!r} is unknown; the kinds are {known} ({there} is built in)")
    if built_in(name):
        raise DatasetError(f"{name!r} cannot name another data set: {name} is built in")
    folder = _folder_of(data_root, name)
    existing = folder / "dataset.toml"
    known_options = KINDS[kind].options
    cleaned = {
        k: _from_here(v) if k in known_options and known_options[k].is_path else v
        for k, v in options.items()
        if v is not None
    }
    for key, value in _written_down(data_root, name, kind).items():
        cleaned.setdefault(key, value)
    config = DatasetConfig(name, kind, cleaned, folder)
    _check_options(kind, config.options, existing)
    if existing.exists() and not overwrite:
        found = load_config(data_root, name)
        if (found.kind, found.options) != (kind, cleaned):
            raise DatasetError(
                f"{existing} names another data set: kind {found.kind}, {found.options}. "
                "Choose another name, edit that file, or replace it: --overwrite"
            )
        return found
    build_table(config)  # every complaint before anything is written
    make_folder(folder)
    with whole_file(existing) as partial:
        partial.write_text(format_toml(name, kind, known_options, cleaned), encoding="utf-8")
    return config


def _written_down(data_root: Path, name: str, kind: str) -> dict[str, Any]:
    """What `add` writes besides what is given. A data set of before keeps what its dataset.toml leaves out,
    so that its ids stay and nothing is embedded again."""
    written = dict(KINDS[kind].written)
    if not written or not (data_root / name / "dataset.toml").is_file():
        return written
    try:
        found = load_config(data_root, name)
    except DatasetError:  # said where it is not replaced
        return written
    if found.kind != kind:
        return written
    return {key: value for key, value in written.items() if key in found.options}


def load_config(data_root: Path, name: str) -> DatasetConfig:
    """The configuration of a data set; a built-in one needs none. Raises DatasetError for an unknown name."""
    folder = _folder_of(data_root, name)
    if built_in(name):
        return DatasetConfig(name, name, {}, folder)
    file = folder / "dataset.toml"
    if not file.is_file():
        known = _names(data_root)
        error = DatasetError(
            f"no data set {name!r} in {data_root}; there are: {', '.join(known)}.{did_you_mean(name, known)}"
        )
        command = f"iaa dataset add {name} --images DIR --kind folder, or table or ava with --ratings FILE"
        call = f"iaa.add_dataset({name!r}, 'folder', DIR), or 'table' or 'ava' with ratings=FILE"
        raise hinting(error, command, call)
    try:
        content = read_toml(file)
    except TableError as error:
        raise DatasetError(str(error)) from error
    kind = content.pop("kind", None)
    if kind not in KINDS:
        raise DatasetError(f"{file}: kind is {kind!r}, expected one of {', '.join(KINDS)}")
    _check_options(kind, content, file)
    return DatasetConfig(name, kind, content, folder)


def built_in(name: str) -> Kind | None:
    """The kind of a built-in data set, None for another name."""
    return KINDS[name] if name in KINDS and KINDS[name].is_built_in else None


def is_named(data_root: Path, name: str) -> bool:
    """True for a data set with photographs: a built-in one, or one that has a dataset.toml."""
    return built_in(name) is not None or (data_root / name / "dataset.toml").exists()


def _built_in_names() -> list[str]:
    return [name for name in KINDS if built_in(name)]


def parse_option(kind: str, key: str, typed: str) -> Any:
    """The value of a setting typed as text: a flag or a number where the setting is one, all else text, also
    a column called 2020."""
    known = KINDS[kind].options if kind in KINDS else {}
    return known[key].parse(typed) if key in known else typed


def _check_options(kind: str, options: Mapping[str, Any], file: Path) -> None:
    """Raise DatasetError for settings that are unknown, missing, or of the wrong type or range."""
    known = KINDS[kind].options
    if unknown := set(options) - set(known):
        raise DatasetError(
            f"{file}: unknown settings {sorted(unknown)} for kind {kind}; known: {sorted(known)}"
        )
    for needed in KINDS[kind].needed:
        if needed not in options:
            raise DatasetError(f"{file}: kind {kind} needs {needed!r} (--{needed})")
    for key, value in options.items():
        if expected := known[key].expected(value):
            raise DatasetError(f"{file}: {key} is {value!r}, expected {expected}")
    if complaint := KINDS[kind].check(options):
        raise DatasetError(f"{file}: {complaint}")


def _folder_of(data_root: Path, name: str) -> Path:
    try:
        return dataset_folder(data_root, name)
    except UnsafeNameError as error:
        raise DatasetError(str(error)) from error


def list_datasets(data_root: Path) -> list[DatasetConfig]:
    """All data sets of a data root, the built-in ones first. One that cannot be read is logged as a warning
    and hides no other."""
    found = []
    for name in _names(data_root):
        try:
            found.append(load_config(data_root, name))
        except DatasetError as error:
            logger.warning("%s", error)
    return found


def _names(data_root: Path) -> list[str]:
    return [*_built_in_names(), *sorted(file.parent.name for file in data_root.glob("*/dataset.toml"))]


def build_table(config: DatasetConfig) -> ImageTable:
    """The image table of a data set. The images of a built-in one are made the first time.

    Raises DatasetError where files are missing or malformed.
    """
    kind = KINDS[config.kind]
    if "images" not in kind.options:
        return kind.build(config, FolderSource(config.folder / "images", []))
    shard_in_id = bool(config.options.get("shard_in_id", False))
    source = open_source(config.images, config.name, shard_in_id, config.exclude)
    table = kind.build(config, source)
    table = replace(table, notes=(*source.notes, *table.notes), passed_over=source.passed_over)
    return replace(
        table, **({"root": source.root} if isinstance(source, FolderSource) else {"source": source})
    )


def _from_here(value: Any) -> Any:
    """A path, or each of several, made absolute: `add` is typed where the paths start from."""
    if isinstance(value, list | tuple):
        return [_from_here(v) for v in value]
    if not isinstance(value, str | Path) or not str(value) or is_url(str(value)):
        return value
    path = Path(value).expanduser()
    return str(path.resolve() if ".." in path.parts else path.absolute())
