"""A real Ray cluster on this machine: several raylets, actors, a node and the driver killed at random. Each
time the file is that of one process."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from iaa.library import embedding
from iaa.library.embedding import How
from iaa.library.layout import Layout
from store import open_features, verify_file
from store.remote import open_remote
from store.remote_run import begun_names
from store.shards import ShardedFile
from tests.remotes import environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
ray = pytest.importorskip("ray")

N = 320
N_TRIALS = int(os.environ.get("IAA_RAY_TRIALS", "5"))
BACKBONE, CULPRIT, BROKEN = "demo_vit", 100, 7
DRIVER = """
import json, sys
from pathlib import Path
from iaa.library.embedding import How, embed
from iaa.library.layout import Layout
root, address, shard_above, remote = sys.argv[1:]
how = How(batch_size=4, threads=1, ray=address, actors=4, shard_above=int(shard_above), remote=remote or None)
done = embed(Layout(Path(root), "mine"), ["demo_vit"], how, say=lambda text: print(text, flush=True))
print("DIGEST", done.outcomes[0].digest, flush=True)
"""
CRASHING = """
import os, signal
import simplejpeg
whole = simplejpeg.decode_jpeg_header
def header(data, *arguments, **options):
    if b"KILL" in data:
        os.kill(os.getpid(), signal.SIGSEGV)
    return whole(data, *arguments, **options)
simplejpeg.decode_jpeg_header = header
"""


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(11)
    for i in range(N):
        Image.fromarray(rng.integers(0, 256, (48, 56, 3), dtype=np.uint8)).save(folder / f"{i:03d}.jpg")
    (folder / f"{BROKEN:03d}.jpg").write_bytes(b"no")
    return folder


def layout_in(root, photographs):
    from embed.images.datasets import add_dataset

    add_dataset(root, "mine", "folder", images=str(photographs))
    return Layout(root, "mine")


@pytest.fixture(scope="module")
def one_process(photographs, tmp_path_factory):
    layout = layout_in(tmp_path_factory.mktemp("one"), photographs)
    (outcome,) = embedding.embed(layout, [BACKBONE], How(device="cpu", batch_size=4, threads=1)).outcomes
    return outcome


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, s3_server):
    """A head without room for actors and nodes with two each; all see the crashing decoder's folder."""
    from ray.cluster_utils import Cluster

    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(CRASHING)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.getcwd()]))
        patch.setenv("OMP_NUM_THREADS", "1")
        for name, value in environment(s3_server).items():
            patch.setenv(name, value)
        memory = {"object_store_memory": 80 * 2**20}
        head = {"num_cpus": 0, "include_dashboard": False, **memory}
        made = Cluster(initialize_head=True, head_node_args=head)
        made.more = lambda: add_patiently(made, memory)
        made.nodes = [made.more(), made.more(), made.more()]
        yield made
        made.shutdown()


def add_patiently(cluster, memory):
    """A node for two actors. Ray gives a raylet half a minute to start, and a busy machine takes longer."""
    for _ in range(4):
        try:
            return cluster.add_node(num_cpus=2, **memory)
        except Exception as error:
            last = error
    raise last


def start(root, cluster, shard_above=10**6, remote=""):
    command = [sys.executable, "-c", DRIVER, str(root), cluster.address, str(shard_above), remote]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def n_parts(layout):
    return len(list(layout.features.glob("*.parts/part-*.h5")))


def wait_for_parts(layout, n, driver):
    """False where the driver was done before."""
    while n_parts(layout) < n:
        if driver.poll() is not None:
            return False
        time.sleep(0.02)
    return True


def actors_at_work(layout):
    """Process ids, as the driver notes them."""
    from store.at_work import noted_work

    where = [each["where"] for each in noted_work(layout.features_of(BACKBONE))]
    return [int(text.partition("(process ")[2].partition(" ")[0]) for text in where]


def digest_of(driver):
    said = driver.communicate(timeout=600)[0]
    assert driver.returncode == 0, said
    return said.rpartition("DIGEST ")[2].strip()


@pytest.mark.parametrize("trial", range(N_TRIALS))
def test_whoever_is_killed_the_file_is_that_of_one_process(
    trial, photographs, one_process, cluster, tmp_path
):
    chance = random.Random(trial)
    layout = layout_in(tmp_path / "data", photographs)
    driver = start(layout.root, cluster)
    n_killed = 0
    done = 0
    for what in chance.sample(["actor", "actor", "node", "driver"], 4):
        done = max(done, n_parts(layout)) + chance.randrange(2, 12)
        if not wait_for_parts(layout, done, driver):
            break
        if what == "actor":
            for process in actors_at_work(layout)[:1]:
                os.kill(process, signal.SIGKILL)
                n_killed += 1
        elif what == "node":
            cluster.remove_node(cluster.nodes.pop(0), allow_graceful=False)
            cluster.nodes.append(cluster.more())
            n_killed += 1
        else:
            driver.kill()
            driver.communicate()
            driver = start(layout.root, cluster)
            n_killed += 1
    assert digest_of(driver) == one_process.digest
    assert n_killed
    left = {path.name for path in layout.features.iterdir()}
    assert left == {f"{BACKBONE}.h5{end}" for end in ("", ".lock", ".seen")}


def test_actors_end_in_shards(photographs, one_process, cluster, tmp_path):
    layout = layout_in(tmp_path / "data", photographs)
    assert digest_of(start(layout.root, cluster, shard_above=100)) == one_process.digest
    with open_features(layout.features_of(BACKBONE)) as features:
        assert isinstance(features.file, ShardedFile) and len(features.file.shards) > 10
    assert verify_file(layout.features_of(BACKBONE)).is_intact


def test_actors_that_share_no_folder_meet_in_an_object_store(photographs, one_process, cluster, tmp_path, s3):
    """The driver is killed in the midst of it; the next one has another folder."""
    driver = start(layout_in(tmp_path / "first", photographs).root, cluster, remote=s3)
    remote = open_remote(s3, "mine")
    while driver.poll() is None and len(remote.objects.sizes("objects")) < 20:
        time.sleep(0.05)
    driver.kill()
    driver.communicate()
    n_made = len(remote.objects.sizes("objects"))
    layout = layout_in(tmp_path / "second", photographs)
    driver = start(layout.root, cluster, remote=s3)
    assert digest_of(driver) == one_process.digest and 20 <= n_made < 80
    assert remote.noted(f"features/{BACKBONE}.h5").digest == one_process.digest
    assert begun_names(remote) == [] and not n_parts(layout)


def test_a_photograph_that_kills_its_actor_is_a_failed_row(photographs, one_process, cluster, tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for path in photographs.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    with (folder / f"{CULPRIT:03d}.jpg").open("ab") as file:
        file.write(b"KILL")
    layout = layout_in(tmp_path / "data", folder)
    driver = start(layout.root, cluster)
    digest_of(driver)
    with (
        open_features(layout.features_of(BACKBONE)) as found,
        open_features(one_process.path) as expected,
    ):
        assert found.failures[CULPRIT] == "the decoder crashed (SIGSEGV)"
        assert set(found.failures) == {BROKEN, CULPRIT}
        (output,) = found.outputs
        others = np.delete(np.arange(N), [BROKEN, CULPRIT])
        np.testing.assert_array_equal(found.read(output)[others], expected.read(output)[others])
