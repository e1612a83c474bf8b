"""Text that people's programs have written, decoded without a guess: tables, lists of names, TOML.

A byte order mark says what the encoding is and is taken at its word; text without one is UTF-8. What is no
text at all (a workbook, an archive) is named, with what to do.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

from store.errors import MissingFileError, TableError

MAX_BYTES = 1 << 31
_MARKS = (
    (b"\xff\xfe\x00\x00", "utf-32-le"),
    (b"\x00\x00\xfe\xff", "utf-32-be"),
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
_SAVE = "Save it there as CSV UTF-8 and use that file"
_KINDS = (
    (b"PK\x03\x04", f"a workbook (.xlsx, .ods, .numbers) or another zip archive. {_SAVE}"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", f"a workbook of Excel's old kind (.xls). {_SAVE}"),
    (b"\x1f\x8b", "compressed by gzip. Unpack it first: gunzip FILE"),
    (b"BZh", "compressed by bzip2. Unpack it first: bunzip2 FILE"),
    (b"\xfd7zXZ\x00", "compressed by xz. Unpack it first: unxz FILE"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd. Unpack it first: unzstd FILE"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array (.npy)"),
    (b"SQLite format 3\x00", "an SQLite database. Export the table as CSV"),
    (b"%PDF", "a PDF"),
    (b"\xff\xd8\xff", "a JPEG photograph"),
    (b"\x89PNG", "a PNG picture"),
    (b"{\\rtf", "rich text. Save it as plain text"),
    (b"version https://git-lfs", "a Git LFS pointer and not the file itself. Fetch that: git lfs pull"),
    (b"<!DOCTYPE", "a web page. Download the file itself"),
    (b"<!doctype", "a web page. Download the file itself"),
    (b"<html", "a web page. Download the file itself"),
)


def read_bytes(path: Path) -> bytes:
    """The bytes of a file of text.

    Raises MissingFileError, or TableError for what is no file, cannot be read, or is larger than 2 GiB.
    """
    try:
        if not path.is_file():
            what = "is no file" if path.exists() else "does not exist"
            raise MissingFileError(f"{path} {what}; expected a table or list there")
        if (size := path.stat().st_size) > MAX_BYTES:
            raise TableError(f"{path} has {size:,} bytes, more than the {MAX_BYTES:,} that a table may have")
        return path.read_bytes()
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror or error}") from error


def decode(data: bytes, path: Path, encoding: str | None = None) -> str:
    """The text of bytes, without its byte order mark; line ends are as they are.

    The encoding is the byte order mark's, else `encoding`, else UTF-8.

    Raises TableError, naming the line, for bytes that are no text in it; for NUL; for files of known
    other kinds."""
    for mark, name in _MARKS:
        if data.startswith(mark):
            return _decode(data[len(mark) :], path, name, len(mark))
    for magic, kind in _KINDS:
        if data.startswith(magic):
            raise TableError(f"{path} is {kind}")
    if encoding is None and b"\0" in data[:4096] and data.count(b"\0", 0, 4096) * 3 > len(data[:4096]):
        raise TableError(
            f"{path} looks like UTF-16 without a byte order mark. Save it as UTF-8 (in Excel: CSV UTF-8)"
        )
    return _decode(data, path, encoding or "utf-8", 0)


def _decode(data: bytes, path: Path, encoding: str, n_before: int) -> str:
    try:
        text = data.decode(encoding)
    except LookupError as error:
        raise TableError(f"{path}: encoding {encoding!r} is not known; try utf-8 or cp1252") from error
    except UnicodeDecodeError as error:
        line = len(re.findall(rb"\r\n|\n|\r", data[: error.start])) + 1
        advice = ""
        if encoding == "utf-8":
            start, stop = max(error.start - 15, 0), error.start + 15
            seen = re.split(r"[\r\n]", data[start:stop].decode("cp1252", "replace"))
            there = next((piece for piece in seen if not piece.isascii()), seen[0])
            advice = (
                f" As Windows-1252 (cp1252) it would read {there.strip()!r}. Save it as UTF-8 (in Excel: CSV "
                f"UTF-8; elsewhere: iconv -f cp1252 -t utf-8), or name it, where a data set is added by it: "
                "-o encoding=cp1252"
            )
        raise TableError(
            f"{path} cannot be read as a table: line {line} (byte {error.start + n_before:,}) is not "
            f"{encoding.upper()} text.{advice}"
        ) from error
    if (nul := text.find("\0")) >= 0:
        line = len(re.findall(r"\r\n|\n|\r", text[:nul])) + 1
        raise TableError(
            f"{path} line {line} holds a NUL character, which no text has: the file is damaged or of another "
            "kind. Write it again"
        )
    return text


def read_text(path: Path, encoding: str | None = None) -> str:
    """The text of a file, without its byte order mark, every line end as a newline.

    Raises MissingFileError, TableError (see `read_bytes` and `decode`).
    """
    return _newlines(decode(read_bytes(path), path, encoding))


def _newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def read_lines(path: Path) -> list[str]:
    """The lines of a list, without line ends and without the empty ones at its end.

    A line ends where a text editor ends it (LF, CR LF, CR) and nowhere else: names may hold any other
    character."""
    text = read_text(path).rstrip("\n")
    return text.split("\n") if text else []


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file says. Raises MissingFileError, TableError."""
    text = read_text(path)
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise TableError(f"{path} is not valid TOML: {error}") from error
