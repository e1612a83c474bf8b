"""The examples of deploy/ start commands that exist."""

import os
import shlex
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml
from typer.main import get_command

from iaa.cli.app import app
from iaa.cli.verbs import load
from iaa.library.clusters import choose_need
from iaa.library.workers import parse_worker

DEPLOY = Path(__file__).parents[2] / "deploy"

WORDS, FLAG, TEXT, WHOLE, NUMBER = (
    {"type": "object", "additionalProperties": {"type": "string"}},
    *({"type": kind} for kind in ("boolean", "string", "integer", "number")),
)


def fields(required="", **known):
    """The schema of an object with these fields and no others."""
    return {
        "type": "object", "properties": known, "required": required.split(), "additionalProperties": False
    }  # fmt: skip


# What KubeRay's definition of ray.io/v1 says of the fields of a RayJob, in short. The templates of pods are
# Kubernetes' own; that they are right was checked by its schema of a PodTemplate (docs/operations.md).
POD = fields("spec", spec={"type": "object"}, metadata={"type": "object"})
GROUP = {"rayStartParams": WORDS, "template": POD}
WORKERS = fields(
    "groupName maxReplicas minReplicas template", **GROUP, groupName=TEXT, replicas=WHOLE, minReplicas=WHOLE,
    maxReplicas=WHOLE, numOfHosts=WHOLE, idleTimeoutSeconds=WHOLE, scaleStrategy={"type": "object"},
)  # fmt: skip
CLUSTER = fields(
    "headGroupSpec", rayVersion=TEXT, enableInTreeAutoscaling=FLAG, suspend=FLAG,
    autoscalerOptions={"type": "object"}, headServiceAnnotations=WORDS,
    workerGroupSpecs={"type": "array", "items": WORKERS},
    headGroupSpec=fields(
        "template", **GROUP, serviceType=TEXT, headService={"type": "object"}, enableIngress=FLAG
    ),
)  # fmt: skip
RAY_JOB = fields(
    "apiVersion kind metadata spec", apiVersion={"const": "ray.io/v1"}, kind={"const": "RayJob"},
    metadata={"type": "object"},
    spec=fields(
        "", activeDeadlineSeconds=WHOLE, backoffLimit=WHOLE, clusterSelector=WORDS, entrypoint=TEXT,
        entrypointNumCpus=NUMBER, entrypointNumGpus=NUMBER, entrypointResources=TEXT, jobId=TEXT,
        metadata=WORDS, rayClusterSpec=CLUSTER, runtimeEnvYAML=TEXT, shutdownAfterJobFinishes=FLAG,
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode"]}, suspend=FLAG,
        submitterPodTemplate=POD, ttlSecondsAfterFinished=WHOLE,
    ),
)  # fmt: skip


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
    assert [*options["backbone"]] == ["vit_b32.openai", "rn50.openai"] and options["threads"] == 4
    assert parse_worker(options["worker"], {}) == (3, 16)
    metrics = Path(options["metrics"])  # a path or its text, as versions of typer read it
    assert metrics == tmp_path / "d/metrics/web-3.prom" and metrics.parent.is_dir()
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


def test_the_ray_job_starts_a_driver_whose_actors_fit_its_machines():
    job = yaml.safe_load((DEPLOY / "kuberay.yaml").read_text("utf-8"))
    jsonschema.validate(job, RAY_JOB)
    program, *words = shlex.split(job["spec"]["entrypoint"])
    options = parsed(words)
    assert program == "iaa" and options["ray"] == "auto"
    cluster = job["spec"]["rayClusterSpec"]
    (group,) = cluster["workerGroupSpecs"]
    pinned = (DEPLOY.parent / "constraints.txt").read_text("utf-8").splitlines()
    assert f"ray=={cluster['rayVersion']}" in pinned
    head, worker = (each["template"]["spec"] for each in (cluster["headGroupSpec"], group))
    assert head["volumes"] == worker["volumes"]
    (head,), (worker,) = head["containers"], worker["containers"]
    assert head["volumeMounts"] == worker["volumeMounts"] and head["image"] == worker["image"]
    limits = worker["resources"]["limits"]
    machine = {"CPU": limits["cpu"], "GPU": limits["nvidia.com/gpu"]}
    need = choose_need(options["device"], options["threads"], [machine])
    assert need.room([machine]) == 1 and options["actors"] == group["maxReplicas"]


def test_the_image_copies_what_it_installs_and_nothing_else():
    lines = (DEPLOY / "Dockerfile").read_text("utf-8").splitlines()
    copies = [shlex.split(line) for line in lines if line.startswith("COPY ") and "--from" not in line]
    copied = {word for words in copies for word in words[1:-1]}
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    packages = {"store", "embed", "analysis", "finetune", "iaa", "notebooks"}
    assert copied == let_in == packages | {"pyproject.toml", "constraints.txt", "README.md", "LICENSE"}
    assert all((DEPLOY.parent / name).exists() for name in copied)
