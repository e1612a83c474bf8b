"""Digests: one canonical byte form for JSON and for arrays, hashed with SHA-256."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

BLOCK_ROWS = 2048
"""Rows per digest block, equal to the rows of a part, so that a part's digests survive the merge."""
_CELLS_AT_ONCE = 4096
PIECE_BYTES = 2**28
"""What is held of an array at once where it is larger."""


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_of_json(value: Any) -> str:
    """SHA-256 (64 hex characters) of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogateescape")).hexdigest()


def digest_of_strings(*columns: np.ndarray) -> str:
    """SHA-256 (64 hex characters) over string columns of equal length; every cell is
    length-prefixed, so that no two different tables share a byte form."""
    hasher = hashlib.sha256(len(columns).to_bytes(8, "little"))
    for column in columns:
        hasher.update(len(column).to_bytes(8, "little"))
        for start in range(0, len(column), _CELLS_AT_ONCE):
            some = column[start : start + _CELLS_AT_ONCE].tolist()
            cells = [str(cell).encode("utf-8", "surrogateescape") for cell in some]
            prefix = {n: n.to_bytes(8, "little") for n in set(map(len, cells))}
            hasher.update(b"".join([prefix[len(cell)] + cell for cell in cells]))
    return hasher.hexdigest()


def block_bounds(n_rows: int) -> Iterator[tuple[int, int]]:
    """The (start, stop) row bounds of each digest block."""
    for start in range(0, n_rows, BLOCK_ROWS):
        yield start, min(start + BLOCK_ROWS, n_rows)


def piece_bounds(n_rows: int, row_bytes: int) -> Iterator[tuple[int, int]]:
    """The (start, stop) row bounds of pieces to be held in memory: blocks, or less of rows so long that a
    block of them has more than PIECE_BYTES."""
    most = min(BLOCK_ROWS, max(1, PIECE_BYTES // max(1, row_bytes)))
    for start, stop in block_bounds(n_rows):
        for first in range(start, stop, most):
            yield first, min(first + most, stop)


def digest_block(rows: np.ndarray) -> bytes:
    """SHA-256 (32 bytes) of a C-contiguous block of rows, as stored on disk."""
    return hashlib.sha256(np.ascontiguousarray(rows).view(np.uint8).data).digest()


def digest_blocks(array: np.ndarray) -> np.ndarray:
    """SHA-256 of every block of rows: uint8 (n_blocks, 32)."""
    digests = [digest_block(array[start:stop]) for start, stop in block_bounds(len(array))]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)


def digest_pieces(pieces: Iterable[np.ndarray]) -> np.ndarray:
    """The same of an array that comes in consecutive pieces of any numbers of rows; memory holds a piece."""
    digests, hasher, n_hashed = [], hashlib.sha256(), 0
    for piece in pieces:
        start = 0
        while start < len(piece):
            rows = piece[start : start + BLOCK_ROWS - n_hashed]
            hasher.update(np.ascontiguousarray(rows).view(np.uint8).data)
            start += len(rows)
            n_hashed += len(rows)
            if n_hashed == BLOCK_ROWS:
                digests.append(hasher.digest())
                hasher, n_hashed = hashlib.sha256(), 0
    if n_hashed:
        digests.append(hasher.digest())
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)


def encode_strings(values: np.ndarray) -> np.ndarray:
    """Fixed-width UTF-8 bytes of a string array, the form strings have on disk.

    Names that are not valid UTF-8 (possible on Linux) survive by surrogate escapes. A NUL cannot be
    represented and raises ValueError.
    """
    if values.dtype.kind == "U" and (plain := _encode_ascii(values)) is not None:
        return plain
    encoded = [str(value).encode("utf-8", "surrogateescape") for value in values.tolist()]
    if any(b"\0" in cell for cell in encoded):
        raise ValueError("a string holds a NUL character, which the store cannot keep")
    width = max((len(cell) for cell in encoded), default=1) or 1
    return np.array(encoded, dtype=f"S{width}")


def _encode_ascii(values: np.ndarray) -> np.ndarray | None:
    """The same of strings of ASCII, all cells at once; None for others, and where one holds a NUL."""
    try:
        encoded: np.ndarray = values.astype(np.bytes_)
    except UnicodeEncodeError:
        return None
    if not encoded.size:
        return None
    letters = encoded.reshape(-1, 1).view(np.uint8) != 0
    if (letters[:, 1:] & ~letters[:, :-1]).any():
        return None
    return encoded.astype(f"S{max(1, int(letters.any(axis=0).sum()))}")


def decode_strings(stored: np.ndarray) -> np.ndarray:
    """The str array behind `encode_strings`."""
    try:
        return stored.astype(np.str_)  # ASCII alone, all cells at once
    except UnicodeDecodeError:
        pass
    return np.array([cell.decode("utf-8", "surrogateescape") for cell in stored.tolist()], dtype=str)
