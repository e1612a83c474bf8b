"""Encoding prompts: exact vectors, parts that survive a kill, texts that do not fit."""

import numpy as np
import open_clip
import pytest

from embed.backbones.loading import load_backbone
from embed.backbones.spec import PromptTooLong
from embed.prompts import text as embed_text
from embed.prompts import tokens as embed_tokens
from embed.prompts.sets import Label, PromptSet, expand
from embed.prompts.text import embed_prompts, measure_tokens
from embed.prompts.tokens import SamePrompts, describe_same
from store import IdentityError, open_prompts
from store.digests import BLOCK_ROWS

LABELS = (Label("great", 1), Label("ugly", -1), Label("plain", 0))


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("demo_clip")


def make_table(n_contents):
    contents = tuple(f"thing {i}" for i in range(n_contents))
    return expand(PromptSet("things", LABELS, ("a {label} picture, of a #{content}",), contents))


class Killed(BaseException):
    """What a signal does: no handler for Exception sees it."""


def test_every_text_has_its_own_vector_raw_and_in_order(tmp_path, backbone):
    """Texts of many lengths, so that batches by length mix their order."""
    contents = ("old house by the sea", "dog", "very large great white shark", "castle", "a yawl")
    table = expand(PromptSet("things", LABELS, ("a {label} picture, of a #{content}",), contents))
    embed_prompts("things", table, backbone, tmp_path / "p.h5")
    with open_prompts(tmp_path / "p.h5", {"backbone": "demo_clip", "n_prompts": 15}) as prompts:
        assert prompts.text.tolist() == list(table.text)
        assert prompts.polarity.tolist() == [1] * 5 + [-1] * 5 + [0] * 5
        alone = np.concatenate([backbone.encode_texts([text]).numpy() for text in table.text])
        np.testing.assert_allclose(prompts.read(), alone, atol=2e-5)
        assert np.abs(alone[:-1] - alone[1:]).max(axis=1).min() > 1e-3, "neighbours differ: order is tested"
        norms = np.linalg.norm(prompts.read(), axis=1)
        assert np.abs(norms - 1).max() > 1e-3, "vectors are stored raw"


def test_a_kill_loses_at_most_a_part_and_the_digest_is_that_of_an_unbroken_run(
    tmp_path, backbone, monkeypatch
):
    table = make_table(750)  # 2,250 texts: parts of 2,048 and 202
    expected = embed_prompts("things", table, backbone, tmp_path / "unbroken.h5")
    encode, calls = backbone.encode_texts, []

    def encode_until_killed(texts, length):
        calls.append(len(texts))
        if sum(calls) > BLOCK_ROWS + 100:
            raise Killed
        return encode(texts, length)

    monkeypatch.setattr(backbone, "encode_texts", encode_until_killed)
    path = tmp_path / "killed.h5"
    with pytest.raises(Killed):
        embed_prompts("things", table, backbone, path)
    assert not path.exists()
    encoded = []
    monkeypatch.setattr(
        backbone, "encode_texts", lambda texts, length: encoded.append(len(texts)) or encode(texts, length)
    )
    rows = []
    assert embed_prompts("things", table, backbone, path, on_rows=rows.append) == expected
    assert sum(encoded) == len(table) - BLOCK_ROWS, "the finished part was encoded again"
    assert (rows[0], sum(rows)) == (BLOCK_ROWS, len(table)), "progress starts at what is done"
    encoded.clear()
    assert embed_prompts("things", table, backbone, path) == expected
    assert not encoded


def test_texts_that_do_not_fit_are_named_all_of_them_before_anything_is_written(
    tmp_path, backbone, monkeypatch
):
    monkeypatch.setattr(embed_tokens, "TOKEN_CHUNK", 2)
    long = [" ".join([word] * 90) for word in ("dog", "cat")]
    table = expand(PromptSet("long", LABELS[:1], ("a {label} {content}",), ("sea", long[0], "sky", long[1])))
    with pytest.raises(PromptTooLong, match=r"2 of 4 prompts .*'a great dog dog.*'a great cat cat") as caught:
        embed_prompts("long", table, backbone, tmp_path / "p.h5")
    assert f"{backbone.context_length} tokens that demo_clip reads" in str(caught.value)
    assert not list(tmp_path.glob("*.parts"))
    found = measure_tokens(table.text, "demo_clip")
    assert found.context_length == backbone.context_length
    assert found.too_long == [table.text[1], table.text[3]]


def test_lengths_are_known_without_weights():
    texts = ["a great picture", "a great picture, of a #tench"]
    found = measure_tokens(texts, "vit_b32.openai")
    assert (found.context_length, found.longest, found.longest_text) == (77, 11, texts[1])
    fits = ["x " * n for n in (75, 76)]  # with start and end token 77 and 78
    assert measure_tokens(fits, "vit_b32.openai").too_long == fits[1:]
    with pytest.raises(Exception, match="no text tower"):
        measure_tokens(texts, "demo_vit")


def test_other_texts_are_another_file(tmp_path, backbone):
    path = tmp_path / "p.h5"
    embed_prompts("things", make_table(3), backbone, path)
    with pytest.raises(IdentityError, match="n_prompts: the file has 9, asked for 12"):
        embed_prompts("things", make_table(4), backbone, path)
    embed_prompts("things", make_table(4), backbone, path, overwrite=True)
    assert open_prompts(path).n_prompts == 12


# ---- prompts that are one text to the tokenizer


def labelled(high, low, templates=("a {label} photo",), contents=()):
    labels = tuple(Label(w, 1) for w in high) + tuple(Label(w, -1) for w in low)
    return expand(PromptSet("own", labels, templates, contents))


ONE_TEXT = [
    ("good", "Good"), ("nice & good", "nice &amp; good"), ("nice & good", "nice &amp;amp; good"),
    ("good light", "good  light"), ("good light", "GOOD\tLight"), ("good light", "good\u00a0light"),
    ("don't", "don’t"), ("fine", "ﬁne"),
]  # fmt: skip


@pytest.mark.parametrize(("high", "low"), ONE_TEXT)
def test_labels_that_are_one_text_are_refused_before_anything_is_written(tmp_path, backbone, high, low):
    """CLIP's tokenizer lowers case, resolves entities, joins white space and mends text: rounding alone would
    divide the images between such labels."""
    table = labelled([high, "sharp"], [low, "dull"])
    with pytest.raises(SamePrompts, match="one text to the tokenizer of demo_clip") as raised:
        embed_prompts("own", table, backbone, tmp_path / "p.h5")
    assert f"{high!r} and {low!r} ({table.text[0]!r} and {table.text[2]!r})" in str(raised.value)
    assert "sharp" not in str(raised.value) and not list(tmp_path.glob("*.parts"))
    vectors = backbone.encode_texts([table.text[0], table.text[2]])
    assert (vectors[0] - vectors[1]).abs().max() < 1e-5, "the tokens, and so the vectors, are the same"


@pytest.mark.parametrize(("clean", "n_pairs"), [("lower", 2), ("whitespace", 1), ("canonicalize", 3)])
def test_each_tokenizer_decides_for_itself(monkeypatch, clean, n_pairs):
    """SigLIP's leaves punctuation out, those of multilingual towers keep the case."""
    tokenizer = open_clip.tokenizer.SimpleTokenizer(clean=clean)
    monkeypatch.setattr(embed_text, "build_tokenizer", lambda spec: tokenizer)
    table = labelled(["good", "wow", "so so"], ["Good", "wow!", "so  so"])
    found = measure_tokens(table.text, "vit_b32.openai")
    assert [len(rows) for rows in found.same] == [2] * n_pairs
    said = describe_same(table, found.same, "some")
    assert ("'good' and 'Good'" in said) == (clean != "whitespace")
    assert ("'wow' and 'wow!'" in said) == (clean == "canonicalize")
    assert "'so so' and 'so  so'" in said


def test_texts_that_differ_behind_the_cut_only_are_named_in_both_ways():
    words = " ".join(["very"] * 80)
    table = labelled(["good"], ["bad"], (f"a photo, {words} {{label}}",))
    found = measure_tokens(table.text, "vit_b32.openai")
    assert found.too_long == list(table.text) and found.same == [(0, 1)]


def test_equal_texts_of_one_label_do_no_harm_and_the_papers_sets_have_some(tmp_path, backbone):
    table = labelled(["good"], ["bad"], ("a {label} {content}",), ("Cardigan", "cardigan", "dog"))
    assert measure_tokens(table.text, "demo_clip").same == [(0, 1), (3, 4)]
    embed_prompts("own", table, backbone, tmp_path / "p.h5")
    labels = (Label("great", 1), Label("ugly", -1))
    paper = expand(PromptSet("own", labels, ("a {label} picture, of a #{content}",), "imagenet1k"))
    found = measure_tokens(paper.text, "vit_b32.openai")
    assert describe_same(paper, found.same, "vit_b32.openai") == ""
    twice = {frozenset(paper.content[row] for row in rows) for rows in found.same}
    assert frozenset({"Cardigan", "cardigan"}) in twice and frozenset({"crane"}) in twice


def test_texts_of_two_labels_may_be_equal_letter_by_letter():
    table = labelled(["not"], ["not bad"], ("{label} {content}",), ("bad dog", "dog"))
    found = measure_tokens(table.text, "demo_clip")
    said = describe_same(table, found.same, "demo_clip")
    assert "'not' and 'not bad' ('not bad dog' and 'not bad dog')" in said
