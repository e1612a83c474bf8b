"""A data set while it is looked at: what is known of it in memory, and what is answered from that.

`iaa.library.gallery.keeping` keeps it up to date in a thread of its own; requests come in any other.
"""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from iaa.library.gallery.choosing import name_of, why_no_words
from iaa.library.gallery.encoding import MadeBy
from iaa.library.gallery.listing import Listing
from iaa.library.gallery.processes import HelperDied, Helpers
from iaa.library.gallery.rows import FAILED, WAITING, Rows, State
from iaa.library.gallery.vectors import Matrix, Piece
from iaa.library.gallery.viewing import Picture, look_at_file, picture
from iaa.library.layout import Layout
from store import Features, StoreError, open_features
from store.begun import BegunPart
from store.looks import Look, Looks

_ROWS_PER_SECOND = 10_000
"""How many rows new versions may send to every page: large lists change less often."""
_N_KEPT = 300
"""Looks kept in memory where the file takes none."""


class GalleryError(Exception):
    """What was asked for cannot be answered; `code` says why, as HTTP does."""

    def __init__(self, message: str, code: int = 404) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Settings:
    """How a gallery is opened."""

    root: Path
    name: str | None = None
    """The data set; None: that of `folder`, which is made where there is none."""
    folder: Path | None = None
    backbone: str | None = None
    weights: Path | None = None
    device: str = "auto"
    copies: Path | None = None
    """Where folders of copies are made; None: `copies` in the data set's folder."""
    is_embedding: bool = True
    """False: look at what is there, embed nothing."""


class Gallery:
    """The data set behind a page. Methods may be called from any thread."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.state = State()
        self.layout: Layout | None = None
        self.listing: Listing | None = None
        self.rows = Rows(0)
        self.backbone = ""
        self.pieces: list[Piece] = []
        self.outputs: dict[str, int] = {}
        """Width by name of what the backbone gives."""
        self.made_by: MadeBy | None = None
        """What made the vectors that are there."""
        self.digest = ""
        """Content digest of the feature file; '' while there is none."""
        self.looks: Looks | None = None
        self.viewers = Helpers(2)
        self.encoder = Helpers(1)
        self.lock = threading.RLock()
        self._matrices: dict[str, tuple[Matrix, int]] = {}
        self._matrix_lock = threading.RLock()
        self._change_number = 0
        self._session = secrets.token_hex(3)
        self._is_changed = False
        self._bumped = 0.0
        self._columns: tuple[str, dict[str, Any]] | None = None
        self._kept: OrderedDict[bytes, Look] = OrderedDict()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def title(self) -> str:
        """What people call it."""
        if self.settings.folder is not None:
            return name_of(self.settings.folder) or str(self.settings.folder)
        return self.settings.name or ""

    @property
    def name(self) -> str:
        """The data set's name; '' before it has one."""
        return self.layout.dataset if self.layout is not None else self.settings.name or ""

    @property
    def version(self) -> str:
        """Changes with the list and with what is known of its rows."""
        return f"{self.list_version}.{self._session}-{self._change_number}"

    @property
    def list_version(self) -> str:
        """Changes with the list: rows keep their meaning as long as it is the same."""
        return self.listing.digest[:12] if self.listing is not None else "none"

    @property
    def versions(self) -> dict[str, str]:
        """Both, as every list has them."""
        return {"version": self.version, "listing": self.list_version}

    @property
    def vectors_version(self) -> tuple[str, str, int]:
        """Changes with the vectors that are there."""
        return self.list_version, self.digest, len(self.pieces)

    @property
    def why_no_words(self) -> str:
        """Why there is no search by words; '' where there is."""
        if not self.backbone:
            return "The photographs are still being looked for."
        return why_no_words(self.backbone, self.name)

    @property
    def folder(self) -> str:
        """Where the photographs are, for people."""
        if self.listing is not None:
            return self.listing.folder
        return str(self.settings.folder or "")

    @property
    def copies_folder(self) -> Path:
        """Where folders of copies are made."""
        if self.settings.copies is not None:
            return self.settings.copies.absolute()
        folder = self.layout.folder if self.layout is not None else self.settings.root
        return folder.absolute() / "copies"

    def columns(self) -> dict[str, Any]:
        """The whole list, column by column, with its version."""
        with self.lock:
            if self._columns is None or self._columns[0] != self.version:
                self._columns = self.version, {**self.versions, **self.rows.columns(self.listing)}
            return self._columns[1]

    def row_of(self, key: str) -> int:
        """Row of a key. Raises GalleryError for one that no photograph has."""
        row = None if self.listing is None else self.listing.row_of_key.get(key)
        if row is None:
            raise GalleryError("no photograph has this key; has the list changed? Ask for it again")
        return row

    def check_version(self, version: str | None) -> None:
        """Raise GalleryError (409) for the version of another list."""
        if version and version.partition(".")[0] != self.list_version:
            raise GalleryError("the list of photographs has changed: ask for it again", 409)

    def look(self, row: int) -> Look:
        """The look of a photograph with its thumbnail, made now where there is none; never raises."""
        sha256 = self.rows.content(row)
        if sha256:
            if (kept := self._kept.get(sha256)) is not None:
                return kept
            if self.looks is not None and (jpeg := self.looks.jpeg(sha256)) is not None:
                look = self.looks.of([sha256]).get(sha256, Look(sha256))
                return replace(look, jpeg=jpeg)
        return self.make_look(row)

    def make_look(self, row: int, is_quick: bool = True) -> Look:
        """The look of a photograph, made now and kept; the quick way may leave the sharpness out."""
        assert self.listing is not None
        try:
            look = self.viewers.call(look_at_file, self.listing.at(row), is_quick)
        except HelperDied as error:
            return Look(self.rows.content(row), problem=f"cannot be shown: {error}")
        if look.sha256:
            self._keep(row, look)
        return look

    def _keep(self, row: int, look: Look) -> None:
        if self.looks is None or not self.looks.put([look]):
            with self.lock:
                self._kept[look.sha256] = look
                while len(self._kept) > _N_KEPT:
                    self._kept.popitem(last=False)
        with self.lock:
            if not self.rows.content(row):
                self.rows.take_content(np.array([row]), np.frombuffer(look.sha256, np.uint8)[None])
            for each in self.rows.of_content(look.sha256):
                self.rows.take_look(each, look)
        self.changed()

    def picture(self, row: int, edge: int) -> Picture:
        """A photograph's picture for the screen (iaa.library.gallery.viewing.picture); never raises."""
        assert self.listing is not None
        try:
            return self.viewers.call(picture, self.listing.at(row), edge)
        except HelperDied as error:
            return Picture(b"", problem=f"cannot be shown: {error}")

    def matrix(self, output: str) -> Matrix:
        """Unit vectors of an output, of all that is made by now."""
        with self._matrix_lock:
            with self.lock:
                pieces, n = list(self.pieces), len(self.rows)
            matrix, n_taken = self._matrices.get(output, (Matrix(output, n), 0))
            for piece in pieces[n_taken:]:
                with suppress(StoreError):  # joined meanwhile: the finished file is taken in next
                    matrix.add(piece)
            self._matrices[output] = matrix, len(pieces)
            return matrix

    # What keeping takes in

    def take_list(self, listing: Listing, now: np.ndarray) -> None:
        """Another list of photographs, of which nothing is known yet."""
        _ = listing.row_of_key, listing.row_of_id  # made here, not in a request
        rows = Rows(len(listing))
        rows.now = now.copy()
        with self._matrix_lock, self.lock:
            self.listing, self.rows = listing, rows
            self.pieces, self._matrices = [], {}
            self._change_number += 1
            self.state.total = len(rows)
        self.changed()

    def take_times(self, now: np.ndarray) -> bool:
        """Sizes and times of the same files as they are now; True if any differs."""
        if np.array_equal(self.rows.now, now):
            return False
        with self.lock:
            self.rows.now = now.copy()
        self.changed()
        return True

    def take_features(self, features: Features) -> None:
        """A finished feature file, in place of all vectors before. Of a photograph whose size differs now
        nothing is taken: it is another one."""
        path = features.path
        size, sha256 = (_view(features, name) for name in ("source_size", "source_sha256"))
        row, file_row = self._matching(features.image_id, size)
        row_of = dict(zip(file_row.tolist(), row.tolist(), strict=True))
        reasons = {row_of[n]: reason for n, reason in features.failures.items() if n in row_of}
        with self._matrix_lock, self.lock:
            self.pieces, self._matrices = [Piece(lambda: open_features(path), file_row, row)], {}
            self.outputs, self.digest = dict(features.outputs), features.digest
            self.made_by = self._made_by(path, features.identity, features.provenance)
            self.rows.forget_states()
            self.rows.take_status(row, features.status[file_row], reasons)
            if sha256 is not None:
                self.rows.take_content(row, sha256[file_row])
        self.changed()

    def take_part(
        self, part: BegunPart, image_id: np.ndarray, path: Path, identity: Any, provenance: Any
    ) -> None:
        """A finished part of the run that is to make `path`, with the ids of its rows."""
        row, file_row = self._matching(image_id, part.file.view("source_size"))
        row_of = dict(zip(file_row.tolist(), row.tolist(), strict=True))
        reasons = {row_of[n]: reason for n, reason in part.failures.items() if n in row_of}
        with self._matrix_lock, self.lock:
            if self.made_by is None:
                self.made_by = self._made_by(path, identity, provenance)
                self.outputs = dict(identity["outputs"])
            self.rows.take_status(row, part.status[file_row], reasons)
            self.rows.take_content(row, part.file.view("source_sha256")[file_row])
            if len(row):
                self.pieces.append(Piece(part.reopen, file_row, row))
        self.changed()

    def take_looks(self) -> None:
        """What is known by content of rows that have no look yet."""
        with self.lock:
            wanted = self.rows.unseen_contents()
        if self.looks is None or not wanted:
            return
        found = self.looks.of(wanted, with_facts=False)
        with self.lock:
            for sha256, look in found.items():
                for row in self.rows.of_content(sha256):
                    self.rows.take_look(row, look)
        if found:
            self.changed()

    def take_headers(self, headers: Iterable[tuple[int, int, int, float | None]]) -> None:
        """(row, width, height, capture time) by files' headers, where nothing better is known."""
        with self.lock:
            for row, width, height, taken in headers:
                if not self.rows.has_look[row]:
                    self.rows.width[row], self.rows.height[row] = width, height
                    self.rows.taken[row] = np.nan if taken is None else taken
        self.changed()

    def say(self, phase: str, message: str) -> None:
        """What is going on now."""
        with self.lock:
            rows, n = self.rows, len(self.rows)
            self.state = State(phase, message, n - rows.count(WAITING), n, rows.count(FAILED))

    def changed(self) -> None:
        """Something in the columns has changed."""
        self._is_changed = True

    def bump(self, is_now: bool = False) -> None:
        """Give what has changed a new version, if the last one is old enough."""
        now = time.monotonic()
        pause = max(1.0, len(self.rows) / _ROWS_PER_SECOND)
        if self._is_changed and (is_now or now - self._bumped >= pause):
            with self.lock:
                self._is_changed = False
                self._bumped = now
                self._change_number += 1

    def close(self) -> None:
        """End the processes that help, and close the thumbnails."""
        self.viewers.close()
        self.encoder.close()
        if self.looks is not None:
            self.looks.close()

    def _matching(self, image_id: np.ndarray, size: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the list, and the rows of a file that they are, where the photograph has the same size."""
        assert self.listing is not None
        row = self.listing.rows_of(image_id)
        known = row >= 0
        if size is not None:
            now = self.rows.now[row, 0]
            known &= (now == size) | (now < 0) | (size < 0)
        file_row = np.flatnonzero(known)
        return row[file_row], file_row

    def _made_by(self, path: Path, identity: Any, provenance: Any) -> MadeBy:
        assert self.layout is not None
        return MadeBy(
            self.layout.root, self.layout.dataset, path, self.backbone, dict(identity), dict(provenance),
            self.settings.weights, self.settings.device,
        )  # fmt: skip


def _view(features: Features, name: str) -> np.ndarray | None:
    return features.file.view(name) if name in features.file.arrays else None
