"""The run that embeds a gallery, in a process apart: started, watched, stopped, and its progress told.

It is `iaa embed --update`, which goes on where it was stopped, makes nothing twice, and is started again
without the culprit when a decoder crashes it. It ends when the page's process does, whatever ended that: its
standard input is then closed (`--leash`). Finished parts are kept in any case.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from iaa.library.supervision import VARIABLE
from store import system

_LAST_WORDS = 15
_RATE_SECONDS = 30.0


@dataclass
class Progress:
    """Photographs that are done, of how many, and how fast it goes."""

    n_done: int = 0
    n_failed: int = 0
    is_working: bool = False
    """True once the first photographs are done now, not by an earlier run."""
    _times: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=2000))

    def add(self, n_rows: int, n_failed: int, is_new: bool, now: float) -> None:
        """Count rows."""
        self.n_done += n_rows
        self.n_failed += n_failed
        if is_new:
            self.is_working = True
            self._times.append((now, n_rows))

    def rate(self, now: float) -> float:
        """Photographs per second over the last half minute; 0 where nobody can tell."""
        recent = [(when, n) for when, n in self._times if now - when <= _RATE_SECONDS]
        if len(recent) < 2:
            return 0.0
        return sum(n for _, n in recent[1:]) / max(now - recent[0][0], 1e-3)


class Embedder:
    """One run in a process of its own."""

    def __init__(self, arguments: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self.progress = Progress()
        self.error = ""
        """What the run said when it failed."""
        self.is_busy = False
        """True if it failed because another run is writing there."""
        self.files: list[dict[str, object]] = []
        """What it made, as `iaa embed --json` says it."""
        self.said: deque[str] = deque(maxlen=_LAST_WORDS)
        self._clock = clock
        self._is_stopped = False
        environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
        environment["PYTHONIOENCODING"] = "utf-8:backslashreplace"
        command = [sys.executable, "-m", "iaa", "embed", *arguments]
        self._process = subprocess.Popen(
            [*command, "--update", "--thumbnails", "--json", "--progress-lines", "--leash"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="backslashreplace",
            env=environment,
            start_new_session=True,  # Ctrl-C reaches the page's process alone, which tells this one once
        )
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._answers, self._notes)]
        for reader in self._readers:
            reader.start()

    @property
    def is_stopped(self) -> bool:
        """True if it ended because it was told to."""
        return self._is_stopped

    @property
    def rate(self) -> float:
        """Photographs per second."""
        return self.progress.rate(self._clock())

    def stop(self) -> None:
        """Tell it to stop; what is finished is kept."""
        self._is_stopped = True
        system.pass_on(self._process, signal.SIGTERM)

    def wait(self, seconds: float) -> bool:
        """True once it has ended, within so many seconds."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        for reader in self._readers:
            reader.join()
        code = self._process.returncode
        if code and not self._is_stopped and not self.error:
            self.error = f"embedding ended with code {code}: " + " ".join(self.said)
        return True

    def kill(self) -> None:
        """End it at once."""
        self._is_stopped = True
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.kill()

    def _answers(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                message = json.loads(line)
            except ValueError:
                continue
            if "n_rows" in message:
                self.progress.add(message["n_rows"], message["n_failed"], message["is_new"], self._clock())
            elif "error" in message:
                self.error = str(message["error"]["message"])
                self.is_busy = message["error"]["kind"] == "BusyError"
            elif "files" in message:
                self.files = message["files"]

    def _notes(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.said.append(line.strip())
