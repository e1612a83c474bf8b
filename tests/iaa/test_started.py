"""How the program is started: its name, its version, completion in a shell."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def start(*arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "iaa", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "SHELL": "/bin/bash", **environment},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_version():
    code, out, err = start("--version")
    assert (code, err) == (0, "") and out.startswith(f"iaa {version('image-aesthetics-store')}, Python 3.")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["embed", "--help"], ["dataset", "add", "--nope"], ["embed", "--nope"]]
)
def test_usage_has_the_name_that_people_type(arguments):
    _, out, err = start(*arguments)
    words = " ".join((out + err).split())
    assert f"Usage: {' '.join(['iaa', *[a for a in arguments if not a.startswith('-')]])} [OPTIONS]" in words
    assert "python -m" not in words


def test_completion_in_bash(tmp_path):
    """The script that --install-completion writes, evaluated by bash, completes commands and options."""
    program = tmp_path / "iaa"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m iaa "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    script = """
    iaa --install-completion bash >/dev/null && source ~/.bash_completions/iaa.sh || exit 1
    try() { COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); _iaa_completion iaa; echo "${COMPREPLY[*]}"; }
    try iaa em
    try iaa embed --upd
    """
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["embed", "--update"], done.stderr
