"""Interrupts of the command line: Ctrl-C, and a request to end, as one exception that is not lost."""

import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

from store.system import interrupt_main_thread

INTERRUPTED = 130
PATIENCE = 5.0
"""Seconds that an interrupt has for tidying up, before another one ends the program at once."""
_AGAIN_SECONDS = 0.1


class Interrupts:
    """The first SIGINT or SIGTERM is a KeyboardInterrupt; one that comes soon after it would break into the
    tidying up, and is left alone."""

    def __init__(self) -> None:
        self._since: float | None = None

    @property
    def has_come(self) -> bool:
        """True once there was one: whatever goes wrong from then on follows from it."""
        return self._since is not None

    def listen(self) -> None:
        """Take the signals of this process from here on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._take)

    def repeat_dropped(self) -> None:
        """Have one repeated that Python drops because it came while an object was cleared away."""
        others = sys.unraisablehook

        def tell(dropped: Any) -> None:
            if not issubclass(dropped.exc_type, KeyboardInterrupt):
                others(dropped)
                return
            self._since = None
            again = threading.Timer(_AGAIN_SECONDS, interrupt_main_thread)
            again.daemon = True
            again.start()

        sys.unraisablehook = tell

    def _take(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._since is None:
            self._since = now
            raise KeyboardInterrupt
        if now - self._since > PATIENCE:
            os._exit(INTERRUPTED)
