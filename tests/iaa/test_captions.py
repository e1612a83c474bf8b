"""`iaa caption`: what people's files say, what is missing in them, and prompts of each photograph's own."""

import json

import numpy as np
import pytest
from PIL import Image

import iaa
from iaa.library.caption_files import clean_caption, read_captions, sort_captions
from iaa.library.captions import add_captions, embed_captions, remove_captions
from iaa.library.errors import UsageError
from iaa.library.layout import Layout
from iaa.library.prompts import evaluate_prompts
from store import IdentityError, MissingFileError, open_captions, open_prompts
from store.errors import TableError

IDS = ["a1", "a2", "a3", "a4"]
PATHS = ["x/a1.jpg", "x/a2.jpg", "x/a3.jpg", "x/a4.jpg"]


def captions_of(path, **how):
    found = sort_captions(read_captions(path, **how), IDS, PATHS, path.name)
    return found.captions, found


def test_csv_json_lines_and_json_say_the_same(tmp_path):
    (tmp_path / "c.csv").write_text("file,caption\nx/a1.jpg,a dog\nx/a1.jpg,a  brown\tdog\nx/a3.jpg,a cat\n")
    lines = [{"file": "x/a1.jpg", "caption": "a dog"}, {"file": "a1", "captions": ["a brown dog"]}]
    lines = [
        {"file": "x/a1.jpg", "captions": ["a dog", "a brown dog"]},
        {"file": "x/a3.jpg", "caption": "a cat"},
    ]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    (tmp_path / "c.json").write_text(json.dumps({"a1": ["a dog", "a brown dog"], "a3": "a cat"}))
    (tmp_path / "wide.csv").write_text("image_id,caption_1,caption_2\na1,a dog,a brown dog\na3,a cat,\n")
    for name in ("c.csv", "c.jsonl", "c.json", "wide.csv"):
        captions, found = captions_of(tmp_path / name)
        assert captions == [["a dog", "a brown dog"], [], ["a cat"], []], name
        assert found.reason == ["", f"no caption in {name}", "", f"no caption in {name}"]


def test_what_is_wrong_is_counted_with_its_reason_and_nothing_is_guessed(tmp_path):
    rows = ["a1,a dog", "a1,a dog", "a2,", "a3,NaN", "nobody,a ghost", f"a4,{'x' * 3000}"]
    (tmp_path / "c.csv").write_text("image_id,text\n" + "\n".join(rows))
    captions, found = captions_of(tmp_path / "c.csv")
    assert captions == [["a dog"], [], [], []]
    assert found.n_doubled == 1 and found.unknown == ["nobody"]
    assert "empty" in found.reason[1] and "'NaN'" in found.reason[2] and "3,000 characters" in found.reason[3]
    assert clean_caption(float("nan"))[1] == "its caption is NaN" == clean_caption(None)[1]
    assert "no text but int" in clean_caption(7)[1]
    assert "no text" in clean_caption("a \ud800 dog")[1]


@pytest.mark.parametrize(
    ("name", "content", "error", "match"),
    [
        ("c.csv", b"image_id,caption\na1,caf\xe9 au lait\n", TableError, "cp1252"),
        ("c.csv", b"image_id,words\na1,a dog\n", UsageError, "which column holds the captions"),
        ("c.csv", b"image_id,caption\nb1,a dog\n", UsageError, "names no photograph"),
        ("c.csv", b"image_id,caption\na1,nan\n", UsageError, "gives no photograph a caption"),
        ("c.jsonl", b'{"image_id": "a1", "caption": "x"}\n{"image_id"', TableError, "line 2 is no JSON"),
        ("c.jsonl", b'{"caption": "x"}', TableError, "names no photograph"),
        ("c.jsonl", b"[1]", TableError, "is no object"),
        ("c.json", b"[]", TableError, "holds no captions"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_taken_say_why(tmp_path, name, content, error, match):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=match):
        captions_of(tmp_path / name)


def test_a_named_encoding_is_taken(tmp_path):
    (tmp_path / "c.csv").write_bytes("image_id,caption\na1,caf\xe9\n".encode("cp1252"))
    assert captions_of(tmp_path / "c.csv", encoding="cp1252")[0][0] == ["café"]


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    """24 rated photographs, embedded by demo_clip; 20 of them have captions."""
    root = tmp_path_factory.mktemp("data")
    photos = root / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for i in range(24):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(photos / f"{i:02}.png")
        rows.append(f"{i:02}.png,{rng.uniform(1, 9):.3f},{'test' if i % 3 == 0 else 'train'}")
    (root / "ratings.csv").write_text("file,score,split\n" + "\n".join(rows))
    ds = iaa.add_dataset("some", "table", photos, root / "ratings.csv", data=root / "data")
    ds.embed("demo_clip")
    long = "a long tale " * 40
    said = [{"file": f"{i:02}.png", "caption": long if i == 3 else f"a thing of {i % 5}"} for i in range(20)]
    (root / "own.jsonl").write_text("\n".join(map(json.dumps, said)))
    return Layout(root / "data", "some")


def test_captions_become_prompts_with_their_cost_said_and_too_long_ones_cut(layout):
    made = add_captions(layout, layout.root.parent / "own.jsonl")
    assert (made.name, made.n_images, made.n_captioned, made.n_captions) == ("own", 24, 20, 20)
    assert made.missing == ["20.png", "21.png", "22.png", "23.png"] or made.missing == [
        "20",
        "21",
        "22",
        "23",
    ]
    assert sum(made.reasons.values()) == 4
    said = []
    table = embed_captions(layout, "own", ["demo_clip"], say=said.append)
    assert table.columns["n_prompts"] == [2 * (6 + 1)] and table.columns["n_cut"] == [2]
    (cost,) = [text for text in said if "MB of vectors" in text]
    assert (
        "20 captions, 6 different; 14 texts" in cost
        and "2 texts have more than 77 tokens and are cut" in cost
    )
    with open_prompts(layout.prompts("captions-own", "demo_clip")) as prompts:
        assert prompts.text[0] == "a outstanding picture, of a thing of 0"
        assert prompts.text[6] == "a outstanding picture" and prompts.content[6] == ""
        assert prompts.identity["captions"] == made.digest
        from embed.backbones.loading import load_backbone

        backbone = load_backbone("demo_clip")
        from open_clip import get_tokenizer

        cut = backbone.encode_tokens(get_tokenizer("ViT-B-32")([prompts.text[3]], backbone.context_length))
        assert len(prompts.text[3]) > 400
        np.testing.assert_allclose(prompts.read()[3], cut[0].numpy(), atol=2e-5)
    again = embed_captions(layout, "own", ["demo_clip"], say=said.append)
    assert again.columns["digest"] == table.columns["digest"] and len([t for t in said if "MB" in t]) == 1
    with pytest.raises(IdentityError, match="other captions, labels or weights"):
        embed_captions(layout, "own", ["demo_clip"], high=["great"])


def test_they_are_measured_and_ranked_by_and_who_has_none_is_named(layout):
    add_captions(layout, layout.root.parent / "own.jsonl", name="mine")
    embed_captions(layout, "mine", ["demo_clip"])
    found = evaluate_prompts(layout, "demo_clip", prompts=["captions-mine"], n_boot=20)
    assert [len(ids) for ids in found.left_out.values()] == [4]
    result = found.contents.results[0]
    assert result.n_train + result.n_test == 20 and result.detail["contents"] == "captions-mine"
    assert any("--fall-back" in note for note in found.notes())
    whole = evaluate_prompts(layout, "demo_clip", prompts=["captions-mine"], fall_back=True, n_boot=20)
    assert whole.contents.results[0].n_train + whole.contents.results[0].n_test == 24
    ranking = iaa.open_dataset("some", layout.root).rank(prompts="captions-mine", method="context")
    assert len(ranking) == 20 and set(ranking.to_frame()["content"]) >= {"a thing of 0", "a thing of 4"}
    add_captions(
        layout, layout.root.parent / "own.jsonl", name="mine", overwrite=True
    )  # the same: still valid
    evaluate_prompts(layout, "demo_clip", prompts=["captions-mine"], n_boot=20)
    (layout.root.parent / "other.csv").write_text("file,caption\n00.png,something else\n")
    add_captions(layout, layout.root.parent / "other.csv", name="mine", overwrite=True)
    with pytest.raises(IdentityError, match="other captions"):
        evaluate_prompts(layout, "demo_clip", prompts=["captions-mine"], n_boot=20)
    assert len(remove_captions(layout, "mine")) == 2
    with pytest.raises(MissingFileError, match="no captions 'mine'"):
        embed_captions(layout, "mine", ["demo_clip"])


def test_a_taken_name_and_an_unknown_column_are_refused(layout):
    add_captions(layout, layout.root.parent / "own.jsonl", name="taken")
    with pytest.raises(UsageError, match="already"):
        add_captions(layout, layout.root.parent / "own.jsonl", name="taken")
    with pytest.raises(UsageError, match="no column 'subject'"):
        add_captions(layout, columns=["subject"])
    assert open_captions(layout.captions_of("taken")).n_images == 24
    for name, match in (
        ("captions-taken", "Encode the captions first"),
        ("captions-none", "no captions 'none'"),
    ):
        with pytest.raises(MissingFileError, match=match):
            evaluate_prompts(layout, "demo_clip", prompts=[name])


def test_the_command_line_goes_the_whole_way(layout, invoke, monkeypatch):
    monkeypatch.setenv("IAA_DATA", str(layout.root))
    file = layout.root.parent / "own.jsonl"
    code, out, err = invoke("caption", "add", file, "--name", "cli")
    assert code == 0 and "Next: iaa caption embed cli" in err and "a thing of 0" in out
    code, out, err = invoke("caption", "embed", "cli", "-b", "demo_clip")
    assert code == 0 and "MB of vectors" in err
    code, out, _ = invoke("prompts", "evaluate", "-p", "captions-cli", "--n-boot", 20, "--json")
    assert code == 0 and json.loads(out)["contents"][0]["detail"]["n_left_out"] == 4
    code, out, _ = invoke("caption", "list", "--json")
    assert "cli" in [row["captions"] for row in json.loads(out)["captions"]]
    code, _, err = invoke("verify", layout.captions_of("cli"))
    assert code == 0
    assert invoke("caption", "remove", "cli")[0] == 0
    code, _, err = invoke("caption", "add", layout.root.parent / "nothing.csv")
    assert code == 1 and "does not exist" in err
