"""`iaa search` and contact sheets: planted vectors, names, wrong weights, and pages read back."""

import base64
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from hashlib import sha256
from html import unescape
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

import iaa.library.photographs
import iaa.library.searching
import iaa.library.text_towers
import iaa.library.words
from analysis.probing.heads import Head, save_head
from analysis.prompting.scores import rank_images
from embed.backbones.spec import PromptTooLong
from embed.backbones.weights import local_weights
from embed.prompts.text import encode_part
from embed.prompts.tokens import SamePrompts
from iaa.cli.app import main
from iaa.library.backbones import load_backbones
from iaa.library.embedding import prepare_table
from iaa.library.layout import Layout
from store import Targets, open_features, write_targets
from store.features import FEATURES_SCHEMA
from store.sealed import write_sealed

TEXT = "a red mushroom on a beach"
AWKWARD = '<b>&".jpg'
FILES = [AWKWARD, "broken.jpg", "changed.jpg", "gone.jpg", "lake/IMG_1.jpg", "lake/IMG_2.jpg"]
FILES += ["summer/black.jpg", "summer/IMG_1.jpg", "turned.jpg", "wide.png"]
ROW = {name: row for row, name in enumerate(FILES)}
FAILED, ZERO = ROW["broken.jpg"], ROW["summer/black.jpg"]
SIZE = (600, 400)


def planted(query, rng):
    """An embedding in which the later a file, the further from the query; one row of zeros, one failed."""
    away = rng.normal(size=len(query))
    away -= query * (away @ query) / (query @ query)
    away *= np.linalg.norm(query) / np.linalg.norm(away)
    angles = np.linspace(0.2, 2.8, len(FILES))
    rows = np.outer(np.cos(angles), query) + np.outer(np.sin(angles), away)
    rows *= rng.uniform(0.1, 30, size=(len(FILES), 1))
    rows[ZERO] = 0
    rows[FAILED] = np.nan
    return rows.astype(np.float32)


def features_of(path, backbone, weights_sha256, outputs, sources):
    status = np.ones(len(FILES), np.uint8)
    status[FAILED] = 2
    write_sealed(
        path,
        FEATURES_SCHEMA,
        {"backbone": backbone, "weights_sha256": weights_sha256},
        {"weights": {"file": "planted.safetensors"}},
        {
            "image_id": np.array(FILES),
            "status": status,
            "failures/row": np.array([FAILED]),
            "failures/reason": np.array(["truncated file"]),
            "source_sha256": sources,
            **{f"outputs/{name}": rows for name, rows in outputs.items()},
        },
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A data root: photographs in a folder with planted vectors for demo_clip's weights and for `plain`."""
    root = tmp_path_factory.mktemp("search")
    photos = root / "photos"
    rng = np.random.default_rng(5)
    for i, name in enumerate(FILES):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        size = (700, 100) if name == "wide.png" else SIZE
        image = Image.new("RGB", size, (20 * i, 90, 255 - 20 * i))
        image.paste((255, 255, 255), (0, 0, size[0] // 2, size[1] // 2))
        exif = image.getexif()
        if name == "turned.jpg":
            exif[0x0112] = 6
        image.save(photos / name, exif=exif)
    sources = np.array([list(sha256((photos / n).read_bytes()).digest()) for n in FILES], np.uint8)
    (photos / "broken.jpg").write_bytes(b"oops")
    with pytest.raises(SystemExit) as stop:
        add = ["dataset", "add", "mine", "--kind", "folder", "--images", photos, "--data", root / "data"]
        main([str(a) for a in add])
    assert stop.value.code == 0
    layout = Layout(root / "data", "mine")
    assert prepare_table(layout)[1].path.tolist() == FILES
    loaded = load_backbones(["demo_clip"], {}, "cpu")[0]
    query = encode_part(loaded, [TEXT])[0].astype(np.float64)
    hidden = rng.normal(size=(len(FILES), 24)).astype(np.float32)
    hidden[ROW["wide.png"]] = 9 * hidden[ROW["lake/IMG_2.jpg"]] + 0.1 * rng.normal(size=24)
    hidden[FAILED] = np.nan
    both = {"pre_projection": hidden, "embedding": planted(query, rng)}
    features_of(layout.features / "demo_clip.h5", "demo_clip", loaded.weights_sha256, both, sources)
    features_of(layout.features / "plain.h5", "plain", "0" * 64, {"pooled": hidden}, sources)
    Image.new("RGB", SIZE, (1, 2, 3)).save(photos / "changed.jpg")
    (photos / "gone.jpg").unlink()
    return root


@pytest.fixture
def run(world, invoke, tmp_path, monkeypatch):
    """Runs a command on a copy of the data root."""
    shutil.copytree(world / "data", tmp_path / "data")
    monkeypatch.setenv("IAA_DATA", str(tmp_path / "data"))

    def run_command(*arguments):
        code, out, err = invoke(*arguments)
        return code, out, " ".join(err.split())

    return run_command


class Page(HTMLParser):
    """What a reader sees of a sheet: headings, pictures, and the words of each card."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.headings, self.cards, self.inside = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        named = dict(attributes)
        if tag == "li":
            self.cards.append({"words": [], "rank": [], "picture": None, "alt": None})
        if tag == "img":
            kind, encoded = named["src"].split(",")
            assert kind == "data:image/jpeg;base64"
            self.cards[-1]["picture"] = Image.open(io.BytesIO(base64.b64decode(encoded, validate=True)))
            self.cards[-1]["alt"] = named["alt"]
        if named.get("class") == "file":
            assert list(named) == ["class", "title"]
            self.cards[-1]["title"] = named["title"]
        if tag not in ("meta", "img"):
            self.inside.append(tag)

    def handle_endtag(self, tag):
        assert self.inside.pop() == tag, "tags are nested"

    def handle_data(self, data):
        if "h2" in self.inside or "h1" in self.inside:
            self.headings.append(data)
        elif "li" in self.inside:
            self.cards[-1]["rank" if self.inside[-1] == "b" else "words"] += [data]


def read_page(path):
    page = Page(path.read_text(encoding="utf-8"))
    assert not page.inside, "all tags are closed"
    assert not {"script", "link", "iframe"}.intersection(page.tags)
    assert not list(path.parent.glob("*.partial"))
    return page


def test_a_text_finds_what_was_planted(run, world, tmp_path):
    search = ("search", TEXT, "-d", "mine", "--csv", tmp_path / "found.csv", "--json")
    code, out, err = run(*search, "--top", 3)
    answer = json.loads(out)
    assert code == 0 and "demo_clip knows nothing but a synthetic world" in err
    expected = [name for name in FILES if ROW[name] not in (FAILED, ZERO)]
    assert [row["image_id"] for row in answer["shown"]] == expected[:3]
    assert (answer["backbone"], answer["output"], answer["text"]) == ("demo_clip", "embedding", TEXT)
    counts = ("n_ranked", "n_failed", "n_unscored")
    assert tuple(answer[name] for name in counts) == (len(FILES) - 2, 1, 1)
    rows = list(csv.DictReader((tmp_path / "found.csv").open()))
    assert [row["file"] for row in rows] == expected
    assert [int(row["rank"]) for row in rows] == list(range(1, len(rows) + 1))
    with open_features(tmp_path / "data/mine/features/demo_clip.h5") as features:
        images = features.read("embedding").astype(np.float64)
    query = encode_part(load_backbones(["demo_clip"], {}, "cpu")[0], [TEXT])[0].astype(np.float64)
    for row in rows:
        vector = images[ROW[row["image_id"]]]
        cosine = vector @ query / np.linalg.norm(vector) / np.linalg.norm(query)
        assert float(row["cosine"]) == pytest.approx(cosine, abs=1e-6)
    cosines = np.array([float(row["cosine"]) for row in rows])
    assert [float(row["percentile"]) for row in rows] == rank_images(cosines).percentile.tolist()
    code, out, err = run("search", TEXT, "-d", "mine", "--top", 3)
    assert code == 0 and AWKWARD in out and "8 images ranked; shown: the first 3" in err
    assert "1 images could not be read" in err and "1 images have a vector of zeros" in err


@pytest.mark.parametrize("backbone", [["-b", "demo_clip", "--output", "pre_projection"], ["-b", "plain"]])
def test_the_near_duplicate_comes_first_and_the_picture_itself_does_not(run, tmp_path, backbone):
    code, out, _ = run("search", "--like", "lake/IMG_2.jpg", "-d", "mine", *backbone, "--json")
    answer = json.loads(out)
    found = {row["image_id"]: row["cosine"] for row in answer["shown"]}
    assert code == 0 and next(iter(found)) == "wide.png" and found["wide.png"] > 0.99
    assert set(found) == set(FILES) - {"lake/IMG_2.jpg", "broken.jpg"}
    assert (answer["n_ranked"], answer["n_failed"], answer["n_unscored"]) == (8, 1, 0)
    with open_features(tmp_path / "data/mine/features/plain.h5") as features:
        images = features.read("pooled").astype(np.float64)
    mine = images[ROW["lake/IMG_2.jpg"]]
    for name, cosine in found.items():
        other = images[ROW[name]]
        assert cosine == pytest.approx(mine @ other / np.linalg.norm(mine) / np.linalg.norm(other), abs=1e-6)


def test_embedding_is_what_likeness_means_by_default(run):
    code, out, _ = run("search", "--like", AWKWARD, "-d", "mine", "-b", "demo_clip", "--json")
    answer = json.loads(out)
    assert code == 0 and (answer["output"], answer["n_unscored"]) == ("embedding", 1)
    assert [row["image_id"] for row in answer["shown"]][:2] == ["changed.jpg", "gone.jpg"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("summer/IMG_1.jpg", "summer/IMG_1.jpg"),
        ("IMG_2.jpg", "lake/IMG_2.jpg"),
        ("IMG_2", "lake/IMG_2.jpg"),
        ("2.jpg", "lake/IMG_2.jpg"),
        ("./photos/lake/IMG_1.jpg", "lake/IMG_1.jpg"),
    ],
)
def test_names_that_are_clear(run, given, meant):
    code, out, _ = run("search", "--like", given, "-d", "mine", "-b", "plain", "--json")
    assert code == 0 and json.loads(out)["like"] == meant


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--like", "IMG_1.jpg", "-b", "plain"], 2, "fits 2 images of mine: lake/IMG_1.jpg; summer/"),
        (["--like", "img_2.JPG", "-b", "plain"], 2, "and no such file; similar names: lake/IMG_2"),
        (["--like", "xyz", "-b", "plain"], 2, "iaa embed --dataset mine --backbone plain --update"),
        (["--like", "xyz", "-b", "plain"], 2, f"the first of them: {AWKWARD}; broken.jpg; changed.jpg"),
        (["--like", "broken", "-b", "plain"], 1, "broken.jpg has no vector to compare with: truncated file"),
        (["--like", "black", "-b", "demo_clip"], 1, "summer/black.jpg has a vector of zeros in embedding"),
        (["--like", "turned"], 2, "choose one by --backbone demo_clip or --backbone plain"),
        (["--like", "turned", "-b", "plain", "--output", "x"], 1, "has no output 'x'; it has pooled (24)"),
        (["--like", "turned", "-b", "none"], 1, "embedded with: demo_clip, plain"),
        (["--like", "turned", TEXT], 2, "give either words"),
        (["-b", "plain"], 2, "give either words"),
        ([" "], 2, "nothing to look for"),
        (["a", "dog"], 2, 'put the text in quotes: iaa search "a dog"'),
        ([TEXT, "-b", "plain"], 2, "plain has no joint embedding"),
        ([TEXT, "--output", "pre_projection"], 2, "words are compared with the embedding"),
        ([TEXT * 40], 1, "1 of 1 prompts have more than the 77 tokens that demo_clip reads"),
        ([TEXT, "--csv", "no/where.csv"], 2, "--csv no/where.csv: not a file in a folder that exists"),
        ([TEXT, "--sheet", "no/where.html"], 2, "--sheet no/where.html: not a file in a folder that exists"),
        ([TEXT, "--sheet", "."], 2, "not a file in a folder that exists"),
        ([TEXT, "--sheet", "photo.jpg"], 2, "call it photo.html"),
        ([TEXT, "-d", "nope"], 1, "no data set 'nope'"),
    ],
)
def test_mistakes_say_what_to_do(run, arguments, code, message):
    if "-d" not in arguments:
        arguments = [*arguments, "-d", "mine"]
    got, out, err = run("search", *arguments)
    assert (got, out) == (code, "")
    assert message in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("made_by", "message"),
    [
        ("f" * 64, "made by other weights of demo_clip than those loaded now: the features: sha256 ffff"),
        ("imported", "which weights made them is not known"),
    ],
)
def test_a_text_is_refused_by_vectors_of_other_weights(run, tmp_path, made_by, message):
    path = tmp_path / "data/mine/features/demo_clip.h5"
    with open_features(path) as features:
        outputs = {name: features.read(name).copy() for name in features.outputs}
        sources = features.file.view("source_sha256").copy()
    path.unlink()
    features_of(path, "demo_clip", made_by, outputs, sources)
    code, out, err = run("search", TEXT, "-d", "mine", "--sheet", tmp_path / "s.html")
    assert (code, out) == (1, "") and message in err and "iaa search --like IMAGE" in err
    assert not (tmp_path / "s.html").exists()
    assert run("search", "--like", "turned", "-d", "mine", "-b", "demo_clip", "--json")[0] == 0


def search_alone(world, *arguments):
    """`iaa search` in a process of its own: what it printed, and which libraries of models it had loaded."""
    code = (
        "import atexit, sys\n"
        "from iaa.cli.app import main\n"
        "models = {'torch', 'open_clip', 'timm'}\n"
        "atexit.register(lambda: print(*sorted(models.intersection(sys.modules)), file=sys.stderr))\n"
        f"main({['search', *map(str, arguments), '-d', 'mine']!r})"
    )
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "IAA_DATA": str(world / "data")}
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, env=environment, capture_output=True, text=True
    )
    return done.stdout, done.stderr.splitlines()[-1].split()


def test_likeness_loads_no_torch(world, tmp_path):
    sheet = tmp_path / "like.html"
    _, loaded = search_alone(world, "--like", "turned", "-b", "plain", "--sheet", sheet)
    assert loaded == [] and len(read_page(sheet).cards) == 9


def test_the_first_words_alone_load_torch(world, tmp_path, monkeypatch):
    """The text tower is kept then, and the vectors of words that were asked before."""
    monkeypatch.setenv("IAA_CACHE", str(tmp_path))
    texts = ["a boat that nobody asks for", "a boat that nobody asks for", "a barn nobody asks for"]
    (first, loaded), (again, loaded_again), (other, loaded_for_other) = (
        search_alone(world, text, "--json") for text in texts
    )
    assert "torch" in loaded and loaded_again == loaded_for_other == []
    assert again == first and len(json.loads(first)["shown"]) == 8
    vector = encode_part(load_backbones(["demo_clip"], {}, "cpu")[0], texts[2:])[0]
    with open_features(world / "data/mine/features/demo_clip.h5") as features:
        rows = {name: row for row, name in enumerate(features.image_id.tolist())}
        vectors = features.read("embedding").astype(np.float64)
    for shown in json.loads(other)["shown"]:
        image = vectors[rows[shown["image_id"]]]
        cosine = image @ vector / np.linalg.norm(image) / np.linalg.norm(vector.astype(np.float64))
        assert shown["cosine"] == pytest.approx(cosine, abs=1e-5)


def test_a_kept_text_tower_is_used_for_its_own_weights_and_device_alone(world, tmp_path, monkeypatch):
    from iaa.library.text_towers import MANY, keep_words, words_kept

    monkeypatch.setenv("IAA_CACHE", str(tmp_path))
    monkeypatch.setattr(iaa.library.text_towers, "_asked", set())
    loaded = load_backbones(["demo_clip"], {}, "cpu")[0]
    keep_words(loaded)
    own = tmp_path / "own.safetensors"
    own.write_bytes(local_weights(loaded.spec).path.read_bytes())
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"other")
    with open_features(world / "data/mine/features/demo_clip.h5") as features:

        def is_used(words=("a boat",), weights=None, device="auto"):
            return words_kept(features, list(words), "{label}", weights, device) is not None

        assert is_used() and is_used(device="cpu") and is_used(weights=own)
        assert not is_used(device="cuda") and not is_used(weights=other)
        assert not is_used(weights=tmp_path / "nowhere.safetensors")
        assert is_used([f"boat {n}" for n in range(MANY - 1)])
        assert not is_used([f"boat {n}" for n in range(MANY)])
        assert not is_used([" ".join(["fog"] * 40)])
        with pytest.raises(SamePrompts, match="one text to the tokenizer"):
            is_used(["a boat", "A  Boat"])
        with pytest.raises(PromptTooLong, match="77 tokens that demo_clip reads"):
            is_used([" ".join(["fog"] * 90)])
        own.write_bytes(b"replaced")
        assert not is_used(weights=own)


def test_words_are_asked_anew_where_what_is_kept_does_not_fit(run, tmp_path, monkeypatch):
    """Of other words, another torch, another weights file; and a damaged file is left aside."""
    asked = []

    def encoded(layout, features, weights, device, progress=None):
        asked.append(weights)
        return load_backbones(["demo_clip"], {}, "cpu")[0]

    monkeypatch.setattr(iaa.library.searching, "words_kept", lambda *_: None)
    monkeypatch.setattr(iaa.library.searching, "same_weights", encoded)

    def n_asked(*more):
        asked.clear()
        code, out, err = run("search", "a boat", "-d", "mine", "--json", *more)
        assert code == 0, err
        answers.append([(row["image_id"], row["cosine"]) for row in json.loads(out)["shown"]])
        return len(asked)

    answers = []
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"some")
    assert [n_asked(), n_asked()] == [1, 0]
    assert [n_asked("--weights", file), n_asked("--weights", file)] == [1, 0]
    file.write_bytes(b"others")
    assert n_asked("--weights", file) == 1
    monkeypatch.setattr(iaa.library.words, "version", lambda name: "0.1")
    assert [n_asked(), n_asked()] == [1, 0]
    for kept in (tmp_path / "data/mine/derived/words").glob("*.h5"):
        content = bytearray(kept.read_bytes())
        content[-1] ^= 1
        kept.write_bytes(content)
    assert [n_asked(), n_asked()] == [1, 0]
    assert all(answer == answers[0] for answer in answers)


def test_a_wrong_weights_file_is_refused_for_words_that_were_asked_before(run, tmp_path):
    assert run("search", TEXT, "-d", "mine")[0] == 0
    code, out, err = run("search", TEXT, "-d", "mine", "--weights", tmp_path / "nowhere.safetensors")
    assert code == 1 and out == "" and "nowhere.safetensors" in err


def test_only_the_newest_questions_are_kept(run, tmp_path, monkeypatch):
    monkeypatch.setattr(iaa.library.words, "N_KEPT", 3)
    words = ["a", "b", "c", "d", "e"]
    assert all(run("search", word, "-d", "mine")[0] == 0 for word in words)
    folder = tmp_path / "data/mine/derived/words"
    assert len(list(folder.glob("*.h5"))) == 3
    monkeypatch.setattr(iaa.library.searching, "same_weights", None)
    assert all(run("search", word, "-d", "mine")[0] == 0 for word in words[2:])


def test_a_sheet_shows_what_was_found(run, tmp_path):
    sheet = tmp_path / "found.html"
    code, out, err = run("search", f"{TEXT} <i>", "-d", "mine", "--sheet", sheet, "--json")
    assert code == 0 and f"contact sheet of 8 images: {sheet}" in err
    shown, page = json.loads(out)["shown"], read_page(sheet)
    assert page.headings == [f'mine: "{TEXT} <i>"', "Closest"]
    text = sheet.read_text()
    assert "http:" not in text and "https:" not in text and "<i>" not in text.split("<style>")[0]
    assert "src=" in text and text.count("src=") == text.count('src="data:image/jpeg;base64,')
    cards = {row["image_id"]: card for row, card in zip(shown, page.cards, strict=True)}
    for row in shown:
        card = cards[row["image_id"]]
        assert card["rank"] == [str(row["rank"])] and f"{row['cosine']:.4f}" in card["words"]
        assert f"{row['percentile']:.1f} %" in card["words"] and row["file"] in "".join(card["words"])
        assert card["title"] == row["file"]
        if row["image_id"] != "gone.jpg":
            assert card["alt"] == row["file"] and card["picture"].format == "JPEG"
            assert max(card["picture"].size) == 240 and not card["picture"].getexif()
    assert cards["lake/IMG_1.jpg"]["picture"].size == (240, 160)
    assert cards["wide.png"]["picture"].size == (240, 34)
    turned = cards["turned.jpg"]["picture"]
    assert turned.size == (160, 240), "turned as EXIF says"
    white = [xy for xy in ((20, 20), (140, 20), (20, 220), (140, 220)) if min(turned.getpixel(xy)) > 240]
    assert white == [(140, 20)], "a quarter clockwise: the upper left is now the upper right"
    assert "the file has changed since it was embedded" in cards["changed.jpg"]["words"]
    gone = cards["gone.jpg"]
    assert gone["picture"] is None and "no longer in the data set" in gone["words"]


def test_an_image_that_cannot_be_read_any_more_is_a_placeholder_with_the_reason(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    assert iaa.library.photographs.load_thumbnail(path, False).remark.startswith("cannot read: No such file")
    path.write_bytes(b"oops")
    assert "not an image of a known format" in iaa.library.photographs.load_thumbnail(path, False).remark
    Image.new("RGB", (30, 20)).save(path)
    assert Image.open(io.BytesIO(iaa.library.photographs.load_thumbnail(path, False).jpeg)).size == (30, 20)
    monkeypatch.setattr("embed.images.decode.decode_image.__defaults__", (False, 599))
    found = iaa.library.photographs.load_thumbnail(path, False)
    assert found.jpeg is None and "30 x 20 pixels, more than the limit of 599" in found.remark
    monkeypatch.setattr("embed.images.decode.decode_image", lambda *_: 1 / 0)
    assert "cannot be shown: ZeroDivisionError" in iaa.library.photographs.load_thumbnail(path, False).remark


def test_colours_keep_their_profile_where_it_is_one_of_rgb():
    for space, kept in ((b"RGB ", True), (b"CMYK", False)):
        image = Image.new("RGB", (9, 9))
        image.info["icc_profile"] = bytes(16) + space + bytes(200)
        found = Image.open(io.BytesIO(iaa.library.photographs.encode_thumbnail(image)))
        assert ("icc_profile" in found.info) is kept


def test_a_page_that_fails_leaves_the_old_one(run, tmp_path, monkeypatch):
    sheet = tmp_path / "found.html"
    sheet.write_text("old")

    def fail(*_):
        raise RuntimeError("in the middle")

    monkeypatch.setattr(iaa.library.photographs, "load_thumbnail", fail)
    code, _, err = run("search", "--like", "turned", "-d", "mine", "-b", "plain", "--sheet", sheet)
    assert code == 1 and "in the middle" in err
    assert sheet.read_text() == "old" and not list(tmp_path.glob("*.partial"))


def test_pictures_of_a_large_sheet_lie_beside_it(run, tmp_path, monkeypatch):
    search = ("search", TEXT, "-d", "mine", "--sheet", tmp_path / "a sheet #1.html")
    assert run(*search)[0] == 0
    cards = read_page(search[-1]).cards
    inside = {card["alt"]: card["picture"].tobytes() for card in cards if card["alt"]}
    monkeypatch.setattr("iaa.library.ranking.MAX_INSIDE", 3)
    beside = tmp_path / "a sheet #1_pictures"
    for _ in range(2):  # a sheet made anew replaces its pictures
        assert run(*search)[0] == 0
        text = search[-1].read_text()
        assert "data:image" not in text
        picture = r'<img src="([^"]+)" width="(\d+)" height="(\d+)" loading="lazy" alt="([^"]+)"'
        found = re.findall(picture, text)
        assert len(found) == len(inside) == 7
        for address, width, height, name in found:
            with Image.open(tmp_path / unquote(address)) as picture:
                assert picture.size == (int(width), int(height))
                assert picture.tobytes() == inside[unescape(name)]
        assert len(list(beside.iterdir())) == len({address for address, *_ in found})
    (beside / "mine.txt").write_text("a file of somebody's")
    code, _, err = run(*search)
    assert code == 2 and "has other files: mine.txt" in err and search[-1].read_text() == text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a sheet #1.html", beside.name, "data"]


def test_the_picture_asked_about_stands_above_those_like_it(run, tmp_path):
    sheet = tmp_path / "like.HTM"
    assert run("search", "--like", AWKWARD, "-d", "mine", "-b", "plain", "--top", 2, "--sheet", sheet)[0] == 0
    page = read_page(sheet)
    assert page.headings == [f"mine: Like {AWKWARD}", "The picture", "Closest"]
    assert [card["rank"] for card in page.cards] == [[], ["1"], ["2"]]
    assert page.cards[0]["alt"] == AWKWARD and page.tags.count("b") == 2


def test_a_ranking_shows_both_ends_where_asked(run, tmp_path):
    rng = np.random.default_rng(1)
    layer = (rng.normal(size=(1, 24)), np.zeros(1))
    save_head(tmp_path / "data/heads/taste", Head((layer,), "plain", "pooled", False))
    sheet = tmp_path / "both.html"
    shown = ("-d", "mine", "--top", 2, "--worst", 2, "--sheet", sheet, "--json")
    code, out, _ = run("rank", "--head", "taste", *shown)
    assert code == 0
    page, rows = read_page(sheet), json.loads(out)["shown"] + json.loads(out)["worst"]
    assert page.headings == ["mine by head taste", "Best", "Worst"]
    assert [card["rank"] for card in page.cards] == [["1"], ["2"], ["8"], ["9"]]
    assert all(f"{row['score']:.4f}" in card["words"] for row, card in zip(rows, page.cards, strict=True))
    assert run("embed", "-d", "mine", "-b", "demo_clip", "-p", "paper_fixed")[0] == 0
    path = tmp_path / "data/mine/features/demo_clip.h5"
    with open_features(path) as features:  # zeros are an error to prompts
        outputs = {name: features.read(name).copy() for name in features.outputs}
        outputs["embedding"][ZERO] = 1
        made_by, sources = features.identity["weights_sha256"], features.file.view("source_sha256").copy()
    path.unlink()
    features_of(path, "demo_clip", made_by, outputs, sources)
    code, out, _ = run("rank", "--high", "great", "--low", "ugly", *shown)
    assert code == 0
    page, rows = read_page(sheet), json.loads(out)["shown"] + json.loads(out)["worst"]
    assert page.headings == ["mine: great against ugly", "Best", "Worst"]
    assert [card["rank"] for card in page.cards] == [["1"], ["2"], ["8"], ["9"]]
    assert all(f"{row['score']:.4f}" in card["words"] for row, card in zip(rows, page.cards, strict=True))
    code, _, err = run("rank", "-d", "mine", "--sheet", sheet)
    assert code == 2 and "say by what" in err


def test_vectors_without_photographs_can_be_searched_and_not_shown(run, tmp_path):
    source = tmp_path / "data/mine/features/plain.h5"
    (tmp_path / "data/far/features").mkdir(parents=True)
    shutil.copy(source, tmp_path / "data/far/features/plain.h5")
    ids = np.array(FILES)
    write_targets(
        tmp_path / "data/far/targets.h5",
        Targets(ids, ids, None, None, None, 0.0, np.full(len(ids), ""), "none", "far"), {}, {},
    )  # fmt: skip
    like = ("search", "--like", "turned", "-d", "far")
    code, _, err = run(*like)
    assert code == 0 and "--sheet" not in err
    code, out, err = run(*like, "--sheet", tmp_path / "s.html")
    assert (code, out) == (2, "") and "far has no photographs, its vectors were imported" in err


def test_photographs_in_tar_files_and_behind_urls_are_shown_too(run, world, tmp_path):
    import tarfile

    import fsspec

    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        for name in FILES:
            if (world / "photos" / name).exists():
                tar.add(world / "photos" / name, name)
                with fsspec.open(f"memory://search/{name}", "wb") as remote:
                    remote.write((world / "photos" / name).read_bytes())
    sizes = []
    for name, location in (("tarred", tmp_path / "all.tar"), ("remote", "memory://search")):
        assert run("dataset", "add", name, "--kind", "folder", "--images", location)[0] == 0
        folder = tmp_path / "data" / name
        shutil.copytree(tmp_path / "data/mine/features", folder / "features")
        prepare_table(Layout(tmp_path / "data", name))
        sheet = tmp_path / f"{name}.html"
        code, _, _ = run("search", "--like", "IMG_2", "-d", name, "-b", "plain", "--sheet", sheet)
        assert code == 0
        cards = read_page(sheet).cards
        sizes.append({c["alt"]: c["picture"].size for c in cards if c["picture"]})
    assert sizes[0] == sizes[1] and len(sizes[0]) == 8
    assert (sizes[0]["turned.jpg"], sizes[0]["wide.png"]) == ((160, 240), (240, 34))


def test_words_are_not_compared_with_a_tower_that_was_trained_on(run, tmp_path):
    """A fine-tuned image tower has no text tower any more, though its file has an output of that name."""
    folder = tmp_path / "data/mine/features"
    tuned = "demo_clip+finetuned.0123456789"
    with open_features(folder / "demo_clip.h5") as features:
        outputs = {"embedding": features.read("embedding")}
        features_of(folder / f"{tuned}.h5", tuned, "1" * 64, outputs, features.file.view("source_sha256"))
    code, out, _ = run("search", TEXT, "-d", "mine", "--json")
    assert code == 0 and json.loads(out)["backbone"] == "demo_clip"
    code, _, err = run("search", TEXT, "-d", "mine", "-b", tuned)
    assert code == 2 and "no text tower that goes with its images" in err


def test_files_of_another_kind_are_not_written_over(run, world, tmp_path):
    photo, store = world / "photos/wide.png", tmp_path / "data/mine/features/plain.h5"
    before = photo.read_bytes(), store.read_bytes()
    search = ("search", "--like", "wide.png", "-d", "mine", "-b", "plain")
    for place in (photo, store, tmp_path / "x.html", tmp_path / "new.h5"):
        code, out, err = run(*search, "--csv", place)
        assert (code, out) == (2, "") and str(place) in err.replace(" ", "")
    assert before == (photo.read_bytes(), store.read_bytes()) and not (tmp_path / "new.h5").exists()
    victim, sheet = tmp_path / "victim", tmp_path / "s.html"
    victim.write_text("mine")
    sheet.with_name("s.html.partial").symlink_to(victim)
    assert run(*search, "--sheet", sheet)[0] == 0 and sheet.exists()
    assert victim.read_text() == "mine"


def test_a_sheet_shows_the_files_that_were_embedded(run, world, tmp_path):
    """Though the data set gives the ids to other files by now."""
    ids = [f"n{i}" for i in range(len(FILES))]
    config = tmp_path / "data/mine/dataset.toml"
    ratings = tmp_path / "r.csv"
    rows = zip(ids, [*FILES[1:], FILES[0]], range(len(FILES)), strict=True)
    with ratings.open("w", newline="") as handle:
        csv.writer(handle).writerows([["id", "file", "score"], *rows])
    images = world / "photos"
    config.write_text(f'kind = "table"\nimages = "{images}"\nratings = "{ratings}"\n')
    sheet = ("--sheet", tmp_path / "s.html")
    assert run("search", "--like", "wide.png", "-d", "mine", "-b", "plain", *sheet)[0] == 0
    cards = {card["title"]: card["picture"] for card in read_page(tmp_path / "s.html").cards}
    assert cards["wide.png"].size == (240, 34)
    with Image.open(images / "lake/IMG_2.jpg") as image:
        expected = np.asarray(image.convert("RGB"))[-1, -1].astype(int)
    assert np.abs(np.asarray(cards["lake/IMG_2.jpg"])[-1, -1] - expected).max() < 8


def test_brackets_are_no_markup(run):
    assert "x [/foo] [red] y" in run("search", "x [/foo] [red] y", "-d", "mine", "-b", "demo_clip")[1]
