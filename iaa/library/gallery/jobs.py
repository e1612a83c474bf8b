"""Answers that take a while: made once in the background, kept until what they are made of changes."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Answer = TypeVar("Answer")
Key = tuple[object, ...]
"""What an answer is made of; the first names the list that its rows count in."""


class Job(Generic[Answer]):
    """One kind of answer."""

    def __init__(self, make: Callable[[], Answer]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._wanted: Key | None = None
        self._made: tuple[Key, Answer] | None = None
        self._error: Exception | None = None
        self._thread: threading.Thread | None = None

    def ask(self, key: Key, patience: float = 0.2) -> Answer | None:
        """The answer for this key, if it is made within so many seconds; else the last one of the same list;
        None where there is none. Raises what making it raised."""
        with self._lock:
            is_at_work = self._thread is not None and self._thread.is_alive()
            if self._wanted != key and not is_at_work:
                self._wanted, self._error = key, None
                self._thread = threading.Thread(target=self._run, args=(key,), daemon=True)
                self._thread.start()
            thread = self._thread
        if thread is not None:
            thread.join(patience)
        with self._lock:
            if self._error is not None and self._wanted == key:
                self._wanted = None  # asked again, it is tried again
                raise self._error
        return self.last(key[0])

    def last(self, listing: object) -> Answer | None:
        """The last answer that was made of a list."""
        made = self._made
        return made[1] if made is not None and made[0][0] == listing else None

    def _run(self, key: Key) -> None:
        try:
            answer = self._make()
        except Exception as error:
            self._error = error
        else:
            self._made = key, answer
