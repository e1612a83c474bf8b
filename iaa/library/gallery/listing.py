"""The photographs of a gallery: the list that rows count in, and the keys by which it is asked for them."""

import base64
import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from embed.images.table import ImageTable

_KEY_BYTES = 12


def key_of(image_id: str) -> str:
    """The name by which a photograph is asked for: 16 characters that are safe in a URL and say nothing."""
    digest = hashlib.blake2b(image_id.encode("utf-8", "surrogateescape"), digest_size=_KEY_BYTES)
    return base64.urlsafe_b64encode(digest.digest()).decode()


@dataclass(frozen=True)
class Listing:
    """The photographs that a data set lists, in its order; `row` always means the index in this list."""

    table: "ImageTable"

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def ids(self) -> list[str]:
        """image_id of every row."""
        found: list[str] = self.table.image_id.tolist()
        return found

    @cached_property
    def files(self) -> list[str]:
        """Path of every row's file below the data set's folder of photographs."""
        found: list[str] = self.table.path.tolist()
        return found

    @cached_property
    def keys(self) -> list[str]:
        """Key of every row."""
        return [key_of(name) for name in self.ids]

    @cached_property
    def row_of_key(self) -> dict[str, int]:
        """Row by key."""
        return {key: row for row, key in enumerate(self.keys)}

    @cached_property
    def row_of_id(self) -> dict[str, int]:
        """Row by image_id."""
        return {name: row for row, name in enumerate(self.ids)}

    @property
    def digest(self) -> str:
        """SHA-256 over ids and files."""
        return self.table.digest

    @property
    def folder(self) -> str:
        """Where the photographs are, for people."""
        return self.table.location

    def at(self, row: int) -> Any:
        """A row's file, as something that has `read_bytes`."""
        return self.table.absolute(row)

    def size_and_time(self, row: int) -> tuple[int, int]:
        """Bytes of a row's file and its time of change in ns; (-1, 0) where there is none."""
        file = self.at(row)
        if hasattr(file, "size_and_time"):
            size, time = file.size_and_time()
            return int(size), int(time)
        try:
            found = os.stat(file)
        except (OSError, ValueError):
            return -1, 0
        return found.st_size, found.st_mtime_ns

    def rows_of(self, image_id: np.ndarray) -> np.ndarray:
        """Row of each id, -1 for one that is not listed."""
        row_of = self.row_of_id
        return np.array([row_of.get(name, -1) for name in image_id.tolist()], np.int64)
