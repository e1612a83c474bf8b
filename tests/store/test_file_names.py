"""Names that become files: none leads elsewhere, and those given before the rule stay readable."""

import os

import numpy as np
import pytest

from analysis.probing.probes import fit_probes
from embed.images.datasets import DatasetError, add_dataset, list_datasets, load_config
from embed.pipeline import feature_path
from embed.prompts.sets import PromptSetError, load_prompt_file
from iaa.exchange.npy import read as read_npy
from iaa.library.layout import Layout, head_path, named_head
from store.errors import UnsafeNameError
from store.features import FEATURES_SCHEMA, open_features
from store.file_names import MAX_BYTES, cache_stem, check_name, place
from store.imports import write_imported
from store.sealed import SealedFile, write_sealed
from store.targets import open_targets, write_targets
from tests.archives import make

GOOD = ["a", "A1", "oasis", "my_set-2.v3", "été", "写真", "фото", "हिन्दी", "_x", "0", "x" * MAX_BYTES, "b+c",
        "console", "nullable", "com10", "vit_b32.openai+finetuned.0123456789"]  # fmt: skip
BAD = ["", ".", "..", "../x", "../../x", "a/b", "/abs", "a\\b", "..\\x", "C:x", "a:b", "a\0b", "a\nb", "a\rb",
       "a\x1b[2J", "a\u202egpj", "a\u200b", "a\ufeff", "a\udcff", "-rf", "--data", ".hidden", "a.", "a ",
       " a", "a b", "a*", "a?", "a[0]", "a|b", "a<b", 'a"b', "a;b", "$HOME", "~", "CON", "nul", "Aux.h5",
       "com1", "LPT9.txt", "COM¹", "e\u0301", "\u0301e", "x" * (MAX_BYTES + 1), "写" * 41]  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_names_that_can_stand(tmp_path, name):
    assert check_name(name, "data set") == name
    assert Layout(tmp_path, name).folder == tmp_path / name


@pytest.mark.parametrize("name", BAD)
def test_names_that_cannot(tmp_path, name):
    """By every door at which a name comes in."""
    rated = {"ratings": tmp_path / "r.csv", "images": tmp_path}
    doors = [
        (UnsafeNameError, lambda: Layout(tmp_path, name)),
        (UnsafeNameError, lambda: Layout(tmp_path, "x").prompts(name, "b")),
        (UnsafeNameError, lambda: named_head(tmp_path, name)),
        (DatasetError, lambda: load_config(tmp_path, name)),
        (DatasetError, lambda: add_dataset(tmp_path, name, "table", **rated)),
    ]
    if not {":", "/"} & set(name):  # which ids may have, and file names not
        doors.append((UnsafeNameError, lambda: Layout(tmp_path, "x").features_of(name)))
        doors.append((UnsafeNameError, lambda: feature_path(tmp_path, name)))
    for kind, enter in doors:
        with pytest.raises(kind, match="cannot name a") as caught:
            enter()
        assert str(caught.value).isascii() and "\n" not in str(caught.value) and len(str(caught.value)) < 400
    assert os.listdir(tmp_path) == []


def test_ids_of_backbones_have_separators_and_lead_nowhere(tmp_path):
    folder = tmp_path / "x" / "features"
    assert Layout(tmp_path, "x").features_of("open_clip:A/b").name == "open_clip_A_b.h5"
    for wrong in ("../../x", "/abs", "a/../../b/..", ":"):
        try:
            assert Layout(tmp_path, "x").features_of(wrong).parent == folder
        except UnsafeNameError:
            continue


def test_what_is_there_is_found_under_its_old_name(tmp_path):
    for old in ("con", "my photos", "e\u0301", "a.", "-x"):
        (tmp_path / old).mkdir()
        write_targets(tmp_path / old / "targets.h5", make.TARGETS, {}, {})
        assert Layout(tmp_path, old).targets.exists()
    (tmp_path / ".git").mkdir()
    with pytest.raises(UnsafeNameError):
        Layout(tmp_path, ".git")
    for outside in ("..", ".", f"../{tmp_path.name}"):
        write_targets(tmp_path / "targets.h5", make.TARGETS, {}, {})
        with pytest.raises(UnsafeNameError):
            Layout(tmp_path, outside)


def test_names_that_other_systems_take_for_the_same(tmp_path):
    (tmp_path / "Holiday").mkdir()
    (tmp_path / "stra\u00dfe").mkdir()
    for alike in ("holiday", "HOLIDAY", "strasse"):
        with pytest.raises(UnsafeNameError, match="some systems take both for the same"):
            place(tmp_path, alike, "data set")
    assert place(tmp_path, "Holiday", "data set") == tmp_path / "Holiday"
    (tmp_path / "B.h5").touch()
    with pytest.raises(UnsafeNameError, match="there is no backbone 'b'.*, but 'B'"):
        place(tmp_path, "b", "backbone", ".h5")


def test_heads_lie_among_heads_unless_a_path_is_given(tmp_path):
    assert head_path(tmp_path, "mine") == tmp_path / "heads" / "mine"
    assert head_path(tmp_path, "./mine").parent.name == ""
    assert str(head_path(tmp_path, "mine.json")) == "mine.json"
    assert str(head_path(tmp_path, "../a/mine")) == "../a/mine"
    with pytest.raises(UnsafeNameError):
        Layout(tmp_path, "heads")
    for name in ("..", "a\nb", "-mine"):
        with pytest.raises(UnsafeNameError):
            head_path(tmp_path, name)


def test_the_name_in_a_prompt_file_is_no_path(tmp_path):
    for name in ("../../x", "CON", ".x"):
        file = tmp_path / "p.toml"
        file.write_text(f'name = "{name}"\nhigh = ["a"]\nlow = ["b"]\ntemplates = ["{{label}}"]')
        with pytest.raises(PromptSetError, match="cannot name a prompt set"):
            load_prompt_file(file)


def test_names_in_imported_vectors_are_no_paths(tmp_path, rng):
    np.save(tmp_path / "v.npy", rng.standard_normal((3, 4)).astype(np.float32))
    (tmp_path / "ids.txt").write_text("a\nb\nc\n")
    found = read_npy(tmp_path / "v.npy", tmp_path / "ids.txt")
    for backbone, output in (("b", "../../x"), ("b", "a/b"), ("..", "embedding"), ("b\x1b", "embedding")):
        with pytest.raises(UnsafeNameError):
            write_imported(found, tmp_path / "x.h5", backbone, output)
    assert not (tmp_path / "x.h5").exists()


def test_a_cache_lies_in_its_folder_whatever_the_features_call_their_output(tmp_path, rated_world):
    """The output's name comes from a file that somebody may have sent."""
    assert cache_stem("vit_b32", "pooled", "raw") == "vit_b32_pooled_raw"
    for parts in (("a", "../../../x"), ("a", "x" * 300), ("a\n",), ("..",)):
        assert cache_stem(*parts).isalnum()
        assert cache_stem(*parts) != cache_stem(*parts, "raw")
    with SealedFile(rated_world / "features" / "sharp.h5") as file:
        arrays = {n: file.strings(n) if d.kind == "S" else file.view(n) for n, (_, d) in file.arrays.items()}
        name = next(name for name in arrays if name.startswith("outputs/"))
        arrays["outputs/x/../../../../evil"] = arrays.pop(name)
        write_sealed(tmp_path / "sent.h5", FEATURES_SCHEMA, file.identity, {}, arrays)
    cache = tmp_path / "root" / "set" / "derived"
    with open_features(tmp_path / "sent.h5") as features:
        fit_probes(
            features, open_targets(rated_world / "targets.h5"), "x/../../../../evil", n_folds=2, cache=cache
        )
    made = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "sent.h5"]
    assert len(made) == 2 and {path.parent for path in made} == {cache}


def test_one_damaged_configuration_hides_no_other_data_set(tmp_path, caplog):
    for name, text in (("a", "kind = "), ("b", 'kind = "folder"\nimages = "x"')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dataset.toml").write_text(text)
    assert [config.name for config in list_datasets(tmp_path)] == ["demo", "b"]
    assert "a/dataset.toml is not valid TOML" in caplog.text
    with pytest.raises(DatasetError, match="there are: demo, a, b"):
        load_config(tmp_path, "c")
