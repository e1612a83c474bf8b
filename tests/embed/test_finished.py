"""Nothing to do is found without a model, and never where there is something to do."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import embed.finished
from embed.backbones.loading import load_backbone
from embed.finished import feature_path, finished_already, note_finished
from embed.images.datasets import ImageTable
from embed.pipeline import Options, embed_images

OPTIONS = Options(batch_size=8, n_threads=1)
ASKED = ({}, OPTIONS, "float32")


@pytest.fixture
def table(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for i in range(9):
        pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png", compress_level=0)  # all of one size
    names = np.array([f"{i}.png" for i in range(9)])
    return ImageTable("t", folder, names, names)


@pytest.fixture
def place(tmp_path, table):
    """A finished file with its note."""
    outcomes = embed_images(table, [load_backbone("demo_vit")], tmp_path / "features", OPTIONS)
    note_finished(tmp_path / "notes", table, outcomes, *ASKED)
    return tmp_path


def ask(place, table, weights=None, options=OPTIONS, precision="float32", update=False, ids=("demo_vit",)):
    return finished_already(
        place / "notes", table, ids, place / "features", weights or {}, options, precision, update
    )


def test_what_was_noted_is_found_again(place, table):
    ((outcome, made),) = ask(place, table)
    assert (outcome.n_images, outcome.n_failed, outcome.n_new) == (9, 0, 0)
    assert outcome.path == feature_path(place / "features", "demo_vit") and made["batch_size"] == 8
    assert ask(place, table, update=True) == ask(place, table)


def test_other_questions_have_other_answers(place, table, tmp_path):
    from dataclasses import replace

    assert ask(place, table, precision="bfloat16") is None
    for change in ({"is_exact": True}, {"exif_rotate": True}, {"overwrite": True}, {"check_content": True}):
        assert ask(place, table, options=replace(OPTIONS, **change)) is None
    assert ask(place, table, ids=("demo_vit", "demo_clip")) is None
    assert ask(place, table, ids=("no_such_backbone",)) is None
    fewer = ImageTable("t", table.root, table.image_id[:8], table.path[:8])
    assert ask(place, fewer) is None
    own = tmp_path / "other.safetensors"
    own.write_bytes(b"other weights")
    assert ask(place, table, weights={"demo_vit": own}) is None
    assert ask(place, table, weights={"demo_vit": tmp_path / "missing.pt"}) is None


def test_a_changed_picture_is_seen(place, table):
    path = table.root / "4.png"
    before = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert ask(place, table) is None
    path.unlink()
    assert ask(place, table) is None


@pytest.mark.parametrize("what", ["features/demo_vit.h5", "features/demo_vit.h5.seen", "notes/demo_vit.json"])
def test_without_one_of_the_files_the_run_itself_looks(place, table, what):
    (place / what).unlink()
    assert ask(place, table) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"asked": 1}', '{"asked": "", "file": ""}'])
def test_a_damaged_note_is_none(place, table, text):
    (place / "notes/demo_vit.json").write_text(text)
    assert ask(place, table) is None


def test_another_program_or_library_asks_anew(place, table, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(embed.finished, "library_versions", lambda spec: {"torch": "0"})
        assert ask(place, table) is None
    with monkeypatch.context() as patch:
        patch.setattr(embed.finished, "program_digest", lambda: "other sources")
        assert ask(place, table) is None
    assert ask(place, table) is not None


def test_another_file_in_its_place_is_not_finished(place, table):
    path = feature_path(place / "features", "demo_vit")
    seen = path.with_name(path.name + ".seen").read_bytes()
    path.unlink()
    embed_images(table, [load_backbone("demo_vit")], place / "features", Options(batch_size=3, n_threads=1))
    path.with_name(path.name + ".seen").write_bytes(seen)
    assert ask(place, table) is None


def test_an_unfinished_run_or_update_is_gone_on_with(place, table):
    for name in ("demo_vit.h5.parts", "update"):
        folder = place / "features" / name
        folder.mkdir()
        assert ask(place, table) is None
        folder.rmdir()
    assert ask(place, table) is not None


def test_failed_rows_are_tried_again_by_an_update(place, table):
    (table.root / "4.png").write_bytes(b"no picture")
    options = Options(batch_size=8, n_threads=1, overwrite=True)
    outcomes = embed_images(table, [load_backbone("demo_vit")], place / "features", options)
    note_finished(place / "notes", table, outcomes, *ASKED)
    assert ask(place, table)[0][0].n_failed == 1
    assert ask(place, table, update=True) is None


def test_torch_is_not_loaded_when_there_is_nothing_to_do(tmp_path, table):
    """The command in a process of its own, in which importing torch is an error."""
    names = {**os.environ, "IAA_DATA": str(tmp_path / "data"), "PYTHONPATH": os.getcwd()}

    def iaa(*commands, blocked=""):
        code = (
            f"import sys; {blocked}\nfrom iaa.cli.app import main\nfor command in {commands!r}:\n"
            "  try: main(command)\n  except SystemExit as end: print('code', end.code or 0)"
        )
        done = subprocess.run([sys.executable, "-c", code], env=names, capture_output=True, text=True)
        return done.stdout + done.stderr

    asked = ["embed", "-d", "mine", "-b", "demo_vit"]
    made = iaa(["dataset", "add", "mine", "--kind", "folder", "--images", str(table.root)], asked)
    assert made.count("code 0") == 2, made
    blocked = "sys.modules['torch'] = None"
    said = iaa(asked, [*asked, "--update"], [*asked, "--json"], blocked=blocked)
    assert said.count("code 0") == 3 and said.count("Nothing to") == 2 and '"n_new": 0' in said, said
    assert "code 1" in iaa([*asked, "--overwrite"], blocked=blocked), "it would have been noticed"
