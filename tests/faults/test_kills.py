"""Runs that are really killed, over embedding, prompts and merging, end as if they never had been.

The runs are those of the command line. Each is started, killed with SIGKILL at a random moment, and started
again, until the wanted number of kills is reached; then it is let finish.
"""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from store import open_features, open_prompts, verify_folder
from store.digests import BLOCK_ROWS
from tests.faults import test_crash_states as crash_states
from tests.faults.conftest import REPOSITORY

STORE_RUN = """
import sys
from pathlib import Path
from store.locks import write_lock
from tests.faults import test_crash_states as crash_states
folder = Path(sys.argv[1])
with write_lock(crash_states.make_plan(folder).path.with_name("b.h5.lock")):
    print("begun", flush=True)
    print(*crash_states.run(folder), flush=True)
"""


def test_a_store_run_killed_again_and_again(tmp_path):
    """Ten kills over parts and merge, without the weight of torch."""
    rng = np.random.default_rng(4)
    digest, _ = crash_states.run(tmp_path / "whole")
    command = [sys.executable, "-c", STORE_RUN, str(tmp_path / "killed")]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    n_kills = 0
    while True:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout.readline() == "begun\n"
            if n_kills < 10:
                time.sleep(rng.uniform(0, 0.15))
                process.kill()
            output = process.communicate()[0]
        if process.returncode == 0:
            break
        n_kills += 1
    assert n_kills >= 5 and output.split()[0] == digest
    assert sorted(p.name for p in (tmp_path / "killed/features").iterdir()) == ["b.h5", "b.h5.lock"]


@pytest.fixture
def large(done, tmp_path):
    """A data set of four parts, made of a few hundred small photographs under many names."""
    rng = np.random.default_rng(2)
    folder = tmp_path / "large"
    folder.mkdir()
    for i in range(50):
        pixels = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((72, 66), Image.Resampling.BICUBIC).save(folder / f"{i:05d}.jpg")
    for i in range(50, 3 * BLOCK_ROWS + 100):
        os.link(folder / f"{i % 50:05d}.jpg", folder / f"{i:05d}.jpg")
    for name in ("whole", "killed"):
        assert done("dataset", "add", name, "--kind", "folder", "--images", folder)[0] == 0
    return tmp_path / "data"


def kill_until(n_kills, start, moments):
    """Start, wait, kill; as often as asked; then let it finish. How many kills hit a running process."""
    n_hit = 0
    for _ in range(n_kills):
        process = start()
        try:
            process.wait(timeout=next(moments))
        except subprocess.TimeoutExpired:
            n_hit += 1
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = start()
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return n_hit, json.loads(out)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_forty_kills_of_the_command_line(iaa, done, large):
    """26 kills over embedding and merging two backbones, 14 over the prompts; digests as of whole runs."""
    rng = np.random.default_rng(6)
    embed = ("embed", "-b", "demo_clip", "-b", "demo_vit", "--json", "-d")
    prompts = ("embed-prompts", "-b", "demo_clip", "-p", "paper_context", "--json", "-d")
    started = time.monotonic()
    assert done(*embed, "whole")[0] == 0
    n_seconds = time.monotonic() - started
    started = time.monotonic()
    assert done(*prompts, "whole")[0] == 0
    n_prompt_seconds = time.monotonic() - started

    def moments(whole):
        while True:
            yield rng.uniform(0.25, 0.9) * whole

    n_hit, answer = kill_until(26, lambda: iaa(*embed, "killed"), moments(n_seconds))
    n_prompt_hit, prompt_answer = kill_until(14, lambda: iaa(*prompts, "killed"), moments(n_prompt_seconds))
    print(f"kills that hit a run: {n_hit} of 26, {n_prompt_hit} of 14")
    for name in ("demo_clip", "demo_vit"):
        with (
            open_features(large / "whole/features" / f"{name}.h5") as whole,
            open_features(large / "killed/features" / f"{name}.h5") as killed,
        ):
            for output in whole.outputs:
                assert whole.read(output).tobytes() == killed.read(output).tobytes()
            assert killed.digest in {f["digest"] for f in answer["files"]}
    path = "prompts/paper_context/demo_clip.h5"
    with open_prompts(large / "whole" / path) as whole, open_prompts(large / "killed" / path) as killed:
        assert whole.digest == killed.digest == prompt_answer["files"][0]["digest"]
    assert all(v.is_intact for v in verify_folder(large))
    left = {p.suffix for p in (large / "killed").rglob("*") if p.is_file()}
    assert ".partial" not in left and not list(large.rglob("*.parts"))


def test_an_interrupt_is_explained(iaa, large):
    """One signal to the process that the user sees: it ends soon and says how to go on."""
    process = iaa("embed", "-b", "demo_vit", "-d", "killed")
    plan = large / "killed/features/demo_vit.h5.parts/plan.json"
    while process.poll() is None and not plan.exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Interrupted. Every finished part is kept. To go on: iaa embed -b demo_vit -d killed" in err
    assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_gone_on_from(iaa, large, number):
    arguments = ("embed", "-b", "demo_vit", "--json", "-d", "killed")
    process = iaa(*arguments)
    parts = large / "killed/features/demo_vit.h5.parts"
    while process.poll() is None and not (parts / "part-00000.h5").exists():
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "To go on: iaa embed -b demo_vit --json -d killed" in err
    process = iaa(*arguments)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert 0 < json.loads(out)["files"][0]["n_new"] < 3 * BLOCK_ROWS + 100
    assert not parts.exists() and not list(large.rglob("*.partial"))
