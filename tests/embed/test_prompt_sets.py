"""Prompt sets: the paper's texts, user files, and clear errors."""

from pathlib import Path

import pytest

from embed.prompts.sets import (
    PROMPT_SETS,
    Label,
    PromptSet,
    PromptSetError,
    expand,
    get_prompt_set,
    load_content_names,
    load_prompt_file,
)


def test_paper_fixed_is_39_prompts_of_27_high_and_12_low_labels() -> None:
    table = expand(PROMPT_SETS["paper_fixed"])
    assert len(table) == 39
    assert table.polarity == (1,) * 27 + (-1,) * 12
    assert table.text[0] == "a great picture"
    assert table.text[11] == "a not bad picture"
    assert table.text[-1] == "a horrible picture"
    assert set(table.content) == {""}


def test_paper_context_is_39000_prompts_label_by_label() -> None:
    table = expand(PROMPT_SETS["paper_context"])
    assert len(table) == 39_000
    assert table.text[0] == "a great picture, of a #tench"
    assert table.label[999] == "great"
    assert table.label[1000] == "outstanding"
    assert table.text[38_000 + 2] == "a horrible picture, of a #great white shark"


def test_imagenet_names_are_cut_at_the_first_comma_and_keep_their_repetitions() -> None:
    names = load_content_names("imagenet1k")
    assert len(names) == 1000
    assert not any("," in name for name in names)
    assert names.count("crane") == 2
    with pytest.raises(PromptSetError, match="known: imagenet1k, imagenet21k"):
        load_content_names("imagenet")


def test_imagenet_21k_is_timms_list() -> None:
    names = load_content_names("imagenet21k")
    assert len(names) == 21_843
    assert names[0] == "organism"
    assert not any("," in name or name != name.strip() for name in names)
    pair = PromptSet("x", (Label("great", 1),), ("a {label} picture, of a #{content}",), "imagenet21k")
    assert expand(pair).text[0] == "a great picture, of a #organism"


def write(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_user_file_with_text_file_of_contents(tmp_path: Path) -> None:
    (tmp_path / "things.txt").write_text("# a comment\ndog\n\nold house\n", encoding="utf-8")
    path = write(
        tmp_path,
        'high = ["sharp"]\nlow = ["blurry"]\nneutral = ["plain"]\n'
        'templates = ["a {label} photo of a {content}", "{content}, {label}"]\n'
        'contents = "things.txt"\n',
    )
    prompt_set = load_prompt_file(path)
    assert prompt_set.name == "mine"
    assert prompt_set.labels == (Label("sharp", 1), Label("blurry", -1), Label("plain", 0))
    table = expand(prompt_set)
    assert table.text[:4] == (
        "a sharp photo of a dog",
        "a sharp photo of a old house",
        "dog, sharp",
        "old house, sharp",
    )
    assert table.template[3] == "{content}, {label}"
    assert table.content[3] == "old house"
    assert get_prompt_set(path) == prompt_set


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('high = ["a"]\ntemplates = ["x"]', r"no \{label\}"),
        ('high = ["a"]\ntemplates = ["{labl}"]', r"unknown field \['labl'\]"),
        ('high = ["a"]\ntemplates = ["{label"]', "cannot be read"),
        ('high = ["a"]\ntemplates = ["{label} {content}"]', "there are no contents"),
        ('high = ["a"]\ntemplates = ["{label}"]\ncontents = ["dog"]', "although contents"),
        ('high = ["a"]\nlow = ["a"]\ntemplates = ["{label}"]', "'a' is listed twice"),
        ('high = [" a"]\ntemplates = ["{label}"]', "spaces at its ends"),
        ('templates = ["{label}"]', "no labels"),
        ('high = ["a"]', "no templates"),
        ('high = "a"\ntemplates = ["{label}"]', "high must be a list of strings"),
        ('hihg = ["a"]\ntemplates = ["{label}"]', r"unknown keys \['hihg'\]"),
        ('high = ["a"]\ntemplates = ["{content} {label}"]\ncontents = "no.txt"', "looked for"),
        ('name = "a/b"\nhigh = ["a"]\ntemplates = ["{label}"]', "becomes a folder"),
        ("high = [", "not a readable TOML file"),
    ],
)
def test_faulty_files_say_what_is_wrong_and_where(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(PromptSetError, match=message) as caught:
        load_prompt_file(write(tmp_path, text))
    assert "mine.toml" in str(caught.value)


def test_unknown_set_lists_the_known_and_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PromptSetError, match="known: paper_fixed, paper_context"):
        get_prompt_set("paper_contxt")
    with pytest.raises(PromptSetError, match="no such prompt file"):
        get_prompt_set(tmp_path / "absent.toml")


def test_names_of_conceptnets_form_are_english_terms_each_once(tmp_path: Path) -> None:
    lines = [
        "/c/en/hot_dog",
        "/c/de/hund",
        "/c/en/dog/n",
        "/c/en/dog/v/wn/act",
        "/c/en/sea_lion 0.1 0.2",
        "/a/[/r/IsA/,/c/en/yawl/,/c/en/boat/n/]\t/r/IsA\t/c/en/yawl\t/c/en/boat/n\t{}",
        "/c/en/",
    ]
    (tmp_path / "names.txt").write_text("\n".join(lines), encoding="utf-8")
    text = 'high = ["great"]\nlow = ["ugly"]\ntemplates = ["a {label} {content}"]\ncontents = "names.txt"\n'
    found = load_prompt_file(write(tmp_path, text))
    assert found.contents == ("hot dog", "dog", "sea lion", "yawl", "boat")
    (tmp_path / "names.txt").write_text("/c/de/hund\n", encoding="utf-8")
    with pytest.raises(PromptSetError, match="no content names"):
        load_prompt_file(write(tmp_path, text))


def test_imagenet_21k_comes_as_a_set_with_the_labels_that_were_best_with_contents() -> None:
    table = expand(get_prompt_set("imagenet21k"))
    assert len(table) == 3 * 21_843
    assert list(dict.fromkeys(zip(table.label, table.polarity, strict=True))) == [
        ("smashing", 1), ("outstanding", 1), ("horrible", -1)
    ]  # fmt: skip
