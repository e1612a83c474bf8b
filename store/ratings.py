"""What people say about photographs: an SQLite file to which rows are added and in which none is changed.

A row tells who rated which photograph how and when. Photographs are known by the SHA-256 of their bytes and
by their id, so that a rating follows a file that is renamed or moved. What holds now is a question to the
rows: the latest of each rater about each photograph, of those that were not undone; undoing adds a row, too.

Several processes may add at once (SQLite's write-ahead log, one writer at a time), and what `add` returned
for is on the disk. Each row carries a digest of itself and of the row before it: a row that was changed, or
one that is missing between others, is found by `verify`.
"""

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self, get_args

from store.durable import make_folder
from store.errors import BusyError, IntegrityError, MissingFileError, SchemaError, SpaceError, StoreError
from store.sqlite import write_ahead

Kind = Literal["stars", "flag", "pair"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SCHEMA = "iaa/ratings"
FILE_NAME = "ratings.sqlite"
VERSION = 1
UNKNOWN = bytes(32)
"""The content of a photograph whose bytes nobody has read."""
MAX_STARS = 5.0
WAIT_SECONDS = 30.0
_APPLICATION = 0x69616172
_DIGEST_BYTES = 16
_TABLES = (
    """CREATE TABLE events (
    number INTEGER PRIMARY KEY, act INTEGER NOT NULL, rater TEXT NOT NULL, kind TEXT NOT NULL,
    image_id TEXT NOT NULL, sha256 BLOB NOT NULL, other_id TEXT NOT NULL, other_sha256 BLOB NOT NULL,
    value REAL NOT NULL, time TEXT NOT NULL, source TEXT NOT NULL, digest BLOB NOT NULL)""",
    "CREATE INDEX acts ON events (act)",
    """CREATE TRIGGER never_changed BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'ratings are added, never changed'); END""",
    """CREATE TRIGGER never_deleted BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'ratings are added, never deleted'); END""",
)
_COLUMNS = "number, act, rater, kind, image_id, sha256, other_id, other_sha256, value, time, source"
_NAMES_AT = [n for n, name in enumerate(_COLUMNS.split(", ")) if name in ("image_id", "other_id")]
_STANDING = "kind <> 'undo' AND act NOT IN (SELECT act FROM events WHERE kind = 'undo')"


class RatingError(StoreError):
    """A rating that means nothing."""


@dataclass(frozen=True)
class Rating:
    """What one person says about a photograph, or about two. Raises RatingError for what means nothing."""

    kind: Kind
    value: float
    """stars: 1 to 5, 0 takes them back. flag: 1 picked, -1 rejected, 0 neither. pair: 1 the first is better,
    -1 the other, 0 they are equal."""
    image_id: str
    sha256: bytes = UNKNOWN
    other_id: str = ""
    """Of a pair, the second photograph."""
    other_sha256: bytes = UNKNOWN

    def __post_init__(self) -> None:
        allowed = {"stars": "0 or 1 to 5", "flag": "-1, 0 or 1", "pair": "-1, 0 or 1"}.get(self.kind)
        if allowed is None:
            raise RatingError(f"a rating is {', '.join(KINDS)}, not {self.kind!r:.40}")
        is_number = isinstance(self.value, int | float) and not isinstance(self.value, bool)
        if self.kind == "stars":
            is_fine = is_number and (self.value == 0 or 1 <= self.value <= MAX_STARS)
        else:
            is_fine = is_number and self.value in (-1, 0, 1)
        if not is_fine:
            raise RatingError(f"{self.kind} of {self.image_id}: {self.value!r:.40}, expected {allowed}")
        if not self.image_id or (self.kind == "pair") != bool(self.other_id):
            raise RatingError("stars and flags are about one photograph, a pair is about two")
        if self.image_id == self.other_id:
            raise RatingError(f"a photograph cannot be compared with itself: {self.image_id}")
        if len(self.sha256) != 32 or len(self.other_sha256) != 32:
            raise RatingError("a content is known by the 32 bytes of its SHA-256")


@dataclass(frozen=True)
class Event:
    """A row of the file: a rating, or that one was undone."""

    number: int
    act: int
    """The first row of those that were added together; of an undoing, the act that it undoes."""
    rater: str
    kind: str
    """A rating's kind, or undo."""
    image_id: str
    sha256: bytes
    other_id: str
    other_sha256: bytes
    value: float
    time: str
    """UTC, as ISO 8601 has it."""
    source: str
    """Where it came from: page, python, the name of a file."""


class Ratings:
    """The open file of ratings. Methods may be called from any thread.

    Raises IntegrityError for a file that is damaged, SchemaError for one of another kind, SpaceError where it
    cannot be written.
    """

    def __init__(self, path: Path, is_new: bool = True) -> None:
        """Open a file; with `is_new` it is made where there is none. Raises MissingFileError."""
        self.path = path
        self._lock = threading.RLock()
        if not is_new and not path.exists():
            raise MissingFileError(f"{path} does not exist: nothing has been rated yet. Try: iaa rate --help")
        try:
            make_folder(path.parent)
            self._database = sqlite3.connect(
                path, timeout=WAIT_SECONDS, check_same_thread=False, isolation_level=None
            )
        except (OSError, sqlite3.Error) as error:
            raise SpaceError(f"cannot open {path}: {error}") from error
        try:
            with self._explained():
                self._prepare()
        except BaseException:
            self._database.close()
            raise

    def _prepare(self) -> None:
        # Names of files may be no UTF-8 (on Linux): their bytes are kept, and read as Python names them.
        self._database.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
        if self._is_empty():
            write_ahead(self._database, WAIT_SECONDS)
            with self._turn():
                if self._is_empty():  # and nobody was faster
                    for statement in _TABLES:
                        self._database.execute(statement)
                    self._database.execute(f"PRAGMA application_id={_APPLICATION}")
                    self._database.execute(f"PRAGMA user_version={VERSION}")
        (application,) = self._database.execute("PRAGMA application_id").fetchone()
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if application != _APPLICATION:
            raise SchemaError(f"{self.path} is an SQLite file of another program, no ratings")
        if version != VERSION:
            raise SchemaError(
                f"{self.path} has version {version} of its schema, this program reads {VERSION}. Update one"
            )
        self._database.execute("PRAGMA synchronous=FULL")

    def _is_empty(self) -> bool:
        (n_tables,) = self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return bool(n_tables == 0)

    def add(self, ratings: Iterable[Rating], rater: str, source: str = "python") -> int:
        """Add ratings, all or none; they are on the disk when this returns. The number of the act, by which
        they can be undone together; 0 for none."""
        given = list(ratings)
        _check_names(rater, source)
        if not given:
            return 0
        time = _now()
        with self._explained(), self._turn():
            number, digest = self._last()
            act = number + 1
            rows = []
            for rating in given:
                number += 1
                row = (
                    number, act, rater, rating.kind, rating.image_id, rating.sha256, rating.other_id,
                    rating.other_sha256, float(rating.value), time, source,
                )  # fmt: skip
                digest = _digest(digest, row)
                rows.append((*row, digest))
            self._insert(rows)
        return act

    def undo(self, rater: str, act: int | None = None, source: str = "python") -> list[Event]:
        """Take back what a rater did last, or an act by its number; what that was, [] where there is nothing.

        Undone again, what was done before that goes. Raises RatingError for an act that is not this rater's,
        or is undone already.
        """
        _check_names(rater, source)
        with self._explained(), self._turn():
            asked = f"SELECT max(act) FROM events WHERE {_STANDING} AND rater = ?"
            values: tuple[object, ...] = (rater,)
            if act is not None:
                asked, values = f"{asked} AND act = ?", (rater, act)
            (found,) = self._database.execute(asked, values).fetchone()
            if found is None:
                if act is not None:
                    raise RatingError(f"{rater} has no act {act} to undo: it is undone, or somebody else's")
                return []
            undone = self._events("act = ?", (found,))
            number, digest = self._last()
            row = (number + 1, found, rater, "undo", "", UNKNOWN, "", UNKNOWN, 0.0, _now(), source)
            self._insert([(*row, _digest(digest, row))])
            return undone

    def events(self, rater: str | None = None) -> list[Event]:
        """Every row, in the order in which they were added; of one rater, or of all."""
        with self._explained(), self._lock:
            return self._events("1") if rater is None else self._events("rater = ?", (rater,))

    def standing(self, rater: str | None = None) -> list[Event]:
        """The ratings that were not undone, in their order; of one rater, or of all."""
        with self._explained(), self._lock:
            if rater is None:
                return self._events(_STANDING)
            return self._events(f"{_STANDING} AND rater = ?", (rater,))

    def present(self, rater: str | None = None) -> list[Event]:
        """What holds now: of each rater and each kind the latest about each photograph (or pair of them),
        in the order in which they were given. What was set to nothing is left out, equal pairs are not."""
        latest: dict[object, Event] = {}
        for event in self.standing(rater):
            key = (event.rater, event.kind, *sorted(_photographs(event)))
            latest.pop(key, None)
            latest[key] = event
        return [event for event in latest.values() if event.kind == "pair" or event.value != 0]

    def raters(self) -> list[str]:
        """Everybody who has rated, in the order of their first rating."""
        asked = "SELECT rater FROM events GROUP BY rater ORDER BY min(number)"
        with self._explained(), self._lock:
            return [row[0] for row in self._database.execute(asked)]

    @property
    def last(self) -> int:
        """Number of the last row: it changes with whatever is added, by whomever."""
        with self._explained(), self._lock:
            return self._last()[0]

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _events(self, where: str, values: Sequence[object] = ()) -> list[Event]:
        asked = f"SELECT {_COLUMNS} FROM events WHERE {where} ORDER BY number"
        return [Event(*row) for row in self._database.execute(asked, tuple(values))]

    def _last(self) -> tuple[int, bytes]:
        asked = "SELECT number, digest FROM events ORDER BY number DESC LIMIT 1"
        found = self._database.execute(asked).fetchone()
        return found if found else (0, b"")

    def _insert(self, rows: Sequence[tuple[object, ...]]) -> None:
        marks = ["CAST(? AS TEXT)" if at in _NAMES_AT else "?" for at in range(len(rows[0]))]
        given = [
            [
                str(cell).encode("utf-8", "surrogateescape") if at in _NAMES_AT else cell
                for at, cell in enumerate(row)
            ]
            for row in rows
        ]
        asked = f"INSERT INTO events ({_COLUMNS}, digest) VALUES ({', '.join(marks)})"
        self._database.executemany(asked, given)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """The right to write alone, until the body is through; then it is on the disk."""
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise BusyError(f"{self.path} is being written by another program; try again") from error
            raise SpaceError(f"cannot write {self.path}: {error}. Nothing that was said is lost") from error
        except sqlite3.DatabaseError as error:
            raise IntegrityError(
                f"{self.path} is damaged: {error}. It holds ratings that nothing else has: keep it, and "
                "bring back a copy"
            ) from error


def verify_ratings(path: Path) -> tuple[str, list[str]]:
    """The digest of a file's last row, and what is wrong with the file. Nothing is written."""
    problems: list[str] = []
    digest = b""
    if not path.exists():
        return "", [f"{path} does not exist"]
    try:
        with Ratings(path, is_new=False) as ratings:
            database = ratings._database
            for (said,) in database.execute("PRAGMA integrity_check(5)"):
                if said != "ok":
                    problems.append(str(said))
            expected = 0
            for *row, stored in database.execute(f"SELECT {_COLUMNS}, digest FROM events ORDER BY number"):
                expected += 1
                if row[0] != expected:
                    problems.append(f"ratings {expected} to {row[0] - 1} are missing")
                    expected = row[0]
                elif _digest(digest, tuple(row)) != stored:
                    problems.append(f"rating {row[0]} is not what was written")
                digest = stored
    except StoreError as error:
        problems.append(str(error))
    except (sqlite3.Error, TypeError, ValueError) as error:
        problems.append(f"cannot be read: {error}")
    return digest.hex() if isinstance(digest, bytes) else "", problems


def _photographs(event: Event) -> list[str]:
    """What a rating is about, whichever was named first: contents, where known."""
    about = [(event.image_id, event.sha256)]
    if event.kind == "pair":
        about.append((event.other_id, event.other_sha256))
    return [f"sha256 {sha256.hex()}" if sha256 != UNKNOWN else f"id {name}" for name, sha256 in about]


def _digest(before: bytes, row: tuple[object, ...]) -> bytes:
    """Digest of a row and of all rows before it."""
    cells = [cell.hex() if isinstance(cell, bytes) else cell for cell in row]
    # Names of files may hold halves of surrogate pairs, which only escapes can write down.
    text = json.dumps(cells, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(before + text.encode("ascii")).digest()[:_DIGEST_BYTES]


def _check_names(*names: str) -> None:
    for name in names:
        if not name.strip() or len(name) > 200 or any(ord(letter) < 32 for letter in name):
            raise RatingError(f"a rater and a source have a name of up to 200 letters, not {name!r:.60}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
