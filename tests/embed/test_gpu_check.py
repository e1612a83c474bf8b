"""The check for machines with a GPU: what it keeps when a section fails, is stopped, or the time is up."""

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import gpu_check
from benchmarks.gpu_check import Check, exit_status, run_sections

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def check(tmp_path) -> Check:
    return Check(dry=False, folder=tmp_path, limit=100, started=time.monotonic())


def fail(check):
    raise ValueError("no such kernel")


def interrupt(check):
    raise KeyboardInterrupt


def use_up(check):
    check.limit = 0
    return {"n": 1}


@pytest.fixture
def kept(tmp_path, check, monkeypatch):
    """Runs sections, and returns what lies in gpu.json and the exit status."""
    sections = {
        "agreement": lambda check: {"vit_b32.openai_float16_cosine": 0.99999, "other": 3},
        "embedding float32": lambda check: {"of_lower_limit": 0.5},
        "memory": fail,
        "devices": use_up,
        "tests": interrupt,
    }
    monkeypatch.setattr(gpu_check, "SECTIONS", sections)

    def run(*names):
        report = {"sections": {}}
        with contextlib.suppress(KeyboardInterrupt):
            run_sections(check, list(names), tmp_path / "out", report)
        on_disk = json.loads((tmp_path / "out/gpu.json").read_text())
        assert on_disk == json.loads(json.dumps(report))
        return on_disk["sections"], exit_status(report, list(names))

    return run


def test_goals_are_judged(kept):
    sections, status = kept("agreement")
    assert status == 0 and sections["agreement"]["state"] == "done"
    assert sections["agreement"]["goals"] == {"vit_b32.openai_float16_cosine": "met (>= 0.9999)"}
    sections, status = kept("agreement", "embedding float32")
    assert status == 3 and sections["embedding float32"]["goals"] == {"of_lower_limit": "MISSED (>= 0.9)"}


def test_a_section_that_fails_keeps_its_error_and_stops_no_other(kept):
    sections, status = kept("memory", "agreement")
    assert status == 1 and sections["memory"]["error"] == "ValueError: no such kernel"
    assert sections["agreement"]["state"] == "done"


def test_what_would_begin_after_the_limit_is_left_out_by_name(kept):
    sections, status = kept("devices", "agreement", "memory")
    assert status == 3 and sections["devices"]["figures"] == {"n": 1}
    assert {sections[name]["state"] for name in ("agreement", "memory")} == {"left out: the time was up"}


def test_a_check_that_is_stopped_keeps_what_it_had(kept):
    sections, status = kept("agreement", "tests", "memory")
    assert status == 1 and sections["tests"]["state"] == "stopped" and "memory" not in sections
    assert sections["agreement"]["state"] == "done"


def test_every_goal_is_of_a_section():
    assert {section for section, _ in gpu_check.GOALS} <= set(gpu_check.SECTIONS)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_dry_run_gets_through_every_section(tmp_path):
    command = [sys.executable, "benchmarks/gpu_check.py", "--dry", "--out", tmp_path, "--limit", "800"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert list(report["sections"]) and all(s["state"] == "done" for s in report["sections"].values())
    assert set(report["sections"]) == set(gpu_check.SECTIONS)
    assert report["sections"]["agreement"]["goals"] and "met" in done.stdout
