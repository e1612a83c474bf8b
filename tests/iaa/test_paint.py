"""`iaa paint`: what people type, what they get, and what they are told when it cannot be."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import iaa
from analysis.report.summary import figure_4
from iaa.library.layout import Layout
from iaa.library.painting import Painting, keep_painted
from iaa.library.reports import pictures

FAST = ("--size", "48", "--steps", "3", "--cutouts", "2", "-b", "demo_clip")


def test_subjects_and_adjectives_side_by_side(run, tmp_path):
    out = tmp_path / "out"
    typed = (
        "paint",
        "a beacon",
        "a castle",
        "--adjectives",
        "outstanding",
        "horrible",
        *FAST,
        "-o",
        out,
        "--json",
    )
    code, answer, _ = run(*typed)
    assert code == 0
    found = json.loads(answer)
    texts = [each["text"] for each in found["paintings"]]
    assert texts == [
        f"a {adjective} picture of a {subject}"
        for subject in ("beacon", "castle")
        for adjective in ("outstanding", "horrible")
    ]
    page = (out / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 4 and "http:" not in page and "https:" not in page
    rows = page.split("<tr>")[2:]  # after the heading: a row per adjective, as in Figure 4
    assert "outstanding" in rows[0] and "horrible" not in rows[0] and rows[1].count("horrible") >= 2
    assert not (out / "preview.png").exists()
    files = sorted(out.glob("*.png"))
    before = [file.stat().st_mtime_ns for file in files]
    code, again, _ = run(*typed)
    assert json.loads(again) == found  # what is there is not painted again
    assert [file.stat().st_mtime_ns for file in files] == before
    files[0].write_bytes(files[0].read_bytes()[:500])  # but what is damaged is, and equal
    code, again, _ = run(*typed)
    assert json.loads(again) == found


def test_the_file_says_how_to_paint_it_again(run, tmp_path):
    code, _, errors = run(
        "paint", "a beacon", "--adjectives", "great", *FAST, "--seed", "4", "-o", tmp_path / "a"
    )
    assert code == 0, errors
    (file,) = (tmp_path / "a").glob("*.png")
    code, answer, _ = run("info", file, "--json")
    told = json.loads(answer)
    assert (code, told["text"], told["settings"]["seed"]) == (0, "a great picture of a beacon", 4)
    code, answer, notes = run("info", file)
    command = next(line for line in notes.splitlines() if "iaa paint" in line).partition("iaa paint ")[2]
    import shlex

    run("paint", *shlex.split(command), "-o", tmp_path / "b")
    (other,) = (tmp_path / "b").glob("*.png")
    assert other.name == file.name and other.read_bytes() == file.read_bytes()


def test_a_head_paints_both_ways_from_a_photograph(tmp_path, rng, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from analysis.probing.heads import Head, save_head

    head = Head(((rng.normal(size=(1, 128)), np.zeros(1)),), "demo_vit", "pre_logits", False)
    save_head(tmp_path / "data" / "heads" / "mine", head)
    photograph = rng.integers(0, 256, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(photograph).save("photograph.png")
    shown = []
    painted = iaa.paint(
        head="mine",
        photograph="photograph.png",
        size=40,
        steps=30,
        cutouts=2,
        rate=0.1,
        on_preview=shown.append,
    )
    assert [(each.subject, each.adjective) for each in painted] == [("", "high"), ("", "low")]
    assert [each.pixels.shape for each in painted] == [(40, 60, 3)] * 2
    assert len(shown) == 2
    high, low = (each.about["loss"][1] - each.about["loss"][0] for each in painted)
    assert high < 0 and low < 0  # each loss fell: the score rose, and fell
    assert painted[0].about["photograph"]["file"] == "photograph.png"
    assert len(painted.table()) == 2 and painted.page is None


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (
            ("--adjectives", "outstanding", "a beacon"),
            "adjectives (outstanding, a beacon) without a subject|nothing says",
        ),
        (("a beacon", "--size", "big"), "size 'big': expected a number of pixels"),
        (("a beacon", "--size", "5000x1"), "5000 x 1 pixels: its sides must be 32 to 2048"),
        (("a beacon", "--from", "strip.png"), "strip.png is 5000 x 1: its longer side may be 4 times"),
        (("a beacon", "--from", "none.png"), "none.png: cannot read"),
        (("a beacon", "--template", "a picture"), "must have {adjective} and {subject}"),
        (("a beacon", "--encoder", "x.pth"), "give both"),
        (("a " + "very " * 100 + "beacon",), "more than 77 tokens"),
        (("a beacon", "--backbone", "demo_vit"), "demo_vit reads no words"),
        (("--head", "oasis-beauty"), "belongs to efficientnet_lite0.in1k and not to demo_clip"),
        (("--head", "nobody"), "there is no head"),
    ],
)
def test_mistakes_are_told(run, tmp_path, monkeypatch, typed, message):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (5000, 1)).save("strip.png")
    backbone = () if "--backbone" in typed else ("-b", "demo_clip")
    code, _, errors = run("paint", *typed, *backbone, "--steps", "2")
    assert code in (1, 2)
    assert any(each in " ".join(errors.split()) for each in message.split("|")), errors
    assert not (tmp_path / "paintings").exists()


def test_pictures_of_a_data_set_are_figure_4_of_its_report(run, tmp_path):
    """Three subjects beside each other, adjectives below each other in the order asked for, with pictures."""
    layout = Layout(tmp_path / "data", "mine")
    layout.painted.mkdir(parents=True)
    code, answer, errors = run(
        "paint", "a castle", "--adjectives", "outstanding", *FAST, "-d", "mine", "--json"
    )
    assert code == 0, errors
    (made,) = json.loads(answer)["paintings"]
    assert made["file"].startswith(str(layout.painted)) and made["adjectives"] == ["outstanding"]
    pixels = np.full((8, 8, 3), 200, np.uint8)
    for subject in ("a beacon", "a castle", "a volcano"):
        for word in ("outstanding", "horrible"):
            if (subject, word) != ("a castle", "outstanding"):
                about = made | {"subject": subject, "adjective": word, "text": f"{word} {subject}"}
                about["adjectives"] = ["outstanding", "horrible"]
                Painting(pixels, about).save(layout.painted / f"{word}-{subject}.png")
    Painting(pixels, made).save(layout.painted / "preview.png")
    Image.fromarray(pixels).save(layout.painted / "from-elsewhere.jpg")
    (nobodys,) = figure_4(SimpleNamespace(folder=layout.folder))
    assert len(nobodys.shots) == 7  # before a report nobody has looked into them
    keep_painted(layout)
    ours, others = figure_4(SimpleNamespace(folder=layout.folder))
    assert (ours.columns, [shot.file for shot in others.shots]) == (3, ["from-elsewhere.jpg"])
    assert [shot.lines[0].split()[-1] for shot in ours.shots] == ["beacon", "castle", "volcano"] * 2
    assert ["outstanding" in shot.lines[0] for shot in ours.shots] == [True] * 3 + [False] * 3
    _, about = ours._repr_mimebundle_()
    shown = pictures(layout, None, about["iaa"]["shots"])
    assert all(jpeg is not None and jpeg.startswith(b"\xff\xd8") for jpeg in shown)


def test_a_folder_and_a_data_set_exclude_each_other(run, tmp_path):
    code, _, errors = run("paint", "a castle", *FAST, "-d", "demo", "-o", tmp_path / "out")
    assert code == 2 and "give --dataset or --out" in errors
