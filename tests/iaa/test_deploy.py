"""The examples of deploy/ start commands that exist."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from iaa.cli.app import app
from iaa.cli.verbs import load
from iaa.library.workers import parse_worker

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.fixture
def fake_iaa(tmp_path):
    """Environment in which `iaa` writes down what it was started with."""
    program = tmp_path / "bin" / "iaa"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}


def parsed(words):
    """The options of a command line, which must be one that `iaa` takes."""
    verb, *rest = words
    command = load(verb)
    return command.make_context(verb, list(rest), parent=get_command(app).make_context("iaa", [verb])).params


def test_the_slurm_script_starts_a_worker_per_task(fake_iaa, tmp_path):
    more = {"DATASET": "web", "BACKBONES": "vit_b32.openai rn50.openai", "IAA_DATA": str(tmp_path / "d")}
    task = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "16", "SLURM_CPUS_PER_TASK": "4"}
    done = subprocess.run(
        ["bash", DEPLOY / "slurm.sh"], env={**fake_iaa, **more, **task}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    options = parsed(done.stdout.splitlines())
    assert options["backbone"] == ["vit_b32.openai", "rn50.openai"] and options["threads"] == 4
    assert parse_worker(options["worker"], {}) == (3, 16)
    assert options["metrics"] == tmp_path / "d/metrics/web-3.prom" and options["metrics"].parent.is_dir()
    script, no_array = ["bash", DEPLOY / "slurm.sh"], {**fake_iaa, **more}
    alone = subprocess.run(script, env=no_array, capture_output=True, text=True)
    assert alone.returncode != 0 and "sbatch --array=1-N" in alone.stderr


def test_the_kubernetes_job_starts_each_worker_once(fake_iaa):
    _, job = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text("utf-8"))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    n = job["spec"]["completions"]
    workers, files = set(), set()
    for index in range(n):
        environment = {**fake_iaa, "JOB_COMPLETION_INDEX": str(index)}
        command = [*container["command"], *container["args"]]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        options = parsed(done.stdout.splitlines())
        workers.add(parse_worker(options["worker"], {}))
        files.add(options["metrics"])
    assert workers == {(number, n) for number in range(1, n + 1)} and len(files) == n


def test_the_image_copies_what_it_installs_and_nothing_else():
    lines = (DEPLOY / "Dockerfile").read_text("utf-8").splitlines()
    copies = [shlex.split(line) for line in lines if line.startswith("COPY ") and "--from" not in line]
    copied = {word for words in copies for word in words[1:-1]}
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    packages = {"store", "embed", "analysis", "finetune", "iaa", "notebooks"}
    assert copied == let_in == packages | {"pyproject.toml", "constraints.txt", "README.md", "LICENSE"}
    assert all((DEPLOY.parent / name).exists() for name in copied)
