"""The way into an SQLite file that several processes write at once."""

import sqlite3
import time

_PAUSE_SECONDS = 0.01


def write_ahead(database: sqlite3.Connection, wait_seconds: float) -> None:
    """Let readers go on beside a writer: SQLite's write-ahead log. Raises sqlite3.OperationalError where the
    file stays locked that long.

    The timeout of a connection does not hold for this change: of two that open a new file at once, one hears
    immediately that the file is locked (https://www.sqlite.org/c3ref/busy_handler.html).
    """
    until = time.monotonic() + wait_seconds
    while True:
        try:
            database.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
        time.sleep(_PAUSE_SECONDS)
