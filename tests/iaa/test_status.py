"""`iaa status`: how far runs are, asked beside them."""

import json
import os
import time

import numpy as np
import pytest

from iaa.library.layout import Layout
from iaa.library.status import run_states
from store.features import FEATURES_SCHEMA, Status
from store.locks import lock_path, worker_lock, write_lock
from store.parts import Plan, begin, clean_up, merge_parts, write_part
from store.remote import Remote, push
from store.remote_run import RemoteRun

N_ROWS, PART_ROWS = 10, 4
OTHER = "process 4242 on another-machine.example"


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "data", "mine")


@pytest.fixture
def plan(layout):
    ids = {"image_id": np.array([f"i{row}" for row in range(N_ROWS)], dtype=object)}
    identity = {"backbone": "b.c", "outputs": {"pooled": 3}, "images": "x", "n_images": N_ROWS}
    path = layout.features_of("b.c")
    return Plan(path, FEATURES_SCHEMA, identity, {"dataset": "mine"}, N_ROWS, ids, part_rows=PART_ROWS)


def write(plan, index, written_at, n_failed=0):
    start, stop = plan.parts[index]
    status = np.full(stop - start, Status.OK, np.uint8)
    status[:n_failed] = Status.FAILED
    vectors = np.ones((stop - start, 3), np.float32)
    vectors[:n_failed] = np.nan
    arrays = {
        "outputs/pooled": vectors,
        "status": status,
        "failures/row": np.arange(n_failed, dtype=np.int64),
        "failures/reason": np.array(["truncated"] * n_failed, dtype=object),
    }
    write_part(plan, index, arrays)
    os.utime(plan.part_path(index), (written_at, written_at))


def test_nothing_is_begun(run, tmp_path):
    assert run_states(Layout(tmp_path / "data", "demo")).notes()[0].endswith("Next: iaa embed --dataset demo")
    code, _, err = run("status", "--dataset", "deno")
    assert code != 0 and "demo" in err


def test_a_run_that_was_stopped(layout, plan):
    begin(plan)
    write(plan, 0, 1000.0, n_failed=1)
    write(plan, 2, 1008.0)
    (state,) = run_states(layout, now=1068.0)
    assert (state.backbone, state.state, state.who) == ("b.c", "stopped", [])
    assert (state.n_done, state.n_rows, state.n_failed) == (6, 10, 1)
    assert (state.n_parts_done, state.n_parts) == (2, 3)
    assert state.images_per_second == pytest.approx(2 / 8)  # the two rows of the last part, in 8 s
    assert (state.seconds_left, state.seconds_since_part) == (None, 60.0)
    assert "goes on with its own command" in run_states(layout).notes()[0]


def test_a_run_at_work_has_its_time_left_since_it_was_started(layout, plan):
    begin(plan)
    write(plan, 0, 1000.0)  # before a pause
    with write_lock(lock_path(plan.path)):
        os.utime(lock_path(plan.path), (5000.0, 5000.0))
        assert run_states(layout, now=5001.0)[0].images_per_second is None
        write(plan, 1, 5010.0)
        write(plan, 2, 5012.0)
        (state,) = run_states(layout, now=5013.0)
        assert state.state == "running" and [h.process for h in state.who] == [os.getpid()]
        assert (state.images_per_second, state.seconds_left) == (1.0, 0.0)


def test_workers_are_named_and_those_of_other_machines_are_not_judged(layout, plan, run):
    begin(plan)
    write(plan, 1, 1000.0)
    with worker_lock(lock_path(plan.path), (2, 3), "run"):
        lock_path(plan.path).with_name("b.c.h5.lock.3-of-3").write_text(OTHER)
        (state,) = run_states(layout, now=1000.0)
        assert [(h.worker, h.is_running) for h in state.who] == [("2/3", True), ("3/3", None)]
        code, out, _ = run("status", "--dataset", "mine", "--json")
        told = json.loads(out)["runs"][0]
        assert code == 0 and [h["host"] for h in told["who"]][1] == "another-machine.example"
        shown = " ".join(run("status", "-d", "mine")[1].split())
        assert "worker 3/3, process 4242 on another-machine.example" in shown
    lock_path(plan.path).write_text(OTHER)
    assert run_states(layout)[0].state == "elsewhere"


def test_a_process_that_was_killed_is_not_at_work(layout, plan):
    begin(plan)
    gone = os.fork()
    if not gone:
        os._exit(0)
    os.waitpid(gone, 0)
    with write_lock(lock_path(plan.path)):
        text = lock_path(plan.path).read_text()
    lock_path(plan.path).write_text(text.replace(str(os.getpid()), str(gone)))
    assert run_states(layout)[0].state == "stopped"


def test_damaged_parts_are_not_done_and_a_finished_file_is(layout, plan):
    begin(plan)
    for index in range(3):
        write(plan, index, 1000.0 + index)
    data = plan.part_path(1).read_bytes()
    plan.part_path(1).write_bytes(data[: len(data) // 2])
    assert (run_states(layout)[0].n_done, run_states(layout)[0].n_parts_done) == (6, 2)
    plan.part_path(1).write_bytes(data)
    merge_parts(plan)
    (state,) = run_states(layout)
    assert (state.state, state.n_done, state.n_rows, state.n_failed) == ("finished", 10, 10, 0)
    plan.path.write_bytes(plan.path.read_bytes()[:100])
    (state,) = run_states(layout)
    assert state.state == "damaged" and state.problem


def test_parts_in_an_object_store_are_counted_from_any_machine(layout, plan, in_memory, run, tmp_path):
    """Two of three parts there, made by others; nothing is here."""
    begin(plan)
    for index, when in ((0, 1000.0), (1, 1008.0), (2, 1012.0)):
        write(plan, index, when, n_failed=index)
    remote = Remote(in_memory, "mine")
    run_there = RemoteRun(remote, plan)
    run_there.begin()
    run_there.keep(0)
    run_there.keep(2)
    elsewhere = Layout(tmp_path / "other", "mine")
    nothing = run_states(Layout(tmp_path / "other", "mien"), remote=in_memory)
    assert not nothing and f"nor of mien at {in_memory}" in nothing.notes()[0]
    (state,) = run_states(elsewhere, remote=in_memory)
    assert (state.backbone, state.state, state.who) == ("b.c", "elsewhere", ())
    assert (state.n_done, state.n_rows, state.n_failed) == (6, 10, 2)
    assert (state.n_parts_done, state.n_parts) == (2, 3)
    assert state.seconds_since_part < 60 and state.images_per_second > 0 and state.seconds_left > 0
    place = ["--dataset", "mine", "--data", str(tmp_path / "other")]
    code, out, err = run("status", *place, "--remote", in_memory)
    assert code == 0 and "6 of 10" in out and "2 of 3" in out and f"{in_memory}/mine" in err
    (state,) = run_states(elsewhere, now=time.time() + 1e6, remote=in_memory)
    assert state.seconds_left is None and state.seconds_since_part > 9e5  # nobody works any more, perhaps
    # A part whose object was lost does not count, and its note stays for the run itself to see.
    remote.objects.remove(f"objects/{run_there.parts()[2].digest}.h5")
    (state,) = run_states(elsewhere, remote=in_memory)
    assert (state.n_done, state.n_failed) == (4, 0) and "part-00002.json" in str(remote.objects.sizes("runs"))
    # Here there are all three parts, and nobody is at work; there it is still counted there.
    (state,) = run_states(layout, remote=in_memory)
    assert (state.state, state.n_parts_done, state.remote) == ("stopped", 1, f"{in_memory}/mine")


def test_a_file_that_is_finished_in_an_object_store_is_told(layout, plan, in_memory, tmp_path):
    begin(plan)
    for index in range(3):
        write(plan, index, 1000.0)
    merge_parts(plan)
    clean_up(plan)
    push(Remote(in_memory, "mine"), plan.path, "features/b.c.h5")
    (state,) = run_states(Layout(tmp_path / "other", "mine"), remote=in_memory)
    assert (state.state, state.n_rows, state.n_done, state.n_failed) == ("finished", 10, 10, None)
    (state,) = run_states(layout, remote=in_memory)
    assert (state.state, state.n_failed, state.remote) == ("finished", 0, "")
