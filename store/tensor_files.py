"""Files of tensors looked at before any library reads them: what they are, and whether their sizes fit.

Weights come from strangers. Here, without torch, a file is told by its content and not by its ending, the
things that people have in place of weights get their names, and every size that a file declares is held
against the bytes that are there, so that nothing is allocated for a number that someone wrote into a header.
"""

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.numpy import load as load_safetensors

from store.errors import StoreError

Kind = Literal["safetensors", "pytorch", "torchscript"]

#: The largest models have headers of some hundred kB.
MAX_HEADER_BYTES = 16 * 2**20
#: A zip's directory takes 46 bytes or more per entry on disk and ten times that in memory.
MAX_ENTRIES = 200_000
#: What an archive may hold beyond its own size: TorchScript compresses its source code, torch nothing.
MAX_INFLATION = 16 * 2**20

EXPECTED = "Expected a safetensors file, or what torch.save writes (.pt, .pth, .bin, .ckpt)"

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_EMPTY_ZIP = b"PK\x05\x06"
_OTHERS = {
    b"\x89HDF": "an HDF5 file (Keras?)",
    b"GGUF": "a GGUF file",
    b"\x1f\x8b": "gzip-compressed: unpack it first",
    b"BZh": "bzip2-compressed: unpack it first",
    b"\xfd7zXZ": "xz-compressed: unpack it first",
    b"7z\xbc\xaf": "a 7-Zip archive: unpack it first",
    b"Rar!": "a RAR archive: unpack it first",
    b"\x93NUMPY": "a numpy array",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x89PNG": "a PNG image",
    b"%PDF": "a PDF",
}


class TensorFileError(StoreError):
    """A file that should hold tensors is something else, is cut short, or declares what it does not hold."""


def check_tensor_file(path: Path) -> Kind:
    """What a file of tensors is by its content, whatever its ending says; nothing of its tensors is read.

    Raises TensorFileError, which says what the file is instead, or what is wrong with its sizes.
    """
    if path.is_dir():
        raise TensorFileError(f"{path} is a folder, not a file. Name the weights file in it")
    if not path.is_file():
        raise TensorFileError(f"{path} does not exist or is no regular file")
    size = path.stat().st_size
    if size == 0:
        raise TensorFileError(f"{path} is empty (0 bytes): the download or the copy failed. Fetch it again")
    with path.open("rb") as file:
        start = file.read(512)
    if start[8:9] == b"{" or path.suffix == ".safetensors":
        _check_not_text(path, start)
        _check_safetensors(path, start, size)
        return "safetensors"
    if start.startswith((_ZIP, _EMPTY_ZIP)):
        return _check_zip(path, size)
    if start.startswith(_PICKLE):
        return "pytorch"
    _check_not_text(path, start)
    other = next((what for magic, what in _OTHERS.items() if start.startswith(magic)), "")
    if start[257:262] == b"ustar":
        other = "a tar archive: unpack it first (torch wrote its own kind of it before version 0.2)"
    unknown = f"of an unknown kind (it begins with {start[:8]!r})"
    raise TensorFileError(f"{path} is {other or unknown}. {EXPECTED}")


def read_safetensors(
    path: Path, max_bytes: int = 2**30, load: Callable[[bytes], dict[str, Any]] = load_safetensors
) -> tuple[dict[str, np.ndarray], bytes]:
    """The arrays of a small safetensors file by name, and its bytes. Raises TensorFileError, OSError."""
    if (kind := check_tensor_file(path)) != "safetensors":
        raise TensorFileError(f"{path} is a {kind} file, expected a safetensors file")
    if (size := path.stat().st_size) > max_bytes:
        raise TensorFileError(f"{path} has {size:,} bytes, expected at most {max_bytes:,}")
    content = path.read_bytes()
    try:
        return load(content), content
    except Exception as error:  # the library raises many kinds for a header that lies
        raise not_whole(path, error) from error


def not_whole(path: Path, error: BaseException) -> TensorFileError:
    """What to say of a safetensors file that its library cannot read."""
    said = str(error).splitlines() or [type(error).__name__]
    return TensorFileError(
        f"{path} is not a whole safetensors file ({said[0][:200]}): damaged or cut short. Fetch it again"
    )


def _check_not_text(path: Path, start: bytes) -> None:
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"version https://git-lfs"):
        raise TensorFileError(
            f"{path} is a Git LFS pointer, a few lines that stand for the file: the weights themselves were "
            "not fetched. In their repository: git lfs pull; or download the file itself"
        )
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise TensorFileError(
            f"{path} is a web page, not weights: its address led to a page about the file, or asked to log "
            "in. Download the file itself"
        )
    if text.startswith((b"{", b"[")):
        raise TensorFileError(f"{path} is JSON text (an index or a configuration?), not weights. {EXPECTED}")


def _check_safetensors(path: Path, start: bytes, size: int) -> None:
    header = int.from_bytes(start[:8], "little")
    if start[8:9] != b"{":
        raise TensorFileError(f"{path} is no safetensors file, whatever its name says. {EXPECTED}")
    if 8 + header > size:
        raise TensorFileError(
            f"{path} declares a header of {header:,} bytes, the file has {size:,}: damaged or cut short. "
            "Fetch it again"
        )
    if header > MAX_HEADER_BYTES:
        raise TensorFileError(
            f"{path} declares a header of {header:,} bytes, expected at most {MAX_HEADER_BYTES:,}: no model "
            "has so many tensors"
        )


def _check_zip(path: Path, size: int) -> Kind:
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise TensorFileError(
            f"{path} is not a whole archive ({error}): damaged or cut short. Fetch it again"
        ) from error
    _check_inflation(path, size, entries)
    names = {Path(entry.filename).name for entry in entries}
    if "constants.pkl" in names:
        return "torchscript"
    if "data.pkl" in names:
        return "pytorch"
    held = ", ".join(repr(entry.filename[:60]) for entry in entries[:3]) or "nothing"
    arrays = any(name.endswith(".npy") for name in names)
    what = "a numpy archive (.npz, JAX's weights?)" if arrays else "a zip archive, but not one of torch's"
    raise TensorFileError(f"{path} is {what} (it holds {held}). {EXPECTED}")


def _check_inflation(path: Path, size: int, entries: Sequence[zipfile.ZipInfo]) -> None:
    """torch stores tensors as they are: an archive that holds more than its own size was made to burst."""
    declared = sum(entry.file_size for entry in entries)
    if declared > size + MAX_INFLATION or len(entries) > MAX_ENTRIES:
        raise TensorFileError(
            f"{path} has {size:,} bytes and declares {len(entries):,} entries of {declared:,} unpacked. "
            "torch.save does not compress, so this is no file of its making. Nothing of it was read"
        )
