"""A run in an object store, killed at every single thing that it writes there: what is there afterwards is
right or is not taken for a part or a file, and the run goes on, on this machine or on another one."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from iaa.library.layout import Layout
from iaa.library.remotes import hand_over, take_up
from store import Status, open_features
from store.features import FEATURES_SCHEMA
from store.parts import Plan
from store.remote import object_name, open_remote, pull
from store.remote_run import RemoteRun, begun_names
from store.run import claimed
from tests.remotes import Dying, Killed

N_ROWS, PART, NAME = 110, 60, "features/b.h5"
MATRIX = np.random.default_rng(5).standard_normal((N_ROWS, 3)).astype(np.float32)


class Listed(SimpleNamespace):
    """A table of images as far as an object store wants to know it."""

    def __len__(self):
        return N_ROWS


TABLE = Listed(digest="1234")


def run(root, remote, is_sharded, worker=None):
    """What `iaa embed --remote` does, for rows that need no backbone; the digest, '' where parts are left."""
    layout = Layout(root, "mine")
    identity = {"backbone": "b", "images": TABLE.digest}
    path, ids = layout.features_of("b"), {"image_id": np.arange(N_ROWS).astype("U6")}
    plan = Plan(path, FEATURES_SCHEMA, identity, {}, N_ROWS, ids, "", PART, is_sharded=is_sharded)
    take_up(remote, layout, ["b"], TABLE)
    with claimed(plan, open_features, worker, RemoteRun(remote, plan)) as run:
        for index in run.begin():
            start, stop = plan.parts[index]
            nothing = {"failures/row": np.array([], np.int64), "failures/reason": np.array([], dtype=str)}
            status = np.full(stop - start, Status.OK, np.uint8)
            run.write(index, {"status": status, "outputs/embedding": MATRIX[start:stop], **nothing})
        if run.finish():
            return ""
    with open_features(path) as features:
        digest = features.digest
    hand_over(remote, layout, [SimpleNamespace(path=path, digest=digest)])
    return digest


def check_file(path, digest):
    with open_features(path) as features:
        assert features.digest == digest and np.array_equal(features.read("embedding"), MATRIX)


@pytest.mark.parametrize("is_sharded", [pytest.param(False, marks=pytest.mark.slow), True])
def test_every_kill_leaves_what_goes_on(in_memory, tmp_path, monkeypatch, is_sharded):
    dying = Dying(monkeypatch)
    digest = run(tmp_path / "whole", open_remote(f"{in_memory}/whole", "mine"), is_sharded)
    n = dying.n
    assert n >= 2 + 2 * 2 + 2 and digest
    for at in range(1, n + 1):  # killed after it; before the first there is nothing
        name = str(at)
        remote = open_remote(f"{in_memory}/{name}", "mine")
        dying.arm(at)
        with pytest.raises(Killed):
            run(tmp_path / name, remote, is_sharded)
        dying.arm(None)
        objects = remote.objects
        if is_sharded:  # else a run that is tidied up loses its parts first
            for note in (n for n in objects.sizes("runs") if "/part-" in n):
                assert object_name(json.loads(objects.read(f"runs/{note}"))["digest"])[8:] in objects.sizes(
                    "objects"
                )
        if remote.noted(NAME) is not None:  # it is promised
            assert pull(remote, NAME, tmp_path / name / "pulled.h5")
            check_file(tmp_path / name / "pulled.h5", digest)
        where = name if at % 2 else f"{name}-on-another-machine"
        assert run(tmp_path / where, remote, is_sharded) == digest
        check_file(Layout(tmp_path / where, "mine").features_of("b"), digest)
        named = remote.noted(NAME)
        assert named.digest == digest and begun_names(remote) == []
        assert remote.objects.sizes("runs") == {}
        assert set(remote.objects.sizes("objects")) == {f"{each}.h5" for each in named.objects}


def test_two_that_join_at_once_make_one_file(in_memory, tmp_path, monkeypatch):
    """The last two workers may both find all parts there; one of them tidies up while the other fetches."""
    remote = open_remote(in_memory, "mine")
    assert run(tmp_path / "m1", remote, False, (1, 2)) == ""
    fetch = RemoteRun.fetch
    others = []

    def first_the_other(self, parts):
        monkeypatch.setattr(RemoteRun, "fetch", fetch)
        others.append(run(tmp_path / "m1", remote, False, (1, 2)))
        fetch(self, parts)

    monkeypatch.setattr(RemoteRun, "fetch", first_the_other)
    digest = run(tmp_path / "m2", remote, False, (2, 2))
    assert others == [digest] and begun_names(remote) == []
    check_file(Layout(tmp_path / "m2", "mine").features_of("b"), digest)
