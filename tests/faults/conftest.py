"""Fixtures of the fault tests: a small data set, and the command line as a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder of 24 small photographs."""
    rng = np.random.default_rng(11)
    folder = tmp_path / "photographs"
    folder.mkdir()
    for i in range(24):
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((96, 72), Image.Resampling.BICUBIC).save(folder / f"{i:02d}.jpg")
    return folder


@pytest.fixture
def iaa(tmp_path: Path) -> Callable[..., "subprocess.Popen[str]"]:
    """Starts `iaa` as a shell would, on a data root below the test's folder."""

    def start(*arguments: Any, **options: Any) -> "subprocess.Popen[str]":
        python_path = [str(options.pop("extra", "")), str(REPOSITORY)]
        environment = {
            **os.environ,
            "IAA_DATA": str(tmp_path / "data"),
            "PYTHONPATH": os.pathsep.join(p for p in python_path if p),
        }
        return subprocess.Popen(
            [sys.executable, "-m", "iaa", *map(str, arguments)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    return start


@pytest.fixture
def done(iaa: Callable[..., "subprocess.Popen[str]"]) -> Callable[..., tuple[int, str, str]]:
    """Runs `iaa` to its end: (exit code, stdout, stderr)."""

    def run(*arguments: Any, **options: Any) -> tuple[int, str, str]:
        process = iaa(*arguments, **options)
        out, err = process.communicate(timeout=240)
        return process.returncode, out, err

    return run
