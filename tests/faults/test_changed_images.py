"""An image replaced by another of the same name is found on resume, and no row of another image is served."""

import hashlib
import os

import numpy as np
import pytest
from PIL import Image

import embed.images.changes
from embed.backbones.loading import load_backbone
from embed.images.changes import ChangedImagesError, Changes
from embed.images.datasets import ImageTable
from embed.images.decode import ImageError
from embed.pipeline import Options, embed_images, feature_path, feature_plan, parts_to_make
from store import open_features
from store.digests import BLOCK_ROWS
from store.parts import begin, write_part

OLD = 1_000_000_000_000_000_000


class Run:
    """A data set of small pictures of four kinds, and runs on it."""

    def __init__(self, root, n_images, backbone):
        self.root, self.backbone, self.n_images = root, backbone, n_images
        self.final = feature_path(root / "f", backbone.id)
        (root / "i").mkdir()
        names = np.array([f"{row}.bmp" for row in range(n_images)])
        self.table = ImageTable("t", root / "i", names, names)
        for row in range(n_images):
            self.paint(row, row % 4)
            os.utime(self.table.absolute(row), ns=(OLD, OLD))

    def paint(self, row, kind):
        """Another picture of exactly as many bytes under the same name."""
        Image.new("RGB", (20, 16), (60 * kind, 90, 255 - 60 * kind)).save(self.table.absolute(row))

    def go_on(self, **options):
        chosen = Options(batch_size=512, n_threads=2, **options)
        return embed_images(self.table, [self.backbone], self.root / "f", chosen)[0]

    def vectors(self):
        with open_features(self.final) as features:
            return features.read(min(features.outputs))


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("demo_vit")


@pytest.fixture
def run(tmp_path, backbone):
    finished = Run(tmp_path, 12, backbone)
    assert finished.go_on().n_new == 12
    return finished


def stop_before_the_merge(run, monkeypatch, **options):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("store.run.merge_parts", stop)
        with pytest.raises(KeyboardInterrupt):
            run.go_on(**options)


def test_a_replaced_image_is_embedded_again_on_resume(tmp_path, backbone, caplog, monkeypatch):
    run = Run(tmp_path, 12, backbone)
    stop_before_the_merge(run, monkeypatch)
    run.paint(5, kind=3)
    assert run.go_on().n_new == 12
    assert "1 images changed since they were embedded, the first row 5" in caplog.text
    vectors = run.vectors()
    np.testing.assert_allclose(vectors[5], vectors[7], rtol=1e-4, atol=1e-5)
    assert not np.allclose(vectors[5], vectors[9])


def test_nothing_is_repeated_where_nothing_changed(tmp_path, backbone, monkeypatch):
    run = Run(tmp_path, 12, backbone)
    stop_before_the_merge(run, monkeypatch)
    assert run.go_on().n_new == 0


def test_only_the_part_of_a_changed_image_is_stale(tmp_path, backbone):
    run = Run(tmp_path, BLOCK_ROWS + 8, backbone)
    options = Options(batch_size=512, n_threads=2)
    plan = feature_plan(run.table, backbone, run.final, options)
    begin(plan)
    for index, (start, stop) in enumerate(plan.parts):
        images = [run.table.absolute(row).read_bytes() for row in range(start, stop)]
        digests = np.frombuffer(b"".join(hashlib.sha256(i).digest() for i in images), np.uint8).reshape(
            -1, 32
        )
        sizes = np.array([len(i) for i in images])
        write_part(plan, index, {"source_size": sizes, "source_sha256": digests})
    Changes(run.table).note(plan.begun_seen_path, range(run.n_images))
    assert len(plan.parts) == 5
    assert parts_to_make(plan, range(5), Changes(run.table)) == []
    run.paint(BLOCK_ROWS + 1, kind=3)
    assert parts_to_make(plan, range(5), Changes(run.table)) == [4]


def test_a_finished_file_is_not_said_to_be_finished_for_other_images(run):
    run.paint(10, kind=3)
    with pytest.raises(ChangedImagesError, match=r"1 images are other .* '10.bmp' \(row 10\).*--overwrite"):
        run.go_on()
    assert run.go_on(overwrite=True).n_new == 12
    assert run.go_on().n_new == 0
    assert np.allclose(run.vectors()[10], run.vectors()[11], rtol=1e-4, atol=1e-5)


def test_content_is_compared_when_asked_or_when_size_or_time_differ(run):
    run.paint(9, kind=3)
    os.utime(run.table.absolute(9), ns=(OLD, OLD))
    assert run.go_on().n_new == 0  # same size, same time: taken as unchanged, as documented
    with pytest.raises(ChangedImagesError, match="row 9"):
        run.go_on(check_content=True)


def test_touched_images_are_hashed_once_and_are_the_same(run, monkeypatch):
    for row in range(8):
        os.utime(run.table.absolute(row))
    assert run.go_on().n_new == 0
    monkeypatch.setattr(embed.images.changes, "read_bytes", None)  # the second time nothing is read
    assert run.go_on().n_new == 0
    run.final.with_name(run.final.name + ".seen").unlink()
    assert run.go_on().n_new == 0


def test_an_image_that_cannot_be_read_now_has_not_changed(run, monkeypatch):
    os.utime(run.table.absolute(4))

    def fail(*_):
        raise ImageError("cannot read")

    monkeypatch.setattr(embed.images.changes, "read_bytes", fail)
    assert run.go_on().n_new == 0


def test_an_image_that_the_note_leaves_out_is_hashed(run):
    run.paint(6, kind=3)
    os.utime(run.table.absolute(6), ns=(OLD, OLD))
    note = run.final.with_name(run.final.name + ".seen")
    seen = np.fromfile(note, np.int64).reshape(-1, 2)
    assert run.go_on().n_new == 0  # size and time are as noted
    seen[6] = 0
    seen.tofile(note)
    with pytest.raises(ChangedImagesError, match="row 6"):
        run.go_on()


def test_contents_are_compared_where_sizes_are_not_told(run, monkeypatch):
    run.paint(6, kind=3)
    monkeypatch.setattr(embed.images.changes, "_size_and_time", lambda path: (-1, 0))
    assert run.go_on().n_new == 0
    with pytest.raises(ChangedImagesError, match="row 6"):
        run.go_on(check_content=True)


def test_without_the_note_another_size_is_found(run):
    run.final.with_name(run.final.name + ".seen").write_bytes(b"torn")
    with run.table.absolute(2).open("ab") as file:
        file.write(b"more")
    with pytest.raises(ChangedImagesError, match="row 2"):
        run.go_on()


def test_an_image_that_is_gone_has_not_changed_and_one_that_came_back_has(tmp_path, backbone):
    run = Run(tmp_path, 12, backbone)
    run.table.absolute(6).rename(tmp_path / "away")
    assert run.go_on().n_failed == 1
    run.table.absolute(3).unlink()
    assert run.go_on().n_new == 0
    (tmp_path / "away").rename(run.table.absolute(6))
    with pytest.raises(ChangedImagesError, match="row 6"):
        run.go_on()


def test_overwriting_changed_images_is_gone_on_with_when_it_was_stopped(run, monkeypatch):
    run.paint(5, kind=3)

    stop_before_the_merge(run, monkeypatch, overwrite=True)
    assert run.go_on().n_new == 0  # nothing is left but the merge
    assert np.allclose(run.vectors()[5], run.vectors()[7], rtol=1e-4, atol=1e-5)
