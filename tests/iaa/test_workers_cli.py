"""Workers as people start them: --worker, torchrun's environment, --devices, --merge, interrupts."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from iaa.cli.app import main
from iaa.cli.console import note, progress
from iaa.library.embedding import Embedded, How, rows_on
from iaa.library.errors import UsageError
from iaa.library.layout import Layout
from iaa.library.workers import Worker, choose_devices, local_device, parse_worker, worker_arguments


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("IAA_DATA", str(tmp_path / "data"))
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(2)
    for i in range(12):
        Image.fromarray(rng.integers(0, 256, (70, 80, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"no")

    def run_command(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return stop.value.code, captured.out, " ".join(captured.err.split())

    assert run_command("dataset", "add", "mine", "--kind", "folder", "--images", folder)[0] == 0
    return run_command


def test_which_worker_this_is():
    assert parse_worker("2/3", {"RANK": "0", "WORLD_SIZE": "9"}) == (2, 3)
    assert parse_worker(None, {"RANK": "0", "WORLD_SIZE": "9"}) == (1, 9)
    assert parse_worker(None, {"RANK": "8", "WORLD_SIZE": "9"}) == (9, 9)
    assert parse_worker(None, {"RANK": "0", "WORLD_SIZE": "1"}) is None
    assert parse_worker(None, {"RANK": "3"}) is None
    for given in ("0/3", "4/3", "3", "a/b", "1/0", "-1/2", "1/2/3"):
        with pytest.raises(UsageError, match="count from 1|takes I/N"):
            parse_worker(given, {})
    with pytest.raises(UsageError, match="RANK='9'"):
        parse_worker(None, {"RANK": "9", "WORLD_SIZE": "9"})


def test_one_process_per_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert choose_devices("3") == ["cpu"] * 3
    assert local_device("auto", {"LOCAL_RANK": "1"}) == "auto"
    with pytest.raises(UsageError, match=r"finds no GPU here.*--devices 2"):
        choose_devices("all")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert choose_devices("all") == ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]
    assert choose_devices("2") == ["cuda:0", "cuda:1"]
    assert local_device("auto", {"LOCAL_RANK": "1"}) == "cuda:1"
    assert local_device("cpu", {"LOCAL_RANK": "1"}) == "cpu"
    with pytest.raises(UsageError, match="4 GPUs are here"):
        choose_devices("5")
    for given in ("0", "cuda", "-1"):
        with pytest.raises(UsageError, match="takes all or a number"):
            choose_devices(given)


def test_a_process_of_its_own_is_asked_for_the_same(run, monkeypatch, tmp_path):
    """What `worker_arguments` says is read back by `iaa embed` as the same settings."""
    file = tmp_path / "w=1.pt"
    file.write_bytes(b"")
    how = How(
        weights={"demo_vit": file},
        device="cpu",
        precision="bfloat16",
        engine="torch",
        batch_size=7,
        threads=3,
        max_failed_share=0.5,
        max_pixels=10**6,
        exact=True,
        check_content=True,
        thumbnails=True,
    )
    asked = {}

    def embed(layout, ids, how, *others):
        asked.update(layout=layout, ids=ids, how=how)
        return Embedded([], {}, {})

    monkeypatch.setattr("iaa.library.embedding.embed", embed)
    layout = Layout(tmp_path / "data", "mine")
    run("embed", *worker_arguments(layout, ["demo_vit", "demo_clip"], how), "--device", "cpu", "--json")
    assert asked == {"layout": layout, "ids": ["demo_vit", "demo_clip"], "how": how}


def test_a_worker_by_hand_teaches_what_is_next(run, monkeypatch):
    code, out, err = run("embed", "-d", "mine", "-b", "demo_vit", "--merge")
    assert (code, out) == (2, "") and "no worker has begun it" in err
    code, out, err = run("embed", "-d", "mine", "-b", "demo_vit", "--worker", "2/2")
    assert code == 0 and "worker 2/2: 0 of 13 images, in 0 of 1 parts" in err
    assert "13 rows are left to other workers" in err and "--merge" in err and "Next" not in err
    code, out, err = run("embed", "-d", "mine", "--merge")
    assert (code, out) == (1, "") and "13 of 13 rows are still to be made (1 of 1 parts). Nobody" in err
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, out, err = run("embed", "-d", "mine", "-b", "demo_vit", "--json")
    (file,) = json.loads(out)["files"]
    assert code == 0 and (file["n_new"], file["n_left"], file["n_failed"]) == (13, 0, 1)
    monkeypatch.delenv("RANK")
    code, out, err = run("embed", "-d", "mine", "--merge")
    assert code == 0 and "no run is unfinished" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--worker", "1/2", "--devices", "2"], "exclude each other"),
        (["--merge", "--devices", "2"], "exclude each other"),
        (["--merge", "--overwrite"], "give one of them"),
    ],
)
def test_options_that_exclude_each_other(run, arguments, message):
    code, out, err = run("embed", "-d", "mine", *arguments)
    assert (code, out) == (2, "") and message in err


def test_processes_are_started_and_their_answers_are_one(run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    code, out, err = run("embed", "-d", "mine", "-b", "demo_vit", "--batch-size", 8, "--devices", 3, "--json")
    answer = json.loads(out)
    assert code == 0 and "2 parts of 8 images keep 2 of 3 processes busy" in err
    (file,) = answer["files"]
    assert (file["n_images"], file["n_new"], file["n_failed"], file["n_left"]) == (13, 13, 1, 0)
    code, out, err = run("info", file["path"], "--json")
    assert json.loads(out)["provenance"]["batch_size"] == 8  # options are passed on


def test_a_worker_s_answer_that_is_an_error_is_told(run, monkeypatch):
    answer = json.dumps({"error": {"kind": "BusyError", "message": "another run is at work"}})
    command = [sys.executable, "-c", f"import sys; print({answer!r}); sys.exit(1)"]

    def start(arguments, number, device, n_workers):
        return Worker(number, subprocess.Popen(command, stdout=-1, stderr=-1, text=True))

    monkeypatch.setattr("iaa.library.workers._start", start)
    code, out, err = run("embed", "-d", "mine", "-b", "demo_vit", "--devices", 1)
    assert (code, out) == (1, "") and "Traceback" not in err
    assert "worker 1/1 failed with exit code 1; its last words: error: another run is at work" in err
    assert "error: 1 of 1 workers did not finish" in err


@pytest.mark.slow
def test_a_worker_that_fails_is_told_with_its_last_words(run):
    assert run("embed", "-d", "mine", "-b", "demo_vit")[0] == 0
    code, _, err = run("embed", "-d", "mine", "-b", "demo_vit", "--devices", 1, "--exact")
    assert code == 1 and "worker 1/1 failed with exit code 1" in err and "preprocessing.decoder" in err
    assert "run the same command again" in err


@pytest.mark.gpu
def test_every_gpu_gets_a_process(run):
    code, out, _ = run("embed", "-d", "mine", "-b", "demo_vit", "--devices", "all", "--json")
    answer = json.loads(out)
    assert code == 0 and answer["files"][0]["n_new"] == 13 and answer["files"][0]["digest"]


def test_a_bar_that_is_not_shown_counts_rows_done_before(capsys):
    with progress("x", 10, "images", is_hidden=True) as bar:
        on_rows = rows_on(bar, 10, say=note)
        on_rows(4, 0, False)
        on_rows(2, 1, True)
    assert "resuming: 4 of 10 images are done already" in capsys.readouterr().err


@pytest.mark.parametrize("more", [[], pytest.param(["--devices", "1"], marks=pytest.mark.slow)])
def test_an_interrupted_run_says_how_to_go_on_and_leaves_no_process(run, tmp_path, more):
    arguments = ["embed", "-d", "mine", "-b", "demo_clip", *more]
    process = subprocess.Popen(
        [sys.executable, "-m", "iaa", *arguments], stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    said = [process.stderr.readline()]
    assert "13 images" in said[0]
    process.send_signal(signal.SIGINT)
    said += process.stderr.readlines()
    assert process.wait(timeout=60) == 130
    assert "Interrupted. Every finished part is kept." in said[-1]
    assert f"To go on: iaa {' '.join(arguments)}" in said[-1]
