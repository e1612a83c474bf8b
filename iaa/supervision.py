"""A run in a process of its own: when a decoder crashes it, it is started again without the culprit."""

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import FrameType

from iaa.console import note
from store.digests import BLOCK_ROWS

INTERRUPTED = 130
CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT}
MAX_UNEXPLAINED = 3
_VARIABLE = "IAA_SUPERVISED"
_PR_SET_PDEATHSIG = 1


def crash_folder() -> Path | None:
    """Where a supervised run keeps its notes; None in a process that is not a supervisor's own child."""
    supervisor, _, folder = os.environ.get(_VARIABLE, "").partition(":")
    return Path(folder) if supervisor == str(os.getppid()) else None


def supervise(arguments: list[str]) -> int:
    """Run `iaa` with these arguments in a child process, again after each crash; returns the exit code."""
    n_crashes: Counter[int] = Counter()
    with tempfile.TemporaryDirectory(prefix="iaa-", ignore_cleanup_errors=True) as scratch:
        while True:
            code = _run_child(arguments, Path(scratch))
            if code >= 0:
                return code
            if -code in (signal.SIGINT, signal.SIGTERM):  # before or after its own handlers stood
                note(f"Interrupted. {how_to_go_on(arguments)}")
                return INTERRUPTED
            name = signal.Signals(-code).name
            suspects = _rows_in_flight(Path(scratch))
            n_crashes.update(suspects)
            is_explained = suspects and max(n_crashes[row] for row in suspects) < MAX_UNEXPLAINED
            if -code not in CRASHES or not is_explained:
                hint = " (out of memory?)" if -code == signal.SIGKILL else ""
                note(f"The run was ended by {name}{hint}. {how_to_go_on(arguments)}")
                return 128 - code
            note(
                f"a decoder crashed the run ({name}); trying the {len(suspects)} images in flight one by one"
            )


def _rows_in_flight(folder: Path) -> list[int]:
    from embed.crashes import rows_in_flight

    return rows_in_flight(folder)


def how_to_go_on(arguments: list[str]) -> str:
    """What to tell people whose run has stopped before its end."""
    kept = {
        "embed": f"Every finished part ({BLOCK_ROWS:,} images) is kept.",
        "finetune": "Every finished epoch is kept.",
    }
    command = next((word for word in arguments if not word.startswith("-")), "")
    return f"{kept.get(command, 'No file is left half written.')} To go on: {shlex.join(['iaa', *arguments])}"


def _run_child(arguments: list[str], folder: Path) -> int:
    """Exit code of one run, negative for a signal. The child has a process group of its own, so that an
    interrupt reaches it once, through us; it ends with us."""
    environment = {**os.environ, _VARIABLE: f"{os.getpid()}:{folder}"}
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def end_with_parent() -> None:
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    child = subprocess.Popen(
        [sys.executable, "-m", "iaa", *arguments],
        env=environment,
        process_group=0,
        preexec_fn=end_with_parent,
    )

    def forward(number: int, frame: FrameType | None) -> None:
        child.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
