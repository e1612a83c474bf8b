"""Fixtures of the command line's tests."""

import os
import subprocess
import sys

import pytest

from iaa.cli.app import main


def run_python(code):
    """A Python program in a process of its own, which finds this project's modules."""
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)


@pytest.fixture
def invoke(capsys):
    """Run `iaa` in this process: exit code, standard output, standard error."""

    def run_command(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return run_command


@pytest.fixture
def run(invoke, tmp_path, monkeypatch):
    """Run `iaa` on data in a folder of the test: exit code, standard output, standard error."""
    monkeypatch.setenv("IAA_DATA", str(tmp_path / "data"))
    return invoke
