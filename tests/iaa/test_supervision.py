"""A run in a process of its own: forked where that is safe, started anew where it is not."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from store.system import n_cores

RUN = """
import os, signal, sys, threading, time
from iaa.library.supervision import crash_folder, supervise
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

forked = pytest.mark.skipif(sys.platform != "linux", reason="a run is forked on Linux alone")


def start(work: str = "", arguments: str = "['embed', '-d', 'x']", before: str = "") -> subprocess.Popen[str]:
    script = RUN.format(work=work, arguments=arguments, before=before)
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)


def child_of(run: subprocess.Popen[str]) -> tuple[int, Path]:
    """The process and the folder that a forked child tells, once what it told of itself is checked."""
    assert run.stdout is not None
    assert run.stdout.readline() == "once\n"
    pid, has_group, knows_parent, folder, is_there = run.stdout.readline().split()
    assert (has_group, knows_parent, is_there) == ("True",) * 3
    return int(pid), Path(folder)


def is_gone(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except FileNotFoundError:
        return True


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
    rest, _ = run.communicate(timeout=60)
    assert rest == f"{told}\n"  # and what was printed before is not printed twice
    assert not folder.exists()


@forked
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_the_parent_is_told_the_child_is_told(number):
    run = start("signal.pause()")
    child_of(run)
    run.send_signal(number)
    rest, _ = run.communicate(timeout=60)
    assert rest == "130 Interrupted. Every finished part is kept. To go on: iaa embed -d x\n"


@forked
def test_a_child_ends_with_a_parent_that_is_killed():
    run = start("time.sleep(600)")
    pid, _ = child_of(run)
    run.kill()
    run.wait()
    end = time.monotonic() + 30
    while not is_gone(pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert is_gone(pid)


def test_beside_another_thread_a_child_is_started_anew():
    """A lock that the thread holds would stay locked in a forked child for ever."""
    thread = "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()"
    run = start(arguments="['--version']", before=thread)
    rest, _ = run.communicate(timeout=60)
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
