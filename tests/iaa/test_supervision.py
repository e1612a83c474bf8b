"""A run in a process of its own: forked where that is safe, started anew where it is not."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from store.system import n_cores

RUN = """
import os, signal, sys, threading, time
from iaa.library.supervision import crash_folder, supervise
for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGTSTP):
    signal.signal(number, signal.SIG_DFL)  # the tests themselves may run under nohup or in the background
signal.signal(signal.SIGINT, signal.default_int_handler)
{before}
parent, said = os.getpid(), []
print("once")
code = supervise({arguments}, said.append)
if code is None:
    folder = crash_folder()
    own_group, is_parent = os.getpid() == os.getpgid(0), os.getppid() == parent
    print(os.getpid(), own_group, is_parent, folder, folder.is_dir(), flush=True)
    {work}
print(code, *said)
"""

INTERRUPTED = "130 Interrupted. Every finished part is kept. To go on: iaa embed -d x\n"

forked = pytest.mark.skipif(sys.platform != "linux", reason="a run is forked on Linux alone")


IN_A_TERMINAL = """
import os, pty, sys, termios
pid, terminal = pty.fork()
if not pid:
    how = termios.tcgetattr(0)
    how[3] |= termios.TOSTOP
    termios.tcsetattr(0, termios.TCSANOW, how)
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
while True:
    try:
        said = os.read(terminal, 1000)
    except OSError:
        break
    os.write(1, said.replace(b"\\r", b""))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
"""Runs a script in a terminal that lets nobody in the background write (`stty tostop`)."""


def start(
    work: str = "", arguments: str = "['embed', '-d', 'x']", before: str = "", inside: str = "", **how: Any
) -> subprocess.Popen[str]:
    script = RUN.format(work=work, arguments=arguments, before=before)
    command = [sys.executable, *(["-c", inside] if inside else []), "-c", script]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **how)


def child_of(run: subprocess.Popen[str]) -> tuple[int, Path]:
    """The process and the folder that a forked child tells, once what it told of itself is checked."""
    assert run.stdout is not None
    assert run.stdout.readline() == "once\n"
    pid, has_group, knows_parent, folder, is_there = run.stdout.readline().split()
    assert (has_group, knows_parent, is_there) == ("True",) * 3
    return int(pid), Path(folder)


def state_of(pid: int) -> str:
    """As the system tells it: R, S, T for stopped, Z for ended; '' once nobody waits for it any more."""
    try:
        return Path(f"/proc/{pid}/status").read_text(encoding="utf-8").partition("State:\t")[2][:1]
    except FileNotFoundError:
        return ""


def wait_for(condition: Callable[[], bool]) -> bool:
    """Whether it comes to hold within half a minute."""
    end = time.monotonic() + 30
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


@forked
@pytest.mark.parametrize(
    ("work", "told"),
    [
        ("sys.exit(3)", "3"),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            "137 The run was ended by SIGKILL (out of memory?). Every finished part is kept. "
            "To go on: iaa embed -d x",
        ),
        (
            "os.kill(os.getpid(), signal.SIGSEGV)",
            "139 The run was ended by SIGSEGV. Every finished part is kept. To go on: iaa embed -d x",
        ),
    ],
)
def test_a_forked_child_goes_on_and_how_it_ended_is_told(work, told):
    run = start(work)
    _, folder = child_of(run)
    rest, _ = run.communicate(timeout=30)
    assert rest == f"{told}\n"  # and what was printed before is not printed twice
    assert not folder.exists()


@forked
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_what_the_parent_is_told_the_child_is_told(name):
    run = start("time.sleep(30)")
    _, folder = child_of(run)
    run.send_signal(getattr(signal, name))
    rest, _ = run.communicate(timeout=30)
    assert rest == INTERRUPTED
    assert not folder.exists()


@forked
def test_an_interrupt_that_comes_while_the_child_is_made_is_not_lost():
    """The terminal tells all who stand in the foreground, as the child does in its first moments."""
    at_once = (
        "fork = os.fork\n"
        "os.fork = lambda: fork() or os.kill(os.getpid(), signal.SIGINT) or 0\n"
        "signal.signal(signal.SIGINT, signal.SIG_DFL)"
    )
    run = start("time.sleep(30)", before=at_once)
    rest, _ = run.communicate(timeout=30)
    assert rest == f"once\n{INTERRUPTED}"


@forked
def test_a_run_that_is_stopped_rests_as_a_whole_until_it_goes_on():
    run = start("time.sleep(30)", process_group=0)  # a group of its own, as the shell gives each job
    pid, _ = child_of(run)
    run.send_signal(signal.SIGTSTP)
    assert wait_for(lambda: state_of(pid) == state_of(run.pid) == "T")
    run.send_signal(signal.SIGCONT)
    assert wait_for(lambda: "T" not in (state_of(pid), state_of(run.pid)))
    run.send_signal(signal.SIGTSTP)  # and once more
    assert wait_for(lambda: state_of(pid) == state_of(run.pid) == "T")
    run.send_signal(signal.SIGINT)
    run.send_signal(signal.SIGCONT)
    rest, _ = run.communicate(timeout=30)
    assert rest == INTERRUPTED


@forked
def test_a_child_that_was_stopped_hears_of_the_end():
    run = start("time.sleep(30)")
    pid, _ = child_of(run)
    os.kill(pid, signal.SIGSTOP)
    assert wait_for(lambda: state_of(pid) == "T")
    run.send_signal(signal.SIGTERM)
    rest, _ = run.communicate(timeout=30)
    assert rest == INTERRUPTED


@forked
def test_a_child_may_write_to_a_terminal_that_stops_others():
    run = start("sys.exit(3)", inside=IN_A_TERMINAL)
    child_of(run)
    rest, _ = run.communicate(timeout=30)
    assert rest == "3\n"


@forked
def test_a_child_ends_with_a_parent_that_is_killed():
    run = start("time.sleep(600)")
    pid, _ = child_of(run)
    run.kill()
    run.wait()
    assert wait_for(lambda: state_of(pid) in ("", "Z"))


def test_beside_another_thread_a_child_is_started_anew():
    """A lock that the thread holds would stay locked in a forked child for ever."""
    thread = "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()"
    run = start(arguments="['--version']", before=thread)
    rest, _ = run.communicate(timeout=30)
    assert rest.splitlines()[0] == "once" and rest.splitlines()[-1] == "0"


@forked
@pytest.mark.skipif(n_cores() < 2, reason="on one core a product has one thread")
def test_native_threads_count_too():
    """numpy's products have threads that Python does not know of."""
    script = (
        "import os; os.environ['OPENBLAS_NUM_THREADS'] = '2'\n"
        "from store.system import can_fork; before = can_fork()\n"
        "import numpy as np; np.ones((400, 400)) @ np.ones((400, 400)); print(before, can_fork())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
