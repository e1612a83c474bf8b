"""What is known of every photograph of a gallery, row by row of its list; and what is going on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from iaa.library.gallery.listing import Listing
from store.looks import Look

WAITING, OK, FAILED = 0, 1, 2
STATES = ("waiting", "ok", "failed")


@dataclass
class State:
    """What is going on."""

    phase: str = "listing"
    """listing, starting, embedding, ready, stopped or failed."""
    message: str = "looking for photographs"
    done: int = 0
    total: int = 0
    failed: int = 0
    rate: float = 0.0
    """Photographs per second."""
    seconds_left: float | None = None


class Rows:
    """Columns that change while photographs are looked at; a row's place is that in the list."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.state = np.zeros(n, np.uint8)
        self.sha256 = np.zeros((n, 32), np.uint8)
        """Of the bytes that were looked at; zeros where that is not known."""
        self.width = np.zeros(n, np.int64)
        self.height = np.zeros(n, np.int64)
        self.taken = np.full(n, np.nan)
        self.sharpness = np.full(n, np.nan)
        self.colour = [""] * n
        self.reason: dict[int, str] = {}
        self.has_look = np.zeros(n, bool)
        self.now = np.zeros((n, 2), np.int64)
        """Size and time of change (ns) when they were listed; size -1 where there was no file."""
        self._of_content: dict[bytes, list[int]] = {}

    def __len__(self) -> int:
        return self.n

    def count(self, state: int) -> int:
        """How many are in a state."""
        return int(np.count_nonzero(self.state == state))

    def forget_states(self) -> None:
        """Every row is waiting again."""
        self.state[:] = WAITING
        self.reason.clear()

    def take_status(self, row: np.ndarray, status: np.ndarray, reasons: Mapping[int, str]) -> None:
        """Note what became of some rows."""
        self.state[row] = status
        for each in row.tolist():
            self.reason.pop(each, None)
        self.reason.update(reasons)

    def take_content(self, row: np.ndarray, sha256: np.ndarray) -> None:
        """Note of which bytes some rows are: uint8 (n, 32), zeros where nobody knows."""
        known = sha256.any(axis=1)
        for each, digest in zip(row[known].tolist(), sha256[known], strict=True):
            before, now = self.content(each), digest.tobytes()
            if before == now:
                continue
            if before:
                self._of_content[before].remove(each)
                self.has_look[each] = False
            self._of_content.setdefault(now, []).append(each)
            self.sha256[each] = digest
        self.has_look[row] &= ~np.isnan(self.sharpness[row])  # what was made in a hurry is known better now

    def is_incomplete(self) -> np.ndarray:
        """True for rows without a look, or with one that does not tell the sharpness of a good picture."""
        incomplete: np.ndarray = ~self.has_look | (np.isnan(self.sharpness) & (self.state != FAILED))
        return incomplete

    def of_content(self, sha256: bytes) -> Sequence[int]:
        """The rows of some bytes."""
        return self._of_content.get(sha256, ())

    def content(self, row: int) -> bytes:
        """SHA-256 of the bytes of a row; b"" where it is not known."""
        digest = self.sha256[row].tobytes()
        return digest if any(digest) else b""

    def unseen_contents(self) -> list[bytes]:
        """The known contents of rows that have no look yet."""
        rows = np.flatnonzero(~self.has_look & self.sha256.any(axis=1))
        return list(dict.fromkeys(row.tobytes() for row in self.sha256[rows]))

    def take_look(self, row: int, look: Look) -> None:
        """Note what a look says."""
        if look.width:
            self.width[row], self.height[row] = look.width, look.height
        self.colour[row] = look.colour
        self.taken[row] = np.nan if look.taken is None else look.taken
        self.sharpness[row] = np.nan if look.sharpness is None else look.sharpness
        self.has_look[row] = True

    def thumb_version(self, row: int) -> str:
        """Changes with the file of a row, as far as its size and time tell."""
        size, time = self.now[row].tolist()
        return _stamp(size, time)

    def columns(self, listing: Listing | None) -> dict[str, Any]:
        """The list, column by column."""
        files = [] if listing is None else listing.files
        parted = [file.rpartition("/") for file in files]
        return {
            "key": [] if listing is None else listing.keys,
            "name": [shown(name) for _, _, name in parted],
            "folder": [shown(folder) for folder, _, _ in parted],
            "ending": [shown(_ending(name)) for _, _, name in parted],
            "width": self.width,
            "height": self.height,
            "taken": self.taken,
            "colour": self.colour,
            "state": [STATES[n] for n in self.state.tolist()],
            "reason": [shown(self.reason.get(row, "")) for row in range(self.n)],
            "sharpness": self.sharpness,
            "thumb": [_stamp(size, time) for size, time in self.now.tolist()],
        }


def shown(text: str) -> str:
    """Text as JSON can hold it: bytes of a name that are no UTF-8 become replacement characters."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _ending(name: str) -> str:
    stem, point, ending = name.rpartition(".")
    return f".{ending.lower()}" if point and stem else ""


def _stamp(size: int, time: int) -> str:
    return f"{size & 0xFFFFFFFF:x}-{time & 0xFFFFFFFFFFFF:x}"
