"""A run in a process of its own: when a decoder crashes it, it is started again without the culprit.

Where that is safe the process is forked: it goes on with what is loaded and begins half a second earlier.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import FrameType

from iaa.library.interrupts import INTERRUPTED
from iaa.library.progress import Say
from store import system

MAX_UNEXPLAINED = 3
LEASH = "--leash"
"""Option of a run that is to end when its standard input does: when whoever started it has gone."""
VARIABLE = "IAA_SUPERVISED"
"""Environment variable of a supervised child; nobody else may inherit it."""


def crash_folder() -> Path | None:
    """Where a supervised run keeps its notes; None in a process that is not a supervisor's own child."""
    supervisor, _, folder = os.environ.get(VARIABLE, "").partition(":")
    return Path(folder) if supervisor.isdecimal() and system.is_parent(int(supervisor)) else None


def supervise(arguments: list[str], say: Say) -> int | None:
    """Run `iaa` with these arguments in a child process, again after each crash.

    Returns the exit code; None in a child that was forked and is to go on with the command.
    """
    scratch = Path(tempfile.mkdtemp(prefix="iaa-"))
    code: int | None = 1
    try:
        code = _run_until_it_ends(arguments, scratch, say)
    finally:
        if code is not None:
            shutil.rmtree(scratch, ignore_errors=True)
    return code


def _run_until_it_ends(arguments: list[str], scratch: Path, say: Say) -> int | None:
    n_crashes: Counter[int] = Counter()
    while True:
        code = _run_child(arguments, scratch)
        if code is None:
            return None
        name = system.ended_by(code)
        if name is None:
            return code
        if name in ("SIGINT", "SIGTERM"):  # before or after its own handlers stood
            say(f"Interrupted. {how_to_go_on(arguments)}")
            return INTERRUPTED
        suspects = _rows_in_flight(scratch)
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


def _run_child(arguments: list[str], folder: Path) -> int | None:
    """Exit code of one run, which tells a signal or a crash (`system.ended_by`); None in a forked child."""
    child: subprocess.Popen[bytes] | system.Forked | None = None
    came_early: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        if child is None:
            came_early.append(number)
        else:
            system.pass_on(child, number)

    told = f"{os.getpid()}:{folder}"
    before = {number: signal.signal(number, forward) for number in system.signals_of_terminals()}
    try:
        if not system.can_fork():
            command = [sys.executable, "-m", "iaa", *arguments]
            child = subprocess.Popen(command, env={**os.environ, VARIABLE: told}, **system.own_group())
        elif (child := system.fork(before)) is None:
            os.environ[VARIABLE] = told
            return None
        for number in came_early:
            system.pass_on(child, number)
        if LEASH in arguments and threading.active_count() == 1:  # not again after a crash
            threading.Thread(target=_end_with_input, daemon=True).start()
        return child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
