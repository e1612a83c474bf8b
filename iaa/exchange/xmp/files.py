"""XMP where photo programs keep it: in sidecars of two kinds of name, and inside photographs."""

import contextlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from iaa.exchange.xmp.packet import MAX_BYTES, Packet, XmpError
from store.durable import whole_file, write_pieces
from store.errors import SpaceError

ENDING = ".xmp"
Naming = Literal["full", "stem"]
"""name.ext.xmp, as darktable and digiKam call it, or name.xmp, as Lightroom does."""


@dataclass(frozen=True)
class Sidecars:
    """The sidecars of a photograph: those that are there, and the one to write into."""

    there: tuple[Path, ...]
    write: Path


def sidecars_of(photographs: Sequence[Path], naming: Naming = "full") -> list[Sidecars]:
    """The sidecars of photographs. name.xmp belongs to a photograph only if no other there is called so."""
    stems = Counter(photograph.with_suffix("") for photograph in photographs)
    names: dict[Path, dict[str, str]] = {}
    found = []
    for photograph in photographs:
        folder = photograph.parent
        if folder not in names:
            names[folder] = _sidecars_in(folder)
        full = photograph.with_name(photograph.name + ENDING)
        stem = photograph.with_name(photograph.stem + ENDING)
        wanted = [full, stem] if stems[photograph.with_suffix("")] == 1 else [full]
        there = [
            folder / names[folder][path.name.lower()] for path in wanted if path.name.lower() in names[folder]
        ]
        new = full if naming == "full" or len(wanted) == 1 else stem
        found.append(Sidecars(tuple(there), there[0] if there else new))
    return found


def _sidecars_in(folder: Path) -> dict[str, str]:
    """Names of sidecars by their lower case: cameras and old disks write .XMP."""
    try:
        return {name.lower(): name for name in os.listdir(folder) if name.lower().endswith(ENDING)}
    except OSError:
        return {}


def read_sidecar(path: Path) -> Packet:
    """The packet of a sidecar. Raises XmpError."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise XmpError(f"it has {path.stat().st_size:,} bytes, more than are read of XMP ({MAX_BYTES:,})")
        return Packet(path.read_bytes())
    except OSError as error:
        raise XmpError(f"it cannot be read: {error.strerror or error}") from error


def read_embedded(photograph: Path) -> Packet | None:
    """The packet inside a photograph, None where there is none. Raises XmpError for one that is broken."""
    from PIL import Image, UnidentifiedImageError

    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    try:
        with Image.open(photograph) as image:
            data = image.info.get("xmp")
            if data is None and hasattr(image, "tag_v2"):
                data = image.tag_v2.get(700)
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError):
        return None  # whatever else it is, that a photograph cannot be read is not said here
    if not data:
        return None
    return Packet(data.encode() if isinstance(data, str) else bytes(data))


def write_sidecar(path: Path, data: bytes) -> None:
    """Write a sidecar, complete or not at all, where it lies if it is a link. Raises XmpError."""
    target = Path(os.path.realpath(path))
    try:
        mode = target.stat().st_mode & 0o777 if target.exists() else None
        if mode is not None and not os.access(target, os.W_OK):
            raise PermissionError(13, "it is read-only")
        with whole_file(target) as partial:
            write_pieces(partial, len(data), [(0, data)])
            if mode is not None:
                os.chmod(partial, mode)
    except (OSError, SpaceError) as error:
        cause = error.__cause__ if isinstance(error, SpaceError) else error
        raise XmpError(f"it cannot be written: {getattr(cause, 'strerror', None) or cause}") from error
