"""Equal files share one vector, and so do equal texts, on a processor whose batches do not agree on it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import embed.images.changes
import store.run
from embed.backbones.loading import load_backbone
from embed.backbones.spec import ENGINES
from embed.images.datasets import ImageTable
from embed.pipeline import Options, embed_images, feature_path
from embed.prompts.sets import Label, PromptSet, expand
from embed.prompts.text import embed_prompts
from embed.update import update_images
from store import open_features, open_prompts, verify_folder
from tests.engines import load_on

OPTIONS = Options(batch_size=4, n_threads=2)
N_FILES = 23
EQUAL = {6: 1, 9: 1, 22: 1, 17: 4, 12: 11}
"""File and the first one with the same bytes: in its batch or another, in its place there or another."""
BROKEN = (5, 20)


def moved_by_place(encode):
    """As on a processor where a vector depends, in its last bits, on its place in the batch."""

    def encode_and_move(batch, *more):
        found = encode(batch, *more)
        outputs = found if isinstance(found, dict) else {"": found}
        moved = {n: v * (1 + 1e-6 * torch.arange(len(v)).reshape(-1, 1)) for n, v in outputs.items()}
        return moved if isinstance(found, dict) else moved[""]

    return encode_and_move


@pytest.fixture(params=ENGINES)
def backbones(monkeypatch, request):
    loaded = load_on(request.param, "demo_clip", "demo_vit")
    for backbone in loaded:
        monkeypatch.setattr(backbone, "encode_images", moved_by_place(backbone.encode_images))
    return loaded


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "i"
    folder.mkdir()
    for i in range(N_FILES):
        paint(folder, i)
    for i, first in EQUAL.items():
        (folder / f"{i:02d}.png").write_bytes((folder / f"{first:02d}.png").read_bytes())
    for i in BROKEN:
        (folder / f"{i:02d}.png").write_bytes(b"oops")
    return folder


def paint(folder, i):
    pixels = np.random.default_rng([5, i]).integers(0, 256, (70, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / f"{i:02d}.png")


def table_of(folder):
    names = np.array(sorted(path.name for path in folder.iterdir()))
    return ImageTable("t", folder, names, names)


def vectors(folder, backbone, output=None):
    """Bytes of each file's vectors, all outputs."""
    with open_features(feature_path(folder, backbone)) as features:
        outputs = [features.read(name) for name in features.outputs]
        return {
            name: b"".join(rows[i].tobytes() for rows in outputs)
            for i, name in enumerate(features.image_id.tolist())
        }


def assert_shared(folder, backbones):
    for backbone in backbones:
        found = vectors(folder, backbone.id)
        for i, first in EQUAL.items():
            assert found[f"{i:02d}.png"] == found[f"{first:02d}.png"]
        n_good = N_FILES - len(EQUAL) - len(BROKEN)
        assert len(set(found.values())) == n_good + 1, "no others: the broken ones are NaN"


def test_equal_files_share_every_output_of_every_backbone(tmp_path, images, backbones, monkeypatch):
    outcomes = embed_images(table_of(images), backbones, tmp_path / "f", OPTIONS)
    assert [(o.n_images, o.n_failed) for o in outcomes] == [(N_FILES, len(BROKEN))] * 2
    assert_shared(tmp_path / "f", backbones)
    assert all(v.is_intact for v in verify_folder(tmp_path / "f"))
    # The test of this test: without the rule the vectors are as the batches gave them.
    merge = store.run.merge_parts
    monkeypatch.setattr(store.run, "merge_parts", lambda plan, *_: merge(plan))
    embed_images(table_of(images), backbones, tmp_path / "g", OPTIONS)
    plain = vectors(tmp_path / "g", "demo_clip")
    assert plain["06.png"] != plain["01.png"] != plain["22.png"]
    assert plain["01.png"] == vectors(tmp_path / "f", "demo_clip")["01.png"], "the first row is not moved"


def test_who_made_which_part_and_kills_do_not_matter(tmp_path, images, backbones):
    """Parts as small as batches, of which the later ones are made before those that lead."""
    whole = embed_images(table_of(images), backbones, tmp_path / "whole", OPTIONS)
    for worker in ((3, 3), (2, 3), (1, 3)):
        options = Options(batch_size=4, n_threads=2, worker=worker)
        last = embed_images(table_of(images), backbones, tmp_path / "workers", options)
    assert [o.digest for o in last] == [o.digest for o in whole]
    assert_shared(tmp_path / "workers", backbones)

    class Killed(BaseException):
        pass

    def killed_after(n_rows):
        seen = 0

        def on_rows(n, n_failed, is_new):
            nonlocal seen
            seen += n if is_new else 0
            if seen >= n_rows:
                raise Killed

        return on_rows

    for n_rows in (9, 5, 1):  # each goes on after the parts of four that the one before has left
        with pytest.raises(Killed):
            embed_images(table_of(images), backbones, tmp_path / "kills", OPTIONS, killed_after(n_rows))
    resumed = embed_images(table_of(images), backbones, tmp_path / "kills", OPTIONS)
    assert [o.digest for o in resumed] == [o.digest for o in whole]


def test_an_update_keeps_bits_and_gives_them_to_new_equals(tmp_path, images, backbones):
    embed_images(table_of(images), backbones, tmp_path / "f", OPTIONS)
    before = {b.id: vectors(tmp_path / "f", b.id) for b in backbones}
    for i in (30, 31, 32):
        paint(images, i)
    (images / "00.png").write_bytes((images / "22.png").read_bytes())  # comes before the row that leads
    (images / "40.png").write_bytes((images / "30.png").read_bytes())
    (images / "41.png").write_bytes((images / "11.png").read_bytes())
    (images / "20.png").write_bytes((images / "17.png").read_bytes())
    update_images(table_of(images), backbones, tmp_path / "f", OPTIONS)
    for backbone in backbones:
        after = vectors(tmp_path / "f", backbone.id)
        changed = {"00.png", "20.png"}
        assert all(after[name] == bits for name, bits in before[backbone.id].items() if name not in changed)
        assert after["00.png"] == after["01.png"] == after["22.png"]
        assert after["40.png"] == after["30.png"] and after["41.png"] == after["11.png"]
        assert after["20.png"] == after["04.png"]
        assert len({after[f"{i}.png"] for i in (30, 31, 32)}) == 3


def test_an_update_gives_the_old_vector_to_a_file_that_became_equal_meanwhile(
    tmp_path, images, backbones, monkeypatch
):
    """Its content was not yet there when old rows were looked up."""
    embed_images(table_of(images), backbones[:1], tmp_path / "f", OPTIONS)
    before = vectors(tmp_path / "f", "demo_clip")
    for i in (50, 51):
        paint(images, i)
    look_up = embed.images.changes.Changes.rows_by_content

    def and_then_it_changes(self, *arguments):
        found = look_up(self, *arguments)
        (images / "51.png").write_bytes((images / "09.png").read_bytes())
        return found

    monkeypatch.setattr(embed.images.changes.Changes, "rows_by_content", and_then_it_changes)
    outcome = update_images(table_of(images), backbones[:1], tmp_path / "f", OPTIONS)[0]
    after = vectors(tmp_path / "f", "demo_clip")
    assert after["51.png"] == before["01.png"] and after["50.png"] not in before.values()
    assert outcome.n_failed == len(BROKEN)


def test_equal_texts_share_one_vector(tmp_path, monkeypatch):
    backbone = load_backbone("demo_clip")
    monkeypatch.setattr(backbone, "encode_texts", moved_by_place(backbone.encode_texts))
    monkeypatch.setattr("embed.prompts.text.TEXT_BATCH", 2)
    contents = ("crane", "dog", "old house by the sea", "yawl", "castle")
    labels = (Label("great", 1), Label("ugly", -1))
    table = expand(PromptSet("things", labels, ("a {label} picture, of a #{content}",), contents))
    text = [table.text[0 if i == 3 else 5 if i == 8 else i] for i in range(10)]
    table = replace(table, text=type(table.text)(text))
    embed_prompts("things", table, backbone, tmp_path / "p.h5")
    with open_prompts(tmp_path / "p.h5") as prompts:
        found = [row.tobytes() for row in prompts.read()]
        assert prompts.text[0] == prompts.text[3] and prompts.text[5] == prompts.text[8]
        assert found[0] == found[3] and found[5] == found[8]
        assert len(set(found)) == 8
