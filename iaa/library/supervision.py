"""A run in a process of its own: when a decoder crashes it, it is started again without the culprit."""

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import FrameType

from iaa.library.progress import Say
from store import system

INTERRUPTED = 130
MAX_UNEXPLAINED = 3
LEASH = "--leash"
"""Option of a run that is to end when its standard input does: when whoever started it has gone."""
VARIABLE = "IAA_SUPERVISED"
"""Environment variable of a supervised child; nobody else may inherit it."""


def crash_folder() -> Path | None:
    """Where a supervised run keeps its notes; None in a process that is not a supervisor's own child."""
    supervisor, _, folder = os.environ.get(VARIABLE, "").partition(":")
    return Path(folder) if supervisor.isdecimal() and system.is_parent(int(supervisor)) else None


def supervise(arguments: list[str], say: Say) -> int:
    """Run `iaa` with these arguments in a child process, again after each crash; returns the exit code."""
    if LEASH in arguments:
        threading.Thread(target=_end_with_input, daemon=True).start()
    n_crashes: Counter[int] = Counter()
    with tempfile.TemporaryDirectory(prefix="iaa-", ignore_cleanup_errors=True) as scratch:
        while True:
            code = _run_child(arguments, Path(scratch))
            name = system.ended_by(code)
            if name is None:
                return code
            if name in ("SIGINT", "SIGTERM"):  # before or after its own handlers stood
                say(f"Interrupted. {how_to_go_on(arguments)}")
                return INTERRUPTED
            suspects = _rows_in_flight(Path(scratch))
            n_crashes.update(suspects)
            is_explained = suspects and max(n_crashes[row] for row in suspects) < MAX_UNEXPLAINED
            if not system.is_crash(code) or not is_explained:
                hint = " (out of memory?)" if name == "SIGKILL" else ""
                say(f"The run was ended by {name}{hint}. {how_to_go_on(arguments)}")
                return 128 - code if code < 0 else 1
            say(f"a decoder crashed the run ({name}); trying the {len(suspects)} images in flight one by one")


def _end_with_input() -> None:
    with suppress(OSError, ValueError):
        while os.read(0, 4096):
            pass
    os.kill(os.getpid(), signal.SIGTERM)


def _rows_in_flight(folder: Path) -> list[int]:
    from embed.crashes import rows_in_flight

    return rows_in_flight(folder)


def how_to_go_on(arguments: list[str]) -> str:
    """What to tell people whose run has stopped before its end."""
    kept = {
        "embed": "Every finished part is kept.",
        "finetune": "Every finished epoch is kept.",
    }
    command = next((word for word in arguments if word in kept), "")
    return f"{kept.get(command, 'No file is left half written.')} To go on: {shlex.join(['iaa', *arguments])}"


def _run_child(arguments: list[str], folder: Path) -> int:
    """Exit code of one run, which tells a signal or a crash (`system.ended_by`)."""
    environment = {**os.environ, VARIABLE: f"{os.getpid()}:{folder}"}
    command = [sys.executable, "-m", "iaa", *arguments]
    child = subprocess.Popen(command, env=environment, **system.own_group())

    def forward(number: int, frame: FrameType | None) -> None:
        system.pass_on(child, number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
