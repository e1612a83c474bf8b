"""Groups of photographs whose moments, exposures and contents were planted in their files."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

import iaa
from analysis.grouping.groups import Shots
from iaa.library.capture import Capture
from iaa.library.groups import group_photographs
from iaa.library.opening import open_photographs
from iaa.library.progress import show_progress
from store import MissingFileError

rng = np.random.default_rng(11)
WIDE = np.kron(rng.integers(0, 256, (30, 160, 3)), np.ones((8, 8, 1))).astype(np.uint8)
OTHER = np.kron(rng.integers(0, 256, (30, 40, 3)), np.ones((8, 8, 1))).astype(np.uint8)

#: File: (pixels, second, fraction, bias, angle of its planted vector).
PLANTED = {
    "burst1.jpg": (OTHER, "10:00:00", "1", 0.0, 0),
    "burst2.jpg": (OTHER + 1, "10:00:00", "4", 0.0, 3),
    "burst3.jpg": (OTHER + 2, "10:00:00", "7", 0.0, 6),
    "dark.jpg": (OTHER // 2, "11:00:01", "", -2.0, 60),
    "middle.jpg": (OTHER, "11:00:00", "", 0.0, 62),
    "light.jpg": (OTHER // 2 + 120, "11:00:02", "", 2.0, 64),
    "pan1.jpg": (WIDE[:, :400], "12:00:00", "", 0.0, 110),
    "pan2.jpg": (WIDE[:, 250:650], "12:00:03", "", 0.0, 150),
    "pan3.jpg": (WIDE[:, 500:900], "12:00:06", "", 0.0, 190),
    "alone.jpg": (WIDE[:, 800:1200], "13:00:00", "", 0.0, 260),
}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A folder of photographs with EXIF, a data set of them, embedded, and vectors that are known."""
    folder = tmp_path_factory.mktemp("groups")
    photos = folder / "photos"
    photos.mkdir()
    for name, (pixels, clock, fraction, bias, _) in PLANTED.items():
        made = Image.Exif()
        made.get_ifd(0x8769).update({0x9003: f"2020:02:03 {clock}", 0x9291: fraction, 0x9204: bias})
        Image.fromarray(pixels.astype(np.uint8)).save(photos / name, "JPEG", quality=92, exif=made)
    (photos / "again.jpg").write_bytes((photos / "burst1.jpg").read_bytes())
    (photos / "twin.jpg").write_bytes((photos / "alone.jpg").read_bytes())
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff no photograph")
    dataset = iaa.add_dataset("planted", "folder", photos, data=folder / "data")
    dataset.embed("demo_vit", max_failed_share=0.5)
    angle = {name: row[-1] for name, row in PLANTED.items()}
    angle |= {"again.jpg": angle["burst1.jpg"], "twin.jpg": angle["alone.jpg"], "broken.jpg": np.nan}
    radians = np.radians([angle[name] for name in dataset.targets.image_id.tolist()])
    vectors = np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)
    return dataset, vectors


def members(found):
    """(kind, files in order) of each group."""
    return {(rows[0]["kind"], tuple(row["file"] for row in rows)) for rows in by_group(found).values()}


def by_group(found):
    groups = {}
    for row in found.rows():
        groups.setdefault(row["group"], []).append(row)
    return groups


def test_groups_from_headers_and_thumbnails(planted):
    dataset, vectors = planted
    found = group_photographs(dataset.layout, vectors=vectors, threshold=0.99)
    kinds = {kind: set(files) for kind, files in members(found)}
    assert kinds == {
        "burst": {"again.jpg", "burst1.jpg", "burst2.jpg", "burst3.jpg"},
        "bracket": {"dark.jpg", "middle.jpg", "light.jpg"},
        "panorama": {"pan1.jpg", "pan2.jpg", "pan3.jpg"},
        "copies": {"alone.jpg", "twin.jpg"},
    }
    assert found.counts == {"copies": 1, "burst": 1, "bracket": 1, "panorama": 1}
    ordered = dict(members(found))
    assert ordered["bracket"] == ("middle.jpg", "dark.jpg", "light.jpg")
    assert ordered["panorama"] == ("pan1.jpg", "pan2.jpg", "pan3.jpg")
    frame = found.to_frame()
    assert frame.loc[frame["kind"] == "burst", "order"].tolist() == [1, 2, 3, 4]
    assert frame.loc[frame["kind"] != "burst", "order"].isna().all()
    burst = frame[frame["kind"] == "burst"]
    assert burst["sharpness"].is_monotonic_decreasing
    assert set(burst["taken"]) == {f"2020-02-03 10:00:00.{n}00" for n in (1, 4, 7)}
    again = group_photographs(dataset.layout, vectors=vectors, threshold=0.99)
    assert [g.rows.tolist() for g in again.groups] == [g.rows.tolist() for g in found.groups]


def test_a_head_puts_the_best_first(planted, monkeypatch):
    dataset, vectors = planted
    score = np.arange(len(vectors))[::-1].astype(float)
    monkeypatch.setattr("iaa.library.groups._scores", lambda layout, features, head: score)
    found = group_photographs(dataset.layout, vectors=vectors, threshold=0.99, head="taste")
    for rows in by_group(found).values():
        if rows[0]["kind"] == "burst":
            assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)


def test_what_the_store_of_looks_knows_is_not_read_again(planted, monkeypatch):
    dataset, vectors = planted
    group_photographs(dataset.layout, vectors=vectors, threshold=0.99)
    read = []
    monkeypatch.setattr(Capture, "_header", lambda self, row: read.append(row) or pytest.fail("read"))
    with dataset.features() as features:
        sha256 = features.file.view("source_sha256")
        names = [n for n in features.image_id.tolist() if n.startswith(("burst", "pan"))]
        rows = [features.image_id.tolist().index(name) for name in names]
        photographs = open_photographs(dataset.layout, features.path)
        with Capture(dataset.layout, photographs, names, np.asarray(sha256)[rows]) as capture:
            shots = capture.shots(show_progress)
    assert isinstance(shots, Shots) and np.isfinite(shots.taken).all() and not read


def test_copies_alone_need_no_vectors(planted):
    dataset, _ = planted
    found = dataset.groups(kinds="copies")
    assert members(found) == {
        ("copies", ("again.jpg", "burst1.jpg")),
        ("copies", ("alone.jpg", "twin.jpg")),
    }
    assert found.chosen is None and set(found.columns["order"]) == {None}
    assert all(len(set(row["sha256"] for row in rows)) == 1 for rows in by_group(found).values())


def test_photographs_that_are_gone_cost_what_their_headers_said(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("a.png", "b.png"):
        buffer = io.BytesIO()
        Image.fromarray(WIDE[:80, : 80 + len(name)]).save(buffer, "PNG")
        (photos / name).write_bytes(buffer.getvalue())
    small = iaa.add_dataset("small", "folder", photos, data=tmp_path / "data")
    small.embed("demo_vit")
    (photos / "b.png").write_bytes(b"")
    ones = np.ones((2, 1), np.float32)
    assert len(group_photographs(small.layout, vectors=ones)) == 2


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"kinds": "cows"}, "not cows"),
        ({"kinds": ()}, "groups are of these kinds"),
        ({"threshold": 0}, "cosine from 0.01"),
        ({"threshold": float("nan")}, "cosine from 0.01"),
        ({"threshold": 1.01}, "cosine from 0.01"),
        ({"seconds": -1}, "from 0 seconds"),
        ({"seconds": float("nan")}, "from 0 seconds"),
    ],
)
def test_what_makes_no_sense(planted, how, message):
    with pytest.raises(iaa.UsageError, match=message):
        planted[0].groups(**how)


def test_an_unknown_head_lists_the_known(planted):
    with pytest.raises(MissingFileError, match="there is no head"):
        planted[0].groups(head="nobody")


def test_the_command(planted, invoke, monkeypatch, tmp_path):
    dataset, _ = planted
    root = ["--data", dataset.layout.root, "--dataset", "planted"]
    code, out, err = invoke("groups", *root, "--kind", "copies", "--csv", tmp_path / "copies.csv")
    assert code == 0 and "again.jpg" in out and "2 groups of 4 photographs: copies 2" in err
    with (tmp_path / "copies.csv").open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["file"] for row in rows] == ["again.jpg", "burst1.jpg", "alone.jpg", "twin.jpg"]
    code, out, _ = invoke("groups", *root, "--threshold", "0.999", "--json")
    answer = json.loads(out)
    assert code == 0 and answer["thresholds"]["near"] == 0.999
    assert sum(answer["counts"].values()) == len(answer["groups"])
    assert all(len(group["photographs"]) > 1 for group in answer["groups"])
    code, out, _ = invoke("groups", *root, "--kind", "cows", "--json")
    assert code == 2 and "not cows" in json.loads(out)["error"]["message"]
