"""How photographs look: a thumbnail of each and what is known of it, in one SQLite file, by content.

A cache: it is made again wherever it is missing or damaged, and no number depends on it. Several processes
may use one file (an embedding run writes, a page reads); SQLite's write-ahead log keeps them apart. Where
nothing can be kept (a full disk, a folder that cannot be written), `problem` says why, and everything goes on
without.
"""

import json
import logging
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from store.sqlite import write_ahead

logger = logging.getLogger(__name__)

VERSION = 1
WAIT_SECONDS = 5.0
_AT_ONCE = 500
_TABLES = """
CREATE TABLE IF NOT EXISTS looks (
    sha256 BLOB PRIMARY KEY, width INTEGER, height INTEGER, colour TEXT, sharpness REAL, taken REAL,
    facts TEXT, problem TEXT, crc32 INTEGER);
CREATE TABLE IF NOT EXISTS jpegs (sha256 BLOB PRIMARY KEY, jpeg BLOB);
"""
_COLUMNS = "sha256, width, height, colour, sharpness, taken, facts, problem"

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Look:
    """What is known of the photograph of some bytes."""

    sha256: bytes
    """Of the file."""
    width: int = 0
    """Of the upright picture in pixels; 0 where it cannot be read."""
    height: int = 0
    colour: str = ""
    """Mean colour, #rrggbb."""
    sharpness: float | None = None
    """Variance of the Laplacian of the luma (embed.images.thumbnails)."""
    taken: float | None = None
    """Seconds from 1970 to the capture time as the camera's clock showed it."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Camera, lens, exposure and what else the file says, as JSON has it."""
    problem: str = ""
    """Why there is no thumbnail."""
    jpeg: bytes = field(default=b"", repr=False)


class Looks:
    """The open file of looks. Every method may be called from any thread; none raises for want of the
    file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem = ""
        """Why nothing is kept; '' where all is well."""
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._try("open", lambda database: None)

    def put(self, looks: Iterable[Look]) -> bool:
        """Keep looks; one of bytes that are known is replaced. False where that failed (see `problem`)."""
        given = list(looks)

        def write(database: sqlite3.Connection) -> bool:
            with database:
                database.executemany(
                    f"INSERT OR REPLACE INTO looks ({_COLUMNS}, crc32) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    [
                        (
                            look.sha256, look.width, look.height, look.colour, look.sharpness, look.taken,
                            json.dumps(look.facts), look.problem, zlib.crc32(look.jpeg),
                        )
                        for look in given
                    ],
                )  # fmt: skip
                database.executemany(
                    "INSERT OR REPLACE INTO jpegs VALUES (?, ?)",
                    [(look.sha256, look.jpeg) for look in given],
                )
            return True

        return not given or self._try("write", write) is True

    def jpeg(self, sha256: bytes) -> bytes | None:
        """The thumbnail of some bytes, b"" where there can be none; None where it has to be made (again)."""

        def read(database: sqlite3.Connection) -> bytes | None:
            found = database.execute(
                "SELECT jpeg, crc32 FROM jpegs JOIN looks USING (sha256) WHERE sha256 = ?", (sha256,)
            ).fetchone()
            return found[0] if found and zlib.crc32(found[0]) == found[1] else None

        return self._try("read", read)

    def known(self) -> set[bytes]:
        """SHA-256 of all bytes whose look is complete: it tells the sharpness, or why there is none."""

        asked = "SELECT sha256 FROM looks WHERE sharpness IS NOT NULL OR problem <> ''"

        def read(database: sqlite3.Connection) -> set[bytes]:
            return {row[0] for row in database.execute(asked)}

        return self._try("read", read) or set()

    def of(self, hashes: Sequence[bytes], with_facts: bool = True) -> dict[bytes, Look]:
        """The looks of some bytes that are known, without their thumbnails, and without the facts if not
        asked for, which takes half as long."""

        def read(database: sqlite3.Connection) -> dict[bytes, Look]:
            found: dict[bytes, Look] = {}
            for start in range(0, len(hashes), _AT_ONCE):
                some = hashes[start : start + _AT_ONCE]
                marks = ",".join("?" * len(some))
                asked = f"SELECT {_COLUMNS} FROM looks WHERE sha256 IN ({marks})"
                found.update(
                    (look.sha256, look) for look in _looks(database.execute(asked, some), with_facts)
                )
            return found

        return self._try("read", read) or {}

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _try(self, what: str, act: Callable[[sqlite3.Connection], Answer]) -> Answer | None:
        """Act on the file; a damaged one is made anew, once. None, and a problem, where that does not
        help."""
        with self._lock:
            for is_second in (False, True):
                try:
                    if self._database is None:
                        self._database = _opened(self.path)
                    answer = act(self._database)
                    if what != "read":
                        self.problem = ""
                    return answer
                except (OSError, sqlite3.OperationalError) as error:
                    self._note(f"thumbnails cannot be kept in {self.path}: {error}")
                    return None
                except sqlite3.DatabaseError as error:
                    self._close()
                    if is_second:
                        self._note(f"thumbnails cannot be kept in {self.path}: {error}")
                        return None
                    logger.warning("%s is damaged (%s) and made anew", self.path, error)
                    with suppress(OSError):
                        _remove(self.path)
            return None

    def _note(self, problem: str) -> None:
        if problem != self.problem:
            logger.warning("%s", problem)
        self.problem = problem

    def _close(self) -> None:
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.close()
            self._database = None


def _opened(path: Path) -> sqlite3.Connection:
    """The database, with its tables. Raises OSError, sqlite3.Error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path, timeout=WAIT_SECONDS, check_same_thread=False)
    try:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version not in (0, VERSION):
            raise sqlite3.DatabaseError(f"it is of version {version}, this program's is {VERSION}")
        write_ahead(database, WAIT_SECONDS)
        database.execute("PRAGMA synchronous=NORMAL")
        database.executescript(_TABLES)
        for table in ("looks", "jpegs"):
            database.execute(f"SELECT * FROM {table} LIMIT 1").fetchone()
        database.execute(f"PRAGMA user_version={VERSION}")
    except BaseException:
        database.close()
        raise
    return database


def _remove(path: Path) -> None:
    for ending in ("", "-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)


def _looks(rows: Iterable[tuple[Any, ...]], with_facts: bool) -> Iterator[Look]:
    for sha256, width, height, colour, sharpness, taken, facts, problem in rows:
        yield Look(
            sha256, width, height, colour, sharpness, taken, json.loads(facts) if with_facts else {}, problem
        )
