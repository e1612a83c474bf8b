"""Machines as they are: few file descriptors, a strict umask, no home, no place for temporary files, no
folder to stand in."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from store import open_features, verify_file
from tests.faults.conftest import REPOSITORY

MERGE = """
import resource, sys
import numpy as np
from pathlib import Path
from store.digests import BLOCK_ROWS
from store.features import FEATURES_SCHEMA
from store.parts import Plan, begin, merge_parts, write_part

n_parts = 90
ids = {"image_id": np.arange(n_parts * BLOCK_ROWS).astype(str)}
plan = Plan(Path(sys.argv[1]), FEATURES_SCHEMA, {"backbone": "x"}, {}, n_parts * BLOCK_ROWS, ids)
begin(plan)
for index in range(n_parts):
    write_part(plan, index, {
        "status": np.ones(BLOCK_ROWS, np.uint8), "outputs/o": np.full((BLOCK_ROWS, 2), index, np.float32),
        "failures/row": np.zeros(0, np.int64), "failures/reason": np.array([], dtype=str),
    })
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
merge_parts(plan)
"""


def iaa(folder: Path, script: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """A shell script in which `$iaa` is the command line."""
    variables = {**os.environ, "IAA_DATA": str(folder / "data"), "PYTHONPATH": str(REPOSITORY), **environment}
    variables["iaa"] = f"{sys.executable} -m iaa"
    return subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, cwd=folder, timeout=280,
        env={name: value for name, value in variables.items() if value is not None},
    )  # fmt: skip


@pytest.fixture
def photographs(tmp_path, rng) -> Path:
    (tmp_path / "pics").mkdir()
    for n in range(12):
        pixels = rng.integers(0, 255, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pics" / f"{n}.png")
    return tmp_path


@pytest.mark.slow
def test_ninety_parts_are_joined_with_64_file_descriptors(tmp_path):
    """A Mac gives a process 256, and a map of a file holds one."""
    path = tmp_path / "x.h5"
    done = subprocess.run(
        [sys.executable, "-c", MERGE, path], capture_output=True, text=True, cwd=REPOSITORY, timeout=280
    )
    assert done.returncode == 0, done.stderr
    assert verify_file(path).is_intact
    with open_features(path) as features:
        assert features.read("o")[::2048, 0].tolist() == list(range(90))


def test_a_poor_environment_is_enough(photographs):
    script = (
        "umask 077; ulimit -n 64; exec <&-; $iaa dataset add m --kind folder --images pics && "
        "$iaa embed -d m -b demo_vit --device cpu --json"
    )
    done = iaa(photographs, script, HOME="/proc/nobody", TMPDIR="/nowhere", LC_ALL="C", LANG=None)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["files"][0]["n_new"] == 12
    made = [path for path in (photographs / "data").rglob("*") if path.is_file()]
    assert made and all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in made)
    assert all(os.access(path, os.R_OK | os.W_OK) for path in made)


def test_a_folder_that_is_gone(tmp_path):
    done = iaa(tmp_path, "mkdir here; cd here; rmdir ../here; $iaa dataset list")
    assert done.returncode == 1 and "does not exist any more" in done.stderr
    assert "Traceback" not in done.stderr
