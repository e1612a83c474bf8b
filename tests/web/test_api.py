"""The HTTP API on a small library, embedded by a tiny backbone."""

import csv
import hashlib
import io
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from embed.images.thumbnails import laplacian_variance, look_at_bytes
from store import open_features
from store.rows import unit_rows
from tests.web.conftest import FAILED, HOSTILE, jpeg

N = 13


@pytest.fixture(scope="module")
def listed(client):
    return client.get("/api/photographs").json


@pytest.fixture(scope="module")
def vectors(embedded):
    """Unit vectors by file name."""
    with open_features(embedded / "data/mine/features/demo_clip.h5") as features:
        rows = unit_rows(features.read("embedding"))
        return {name: rows[i] for i, name in enumerate(features.image_id.tolist())}


def test_library_says_what_it_is(client):
    library = client.get("/api/library").json
    assert (library["name"], library["title"], library["n"]) == ("mine", "mine", N)
    assert library["words"] and library["why_no_words"] == ""
    about = 'the words "a beautiful picture" against "a ugly picture"'
    assert library["heads"] == [{"name": "beautiful|ugly", "title": "beautiful", "about": about}]
    assert library["default_order"] == "score" and library["default_head"] == "beautiful|ugly"
    assert library["details"]["backbone"] == "demo_clip" and library["details"]["output"] == "embedding"


def test_the_list_has_columns_of_one_length(client, listed, embedded):
    lengths = {name: len(values) for name, values in listed.items() if isinstance(values, list)}
    assert set(lengths.values()) == {N} and len(lengths) == 12
    assert len(set(listed["key"])) == N
    at = {name: row for row, name in enumerate(listed["name"])}
    turned, large, broken = at["turned.jpg"], at["large.jpg"], at[FAILED]
    assert (listed["folder"][turned], listed["ending"][turned]) == ("lake", ".jpg")
    assert (listed["width"][turned], listed["height"][turned]) == (200, 300)  # as it is looked at
    assert (listed["width"][large], listed["height"][large]) == (1600, 1000)
    assert listed["taken"][turned] == 1625307072.0 and listed["taken"][at["img0.jpg"]] is None
    assert listed["state"][broken] == "failed" and "damaged JPEG" in listed["reason"][broken]
    assert listed["state"][turned] == "ok" and listed["reason"][turned] == ""
    assert listed["colour"][turned].startswith("#") and listed["colour"][broken] == ""
    assert client.get("/api/state").json["thumbnails"] == N


def test_thumbnails_are_small_upright_and_may_be_kept_for_good(client, listed, embedded):
    at = {name: row for row, name in enumerate(listed["name"])}
    for name, size in (("turned.jpg", (200, 300)), ("large.jpg", (480, 300))):
        row = at[name]
        answer = client.get(f"/api/photographs/{listed['key'][row]}/thumbnail?v={listed['thumb'][row]}")
        assert (
            answer.headers["content-type"] == "image/jpeg" and "immutable" in answer.headers["cache-control"]
        )
        assert Image.open(io.BytesIO(answer.body)).size == size
    other = client.get(f"/api/photographs/{listed['key'][row]}/thumbnail?v=old")
    assert "immutable" not in other.headers["cache-control"]
    stored = Image.open(embedded / "photographs/lake/turned.jpg").transpose(Image.Transpose.ROTATE_270)
    shown = client.get(f"/api/photographs/{listed['key'][at['turned.jpg']]}/thumbnail").body
    difference = np.abs(np.asarray(stored, float) - np.asarray(Image.open(io.BytesIO(shown)), float))
    assert difference.mean() < 6
    broken = client.get(f"/api/photographs/{listed['key'][at[FAILED]]}/thumbnail")
    assert broken.status == 404 and "damaged" in broken.json["detail"]


def test_sharpness_is_the_variance_of_the_laplacian_at_one_size(listed, embedded):
    at = {name: row for row, name in enumerate(listed["name"])}
    luma = np.asarray(Image.open(embedded / "photographs/img3.jpg").convert("L"), float)
    direct = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * luma[1:-1, 1:-1]
    assert listed["sharpness"][at["img3.jpg"]] == pytest.approx(direct.var(), rel=0.02, abs=0.02)
    # The way by libjpeg-turbo and torch while embedding, and that by Pillow, measure alike.
    data = (embedded / "photographs/large.jpg").read_bytes()
    slow = look_at_bytes(data, is_quick=False)
    assert listed["sharpness"][at["large.jpg"]] == pytest.approx(slow.sharpness, rel=0.1, abs=0.5)
    assert look_at_bytes(data).sharpness is None  # scaled by the decoder
    assert laplacian_variance(np.zeros((2, 9), np.uint8)) is None


def test_pictures_fit_the_screen_or_are_the_file_itself(client, embedded):
    key = client.key("large.jpg")
    small = client.get(f"/api/photographs/{key}/picture?edge=800")
    assert Image.open(io.BytesIO(small.body)).size == (800, 500)
    whole = client.get(f"/api/photographs/{key}/picture?edge=0")
    assert whole.body == (embedded / "photographs/large.jpg").read_bytes()
    again = client.get(f"/api/photographs/{key}/picture?edge=0", If_None_Match=whole.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    turned = client.get(f"/api/photographs/{client.key('turned.jpg')}/picture")
    assert Image.open(io.BytesIO(turned.body)).size == (200, 300)
    assert client.get(f"/api/photographs/{client.key(FAILED)}/picture?edge=800").status == 404


def test_facts(client, listed):
    facts = client.get(f"/api/photographs/{client.key('turned.jpg')}").json
    assert facts["camera"] == "A Camera" and facts["lens"] is None and facts["file"] == "lake/turned.jpg"
    assert facts["taken"] == 1625307072.0 and not facts["changed"] and facts["state"] == "ok"
    first, copy = client.key("img0.jpg"), client.key("copy.jpg")
    assert client.get(f"/api/photographs/{first}").json["exact_copies"] == [copy]
    assert client.get("/api/photographs/AAAAAAAAAAAAAAAA").status == 404


def expected(listed, score):
    """Rows by descending score, those without left out."""
    found = np.array(
        [
            score.get(f"{f}/{n}" if f else n, np.nan)
            for f, n in zip(listed["folder"], listed["name"], strict=True)
        ]
    )
    return [int(row) for row in np.argsort(-found, kind="stable") if np.isfinite(found[row])]


def test_likeness_to_one_of_the_library(client, listed, vectors):
    key = client.key("img3.jpg")
    order = client.get(f"/api/order?by=search&like={key}").json
    cosine = {name: float(v @ vectors["img3.jpg"]) for name, v in vectors.items() if name != "img3.jpg"}
    assert order["rows"] == expected(listed, cosine)
    assert order["score"][0] == pytest.approx(max(c for c in cosine.values() if c == c), abs=1e-5)
    assert order["percentile"][0] in (95, 100) and order["percentile"][-1] == 0  # the best may be two copies
    assert order["score_name"] == "cosine" and order["n_without"] == 1  # the broken one
    assert order["listing"] == listed["listing"]


def test_words_and_pictures_refine_each_other(client, listed, vectors, embedded):
    """The mean of z-scores: made here from the single answers."""
    key = client.key("img2.jpg")
    token = client.post("/api/pictures", jpeg(99)).json["token"]
    single = {}
    for query in ("text=a%20red%20circle", f"picture={token}", f"like={client.key('img5.jpg')}"):
        order = client.get(f"/api/order?by=search&{query}").json
        single[query] = dict(zip(order["rows"], order["score"], strict=True))
    both = client.get(f"/api/order?by=search&text=a%20red%20circle&picture={token}").json
    text, picture = single["text=a%20red%20circle"], single[f"picture={token}"]
    z = {}
    for row in text:
        z[row] = (
            sum((s[row] - np.mean(list(s.values()))) / np.std(list(s.values())) for s in (text, picture)) / 2
        )
    assert both["rows"] == sorted(z, key=z.__getitem__, reverse=True)
    assert both["score_name"] == "likeness"
    assert both["score"] == pytest.approx([z[row] for row in both["rows"]], abs=1e-3)
    with_key = client.get(f"/api/order?by=search&text=a%20red%20circle&like={key}").json
    assert listed["key"].index(key) not in with_key["rows"] and len(with_key["rows"]) == N - 2


def test_a_sent_copy_is_most_like_its_original(client, listed, embedded):
    sent = client.post("/api/pictures", (embedded / "photographs/img4.jpg").read_bytes()).json
    assert (sent["width"], sent["height"]) == (300, 200)
    assert client.get(f"/api/pictures/{sent['token']}").headers["content-type"] == "image/jpeg"
    order = client.get(f"/api/order?by=search&picture={sent['token']}").json
    assert listed["name"][order["rows"][0]] == "img4.jpg" and order["score"][0] == pytest.approx(1, abs=1e-5)
    assert client.get("/api/order?by=search&picture=none").status == 404


def test_score_by_words_is_what_rank_says(client, listed, embedded):
    from iaa.library.dataset import open_dataset

    ranked = open_dataset("mine", embedded / "data").rank(high="beautiful", low="ugly")
    order = client.get("/api/order?by=score").json
    names = [f"{f}/{n}" if f else n for f, n in zip(listed["folder"], listed["name"], strict=True)]
    assert [names[row] for row in order["rows"]] == ranked.columns["image_id"]
    assert order["score"] == pytest.approx(ranked.columns["score"], abs=1e-5)
    by_words = client.get("/api/order?by=words&high=beautiful&low=ugly").json
    assert by_words["rows"] == order["rows"]


def test_words_that_cannot_be_read_are_refused(client):
    answer = client.get(f"/api/order?by=search&text={'very%20' * 300}dog")
    assert answer.status == 409 and "tokens" in answer.json["detail"]


def test_the_servers_process_never_loads_torch(embedded):
    """After it has searched by words, sent a picture and shown one."""
    code = f"""
import sys, threading
from pathlib import Path
from iaa.library.gallery.gallery import Settings
from iaa.web.serving import Page
from tests.web.conftest import Client, TOKEN, jpeg
page = Page(Settings(Path({str(embedded / "data")!r}), "mine", is_embedding=False), token=TOKEN)
threading.Thread(target=page.run, daemon=True).start()
client = Client(page.address.port)
client.until("ready")
assert client.get("/api/order?by=search&text=dog").status == 200
token = client.post("/api/pictures", jpeg(1)).json["token"]
assert client.get(f"/api/order?by=search&picture={{token}}").status == 200
assert client.get("/api/order?by=search&text=" + "very%20" * 300).status == 409
assert client.get(f"/api/photographs/{{client.key('img1.jpg')}}/picture?edge=100").status == 200
assert "torch" not in sys.modules, "torch"
page.stop()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("by=nothing", 422),
        ("by=words&high=a", 400),
        ("by=words&high=a&low=a", 400),
        ("by=search", 400),
        ("by=search&like=none", 404),
        ("by=score&head=none", 404),
        ("by=search&text=x&version=old.1", 409),
    ],
)
def test_wrong_questions_are_told_what_is_wrong(client, query, status):
    answer = client.get(f"/api/order?{query}")
    assert answer.status == status and answer.json["detail"]


def test_equal_photographs_have_equal_scores(client, listed):
    order = client.get("/api/order?by=search&text=a%20blue%20square").json
    score = dict(zip(order["rows"], order["score"], strict=True))
    assert score[listed["name"].index("img0.jpg")] == score[listed["name"].index("copy.jpg")]


def test_map_has_a_place_for_each_that_has_a_vector(client, listed):
    for _ in range(50):
        answer = client.get("/api/map")
        if answer.status == 200:
            break
        assert answer.status == 202 and answer.json["phase"] == "working"
    points = answer.json
    assert len(points["rows"]) == len(points["x"]) == len(points["y"]) == N - 1
    assert min(points["x"]) >= 0 and max(points["y"]) <= 1
    at = {row: (x, y) for row, x, y in zip(points["rows"], points["x"], points["y"], strict=True)}
    first, copy = listed["name"].index("img0.jpg"), listed["name"].index("copy.jpg")
    assert at[first] == pytest.approx(at[copy], abs=1e-5)


def test_copies_are_complete_and_replace_nothing(client, embedded):
    keys = [client.key("img0.jpg"), client.key("turned.jpg"), client.key(HOSTILE)]
    copied = client.post("/api/copy", {"keys": keys, "name": "the best 3"}).json
    folder = embedded / "data/mine/copies/the best 3"
    assert copied == {"folder": str(folder), "n": 3}
    assert {p.name for p in folder.iterdir()} == {
        "img0.jpg",
        "turned.jpg",
        "_img src=x onerror=_alert(1)__.jpg",
    }
    assert (folder / "img0.jpg").read_bytes() == (embedded / "photographs/img0.jpg").read_bytes()
    again = client.post("/api/copy", {"keys": keys[:1], "name": "the best 3"})
    assert again.status == 409 and "ever replaced" in again.json["detail"]
    assert len(list(folder.iterdir())) == 3
    assert client.post("/api/copy", {"keys": [], "name": "none"}).status == 400
    assert client.post("/api/copy", {"keys": ["x"], "name": "none"}).status == 404


def test_csv_is_safe_and_in_the_order_asked(client, embedded):
    keys = [client.key(name) for name in ("img3.jpg", "turned.jpg", FAILED)]
    answer = client.post("/api/csv", {"keys": keys, "order": f"by=search&like={keys[0]}"})
    assert answer.headers["content-disposition"] == 'attachment; filename="photographs.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
    assert [row["file"] for row in rows] == ["img3.jpg", "lake/turned.jpg", FAILED]
    assert rows[0]["cosine"] == "" and float(rows[1]["cosine"]) <= 1  # the question itself has no place
    assert rows[1]["camera"] == "A Camera" and rows[1]["taken"] == "2021-07-03 10:11:12"
    assert rows[2]["state"] == "failed" and "damaged" in rows[2]["reason"]
    assert client.post("/api/csv", {"keys": keys, "order": "by=magic"}).status == 400


def test_zip_has_the_files_as_they_are(client, embedded):
    keys = [client.key("img1.jpg"), client.key("turned.jpg")]
    answer = client.post("/api/zip", {"keys": keys})
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert archive.testzip() is None and archive.namelist() == ["img1.jpg", "turned.jpg"]
        assert archive.read("img1.jpg") == (embedded / "photographs/img1.jpg").read_bytes()


def test_nothing_of_it_touched_an_original(client, embedded):
    """Run last: the photographs are the bytes they were made as."""
    assert (
        hashlib.sha256((embedded / "photographs/img1.jpg").read_bytes()).digest()
        == hashlib.sha256(jpeg(1)).digest()
    )
    assert len([p for p in (embedded / "photographs").rglob("*") if p.is_file()]) == N


def test_docs_work_without_other_peoples_servers(client):
    page = client.get("/docs").body.decode()
    assert "GET /api/order" in page and "POST /api/copy" in page and "https://" not in page
    described = client.get("/openapi.json").json
    assert set(described["paths"]) >= {
        "/api/library",
        "/api/state",
        "/api/map",
        "/api/photographs/{key}/picture",
    }
    answer = client.get("/api/library").json
    known = described["components"]["schemas"]["Library"]["properties"]
    assert set(answer) == set(known)
    for path, name in (
        ("/api/state", "State"),
        ("/api/photographs", "Photographs"),
        ("/api/map", "Points"),
        ("/api/order?by=score", "Order"),
        (f"/api/photographs/{client.key('img0.jpg')}", "Facts"),
    ):
        assert set(client.get(path).json) == set(described["components"]["schemas"][name]["properties"]), path


def test_groups(client, listed):
    for _ in range(100):
        answer = client.get("/api/groups")
        if answer.status == 200:
            break
        assert answer.status == 202
    first, copy = listed["name"].index("img0.jpg"), listed["name"].index("copy.jpg")
    (group,) = [g for g in answer.json["groups"] if first in g["rows"]]
    assert copy in group["rows"] and 0 < answer.json["threshold"] <= 1
    assert client.get(f"/api/photographs/{listed['key'][copy]}").json["group"] == group["id"]
    assert all(len(g["rows"]) > 1 for g in answer.json["groups"])
