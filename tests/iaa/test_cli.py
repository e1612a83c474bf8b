"""The command line as people type it: answers, --json, mistakes, exit codes."""

import csv
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import iaa
from embed.backbones.families import FAMILIES
from embed.images.config import Kind
from embed.images.kinds import KINDS
from iaa.library.backbones import any_other
from iaa.library.datasets import told_kinds
from store import MissingFileError
from tests.iaa.conftest import run_python


@pytest.fixture
def photographs(tmp_path):
    rng = np.random.default_rng(1)
    folder = tmp_path / "photos"
    folder.mkdir()
    rows = [["file", "score", "split"]]
    for i in range(40):
        bright = i / 40
        pixels = np.clip(rng.normal(255 * bright, 30, (80, 90, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        rows.append([f"{i}.png", 1 + 9 * bright, "test" if i % 4 == 0 else "train"])
    (folder / "broken.jpg").write_bytes(b"oops")
    rows.append(["broken.jpg", 3, "train"])
    with (tmp_path / "ratings.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows(rows)
    return folder, tmp_path / "ratings.csv"


@pytest.fixture
def mine(run, photographs):
    folder, ratings = photographs
    code, _, err = run("dataset", "add", "mine", "--kind", "table", "--images", folder, "--ratings", ratings)
    assert code == 0 and "Next: iaa embed --dataset mine" in err
    return run


def test_from_photographs_to_numbers(mine, tmp_path):
    code, out, _ = mine("embed", "-d", "mine", "-b", "demo_clip", "--json")
    answer = json.loads(out)
    assert code == 0 and answer["files"][0]["n_images"] == 41 and answer["files"][0]["n_failed"] == 1
    assert answer["batch_size"] == 32 and answer["precision"] == ["float32"]
    assert set(answer["seconds"]) == {"read", "decode", "resize", "wait", "encode", "write", "wall"}
    logged = json.loads((tmp_path / "data/mine/logs/runs.jsonl").read_text().splitlines()[-1])
    assert logged["seconds"] == answer["seconds"] and logged["batch_size"] == 32
    code, _, err = mine("embed", "-d", "mine", "-b", "demo_clip")
    assert code == 0 and "Nothing to do" in err
    code, _, err = mine("embed", "-d", "mine", "-b", "demo_clip", "-p", "paper_fixed")
    assert code == 0
    code, out, _ = mine(
        "rank", "-d", "mine", "--high", "beautiful", "--low", "ugly", "--csv", tmp_path / "r.csv", "--json"
    )
    ranked = json.loads(out)
    assert code == 0 and ranked["n_ranked"] == 40 and ranked["n_failed"] == 1
    written = list(csv.DictReader((tmp_path / "r.csv").open()))
    assert len(written) == 40
    assert [float(r["score"]) for r in written] == sorted((float(r["score"]) for r in written), reverse=True)
    code, out, _ = mine("info", tmp_path / "data/mine/features/demo_clip.h5", "--json")
    described = json.loads(out)
    assert described["failures"] == {"broken.jpg": "not an image of a known format (starts with b'oops')"}
    code, out, _ = mine("verify", "--json")
    assert code == 0 and json.loads(out)["n_damaged"] == 0


def test_damage_is_an_exit_code(mine, tmp_path):
    mine("embed", "-d", "mine", "-b", "demo_vit")
    file = tmp_path / "data/mine/features/demo_vit.h5"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 16
    file.write_bytes(data)
    code, out, _ = mine("verify", "--json")
    assert code == 1 and json.loads(out)["n_damaged"] == 1


def test_show_counts(mine):
    code, out, _ = mine("dataset", "show", "mine", "--json")
    answer = json.loads(out)
    assert code == 0
    assert (answer["n_images"], answer["splits"]) == (41, {"train": 31, "test": 10})
    code, out, _ = mine("dataset", "list", "--json")
    assert [d["name"] for d in json.loads(out)["datasets"]] == ["demo", "mine"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["embed", "-d", "nope"], 1, "no data set 'nope'"),
        (["embed", "-d", "mine", "-b", "vit_b32.opnai"], 1, "vit_b32.openai"),
        (["embed", "-d", "mine", "-b", "vit_b32.in21k"], 1, "--weights FILE"),
        (["embed", "-d", "mine", "--device", "cuda:7", "-b", "demo_vit"], 1, "found here: cpu"),
        (["embed", "--no-such-option"], 2, "No such option"),
        (["embed", "--batch-size", "many"], 2, "auto or a number of at least 1"),
        (["embed", "--precision", "int8"], 2, "bfloat16"),
        (["embed", "-b", "demo_vit", "-b", "demo_clip", "--weights", "x.pt"], 2, "exactly one --backbone"),
        (["embed", "-d", "mine", "-b", "demo_vit", "-p", "paper_fixed"], 2, "Name a CLIP backbone"),
        (["rank", "-d", "mine", "--high", "great"], 2, "words on both sides"),
        (["prompts", "evaluate", "-d", "mine"], 1, "Try: iaa embed --dataset mine --backbone vit_b32.openai"),
        (["report", "-d", "mine"], 1, "Try: iaa embed --dataset mine"),
        (["probe", "-d", "mine"], 1, "Try: iaa embed --dataset mine"),
        (["verify", "--dataset", "nope"], 1, "no data set 'nope'"),
        (["verify", "-d", "mine", "x.h5"], 2, "exclude each other"),
        (["verify", "nowhere"], 2, "does not exist"),
        (["dataset", "add", "x", "--kind", "table", "--images", "nowhere"], 1, "needs 'ratings'"),
    ],
)
def test_mistakes_say_what_to_do(mine, arguments, code, message):
    got, out, err = mine(*arguments)
    assert (got, out) == (code, "")
    assert message in " ".join(err.split())
    assert "Traceback" not in err


def test_help_teaches(run):
    code, out, _ = run("--help")
    assert code == 0 and "iaa report" in out
    code, out, _ = run("backbone", "list", "--json")
    ids = {b["id"]: b for b in json.loads(out)["backbones"]}
    assert ids["demo_clip"]["can_run_here"] and ids["vit_b32.openai"]["outputs"] == {
        "pre_projection": 768,
        "embedding": 512,
    }


def test_kinds_and_families_are_told_by_what_there_is(run, monkeypatch):
    out = run("backbone", "list")
    assert "transformers:" in " ".join((out[1] + out[2]).split())
    monkeypatch.setitem(FAMILIES, "mine", "tests.family")
    monkeypatch.setattr("embed.backbones.families.family", lambda name: SimpleNamespace(form=f"{name}:X"))
    assert any_other().startswith("Any other: mlsp:X or open_clip:X or timm:X or transformers:X or mine:X,")
    assert told_kinds().startswith("table (CSV or Parquet with ratings), ava (")
    assert "demo" not in told_kinds()
    monkeypatch.setitem(KINDS, "plain", Kind({}, build=None, about="plain files"))
    assert told_kinds().endswith("plain (plain files)")


def test_a_mistyped_backbone_is_told_before_anything_is_loaded_or_listed(tmp_path):
    code = (
        "import sys\nfrom iaa.cli.app import main\n"
        f"arguments = ['embed', '-d', 'demo', '-b', 'vit_b23.openai', '--data', {str(tmp_path)!r}]\n"
        "try:\n    main(arguments)\nexcept SystemExit as stop:\n"
        "    print(stop.code, [name for name in ('torch', 'timm', 'pandas') if name in sys.modules])\n"
    )
    done = run_python(code)
    assert done.stdout == "1 []\n" and "Did you mean vit_b32.openai" in done.stderr
    assert done.stderr.endswith("Try: iaa backbone list\n") and not list(tmp_path.iterdir())


def test_a_file_that_is_not_there_is_answered_with_those_that_are(mine, tmp_path):
    made = tmp_path / "data/mine/features/demo_vit.h5"
    assert mine("embed", "-d", "mine", "-b", "demo_vit")[0] == 0
    code, out, err = mine("info", tmp_path / "data/mine/features/demo_vti.h5")
    assert (code, out) == (1, "") and "Did you mean demo_vit.h5?" in err
    assert err.splitlines()[1:] == [f"  {made}", f"  {tmp_path / 'data/mine/targets.h5'}"]
    assert f"Did you mean {made}?" in mine("info", "demo_vit.h5")[2]
    code, out, _ = mine("verify", "--dataset", "mine", "--json")
    assert code == 0 and json.loads(out)["n_files"] == 2


def test_an_error_says_what_to_do_as_data_and_to_python_as_a_call(mine, tmp_path):
    code, out, _ = mine("probe", "-d", "mine", "--json")
    assert code == 1 and json.loads(out)["error"]["hint"] == {
        "command": "iaa embed --dataset mine",
        "python": "iaa.open_dataset('mine').embed()",
    }
    with pytest.raises(MissingFileError, match="holds no feature file; embedded with: none") as raised:
        iaa.open_dataset("mine", tmp_path / "data").fit_probe()
    assert raised.value.__notes__ == ["In Python: iaa.open_dataset('mine').embed()"]
    assert raised.value.hint.command == "iaa embed --dataset mine" not in str(raised.value)


def test_asking_for_help_does_not_load_torch():
    code = "import sys, iaa.cli.app; assert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.getcwd()})


def test_new_photographs_are_added_by_update(run, tmp_path):
    folder = tmp_path / "holiday"
    folder.mkdir()
    for i in range(5):
        Image.new("RGB", (60, 50), (40 * i, 90, 200)).save(folder / f"{i}.png")
    assert run("dataset", "add", "holiday", "--kind", "folder", "--images", folder)[0] == 0
    assert run("embed", "-d", "holiday", "-b", "demo_vit")[0] == 0
    Image.new("RGB", (60, 50), (9, 9, 9)).save(folder / "0b.png")
    code, _, err = run("embed", "-d", "holiday", "-b", "demo_vit")
    assert code == 1 and "To keep the rows of unchanged ones: iaa embed --update" in err
    code, _, err = run("embed", "-d", "holiday", "-b", "demo_vit", "--update")
    assert code == 0 and "5 of 6 images have their rows already" in err
    code, _, err = run("embed", "-d", "holiday", "-b", "demo_vit")
    assert code == 0 and "Nothing to do" in err
    code, _, err = run("embed", "-d", "holiday", "-b", "demo_vit", "--update", "--overwrite")
    assert code == 2 and "give it alone" in err
    code, out, _ = run("embed", "-d", "holiday", "-b", "demo_vit", "-b", "demo_clip", "--update", "--json")
    assert code == 0 and [file["n_new"] for file in json.loads(out)["files"]] == [0, 6]


def test_rows_of_another_list_are_not_served(mine, photographs, tmp_path):
    """The same ids with other files: what was refused by embed is not read by anybody else either."""
    _, ratings = photographs
    rows = [row | {"id": f"n{i}"} for i, row in enumerate(csv.DictReader(ratings.open()))]
    moved = [row | {"file": other["file"]} for row, other in zip(rows, [*rows[1:], rows[0]], strict=True)]

    def write(rows):
        with ratings.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    write(rows)
    assert mine("embed", "-d", "mine", "-b", "demo_clip")[0] == 0
    write(moved)
    before = [mine("dataset", "show", "mine", "--json"), mine("embed", "-d", "mine", "-b", "demo_clip")]
    assert [code for code, _, _ in before] == [0, 1]
    for command in (
        ["probe", "-b", "demo_clip"],
        ["export", tmp_path / "x.parquet"],
        ["search", "--like", rows[0]["file"]],
        ["rank", "--high", "great", "--low", "ugly"],
    ):
        code, out, err = mine(*command, "-d", "mine")
        assert (code, out) == (1, "") and "iaa embed --update --backbone demo_clip" in " ".join(err.split())
    assert mine("embed", "-d", "mine", "-b", "demo_clip", "--update")[0] == 0
    assert mine("export", tmp_path / "x.parquet", "-d", "mine")[0] == 0


def test_a_stopped_update_is_gone_on_from_with_its_own_batches(run, tmp_path, monkeypatch):
    folder = tmp_path / "holiday"
    folder.mkdir()
    Image.new("RGB", (60, 50), (1, 90, 200)).save(folder / "1.png")
    assert run("dataset", "add", "holiday", "--kind", "folder", "--images", folder)[0] == 0
    assert run("embed", "-d", "holiday", "-b", "demo_vit")[0] == 0
    Image.new("RGB", (60, 50), (9, 9, 9)).save(folder / "2.png")
    with monkeypatch.context() as patched:
        patched.setattr("store.run.merge_parts", None)
        assert run("embed", "-d", "holiday", "-b", "demo_vit", "--update", "--batch-size", "4")[0] == 1
    code, _, err = run("embed", "-d", "holiday", "-b", "demo_vit", "--update")
    assert code == 0 and err.count("1 of 2 images have their rows already") == 2  # kept, and made before


def test_a_folder_says_what_it_passes_over_and_leaves_out(run, tmp_path):
    folder = tmp_path / "photos"
    names = "a.jpg b.jfif c.jp2 d.CR2 e.mov f.MOV g.xmp @eaDir/t.jpg 2019/h.jpg"
    for name in names.split():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    added = run("dataset", "add", "mine", "--kind", "folder", "--images", folder, "-o", "exclude=2019")
    assert added[0] == 0 and "dataset.toml: 4 images" in added[2]
    assert "passed over: 3 files that are no photographs (.mov 2, .xmp 1)" in added[2]
    assert "left out by name: 2019 1, @eaDir 1" in " ".join(added[2].split())
    shown = json.loads(run("dataset", "show", "mine", "--json")[1])
    assert (shown["n_images"], shown["n_files_passed_over"]) == (4, {".mov": 2, ".xmp": 1})
    assert shown["notes"][0].startswith("left out by name: ")
    code, _, err = run("dataset", "add", "other", "--kind", "folder", "--images", folder, "-o", "exclude=")
    assert code == 1 and "exclude is '', expected a name or pattern" in err
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.mov").write_bytes(b"x")
    code, _, err = run("dataset", "add", "none", "--kind", "folder", "--images", tmp_path / "none")
    assert code == 1 and "holds no images" in err and "Passed over: .mov 1" in " ".join(err.split())
