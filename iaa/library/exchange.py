"""Vectors out to other programs, and in from them (docs/exchange.md)."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from iaa.exchange import FORMATS, written_formats
from iaa.exchange.formats import Format
from iaa.library.embedding import prepare_table
from iaa.library.errors import UsageError
from iaa.library.layout import Layout
from iaa.library.opening import has_photographs, open_embedded
from iaa.library.table import Table, facts
from store import Features, MissingFileError, StoreError, Targets, open_features, open_targets, write_targets
from store.system import flush_folder

if TYPE_CHECKING:
    from embed.images.datasets import ImageTable
    from store.imports import Imported

_OTHERS = (".npy", ".npz", ".tsv", ".xlsx", ".json", ".jsonl", ".h5", ".hdf5", ".pt", ".tar")
"""Endings of files that hold vectors elsewhere: whoever asks for one wants no Parquet under that name."""


@dataclass(frozen=True)
class ExportedFile:
    """What was written where."""

    path: Path
    format: str
    outputs: list[str]
    n_rows: int
    n_failed: int
    """Failed rows: in the file as such, or left out where that was asked for."""
    only_ok: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        names = ("format", "outputs", "n_rows", "n_failed")
        return {"out": self.path, **{name: getattr(self, name) for name in names}}

    def notes(self) -> list[str]:
        """What was written, and what became of failed images."""
        fate = "left out" if self.only_ok else "kept as failed rows"
        rows = f"{self.n_rows:,} rows of {', '.join(self.outputs)}"
        return [f"wrote {self.path}: {rows}; {self.n_failed:,} failed images {fate}"]


@dataclass(frozen=True)
class ImportedFile:
    """A feature file made of vectors that another program gave."""

    source: Path
    path: Path
    digest: str
    n_ok: int
    n_failed: int
    n_unused: int
    """Imported rows that belong to no image of the data set."""
    matched_by: str
    dtype: str
    lengths: dict[str, Any]
    """Smallest and largest Euclidean length, and whether all are of unit length."""
    notes: list[str]

    def table(self) -> Table:
        """A row per fact."""
        low, high = (f"{self.lengths[name]:g}" for name in ("length_min", "length_max"))
        unit = "of unit length" if self.lengths["is_unit_length"] else "not of unit length"
        about = {
            "file": self.path,
            "rows": f"{self.n_ok:,} with a vector, {self.n_failed:,} failed",
            "imported rows without an image": f"{self.n_unused:,}",
            "matched by": self.matched_by,
            "vectors": f"{self.dtype}, {unit} ({low} to {high})",
            "digest": self.digest[:12],
        }
        return facts(f"Imported from {self.source}", about)

    def to_dict(self) -> dict[str, Any]:
        """File, counts and lengths as plain values."""
        names = ("digest", "n_ok", "n_failed", "n_unused")
        return {"file": self.path, **{name: getattr(self, name) for name in names}, **self.lengths}


def export(
    layout: Layout,
    path: Path,
    to: str | None = None,
    backbone: str | None = None,
    outputs: Sequence[str] | None = None,
    unit_norm: bool = False,
    only_ok: bool = False,
    overwrite: bool = False,
) -> ExportedFile:
    """Write a feature file for other programs: `to` says what, else the path's ending, else Parquet. With
    `overwrite` what stands there is replaced once the new file is complete.

    Raises UsageError for contradictions, StoreError where the file exists or an output is unknown.
    """
    wanted = format_of(path, to)
    chosen = FORMATS[wanted]
    assert chosen.write is not None  # format_of gives no other
    if only_ok and not chosen.may_leave_out:
        others = " or ".join(name for name, format in FORMATS.items() if format.may_leave_out)
        raise UsageError(f"--only-ok is for {others}; {wanted} marks failed rows, so they stay")
    with open_embedded(layout, backbone) as features:
        names = list(dict.fromkeys(outputs or features.outputs))
        if chosen.holds_one_output and len(names) != 1:
            raise UsageError(f"{wanted} holds one output: --output {' or --output '.join(names)}")
        more = {"only_ok": True} if only_ok else {}
        paths = _image_paths(layout, features)
        with _replacing(path, chosen) if overwrite else nullcontext(path) as place:
            n_rows = chosen.write(features, place, names, unit_norm, paths, **more)
        return ExportedFile(path, wanted, names, n_rows, int((~features.ok).sum()), only_ok)


@contextmanager
def _replacing(path: Path, format: Format) -> Iterator[Path]:
    """Where to write what takes the place of a file or folder once it is complete.

    Raises UsageError for what no export of this format can have made, such as a folder of photographs.
    """
    if not path.exists():
        yield path
        return
    if path.is_dir():
        names = [entry.name for entry in path.iterdir()]
        is_export = bool(format.entries) and all(
            any(fnmatch(name, known) for known in format.entries) for name in names
        )
    else:
        is_export = not format.entries and path.suffix.lower() in format.endings
    if not is_export:
        raise UsageError(f"{path} is not {format.what} and is left as it is. Choose another name")
    new, old = (path.with_name(f".{path.stem}.{age}{path.suffix}") for age in ("new", "old"))
    _remove(new)  # of an export that was stopped
    yield new
    if path.is_dir():  # a folder takes the place of an empty one only
        os.replace(path, old)
    os.replace(new, path)
    flush_folder(path.parent)
    _remove(old)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def format_of(path: Path, to: str | None) -> str:
    """The format that was asked for or that the file's ending says. Raises UsageError where the two
    contradict, and for what is not written."""
    known = written_formats()
    if to is not None and to not in known:
        raise UsageError(f"format {to!r} is not written; there are {', '.join(known)}")
    by_ending: dict[str, str] = {}
    for name in known:
        for ending in FORMATS[name].endings:
            by_ending.setdefault(ending, name)
    ending = path.suffix.lower()
    said = by_ending.get(ending)
    if said is None and ending in _OTHERS:
        folders = [f"{FORMATS[name].what}: --to {name}" for name in known if not FORMATS[name].endings]
        raise UsageError(
            f"{path}: {ending} files are not written; there are {', '.join(by_ending)}, and "
            f"{', '.join(folders)}"
        )
    if to is not None and said is not None and ending not in FORMATS[to].endings:
        raise UsageError(
            f"{path} ends as a file of {said} does, but --to says {to}. Leave --to out, or call the file "
            "otherwise"
        )
    return to or said or known[0]


def import_vectors(
    layout: Layout,
    source: Path,
    backbone: str,
    ids: Path | None = None,
    id_column: str | None = None,
    output: str | None = None,
    overwrite: bool = False,
) -> ImportedFile:
    """Take over vectors: a folder in clip-retrieval's layout, or a .npy file with `ids`.

    With a data set that has photographs each image gets its vector by id or path, and is a failed row without
    one; a new name becomes a data set of the imported ids.

    Raises UsageError, MissingFileError, SchemaError for contradictions, StoreError for a file that exists.
    """
    from store.imports import join, measure_lengths, write_imported
    from store.locks import lock_path, write_lock

    found = _read(source, ids, id_column)
    path = layout.features_of(backbone)
    more: dict[str, Any] = {}
    if has_photographs(layout):
        _, table = prepare_table(layout)
        rows, joined_on = join(found, table.image_id, _keys_of(table))
        more = {"image_id": table.image_id, "images_digest": table.digest}
        more |= {"rows": rows, "joined_on": joined_on}
    else:
        _write_plain_targets(layout, found)
    with write_lock(lock_path(path)):
        if path.exists() and not overwrite:
            raise StoreError(f"{path} exists already. Choose another --backbone, or replace it: --overwrite")
        digest = write_imported(found, path, backbone, output or found.output or "embedding", **more)
    with open_features(path) as features:
        return ImportedFile(
            source,
            path,
            digest,
            int(features.ok.sum()),
            len(features.failures),
            int(features.provenance["n_without_image"]),
            more.get("joined_on", "their own ids, in their order"),
            str(found.dtype),
            measure_lengths(found),
            list(found.notes),
        )


def _read(source: Path, ids: Path | None, id_column: str | None) -> "Imported":
    """The vectors of a folder or a file: a file of no known ending is read as what needs ids."""
    readers = {name: format for name, format in FORMATS.items() if format.read}
    with_ids = [name for name, format in readers.items() if format.needs_ids]
    if source.is_dir():
        fitting = [name for name, format in readers.items() if not format.endings]
    else:
        ending = source.suffix.lower()
        fitting = [name for name, format in readers.items() if ending in format.endings] or with_ids
    chosen = readers[fitting[0]]
    if ids and not chosen.needs_ids:
        others = " or ".join(readers[name].what for name in with_ids)
        place = "folder" if source.is_dir() else "file"
        raise UsageError(f"--ids is for {others}; {fitting[0]}'s {place} has its own")
    if chosen.needs_ids and not ids:
        raise UsageError(f"{source} is no folder; {chosen.what} needs --ids FILE")
    assert chosen.read is not None
    return chosen.read(source, id_column=id_column, **({"ids": ids} if ids else {}))


def _image_paths(layout: Layout, features: Features) -> np.ndarray | None:
    """The images' paths from the targets file, where that is of the same images."""
    try:
        targets = open_targets(layout.targets)
    except MissingFileError:
        return None
    return targets.path if np.array_equal(targets.image_id, features.image_id) else None


def _keys_of(table: "ImageTable") -> dict[str, np.ndarray]:
    """What an imported id may be: how tools name images is not settled."""
    paths = table.path.tolist()
    return {
        "image_id": table.image_id,
        "path": table.path,
        "path without ending": np.array([os.path.splitext(p)[0] for p in paths], dtype=object),
        "file name": np.array([p.rpartition("/")[2] for p in paths], dtype=object),
        "absolute path": np.array([f"{table.location}/{p}" for p in paths], dtype=object),
    }


def _write_plain_targets(layout: Layout, found: "Imported") -> None:
    """A data set of its own: images without ratings, known by their ids alone."""
    from store.digests import digest_of_strings

    ids = found.ids
    empty = np.full(len(ids), "", dtype="U5")
    targets = Targets(ids, ids, None, None, None, 0.0, empty, "none", layout.dataset)
    if layout.targets.exists():
        there = open_targets(layout.targets)
        if not np.array_equal(there.image_id, ids):
            raise StoreError(
                f"{layout.targets} lists {there.n_images:,} images, which are not the {len(ids):,} imported "
                "ones. Choose another --dataset"
            )
        return
    write_targets(layout.targets, targets, {"images": digest_of_strings(ids, ids)}, {"kind": "imported"})
