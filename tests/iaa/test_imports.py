"""What a command loads before its first word, as names of modules and not as seconds."""

import os
import subprocess
import sys

import pytest

HEAVY = ("torch", "timm", "open_clip", "onnx", "onnxruntime", "pandas", "scipy", "matplotlib", "transformers")
SHELL = ("numpy", "h5py", "pyarrow", "typer", "rich", "store", "embed", "analysis")


def loaded_by(*arguments):
    """Answer of `iaa` with these arguments, and the packages that it had loaded at its end."""
    code = (
        "import atexit, sys\n"
        "tell = lambda: print(*sorted({m.partition('.')[0] for m in sys.modules}), file=sys.stderr)\n"
        f"atexit.register(tell); sys.argv = ['iaa', *{arguments!r}]\n"
        "from iaa.__main__ import main\nmain()"
    )
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    return done.stdout, set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", [["--help"], ["embed", "--help"], ["dataset", "list", "--data", "n"]])
def test_nothing_heavy_is_loaded_to_answer_at_once(arguments):
    answer, loaded = loaded_by(*arguments)
    assert answer and not loaded.intersection(HEAVY)


def test_the_version_is_told_by_the_standard_library_alone():
    answer, loaded = loaded_by("--version")
    assert not loaded.intersection(HEAVY + SHELL)
    whole, loaded = loaded_by("--verbose", "--version")
    assert answer == whole and answer.startswith("iaa ") and "typer" in loaded
