"""Runs that are really killed, over embedding, prompts and merging, end as if they never had been.

The runs are those of the command line. Each is started, killed with SIGKILL at a random moment, and started
again, until the wanted number of kills is reached; then it is let finish.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from store import verify_folder
from store.digests import BLOCK_ROWS
from tests.faults import test_crash_states as crash_states
from tests.faults.conftest import REPOSITORY

N_LARGE = 2 * BLOCK_ROWS + 100
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
    """Ten kills over parts and merge, without the weight of torch; a run that is quicker starts afresh."""
    rng = np.random.default_rng(4)
    started = time.monotonic()
    digest, _ = crash_states.run(tmp_path / "whole")
    seconds = time.monotonic() - started
    made = tmp_path / "killed"
    command = [sys.executable, "-c", STORE_RUN, str(made)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    n_kills = 0
    while True:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout.readline() == "begun\n"
            if n_kills < 10:
                time.sleep(rng.uniform(0, 0.5) * seconds)
                process.kill()
            output = process.communicate()[0]
        if process.returncode:
            n_kills += 1
            continue
        assert output.split()[0] == digest
        assert sorted(p.name for p in (made / "features").iterdir()) == ["b.h5", "b.h5.lock"]
        if n_kills >= 10:
            return
        shutil.rmtree(made)


@pytest.fixture
def large(done, tmp_path):
    """A data set of three parts, 50 photographs under many names, known to two data roots: data and whole."""
    rng = np.random.default_rng(2)
    folder = tmp_path / "large"
    folder.mkdir()
    for i in range(50):
        pixels = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((72, 66), Image.Resampling.BICUBIC).save(folder / f"{i:05d}.jpg")
    for i in range(50, N_LARGE):
        os.link(folder / f"{i % 50:05d}.jpg", folder / f"{i:05d}.jpg")
    for root in ("whole", "data"):
        added = done(
            "dataset", "add", "mine", "--kind", "folder", "--images", folder, "--data", tmp_path / root
        )
        assert added[0] == 0
    return tmp_path / "data/mine"


def kill_until(n_kills, start, wait, restart):
    """Start and kill after `wait(process)`, until so many running processes were killed.

    A run that is quicker is started afresh, after `restart()`. Returns the answers of all runs that came to
    an end, the last of them let finish.
    """
    answers, n_killed = [], 0
    while True:
        process = start()
        if n_killed < n_kills:
            wait(process)
            process.kill()
        out, err = process.communicate(timeout=600)
        if process.returncode == -signal.SIGKILL:
            n_killed += 1
            continue
        assert process.returncode == 0, err
        answers.append(json.loads(out))
        if n_killed >= n_kills:
            return answers
        assert len(answers) < 5 * n_kills, f"{n_killed} kills in {len(answers)} whole runs: too quick to kill"
        restart()


def at_random(rng, n_seconds):
    """Waits for a share of the time that a whole run takes, or for the run's end."""

    def wait(process):
        with suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0.25, 0.9) * n_seconds)

    return wait


def in_the_merge(rng, folder):
    """Waits until a final file is being written, and up to 10 ms more, or for the run's end."""

    def times():
        found = {}
        for path in folder.glob("*.h5*.partial"):
            with suppress(FileNotFoundError):
                found[path] = path.stat().st_mtime_ns
        return found

    def wait(process):
        before = times()
        while process.poll() is None and not set(times().items()) - set(before.items()):
            time.sleep(0.0005)
        time.sleep(rng.uniform(0, 0.01))

    return wait


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_forty_kills_of_the_command_line(iaa, done, large, tmp_path):
    """14 kills over embedding with two backbones, 14 in the merge, 12 over prompts: digests of whole runs."""
    rng = np.random.default_rng(6)
    embed = ("embed", "-b", "demo_clip", "-b", "demo_vit", "--json", "-d", "mine")
    merge = ("embed", "--merge", "--json", "-d", "mine")
    prompts = ("embed", "-b", "demo_clip", "-p", "paper_context", "--json", "-d", "mine")
    seconds, expected = [], []
    for command in (embed, prompts):
        started = time.monotonic()
        code, out, err = done(*command, "--data", tmp_path / "whole")
        assert code == 0, err
        seconds.append(time.monotonic() - started)
        expected.append(_digests(json.loads(out)))
    features, spoken, parts = large / "features", large / "prompts", tmp_path / "parts"

    ends = kill_until(14, lambda: iaa(*embed), at_random(rng, seconds[0]), lambda: shutil.rmtree(features))
    for worker in ("1/2", "2/2"):  # apart, so that neither finds all parts there and merges them
        shutil.rmtree(features)
        assert done(*embed, "--worker", worker)[0] == 0
        shutil.copytree(features, parts, dirs_exist_ok=True)

    def restore():
        shutil.rmtree(features)
        shutil.copytree(parts, features)

    restore()
    merged = kill_until(14, lambda: iaa(*merge), in_the_merge(rng, features), restore)
    texts = kill_until(12, lambda: iaa(*prompts), at_random(rng, seconds[1]), lambda: shutil.rmtree(spoken))
    print(f"40 kills; {len(ends)}, {len(merged)} and {len(texts)} runs came to an end between them")
    assert all(_digests(answer) == expected[0] for answer in ends)
    assert all(_digests(answer) <= expected[0] for answer in merged)
    assert all(_digests(answer) == expected[1] for answer in texts)
    verdicts = list(verify_folder(large))
    assert {v.digest for v in verdicts if v.schema != "iaa/targets"} == expected[0] | expected[1]
    assert all(v.is_intact for v in verdicts)
    left = {p.suffix for p in large.rglob("*") if p.is_file()}
    assert ".partial" not in left and not list(large.rglob("*.parts"))


def _digests(answer):
    return {file["digest"] for file in answer["files"]}


def test_an_interrupt_is_explained(iaa, large):
    """One signal to the process that the user sees: it ends soon and says how to go on."""
    process = iaa("embed", "-b", "demo_vit", "-d", "mine")
    plan = large / "features/demo_vit.h5.parts/plan.json"
    while process.poll() is None and not plan.exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Interrupted. Every finished part is kept." in err
    assert "To go on: iaa embed -b demo_vit -d mine" in err
    assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_gone_on_from(iaa, large, number):
    arguments = ("embed", "-b", "demo_vit", "--json", "-d", "mine")
    process = iaa(*arguments)
    parts = large / "features/demo_vit.h5.parts"
    while process.poll() is None and not (parts / "part-00000.h5").exists():
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "To go on: iaa embed -b demo_vit --json -d mine" in err
    process = iaa(*arguments)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert 0 < json.loads(out)["files"][0]["n_new"] < N_LARGE
    assert not parts.exists() and not list(large.rglob("*.partial"))
