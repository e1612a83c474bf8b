"""Many workers on one run: disjoint shares, kills, restarts, merges, and the digest of a single process."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import store.run
import store.system
from embed.options import Options
from embed.pipeline import embed_images, feature_path, feature_plan, merge_run, unfinished_runs
from store import BusyError, IdentityError, MissingFileError, StoreError, open_features
from store.digests import BLOCK_ROWS
from store.locks import lock_path, turn, worker_lock, write_lock
from store.parts import begin, missing_parts

sys.path.insert(0, str(Path(__file__).parent))
import toy_worker

N = 3 * BLOCK_ROWS + 300  # 26 parts of 256 or less: worker 1 of 3 has nine of them
FEW = BLOCK_ROWS + 60  # nine parts


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    rng = np.random.default_rng(5)
    for i in range(toy_worker.N_FILES):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / f"{i:04d}.png")
    (folder / "0007.png").write_bytes(b"<html>")
    return folder


@pytest.fixture(scope="module")
def whole(photographs, tmp_path_factory):
    """The file of a single process."""
    out = tmp_path_factory.mktemp("single")
    assert toy_worker.run(photographs, out, N, None).n_new == N
    return out / "demo_vit.h5"


@pytest.fixture(scope="module")
def few(photographs, tmp_path_factory):
    """The file of a single process on nine parts."""
    out = tmp_path_factory.mktemp("few")
    toy_worker.run(photographs, out, FEW, None)
    return out / "demo_vit.h5"


def start(photographs, out, worker, *kill_after):
    return subprocess.Popen(
        [sys.executable, toy_worker.__file__, photographs, out, str(N), worker, *map(str, kill_after)],
        env={**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_three_workers_one_killed_and_restarted_give_the_bytes_of_one_process(photographs, whole, tmp_path):
    killed_after = 1000  # four of its parts are written
    workers = [start(photographs, tmp_path, "1/3", killed_after)]
    workers += [start(photographs, tmp_path, f"{i}/3") for i in (2, 3)]
    said = [w.communicate(timeout=200) for w in workers]
    assert [w.returncode for w in workers] == [-signal.SIGKILL, 0, 0], said
    plan = feature_plan(
        toy_worker.toy_table(photographs, N),
        toy_worker.toy_backbone(),
        feature_path(tmp_path, "demo_vit"),
        Options(batch_size=256),
    )
    assert missing_parts(plan) == [12, 15, 18, 21, 24]
    assert not plan.path.exists()
    with pytest.raises(StoreError, match=r"1,280 of 6,444 rows are still .*\(5 of 26 .*Nobody is at work"):
        merge_run(toy_worker.toy_table(photographs, N), plan.path)
    restarted = toy_worker.run(photographs, tmp_path, N, (1, 3))
    assert (restarted.n_new, restarted.n_left) == (1280, 0)
    assert plan.path.read_bytes() == whole.read_bytes()
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left == ["demo_vit.h5", "demo_vit.h5.lock", "demo_vit.h5.seen"]
    again = toy_worker.run(photographs, tmp_path, N, (2, 3))
    assert (again.n_new, again.n_left, again.digest) == (0, 0, restarted.digest)


def test_a_worker_says_what_is_left_and_merging_needs_no_weights(photographs, few, tmp_path):
    out = tmp_path / "features"
    first = toy_worker.run(photographs, out, FEW, (1, 2))
    assert (first.digest, first.n_new, first.n_left) == ("", 4 * 256 + 60, 4 * 256)
    own = [i for i in range(FEW) if i // 256 % 2 == 0]
    assert first.n_failed == sum(i % toy_worker.N_FILES == 7 for i in own)
    (path,) = unfinished_runs(out)
    table = toy_worker.toy_table(photographs, FEW)
    with pytest.raises(IdentityError, match="another list of images"):
        merge_run(toy_worker.toy_table(photographs, FEW - 1), path)
    with pytest.raises(MissingFileError):
        merge_run(table, out / "other.h5")
    second = toy_worker.run(photographs, out, FEW, (2, 2))
    assert second.n_left == 0 and path.read_bytes() == few.read_bytes()
    assert merge_run(table, path).digest == second.digest
    assert unfinished_runs(out) == []


def test_parts_that_nobody_joined_are_joined_by_hand(photographs, few, tmp_path, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(store.run, "merge_parts", die)
    toy_worker.run(photographs, tmp_path, FEW, (1, 2))
    with pytest.raises(KeyboardInterrupt):
        toy_worker.run(photographs, tmp_path, FEW, (2, 2))
    monkeypatch.undo()
    (path,) = unfinished_runs(tmp_path)
    (tmp_path / "demo_vit.h5.2-of-2.partial").write_bytes(b"what a kill left")
    merged = merge_run(toy_worker.toy_table(photographs, FEW), path)
    assert (merged.n_images, merged.n_left) == (FEW, 0)
    assert path.read_bytes() == few.read_bytes()
    assert not list(tmp_path.glob("*.partial"))


def test_without_working_locks_two_workers_may_merge_at_once(photographs, few, tmp_path, monkeypatch):
    """Both find all parts there; the one that comes second must find the file finished, not fail."""
    monkeypatch.setattr(store.run, "turn", lambda path: nullcontext())
    merge = store.run.merge_parts

    def overtaken(*plan):
        monkeypatch.setattr(store.run, "merge_parts", merge)
        merge(*plan)  # by the other
        return merge(*plan)

    monkeypatch.setattr(store.run, "merge_parts", overtaken)
    toy_worker.run(photographs, tmp_path, FEW, (1, 2))
    assert toy_worker.run(photographs, tmp_path, FEW, (2, 2)).n_left == 0
    assert (tmp_path / "demo_vit.h5").read_bytes() == few.read_bytes()


def test_a_worker_without_a_part_does_nothing(photographs, tmp_path):
    table = toy_worker.toy_table(photographs, 40)
    options = Options(batch_size=256, worker=(2, 2))
    outcome = embed_images(table, [toy_worker.toy_backbone()], tmp_path, options)[0]
    assert (outcome.n_new, outcome.n_left) == (0, 40)


@pytest.mark.parametrize("n_workers", [1, 2, 3, 5, 9])
def test_shares_are_disjoint_and_complete(n_workers):
    shares = [Options(worker=(i, n_workers)).share(7) for i in range(1, n_workers + 1)]
    assert sorted(index for share in shares for index in share) == list(range(7))
    assert Options().share(7) == range(7)


def hold(path, worker=None, run="r"):
    """Another process that holds a lock until its stdin is closed."""
    name = f"Path({str(path)!r})"
    lock = f"worker_lock({name}, {worker}, {run!r})" if worker else f"write_lock({name})"
    code = (
        "from pathlib import Path; from store.locks import *; import sys\n"
        f"with {lock}:\n print('held', flush=True)\n sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def refused(message, lock, *arguments):
    with pytest.raises(BusyError, match=message), lock(*arguments):
        pass


def test_who_may_run_beside_whom(tmp_path):
    path = lock_path(tmp_path / "x.h5")
    with hold(path, (1, 3)) as first:
        refused(f"worker 1/3 is at work already .process {first.pid} on ", worker_lock, path, (1, 3), "r")
        with worker_lock(path, (2, 3), "r"), worker_lock(path, (3, 3), "r"):
            pass
        refused(r"workers of 3 are writing here .*this is 1/2", worker_lock, path, (1, 2), "r")
        refused("workers with other settings", worker_lock, path, (2, 3), "another run")
        refused(f"3 workers, the first process {first.pid}", write_lock, path)
        first.communicate("")
    with worker_lock(path, (1, 2), "another run"):
        pass
    with hold(path) as single:
        refused(f"another run is writing here .process {single.pid}", worker_lock, path, (1, 3), "r")
        single.communicate("")
    assert [p.name for p in tmp_path.iterdir()] == ["x.h5.lock"]


def test_a_killed_workers_locks_are_free(tmp_path):
    path = lock_path(tmp_path / "x.h5")
    with hold(path, (1, 3)) as first:
        first.kill()
    with worker_lock(path, (1, 3), "r"):
        pass


def test_a_turn_is_waited_for(tmp_path):
    """Two processes that add to a number in turns lose nothing, although each turn removes its lock file."""
    (tmp_path / "n").write_text("0")
    code = (
        "from pathlib import Path; from store.locks import turn\n"
        f"file = Path({str(tmp_path / 'n')!r})\n"
        "for _ in range(300):\n"
        f" with turn(Path({str(tmp_path / 'x.lock')!r})): file.write_text(str(int(file.read_text()) + 1))"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [p.wait(timeout=100) for p in processes] == [0, 0, 0]
    assert (tmp_path / "n").read_text() == "900"
    assert [p.name for p in tmp_path.iterdir()] == ["n"]


def test_where_there_are_no_locks_a_warning_is_logged_and_the_run_goes_on(tmp_path, monkeypatch, caplog):
    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert store.system.fcntl is fcntl
    with worker_lock(tmp_path / "x.lock", (1, 2), "r"), turn(tmp_path / "x.lock"):
        pass
    with write_lock(tmp_path / "x.lock"):
        pass
    assert "has no file locks" in caplog.text


def test_a_single_run_is_refused_while_workers_are_at_work(photographs, tmp_path):
    table = toy_worker.toy_table(photographs, 40)
    backbone = toy_worker.toy_backbone()

    def start_another(*_):
        with pytest.raises(BusyError, match="another run is writing here .2 workers"):
            embed_images(table, [backbone], tmp_path, Options(batch_size=256))
        with pytest.raises(BusyError, match="worker 1/2 is at work already"):
            embed_images(table, [backbone], tmp_path, options)

    options = Options(batch_size=256, worker=(1, 2))
    embed_images(table, [backbone], tmp_path, options, on_rows=start_another)


def test_overwriting_workers_discard_another_run_once(photographs, tmp_path):
    table = toy_worker.toy_table(photographs, 40)
    backbone = toy_worker.toy_backbone()
    old = feature_plan(table, backbone, feature_path(tmp_path, "demo_vit"), Options(batch_size=8))
    begin(old)
    new = Options(batch_size=256, worker=(2, 2))
    with pytest.raises(IdentityError, match="batch_size: the file has 8, asked for 256"):
        embed_images(table, [backbone], tmp_path, new)
    replacing = Options(batch_size=256, worker=(2, 2), overwrite=True)
    assert embed_images(table, [backbone], tmp_path, replacing)[0].n_left == 40
    last = Options(batch_size=256, worker=(1, 2), overwrite=True)
    assert embed_images(table, [backbone], tmp_path, last)[0].n_left == 0
    with open_features(tmp_path / "demo_vit.h5") as features:
        assert features.provenance["batch_size"] == 256
