"""The pipeline: N images in, N rows out, whatever happens on the way."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from embed.backbones.spec import ENGINES
from embed.images.datasets import ImageTable
from embed.pipeline import (
    Options,
    TooManyFailuresError,
    embed_images,
    feature_path,
    feature_plan,
    rows_per_part,
)
from store import BusyError, IdentityError, open_features
from store.parts import begin, missing_parts
from tests.engines import load_on

OPTIONS = Options(batch_size=16, n_threads=2, is_exact=True)


@pytest.fixture(scope="module", params=ENGINES)
def backbones(request):
    return load_on(request.param, "demo_clip", "demo_vit")


def make_table(folder, n, bad=()):
    rng = np.random.default_rng(3)
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for i in range(n):
        name = f"{i:04d}.png"
        pixels = rng.integers(0, 256, (70 + i % 5, 80, 3), dtype=np.uint8)
        if i in bad:
            (folder / name).write_bytes(b"<html>not here</html>")
        else:
            Image.fromarray(pixels).save(folder / name)
        names.append(name)
    ids = np.array([name[:-4] for name in names])
    return ImageTable("t", folder, ids, np.array(names), split=np.full(n, ""))


def test_rows_equal_the_librarys_own_way(tmp_path, backbones):
    table = make_table(tmp_path / "img", 37)
    outcomes = embed_images(table, backbones, tmp_path / "f", OPTIONS)
    assert [(o.n_images, o.n_failed, o.n_new) for o in outcomes] == [(37, 0, 37)] * 2
    for backbone in backbones:
        images = torch.stack([backbone.transform(Image.open(table.absolute(i))) for i in range(37)])
        expected = backbone.encode_images(images)
        with open_features(feature_path(tmp_path / "f", backbone.id)) as features:
            assert features.image_id.tolist() == table.image_id.tolist()
            assert features.outputs == dict(backbone.outputs)
            for name, values in expected.items():
                np.testing.assert_allclose(features.read(name), values.numpy(), rtol=1e-4, atol=2e-5)


def test_a_bad_image_is_a_failed_row_and_moves_no_neighbour(tmp_path, backbones):
    whole = make_table(tmp_path / "a", 20)
    broken = make_table(tmp_path / "b", 20, bad=(3, 17))
    embed_images(whole, backbones[:1], tmp_path / "fa", OPTIONS)
    embed_images(broken, backbones[:1], tmp_path / "fb", OPTIONS)
    with open_features(tmp_path / "fa/demo_clip.h5") as a, open_features(tmp_path / "fb/demo_clip.h5") as b:
        assert set(b.failures) == {3, 17} and "not an image" in b.failures[3]
        assert np.isnan(b.read("embedding", ~b.ok)).all()
        np.testing.assert_array_equal(a.read("embedding", b.ok), b.read("embedding", b.ok))


def test_only_bad_images_still_give_a_file(tmp_path, backbones):
    outcome = embed_images(make_table(tmp_path / "i", 5, bad=range(5)), backbones, tmp_path / "f", OPTIONS)[0]
    assert (outcome.n_images, outcome.n_failed) == (5, 5)


def test_a_second_run_does_nothing(tmp_path, backbones):
    table = make_table(tmp_path / "i", 9)
    first = embed_images(table, backbones, tmp_path / "f", OPTIONS)
    before = feature_path(tmp_path / "f", "demo_vit").stat().st_ino
    second = embed_images(table, backbones, tmp_path / "f", OPTIONS)
    assert [o.n_new for o in second] == [0, 0]
    assert [o.digest for o in first] == [o.digest for o in second]
    assert feature_path(tmp_path / "f", "demo_vit").stat().st_ino == before


def test_several_backbones_in_one_run_give_the_bytes_of_single_runs(tmp_path, backbones):
    table = make_table(tmp_path / "i", 21)
    embed_images(table, backbones, tmp_path / "both", OPTIONS)
    for backbone in backbones:
        embed_images(table, [backbone], tmp_path / "single", OPTIONS)
        name = f"{backbone.id}.h5"
        assert (tmp_path / "both" / name).read_bytes() == (tmp_path / "single" / name).read_bytes()


def test_another_image_list_is_refused_until_overwrite(tmp_path, backbones):
    embed_images(make_table(tmp_path / "i", 9), backbones[:1], tmp_path / "f", OPTIONS)
    longer = make_table(tmp_path / "i", 11)
    with pytest.raises(IdentityError, match="images: the file has"):
        embed_images(longer, backbones[:1], tmp_path / "f", OPTIONS)
    new = Options(batch_size=16, n_threads=2, overwrite=True)
    assert embed_images(longer, backbones[:1], tmp_path / "f", new)[0].n_images == 11


def test_a_begun_run_keeps_its_batch_size(tmp_path, backbones):
    table = make_table(tmp_path / "i", 9)
    path = feature_path(tmp_path / "f", "demo_clip")
    begin(feature_plan(table, backbones[0], path, OPTIONS))
    with pytest.raises(IdentityError, match=r"batch_size: the file has 16, asked for 8"):
        embed_images(table, backbones[:1], tmp_path / "f", Options(batch_size=8, n_threads=2))


def test_a_run_that_goes_wrong_is_stopped(tmp_path, backbones):
    folder = tmp_path / "i"
    folder.mkdir()
    ids = np.array([str(i) for i in range(1100)])
    table = ImageTable("t", folder, ids, ids, split=np.full(1100, ""))
    with pytest.raises(TooManyFailuresError, match=r"of the first 1\d\d\d images failed"):
        embed_images(table, backbones[1:], tmp_path / "f", OPTIONS)


def test_a_second_run_on_the_same_file_is_told(tmp_path, backbones):
    table = make_table(tmp_path / "i", 4)

    def start_another(*_):
        with pytest.raises(BusyError, match="another run is writing"):
            embed_images(table, backbones[:1], tmp_path / "f", OPTIONS)

    embed_images(table, backbones[:1], tmp_path / "f", OPTIONS, on_rows=start_another)


def test_killed_and_resumed_equals_uninterrupted(tmp_path, backbones):
    """SIGKILL after the first part; the resumed file has the same bytes."""
    few = make_table(tmp_path / "i", 40, bad=(7,))
    n, n_batch = 600, 32
    ids = np.array([f"{i:05d}" for i in range(n)])
    table = ImageTable("t", few.root, ids, few.path[np.arange(n) % 40], split=np.full(n, ""))
    options = Options(batch_size=n_batch, n_threads=2)
    killed = tmp_path / "k"
    n_part = rows_per_part(killed, ["demo_vit"], n, n_batch)["demo_vit"]
    plan = feature_plan(table, backbones[1], feature_path(killed, "demo_vit"), options)
    plan = replace(plan, part_rows=n_part)
    part = plan.part_path(0)
    code = (
        "import numpy as np, os, signal; from pathlib import Path\n"
        "from embed.images.datasets import ImageTable; from tests.engines import load_on\n"
        "from embed.pipeline import Options, embed_images\n"
        f"n={n}; ids=np.array([f'{{i:05d}}' for i in range(n)])\n"
        "paths=np.array([f'{i:04d}.png' for i in range(40)])[np.arange(n)%40]\n"
        f"t=ImageTable('t',Path({str(few.root)!r}),ids,paths,split=np.full(n,''))\n"
        "def die(*_):\n"
        f"    if Path({str(part)!r}).exists(): os.kill(os.getpid(), signal.SIGKILL)\n"
        f"embed_images(t,load_on({backbones[1].engine!r},'demo_vit'),Path({str(tmp_path / 'k')!r}),"
        f"Options(batch_size={n_batch},n_threads=2),die)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.getcwd()}
    ) as process:
        process.wait()
    assert process.returncode == -signal.SIGKILL
    left = missing_parts(plan)
    assert 0 not in left and left
    resumed = embed_images(table, backbones[1:], killed, options)[0]
    assert resumed.n_new < n
    whole = embed_images(table, backbones[1:], tmp_path / "w", options)[0]
    assert resumed.digest == whole.digest
    assert plan.path.read_bytes() == (tmp_path / "w/demo_vit.h5").read_bytes()
