"""What people mistype, and what they are told to type next."""

import json
import shlex
import shutil

import numpy as np
import pytest
from PIL import Image

import iaa
from iaa.library.next_steps import next_step
from store.errors import did_you_mean


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two data sets of the same 20 pictures embedded by demo_clip: `rated`, with scores, and `plain`."""
    root = tmp_path_factory.mktemp("made")
    draw_pictures(root / "photos", 20)
    rows = [f"p{i:02d}.png,{1 + i % 7},{'test' if i % 3 == 0 else 'train'}\n" for i in range(20)]
    (root / "ratings.csv").write_text("file,score,split\n" + "".join(rows))
    data, photos = root / "data", root / "photos"
    iaa.add_dataset("rated", "table", photos, root / "ratings.csv", data=data).embed("demo_clip")
    iaa.add_dataset("plain", "folder", photos, data=data).embed("demo_clip")
    return root


@pytest.fixture
def world(made, run, tmp_path, monkeypatch):
    """A copy of them that the test may change, in its working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def draw_pictures(folder, n):
    """Small pictures, from dark to bright, with noise."""
    folder.mkdir()
    rng = np.random.default_rng(4)
    for i in range(n):
        pixels = np.clip(rng.normal(10 + 11 * i, 12, (40, 56, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"p{i:02d}.png")


def next_command(err):
    """The words after the last "Next: iaa", or None."""
    lines = [line for line in err.splitlines() if line.startswith("Next: iaa ")]
    return shlex.split(lines[-1].removeprefix("Next: iaa ")) if lines else None


def test_near_names_are_offered_the_most_alike_first():
    assert did_you_mean("holliday", ["demo", "Holiday", "mine"]) == " Did you mean Holiday?"
    assert did_you_mean("my-tast", ["my-taste2", "my-taste"]) == " Did you mean my-taste or my-taste2?"
    assert did_you_mean("zebra", ["demo", "mine"]) == did_you_mean("x", []) == ""


@pytest.mark.timeout(120)
def test_mistyped_names_are_answered_with_those_that_were_meant(run, world):
    fit = "probe -d rated -b demo_clip --output embedding --save my-taste"
    assert run(*fit.split())[0] == 0
    (world / "sky.toml").write_text(
        'name = "skies"\ntemplates = ["a {label} sky"]\nhigh = ["blue"]\nlow = ["grey"]\n'
    )
    assert run("embed", "-d", "plain", "-b", "demo_clip", "-p", "sky.toml")[0] == 0
    for arguments, meant in (
        ("embed -d ratd", "rated"),
        ("dataset show plian", "plain"),
        ("search dog -d plain -b demo_clp", "demo_clip"),
        ("embed -d plain -b vit_b32.openia", "vit_b32.openai"),
        ("rank -d plain --head mytaste", "my-taste"),
        ("head show my_taste", "my-taste"),
        ("rank -d plain -p paper_fix", "paper_fixed"),
        ("rank -d plain -p skys", "skies"),
        ("rank -d plain -p skies --high bleu", "blue"),
        ("prompts remove skyes -d plain", "skies"),
        ("prompts check paper_contex", "paper_context"),
        ("probe -d rated -b demo_clip --output embeding", "embedding"),
        ("export out.csv -d plain --output pre_projecton", "pre_projection"),
    ):
        code, _, err = run(*arguments.split())
        assert code in {1, 2} and f"Did you mean {meant}" in err, (arguments, err)
    code, out, _ = run("rank", "-d", "plian", "--head", "my-taste", "--json")
    assert code == 1 and "Did you mean plain?" in out


@pytest.mark.timeout(120)
def test_what_is_named_next_works_when_it_is_typed(run, world):
    """From adding a data set to the report, rated and not, by what is printed alone."""
    seen = []
    for start in (
        "dataset add third --kind folder --images photos",
        "embed -d plain -b demo_clip",
        "embed -d rated -b demo_clip",
        "embed -d plain -b demo_clip -p paper_fixed",
        "probe -d rated -b demo_clip",
    ):
        words = start.split()
        while words and words[0] != "report":
            code, _, err = run(*words)
            assert code == 0, (words, err)
            seen.append(" ".join(words))
            words = next_command(err)
        seen.append(" ".join(words or []))
    assert "search --like p00.png --dataset third --backbone efficientnet_lite0.in1k" in seen
    assert "prompts evaluate --dataset rated --backbone demo_clip" in seen
    assert "rank --high beautiful --low ugly --dataset plain --backbone demo_clip" in seen
    assert "rank --prompts paper_fixed --dataset plain --backbone demo_clip" in seen
    assert seen.count("report --dataset rated --backbone demo_clip") == 2


@pytest.mark.timeout(120)
def test_prompts_may_be_encoded_before_the_images(run, world):
    assert run("dataset", "add", "fourth", "--kind", "folder", "--images", "photos")[0] == 0
    code, _, err = run("embed", "-d", "fourth", "-b", "demo_clip", "-p", "paper_fixed")
    assert code == 0 and next_command(err) == ["embed", "--dataset", "fourth", "--backbone", "demo_clip"]


@pytest.mark.timeout(120)
def test_backbones_that_are_not_named_are_those_that_are_embedded(run, world, monkeypatch):
    assert run("embed", "-d", "rated", "-b", "demo_vit")[0] == 0
    code, out, _ = run("probe", "-d", "rated", "--json", "--n-boot", 20)
    assert code == 0 and {r["backbone"] for r in json.loads(out)["results"]} == {"", "demo_clip", "demo_vit"}
    asked = {}
    monkeypatch.setattr("notebooks.run.run_report", lambda folder, p, **more: asked.update(p) or folder)
    assert run("report", "-d", "rated")[0] == 0 and asked["backbones"] == ["demo_clip", "demo_vit"]
    code, out, _ = run("embed", "-d", "rated", "-p", "paper_fixed", "--json")
    assert code == 0 and [file["backbone"] for file in json.loads(out)["files"]] == ["demo_clip"]
    (world / "data/rated/features/demo_clip.h5").unlink()
    code, out, err = run("embed", "-d", "rated", "-p", "paper_fixed")
    assert (code, out) == (2, "") and "demo_vit has no text tower. Name a CLIP backbone" in err


def test_what_is_next_is_a_value(world):
    layout = iaa.open_dataset("plain", world / "data").layout
    step = next_step(layout, ["demo_clip"], {"demo_clip": "w x.pt"})
    asked = "--dataset plain --backbone demo_clip --weights 'w x.pt'"
    assert step.command == f"iaa rank --high beautiful --low ugly {asked}"
    assert step.python == (
        "iaa.open_dataset('plain').rank(high='beautiful', low='ugly', backbone='demo_clip')"
    )


@pytest.mark.timeout(120)
def test_overwrite_replaces_what_is_refused_without(run, world):
    prompts = world / "own.toml"
    text = 'name = "own"\ntemplates = ["{label}"]\nhigh = ["bright"]\nlow = ["WORD"]\n'
    probe = "probe -d rated -b demo_clip --save head --output"
    draw_pictures(world / "others", 3)
    for first, other, file in (
        ("embed -d rated -b demo_clip -p own.toml", None, "rated/prompts/own/demo_clip.h5"),
        (f"{probe} embedding", f"{probe} pre_projection", "heads/head.safetensors"),
        (
            "dataset add fifth --kind folder --images photos",
            "dataset add fifth --kind folder --images others",
            "fifth/dataset.toml",
        ),
        (
            "embed -d plain -b demo_clip",
            "embed -d plain -b demo_clip --precision bfloat16",
            "plain/features/demo_clip.h5",
        ),
    ):
        prompts.write_text(text.replace("WORD", "dark"))
        assert run(*first.split())[0] == 0
        kept = (world / "data" / file).read_bytes()
        prompts.write_text(text.replace("WORD", "gloomy"))
        words = (other or first).split()
        code, _, err = run(*words)
        assert code in {1, 2} and "--overwrite" in err, (words, err)
        assert (world / "data" / file).read_bytes() == kept
        code, _, err = run(*words, "--overwrite")
        assert code == 0, (words, err)
        assert (world / "data" / file).read_bytes() != kept


def test_words_without_a_text_tower_name_the_backbones_that_read(run, world):
    pixels = world / "photos" / "p00.png"
    assert run("embed", "-d", "plain", "-b", "demo_vit")[0] == 0
    code, _, err = run("rank", "-d", "plain", "-b", "demo_vit", "--high", "a", "--low", "b")
    assert code == 2 and "demo_vit has no joint embedding" in err and "--backbone demo_clip" in err
    code, _, err = run("search", "--like", pixels)
    assert code == 2 and "choose one by --dataset plain or --dataset rated" in err
