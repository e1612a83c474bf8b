"""Progress where there is no terminal: now and then a line in the log, and none for what is done at once."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

FIRST_SECONDS = 2.0
"""What takes less is not worth a line; nor are two lines within so long."""
QUIET_SECONDS = 30.0
SHARE = 0.05


class Lines:
    """A line every 5 % or every 30 s, whichever comes first: count, rate, time left and a postfix.

    It is used like a bar of tqdm, and speaks from a thread of its own, so that a run that hangs is seen, too.
    With a total of 0 (nobody knows how much there is) the lines say how long it has been going on.
    """

    def __init__(
        self,
        description: str,
        total: int,
        unit: str,
        say: Callable[[str], None],
        initial: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.n = self.initial = initial
        self._say, self._clock = say, clock
        self._postfix = ""
        self._started = self._told_at = clock()
        self._told_n: int | None = None
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)

    def update(self, n: int = 1) -> None:
        """Count what was done."""
        self.n += n

    def set_postfix_str(self, text: str) -> None:
        """What else the lines say."""
        self._postfix = text

    def tick(self) -> None:
        """Say a line if one is due."""
        now = self._clock()
        if now - self._told_at < FIRST_SECONDS:
            return
        if self._told_n is None:
            is_due = self.n > self.initial or not self.total
        else:
            is_due = bool(self.total) and self.n - self._told_n >= SHARE * self.total
        if is_due or now - self._told_at >= QUIET_SECONDS:
            self._told_at, self._told_n = now, self.n
            self._say(self._line(now - self._started))

    def _line(self, seconds: float) -> str:
        if not self.total:
            return ", ".join(filter(None, [f"{self.description}: {duration(seconds)}", self._postfix]))
        said = [f"{self.description}: {self._amount(self.n)} of {self._amount(self.total)} {self._unit}"]
        said[0] += f" ({min(1.0, self.n / self.total):.0%})"
        n_new = self.n - self.initial
        if n_new > 0 and seconds > 0:
            rate = n_new / seconds
            said.append(f"{self._amount(rate)} {self._unit}/s")
            if self.n < self.total:
                said.append(f"{duration((self.total - self.n) / rate)} left")
        if self.n >= self.total:
            said.append(f"done in {duration(seconds)}")
        return ", ".join([*said, *filter(None, [self._postfix])])

    @property
    def _unit(self) -> str:
        return "MB" if self.unit == "bytes" else self.unit

    def _amount(self, n: float) -> str:
        n = n / 1e6 if self.unit == "bytes" else n
        return f"{n:,.0f}" if n >= 10 or n == int(n) else f"{n:.2g}"

    def _watch(self) -> None:
        while not self._is_over.wait(0.5):
            self.tick()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_over.set()
        self._thread.join()
        if kind is None and self._told_n is not None and self._told_n < self.n and self.n >= self.total > 0:
            self._say(self._line(self._clock() - self._started))


def duration(seconds: float) -> str:
    """A length of time for people: `12 s`, `3 min 5 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
