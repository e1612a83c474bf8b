"""What the core alone can do, and what it says of the rest."""

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from iaa.library.extras import EXTRAS, missing_extra

ROOT = Path(__file__).resolve().parents[2]
ARCHIVE = ROOT / "tests" / "archives" / "v1"

BLOCK = f"""
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {set().union(*EXTRAS.values())!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""

READ = f"""
import analysis, iaa, store, sys
from analysis.probing import heads, probes
from analysis.prompting import evaluation
from pathlib import Path
archive = Path({str(ARCHIVE)!r})
with store.open_features(archive / "features.h5") as features:
    assert features.read("embedding").shape[0] == features.n_images > 0
assert store.open_targets(archive / "targets.h5").votes.sum() > 0
assert all(store.verify_file(archive / name).is_intact for name in ("features.h5", "prompts.h5"))
assert not {{"torch", "open_clip", "timm", "PIL"}}.intersection(sys.modules)
"""


def run(python, *arguments, **more):
    environment = {**os.environ, "PYTHONPATH": "", **more}
    return subprocess.run([python, *arguments], capture_output=True, text=True, env=environment, timeout=800)


def here(code):
    return run(sys.executable, "-c", BLOCK + code, PYTHONPATH=str(ROOT))


def test_store_and_analysis_need_the_core_alone():
    done = here(READ)
    assert done.returncode == 0, done.stderr


def test_a_command_names_the_extra_and_help_needs_none(tmp_path):
    command = "from iaa.cli.app import main\nmain({!r})"
    assert "Photographs through frozen backbones" in here(command.format(["--help"])).stdout
    done = here(command.format(["embed", "-d", "demo", "-b", "demo_vit", "--data", str(tmp_path)]))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.search(
        r"^error: this needs \w+: pip install 'image-aesthetics-store\[embed\]'$", done.stderr, re.M
    )


def test_in_python_the_import_error_carries_the_advice(tmp_path):
    done = here(f"import iaa\niaa.open_dataset('demo', data={str(tmp_path)!r}).embed('demo_vit')")
    assert done.returncode == 1
    assert "ModuleNotFoundError: No module named" in done.stderr
    assert done.stderr.endswith(": pip install 'image-aesthetics-store[embed]'\n")


def test_every_package_of_an_extra_has_advice_and_no_other_error_does():
    for extra, packages in EXTRAS.items():
        for package in packages:
            said = missing_extra(ModuleNotFoundError("gone", name=f"{package}.inner"))
            assert said == f"this needs {package}: pip install 'image-aesthetics-store[{extra}]'"
    assert missing_extra(ModuleNotFoundError("gone", name="embed.nothing")) is None
    assert missing_extra(ImportError("gone", name="torch")) is None
    known = set(importlib.metadata.metadata("image-aesthetics-store").get_all("Provides-Extra"))
    assert set(EXTRAS) <= known


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_plain_installation_reads_the_store(tmp_path):
    """Installs from the package index, so it needs a network."""
    made = run(sys.executable, "-m", "venv", str(tmp_path / "venv"))
    assert made.returncode == 0, made.stderr
    python = str(tmp_path / "venv" / "bin" / "python")
    done = run(python, "-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt"), str(ROOT))
    assert done.returncode == 0, done.stderr
    assert run(python, "-c", "import torch").returncode == 1
    done = subprocess.run([python, "-c", READ], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([python, "-m", "iaa", "--help"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
