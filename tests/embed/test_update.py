"""Photographs that come, go or change: rows of the others are kept to the bit, and none is served wrongly."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

import embed.update
from embed.backbones.spec import ENGINES
from embed.images.changes import ChangedImagesError
from embed.images.datasets import ImageTable
from embed.images.decode import ImageError
from embed.pipeline import Options, embed_images, feature_path
from embed.update import update_images
from store import BusyError, IdentityError, open_features, verify_folder
from store.digests import BLOCK_ROWS
from store.sealed import write_sealed
from tests.engines import load_on

OPTIONS = Options(batch_size=16, n_threads=2)
CHECKED = Options(batch_size=16, n_threads=2, check_content=True)
OLD = 1_000_000_000_000_000_000


@pytest.fixture(scope="module", params=ENGINES)
def backbones(request):
    return load_on(request.param, "demo_clip", "demo_vit")


class Library:
    """A folder of small pictures, and its feature files."""

    def __init__(self, root):
        self.images, self.features = root / "i", root / "f"
        self.images.mkdir()

    def paint(self, *names, seed=0):
        for name in names:
            rng = np.random.default_rng([seed, *name.encode()])
            coarse = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
            path = self.images / name
            Image.fromarray(coarse).resize((80, 60), Image.Resampling.BICUBIC).save(path)
            os.utime(path, ns=(OLD, OLD))

    @property
    def table(self):
        names = np.array(sorted(path.name for path in self.images.iterdir()), dtype=str)
        return ImageTable("t", self.images, names, names)

    def update(self, backbones, options=OPTIONS, **more):
        return update_images(self.table, backbones, self.features, options, **more)

    def rows(self, backbone="demo_clip", output="embedding", folder=None):
        with open_features(feature_path(folder or self.features, backbone)) as features:
            return dict(zip(features.image_id.tolist(), features.read(output), strict=True))

    def check(self, backbones, tmp_path):
        """Every row equals that of a run from nothing, to what another batch may change."""
        fresh = tmp_path / "fresh"
        embed_images(self.table, backbones, fresh, Options(batch_size=16, n_threads=2, overwrite=True))
        for name, output in (("demo_clip", "embedding"), ("demo_vit", "pre_logits")):
            got, expected = self.rows(name, output), self.rows(name, output, fresh)
            assert list(got) == list(expected)
            for image_id, vector in expected.items():
                np.testing.assert_allclose(got[image_id], vector, rtol=1e-4, atol=2e-5)
        assert all(v.is_intact for v in verify_folder(self.features))
        assert not (self.features / "update").exists()


@pytest.fixture
def library(tmp_path, backbones):
    made = Library(tmp_path)
    made.paint(*[f"{i:02d}.png" for i in range(10, 30)])
    embed_images(made.table, backbones, made.features, OPTIONS)
    return made


def test_added_removed_and_replaced_photographs(library, backbones, tmp_path):
    before = library.rows()
    library.paint("05.png", "145.png", "99.png")
    library.paint("20.png", seed=1)
    os.utime(library.images / "20.png")
    (library.images / "13.png").unlink()
    calls = []
    outcomes = library.update(backbones, on_rows=lambda *call: calls.append(call))
    assert [(o.n_images, o.n_failed, o.n_new) for o in outcomes] == [(22, 0, 4)] * 2
    assert calls[0] == (18, 0, False) and sum(n for n, _, is_new in calls if is_new) == 4
    after = library.rows()
    kept = set(before) - {"13.png", "20.png"}
    assert all(before[name].tobytes() == after[name].tobytes() for name in kept)
    assert not np.allclose(before["20.png"], after["20.png"], atol=1e-3)
    library.check(backbones, tmp_path)
    assert [o.n_new for o in embed_images(library.table, backbones, library.features, OPTIONS)] == [0, 0]


def test_what_was_kept_is_recorded_and_does_not_grow(library, backbones):
    path = feature_path(library.features, "demo_clip")
    digests, lengths = [], []
    for name, batch_size in (("40.png", 16), ("41.png", 16), ("42.png", 8), ("43.png", 16), ("44.png", 16)):
        with open_features(path) as features:
            digests.append(features.digest)
        library.paint(name)
        library.update(backbones[:1], Options(batch_size=batch_size, n_threads=2))
        with open_features(path) as features:
            updates = features.provenance["updates"]
        lengths.append(len(str(updates)))
        assert (updates["n_updates"], updates["from"]) == (len(digests), digests[-1])
        assert (updates["n_kept"], updates["n_new"]) == (19 + len(digests), 1)
        others = {16: [8], 8: [16]}[batch_size] if name > "41.png" else []
        assert [made["batch_size"] for made in updates["earlier_rows_made_with"]] == others
    assert lengths[0] == lengths[1] and lengths[3] == lengths[4]


@pytest.mark.parametrize("name", ["10.png", "29.png"])
def test_only_removed_photographs_need_no_forward_pass(library, backbones, monkeypatch, name):
    before = library.rows()
    (library.images / name).unlink()
    with monkeypatch.context() as patched:
        patched.setattr(embed.update, "embed_images", None)
        assert [(o.n_images, o.n_new) for o in library.update(backbones)] == [(19, 0)] * 2
    after = library.rows()
    assert list(after) == [kept for kept in before if kept != name]
    assert all(before[kept].tobytes() == vector.tobytes() for kept, vector in after.items())


def test_nothing_changed_leaves_the_file_alone(library, backbones):
    path = feature_path(library.features, "demo_clip")
    before = path.read_bytes()
    assert [o.n_new for o in library.update(backbones)] == [0, 0]
    assert path.read_bytes() == before


def test_failed_rows_are_tried_again(library, backbones, tmp_path):
    (library.images / "22.png").write_bytes(b"<html>")
    assert [(o.n_failed, o.n_new) for o in library.update(backbones)] == [(1, 1)] * 2
    path = feature_path(library.features, "demo_clip")
    before = path.read_bytes()
    assert [(o.n_failed, o.n_new) for o in library.update(backbones)] == [(1, 0)] * 2
    assert path.read_bytes() == before
    with open_features(path) as features:
        assert list(features.failures) == [12] and np.isnan(features.read("embedding")[12]).all()
    library.paint("22.png", seed=3)
    assert [(o.n_failed, o.n_new) for o in library.update(backbones)] == [(0, 1)] * 2
    library.check(backbones, tmp_path)


def exchange(library, contents, times=OLD):
    """Two pictures of one size change places, their times as before."""
    for name, content in zip(("15.png", "16.png"), contents, strict=True):
        (library.images / name).write_bytes(content)
        os.utime(library.images / name, ns=(times, times))


@pytest.fixture
def two(library):
    """Contents of equal size, of which the library holds the second at first (a PNG may have a tail)."""
    one, other = ((library.images / name).read_bytes() for name in ("15.png", "16.png"))
    size = max(len(one), len(other)) + 1
    contents = [one.ljust(size, b"\0"), other.ljust(size, b"\0")]
    exchange(library, contents)
    return contents


@pytest.mark.parametrize("how", ["time", "no note", "content"])
def test_pictures_that_change_places_take_their_rows_along(library, two, backbones, tmp_path, how):
    library.update(backbones)
    before = library.rows()
    exchange(library, two[::-1], OLD + (how == "time"))
    options = Options(batch_size=16, n_threads=2, check_content=how == "content")
    if how == "no note":
        for path in library.features.glob("*.seen"):
            path.unlink()
    elif how == "content":
        library.update(backbones)
        assert library.rows()["15.png"].tobytes() == before["15.png"].tobytes()  # as documented
    assert [o.n_new for o in library.update(backbones, options)] == [0, 0]
    after = library.rows()
    assert after["15.png"].tobytes() == before["16.png"].tobytes()
    assert after["16.png"].tobytes() == before["15.png"].tobytes()
    library.check(backbones, tmp_path)


def test_renamed_photographs_keep_their_rows(library, backbones, tmp_path, monkeypatch):
    before = library.rows()
    (library.images / "28.png").write_bytes(b"<html>")
    library.update(backbones)
    for i in range(10, 30):
        (library.images / f"{i}.png").rename(library.images / f"{60 - i}.png")
    library.paint("70.png")
    assert [(o.n_failed, o.n_new) for o in library.update(backbones)] == [(1, 2)] * 2
    after = library.rows()
    for i in set(range(10, 30)) - {28}:
        assert after[f"{60 - i}.png"].tobytes() == before[f"{i}.png"].tobytes()
    library.check(backbones, tmp_path)


@pytest.mark.parametrize(
    ("place", "call"), [("_join", 1), ("_join", 2), ("write_joined", 1), ("write_joined", 2), ("_tidy", 1)]
)
def test_stopped_anywhere_and_run_again_it_ends_as_if_it_never_had_been(
    library, backbones, tmp_path, monkeypatch, place, call
):
    (tmp_path / "w").mkdir()
    whole = Library(tmp_path / "w")
    whole.paint(*[f"{i:02d}.png" for i in range(10, 30)])
    embed_images(whole.table, backbones, whole.features, OPTIONS)
    for each in (library, whole):
        each.paint("05.png", "50.png")
    whole.update(backbones)
    real, n_calls = getattr(embed.update, place), 0

    def stop(*arguments):
        nonlocal n_calls
        n_calls += 1
        if n_calls == call:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(embed.update, place, stop)
        with pytest.raises(KeyboardInterrupt):
            library.update(backbones)
    library.update(backbones)
    for backbone in backbones:
        name = f"{backbone.id}.h5"
        assert (library.features / name).read_bytes() == (whole.features / name).read_bytes()
    assert not (library.features / "update").exists()


def test_a_run_over_other_photographs_that_was_stopped_is_discarded(
    library, backbones, tmp_path, monkeypatch
):
    library.paint("05.png", "50.png")
    with monkeypatch.context() as patched:
        patched.setattr(embed.update, "_join", None)
        with pytest.raises(TypeError):
            library.update(backbones)
    library.paint("51.png")
    (library.images / "05.png").unlink()
    assert [o.n_new for o in library.update(backbones)] == [2, 2]
    library.check(backbones, tmp_path)


def test_rows_cross_the_bounds_of_blocks(tmp_path, backbones):
    """More than a block, every image from far away in the old file."""
    library = Library(tmp_path)
    library.paint(*[f"{i:02d}.png" for i in range(10)])
    n = BLOCK_ROWS + 60

    def table(ids):
        paths = np.array([f"{0 if i < n else 9}{int(i) % 10}.png" for i in ids])
        return ImageTable("t", library.images, np.array([f"{int(i):06d}" for i in ids]), paths)

    embed_images(table(range(n)), backbones[1:], library.features, OPTIONS)
    library.paint(*[f"9{i}.png" for i in range(10)])
    shuffled = np.random.default_rng(0).permutation(n + 30)[: n + 10]
    (outcome,) = update_images(table(shuffled), backbones[1:], library.features, OPTIONS)
    assert outcome.n_new == (shuffled >= n).sum() > 0
    got = library.rows("demo_vit", "pre_logits")
    assert list(got) == [f"{i:06d}" for i in shuffled]
    with open_features(outcome.path) as features:
        assert features.ok.all()
    vectors = np.array(list(got.values()))
    picture = shuffled % 10 + 10 * (shuffled >= n)
    pictures = np.array([vectors[np.flatnonzero(picture == k)[0]] for k in range(20)])
    assert np.abs(pictures[1:] - pictures[:-1]).max(axis=1).min() > 1e-2
    np.testing.assert_allclose(vectors, pictures[picture], rtol=1e-4, atol=2e-5)


def test_another_combination_is_refused(library, backbones):
    library.paint("50.png")
    with pytest.raises(IdentityError, match=r"preprocessing.exif_rotate: the file has False"):
        library.update(backbones, Options(batch_size=16, n_threads=2, exif_rotate=True))


def test_a_backbone_without_a_file_is_embedded_whole(library, backbones, tmp_path):
    feature_path(library.features, "demo_vit").unlink()
    library.paint("50.png")
    outcomes = library.update(backbones)
    assert [(o.backbone, o.n_new) for o in outcomes] == [("demo_clip", 1), ("demo_vit", 21)]
    library.check(backbones, tmp_path)


def test_a_picture_that_cannot_be_read_now_keeps_its_row(library, backbones, tmp_path, caplog):
    """A disk that is away: links lead nowhere; new ones are failed rows, old ones stay."""
    before = library.rows()
    away = tmp_path / "away"
    away.mkdir()
    library.paint("50.png")
    for name in ("11.png", "12.png", "50.png"):
        (library.images / name).rename(away / name)
        (library.images / name).symlink_to(away / name)
    away.rename(tmp_path / "gone")
    assert [(o.n_failed, o.n_new) for o in library.update(backbones)] == [(1, 1)] * 2
    assert "2 images cannot be read now and keep their rows, the first 11.png" in caplog.text
    after = library.rows()
    assert all(after[name].tobytes() == row.tobytes() for name, row in before.items())
    (tmp_path / "gone").rename(away)
    library.paint("12.png", seed=7)
    assert [(o.n_failed, o.n_new) for o in library.update(backbones)] == [(0, 2)] * 2
    library.check(backbones, tmp_path)


def give_equal_sizes(library, backbones):
    for path in library.images.iterdir():
        path.write_bytes(path.read_bytes().ljust(20_000, b"\0"))  # a PNG may have a tail
        os.utime(path, ns=(OLD, OLD))
    library.update(backbones, CHECKED)
    assert {path.stat().st_size for path in library.images.iterdir()} == {20_000}


def dangling(library, name, tmp_path):
    """Move a picture's bytes away and leave a link; returns where they would be."""
    target = tmp_path / f"away-{name}"
    (library.images / name).rename(target)
    (library.images / name).symlink_to(target)
    target.rename(tmp_path / f"gone-{name}")
    return target


def test_an_id_that_means_another_file_now_keeps_no_row(library, backbones, tmp_path):
    """A table gives ids: what cannot be read need not be the file that the id meant."""
    names = [f"{i}.png" for i in range(10, 20)]
    ids = np.array([f"n{i}" for i in range(10)])

    def table(names):
        return ImageTable("t", library.images, ids, np.array(names))

    folder = tmp_path / "g"
    embed_images(table(names), backbones[1:], folder, OPTIONS)
    dangling(library, "25.png", tmp_path)
    dangling(library, "11.png", tmp_path)
    (outcome,) = update_images(table(names), backbones[1:], folder, OPTIONS)
    assert outcome.n_failed == 0  # the same list: 11.png is what n1 was made from
    (outcome,) = update_images(table([*names[:9], "25.png"]), backbones[1:], folder, OPTIONS)
    with open_features(outcome.path) as features:
        assert set(features.failures) == {1, 9}
        assert "cannot read" in features.failures[9]


@pytest.mark.parametrize("replaced", [True, False])
def test_a_row_that_was_kept_unseen_is_looked_at_when_its_file_is_back(
    library, backbones, tmp_path, replaced
):
    """Of equal size and time, after other photographs have come and gone, so that the rows have moved."""
    give_equal_sizes(library, backbones)
    content = (library.images / "13.png").read_bytes()
    target = dangling(library, "12.png", tmp_path)
    (library.images / "10.png").unlink()
    library.paint("50.png")
    assert [o.n_new for o in library.update(backbones)] == [1, 1]
    target.write_bytes(content if replaced else (tmp_path / "gone-12.png").read_bytes())
    os.utime(target, ns=(OLD, OLD))
    if not replaced:
        outcomes = embed_images(library.table, backbones, library.features, OPTIONS)
        assert [o.n_new for o in outcomes] == [0, 0]
        return
    with pytest.raises(ChangedImagesError, match="12.png"):
        embed_images(library.table, backbones, library.features, OPTIONS)
    library.update(backbones)
    library.check(backbones, tmp_path)


def test_a_row_that_was_kept_unread_is_not_noted_as_seen(library, backbones, tmp_path):
    """Its file is there and cannot be read: another one of equal size and time may be it."""
    give_equal_sizes(library, backbones)
    path = library.images / "12.png"
    path.write_bytes((library.images / "13.png").read_bytes())
    os.utime(path, ns=(OLD + 1, OLD + 1))

    def fail(file):
        raise ImageError("cannot read: bad sector")

    with pytest.MonkeyPatch.context() as patched:
        for place in ("embed.images.changes.read_bytes", "embed.reading.read_bytes"):
            patched.setattr(place, fail)
        assert [(o.n_failed, o.n_new) for o in library.update(backbones)] == [(0, 0)] * 2
    with pytest.raises(ChangedImagesError, match="12.png"):
        embed_images(library.table, backbones, library.features, OPTIONS)
    library.update(backbones)
    library.check(backbones, tmp_path)


def test_another_bad_file_with_the_same_reason_is_noted(library, backbones):
    (library.images / "22.png").write_bytes(b"<html> same start, 1")
    library.update(backbones)
    (library.images / "22.png").write_bytes(b"<html> same start, 22")
    with open_features(feature_path(library.features, "demo_clip")) as features:
        reason = features.failures[12]
    library.update(backbones)
    with open_features(feature_path(library.features, "demo_clip")) as features:
        assert features.failures == {12: reason} and features.file.view("source_size")[12] == 21
    assert [o.n_new for o in embed_images(library.table, backbones, library.features, OPTIONS)] == [0, 0]


def test_overwrite_makes_the_bytes_of_a_run_from_nothing(library, backbones, tmp_path):
    library.paint("05.png")
    library.update(backbones)
    anew = Options(batch_size=16, n_threads=2, overwrite=True)
    embed_images(library.table, backbones, tmp_path / "fresh", OPTIONS)
    path, fresh = (feature_path(folder, "demo_clip") for folder in (library.features, tmp_path / "fresh"))
    assert path.read_bytes() != fresh.read_bytes()
    embed_images(library.table, backbones, library.features, anew)
    assert path.read_bytes() == fresh.read_bytes()
    assert [o.n_new for o in embed_images(library.table, backbones, library.features, anew)] == [0, 0]


def test_sizes_that_are_not_told_are_no_reason_to_embed_again(library, backbones, monkeypatch):
    monkeypatch.setattr("embed.images.changes._size_and_time", lambda path: (-1, 0))
    library.paint("50.png")
    assert [o.n_new for o in library.update(backbones)] == [1, 1]


def test_an_unfinished_run_over_photographs_that_are_gone_is_discarded(library, backbones, monkeypatch):
    library.paint("50.png")
    with monkeypatch.context() as patched:
        patched.setattr("store.run.merge_parts", None)
        with pytest.raises(TypeError):
            anew = Options(batch_size=16, n_threads=2, overwrite=True)
            embed_images(library.table, backbones, library.features, anew)
    assert len(list(library.features.glob("*.parts"))) == 2
    (library.images / "50.png").unlink()
    library.paint("51.png")
    library.update(backbones)
    assert not list(library.features.glob("*.parts"))


def test_a_file_without_hashes_says_so(library, backbones):
    path = feature_path(library.features, "demo_clip")
    with open_features(path) as features:
        file = features.file
        arrays = {n: file.view(n) for n in file.arrays if not n.startswith("source_")}
        arrays |= {n: file.strings(n) for n in ("image_id", "failures/reason")}
        write_sealed(path, file.schema, file.identity, file.provenance, arrays)
    with pytest.raises(IdentityError, match="no hashes of its images"):
        library.update(backbones)


def test_two_updates_do_not_meet(library, backbones):
    library.paint("50.png")

    def another(*_):
        with pytest.raises(BusyError, match="another run is writing"):
            library.update(backbones)

    library.update(backbones, on_rows=another)


def test_readers_beside_updates_see_one_file_or_the_next_and_never_a_mixture(library, backbones):
    """What is open stays as it was; what is opened again is complete; a row is never another photograph's."""
    path = feature_path(library.features, "demo_vit")
    true, seen, is_over = {}, set(), threading.Event()

    def note():
        with open_features(path) as features:
            true[features.digest] = (features.image_id.tolist(), features.read("pre_logits"))

    def read():
        n_read = 0
        while not is_over.is_set() or not n_read:
            with open_features(path) as features:
                found = (features.digest, features.image_id.tolist(), features.read("pre_logits"))
                time.sleep(0.002)
                again = features.read("pre_logits")
            assert again.tobytes() == found[2].tobytes()
            seen.add(found[0])
            reads.append(found)
            n_read += 1

    reads: list = []
    note()
    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            for number in range(4):
                library.paint(f"5{number}.png")
                (library.images / f"1{number}.png").unlink()
                library.update(backbones[1:])
                note()
        finally:
            is_over.set()
        for reader in readers:
            reader.result()
    assert len(true) == 5 and len(seen) >= 2
    for digest, image_id, vectors in reads:
        expected = true[digest]
        assert image_id == expected[0] and vectors.tobytes() == expected[1].tobytes()


@pytest.mark.parametrize("made", [OLD - 10**9, OLD + 10**9])
def test_photographs_are_compared_with_their_own_time_and_not_with_the_clock(library, backbones, made):
    """A clock that is set back, or a copy with the time of the original: earlier is as different as later."""
    before = library.rows()
    library.paint("20.png", seed=1)
    os.utime(library.images / "20.png", ns=(made, made))
    assert [o.n_new for o in library.update(backbones)] == [1, 1]
    assert not np.allclose(before["20.png"], library.rows()["20.png"], atol=1e-3)


def test_a_run_without_it_names_it(library, backbones):
    library.paint("50.png")
    with pytest.raises(IdentityError) as told:
        embed_images(library.table, backbones, library.features, OPTIONS)
    assert "iaa embed --update" in told.value.__notes__[0]
    with pytest.raises(IdentityError) as told:
        other = Options(batch_size=16, n_threads=2, exif_rotate=True)
        embed_images(library.table, backbones, library.features, other)
    assert not getattr(told.value, "__notes__", [])
