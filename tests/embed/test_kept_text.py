"""Kept text towers: torch's vectors within rounding, the library's tokens for every text, and nothing damaged
or of other weights is used."""

import random

import numpy as np
import pytest

from embed.backbones import kept_text, text_export
from embed.backbones.exports import TOLERANCE, EngineUnavailable
from embed.backbones.kept_text import HEADER_BYTES, open_kept_text
from embed.backbones.loading import load_backbone
from embed.backbones.text_export import N_TOKENS, keep_text
from embed.prompts.text import encode_part

TEXTS = ["a photo of a dog", "", "Ein schöner Garten", " ".join(["fog"] * (N_TOKENS - 2))]


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("demo_clip")


@pytest.fixture(scope="module")
def written(backbone, tmp_path_factory):
    return keep_text(backbone, tmp_path_factory.mktemp("kept"))


@pytest.fixture
def kept(written, tmp_path):
    path = tmp_path / written.name
    path.write_bytes(written.read_bytes())
    return path


def open_kept(path, backbone):
    return open_kept_text(path.parent, backbone.spec, backbone.weights_identity)


def some_texts(backbone):
    """Words of the vocabulary, random characters of many kinds, and what people write."""
    draw = random.Random(0)
    vocabulary = [word.removesuffix("</w>") for word in backbone.tokenizer.encoder]
    words = [" ".join(draw.sample(vocabulary, 6)) for _ in range(400)]
    kinds = ["abcXYZ '&;<>#\t\n", "äöüßÉñçøþ'’“”–…"]
    kinds += ["дежзиΩλ", "日本語中文한국어", "🏖👍🏽❤️‍🔥🇩🇪", "0123456789½²", "\u00a0\u200b\u0301ﬁ"]
    mixed = ["".join(draw.choices("".join(kinds), k=12)) for _ in range(300)]
    alone = ["".join(draw.choices(kind, k=12)) for kind in kinds for _ in range(60)]
    ascii = ["".join(chr(draw.randrange(32, 127)) for _ in range(20)) for _ in range(300)]
    odd = ["I'LL we'Ve &eacute;&amp;amp;", "<b> &amp;lt; &amp;amp;amp;lt;", "<END_OF_TEXT>"]
    return [*text_export.TRIED, *words, *mixed, *alone, *ascii, *odd]


def test_its_tokens_are_the_librarys(backbone, kept):
    tower, texts = open_kept(kept, backbone), some_texts(backbone)
    length = backbone.context_length
    found, too_long = tower.tokens_uncut(texts, length)
    expected, expected_too_long = backbone.tokens_uncut(texts, length)
    assert too_long == expected_too_long and len(too_long) < 20
    np.testing.assert_array_equal(found, expected)
    assert tower.context_length == length


@pytest.mark.parametrize("n", [1, 3, 300])
def test_its_vectors_are_torchs_in_batches_of_any_size(backbone, kept, n):
    texts = [f"{TEXTS[i % len(TEXTS)]}"[: 90 - i % 40] for i in range(n)]
    found, expected = open_kept(kept, backbone).encode(texts), encode_part(backbone, texts)
    assert found.dtype == np.float32 and found.shape == expected.shape
    lengths = np.linalg.norm(expected, axis=1)
    assert (np.linalg.norm(found - expected, axis=1) / lengths).max() < TOLERANCE


def test_it_is_kept_once_and_says_how_far_from_torch_it_is(backbone, kept):
    before = kept.stat().st_mtime_ns
    assert keep_text(backbone, kept.parent) == kept and kept.stat().st_mtime_ns == before
    assert 0 < open_kept(kept, backbone).facts.difference < TOLERANCE


def test_longer_texts_are_left_to_torch(backbone, kept):
    tower, long = open_kept(kept, backbone), " ".join(["fog"] * (N_TOKENS - 1))
    assert tower.encode([long]) is None and tower.encode(["fog", long]) is None
    assert tower.tokens_uncut([long], backbone.context_length)[1] == []


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_damaged_weights_are_found_before_an_answer_is_given(backbone, kept, caplog):
    flip(kept, HEADER_BYTES + 5_000_000)
    tower = open_kept(kept, backbone)
    assert tower.encode(["fog"]) is None and "damaged" in caplog.text
    keep_text(backbone, kept.parent)
    assert open_kept(kept, backbone).encode(["fog"]) is not None


@pytest.mark.parametrize("damage", ["small", "short", "long", "other file", "header", "no header"])
def test_what_is_not_as_it_was_written_is_not_used(backbone, kept, damage, caplog):
    content = kept.read_bytes()
    if damage == "small":
        flip(kept, len(content) - 100)
    else:
        kept.write_bytes(
            {
                "short": content[:-1],
                "long": content + b"0",
                "other file": b"{}" + content,
                "header": content.replace(b'"sizes"', b'"seizs"'),
                "no header": kept_text.MAGIC + b"\0" * 100,
            }[damage]
        )
    assert open_kept(kept, backbone) is None and "is not used" in caplog.text
    keep_text(backbone, kept.parent)
    assert kept.read_bytes()[HEADER_BYTES:] == content[HEADER_BYTES:]


def test_one_of_other_versions_is_made_anew(backbone, kept, monkeypatch):
    monkeypatch.setattr(kept_text, "engine_versions", lambda: {"onnx": "0", "onnxruntime": "0"})
    assert open_kept(kept, backbone) is None
    keep_text(backbone, kept.parent)
    assert open_kept(kept, backbone) is not None


def test_one_of_other_weights_is_not_found(backbone, kept):
    assert open_kept_text(kept.parent, backbone.spec, {"weights_sha256": "0" * 64}) is None


def other_ids(self, text):
    return [self._facts.start, 7, self._facts.end]


REFUSED = {
    "other tokens": (text_export.Tokenizer, "ids", other_ids, "reads .* in another way"),
    "inexact": (text_export, "TOLERANCE", 1e-12, "of their length from torch's, more than 1e-12"),
    "other tokenizer": (text_export, "_byte_pairs", None, "of a kind that is not kept"),
    "not exported": (text_export, "_export", None, "demo_clip is not kept: TypeError"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_kept_leaves_nothing(backbone, tmp_path, monkeypatch, reason):
    module, name, value, message = REFUSED[reason]
    if reason == "other tokenizer":
        monkeypatch.setattr(type(backbone), "tokenizer", property(lambda self: str.split))
    else:
        monkeypatch.setattr(module, name, value)
    with pytest.raises(EngineUnavailable, match=message):
        keep_text(backbone, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_backbone_that_reads_no_text_is_told(tmp_path):
    with pytest.raises(EngineUnavailable, match="demo_vit is of a kind that is not kept"):
        keep_text(load_backbone("demo_vit"), tmp_path)


def test_a_folder_that_cannot_be_written_is_told(backbone, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EngineUnavailable, match="the text tower of demo_clip is not kept"):
        keep_text(backbone, tmp_path / "file")
