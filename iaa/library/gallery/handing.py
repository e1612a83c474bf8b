"""What leaves a gallery: copies in a folder, a zip, a CSV, a look at the file's place. Originals stay as they
are."""

import io
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from iaa.library.gallery.gallery import Gallery, GalleryError
from iaa.library.gallery.rows import STATES, shown
from store.csv_files import write_rows
from store.durable import make_folder
from store.errors import UnsafeNameError
from store.file_names import check_name

_CHUNK = 2**20
_FORBIDDEN = '<>:"/\\|?*'
_FACTS = ("camera", "lens", "exposure", "aperture", "iso", "focal", "bias")


def copy_files(gallery: Gallery, rows: Sequence[int], name: str) -> Path:
    """Copy files into a new folder of this name below the gallery's folder of copies; returns it.

    It is there complete or not at all. Raises GalleryError for a name that is none or taken, and where a file
    cannot be read or written.
    """
    assert gallery.listing is not None
    if not rows:
        raise GalleryError("nothing is selected", 400)
    try:
        check_name(name.strip().replace(" ", "_"), "folder")
    except UnsafeNameError as error:
        raise GalleryError(str(error), 400) from error
    target = gallery.copies_folder / name.strip()
    partial = target.with_name(target.name + ".partial")
    if target.exists() or partial.exists():
        taken = target if target.exists() else partial
        raise GalleryError(f"{shown(str(taken))} exists: choose another name; nothing is ever replaced", 409)
    try:
        make_folder(target.parent)
        partial.mkdir()
    except OSError as error:
        raise GalleryError(f"cannot make {shown(str(target))}: {error.strerror or error}", 507) from error
    try:
        for row, file_name in zip(rows, names_of(gallery, rows), strict=True):
            _copy(gallery.listing.at(row), partial / file_name)
        partial.rename(target)
    except (OSError, ValueError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        why = getattr(error, "strerror", None) or error
        raise GalleryError(
            f"cannot copy into {shown(str(target))}: {why}; nothing was copied", 507
        ) from error
    return target


def _copy(file: Any, target: Path) -> None:
    if isinstance(file, Path):
        shutil.copy2(file, target)
    else:
        target.write_bytes(file.read_bytes())


def names_of(gallery: Gallery, rows: Sequence[int]) -> list[str]:
    """The files' own names, as every system takes them; one that comes again gets a number."""
    assert gallery.listing is not None
    found: list[str] = []
    taken: set[str] = set()
    for row in rows:
        name = shown(gallery.listing.files[row]).rpartition("/")[2]
        name = "".join("_" if c in _FORBIDDEN or not c.isprintable() else c for c in name).rstrip(". ") or "_"
        stem, point, ending = name.rpartition(".") if "." in name[1:] else (name, "", "")
        number = 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}_{number}{point}{ending}"
        taken.add(name.casefold())
        found.append(name)
    return found


class _Pipe(io.RawIOBase):
    """What is written comes out again in pieces."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self.pieces.append(piece)
        return len(piece)

    def take(self) -> bytes:
        """What was written since."""
        found = b"".join(self.pieces)
        self.pieces.clear()
        return found


def zip_files(gallery: Gallery, rows: Sequence[int]) -> Iterator[bytes]:
    """The files as a zip, made as it is sent, in little memory. One that cannot be read any more is left out,
    and named in a file `not_here.txt`."""
    assert gallery.listing is not None
    listing, pipe, missing = gallery.listing, _Pipe(), []
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for row, name in zip(rows, names_of(gallery, rows), strict=True):
            try:
                file = listing.at(row)
                source = file.open("rb") if isinstance(file, Path) else io.BytesIO(file.read_bytes())
            except (OSError, ValueError):
                missing.append(name)
                continue
            with source, archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as entry:
                while chunk := source.read(_CHUNK):
                    entry.write(chunk)
                    yield pipe.take()
            yield pipe.take()
        if missing:
            archive.writestr("not_here.txt", "".join(f"{name}\n" for name in missing))
    yield pipe.take()


def csv_of(gallery: Gallery, rows: Sequence[int], scores: dict[str, dict[int, float]]) -> str:
    """A table of photographs with what is known of them, safe to open in a spreadsheet; `scores` are further
    columns, by row."""
    assert gallery.listing is not None
    listing, known = gallery.listing, gallery.rows
    contents = [known.content(row) for row in rows]
    looks = gallery.looks.of([c for c in dict.fromkeys(contents) if c]) if gallery.looks is not None else {}
    columns = ["file", *scores, "width", "height", "taken", *_FACTS, "sharpness", "state", "reason"]
    table = []
    for row, content in zip(rows, contents, strict=True):
        facts = looks[content].facts if content in looks else {}
        taken = known.taken[row].item()
        cells: list[Any] = [shown(listing.files[row])]
        cells += [values.get(row, "") for values in scores.values()]
        cells += [known.width[row].item() or "", known.height[row].item() or "", moment(taken)]
        cells += [facts.get(name, "") for name in _FACTS]
        sharpness = known.sharpness[row].item()
        cells += ["" if sharpness != sharpness else sharpness, STATES[known.state[row]]]
        cells.append(shown(known.reason.get(row, "")))
        table.append(cells)
    text = io.StringIO()
    write_rows(text, columns, table)
    return text.getvalue()


def moment(taken: float) -> str:
    """A capture time as YYYY-MM-DD hh:mm:ss by the camera's clock; '' for NaN."""
    import datetime

    if taken != taken:
        return ""
    return str(datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=taken))


def reveal(gallery: Gallery, row: int) -> None:
    """Show a photograph in the file manager of this machine. Raises GalleryError where that cannot be."""
    assert gallery.listing is not None
    path = gallery.listing.at(row)
    if not isinstance(path, Path) or not path.exists():
        raise GalleryError("there is no such file on this machine (any more)")
    command = file_manager(path.absolute())
    if command is None:
        raise GalleryError(f"no file manager is known here; the file is {shown(str(path))}", 501)
    try:
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    except OSError as error:
        raise GalleryError(f"the file manager cannot be started: {error.strerror or error}", 501) from error


def file_manager(path: Path) -> list[str] | None:
    """The command that shows a file in its folder; None where there is none."""
    if sys.platform == "darwin":
        return ["open", "-R", str(path)]
    if sys.platform == "win32":
        return ["explorer", f"/select,{path}"]
    opener = shutil.which("xdg-open")
    return None if opener is None else [opener, str(path.parent)]
