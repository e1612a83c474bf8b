"""Answers that take a while: made once in the background, kept until what they are made of changes."""

import threading
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

Answer = TypeVar("Answer")


class Job(Generic[Answer]):
    """One kind of answer. While a new one is made, asking gives None."""

    def __init__(self, make: Callable[[], Answer]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._key: Hashable = None
        self._answer: Answer | None = None
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def ask(self, key: Hashable, patience: float = 0.2) -> Answer | None:
        """The answer for this key, if it is made within so many seconds. Raises what making it raised."""
        with self._lock:
            if self._key != key and (self._thread is None or not self._thread.is_alive()):
                self._key, self._answer, self._error = key, None, None
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()
            thread = self._thread
        if thread is not None:
            thread.join(patience)
        with self._lock:
            if self._key != key:
                return None
            if self._error is not None:
                self._key = None  # asked again, it is tried again
                raise self._error
            return self._answer

    def _run(self) -> None:
        try:
            answer: Any = self._make()
        except BaseException as error:
            self._error = error
        else:
            self._answer = answer
