"""Interrupts of the command line: none is lost, none breaks into the tidying up."""

import subprocess
import sys

import pytest

BEGIN = """
import signal, sys, time
from iaa.library import interrupts
from iaa.library.interrupts import Interrupts
known = Interrupts()
known.listen()
def interrupt():
    signal.raise_signal(signal.SIGINT)
    sum(range(10))  # a signal is taken between two steps of Python
"""


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BEGIN + script, *arguments], capture_output=True, text=True, timeout=60
    )


def test_one_that_python_drops_comes_again():
    """What is raised while an object is cleared away goes nowhere: the run would go on, deaf from then on."""
    done = run("""
known.repeat_dropped()
class Held:
    def __del__(self):
        interrupt()
held = Held()
try:
    del held
    time.sleep(20)
    print("lost")
except KeyboardInterrupt:
    print("interrupted", known.has_come)
""")
    assert (done.stdout, done.stderr) == ("interrupted True\n", "")


def test_other_dropped_errors_are_told_as_ever():
    done = run("""
known.repeat_dropped()
class Held:
    def __del__(self):
        raise OSError("broken")
held = Held()
del held
""")
    assert "OSError: broken" in done.stderr


def test_a_second_one_leaves_the_tidying_up_alone_and_a_late_one_ends_at_once():
    done = run("""
interrupts.PATIENCE = 3600
try:
    interrupt()
except KeyboardInterrupt:
    interrupt()
    print("tidied", flush=True)
interrupts.PATIENCE = -1
interrupt()
print("went on")
""")
    assert (done.stdout, done.returncode) == ("tidied\n", 130)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupt_that_native_code_made_an_error_of_its_own_is_told_as_one(name):
    done = run(
        """
from iaa.cli import app
def broken(arguments):
    try:
        signal.raise_signal(getattr(signal, sys.argv[1]))
        sum(range(10))
    except KeyboardInterrupt:
        raise ImportError("numpy could not be loaded") from None
app._run = broken
app.main(["embed"])
""",
        name,
    )
    assert done.returncode == 130
    assert done.stderr.startswith("Interrupted. ") and "numpy" not in done.stderr
