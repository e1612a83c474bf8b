"""Captions by CoCa: the most probable tokens, rows in their order, kills that lose a part at most."""

import json

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from embed import captioning
from embed.backbones.loading import load_backbone
from embed.backbones.registry import BackboneError
from embed.backbones.spec import BackboneSpec
from embed.captioning import caption_images, check_writes, tokens_to_text, write_tokens
from embed.images.table import ImageTable
from embed.options import Options
from store import IdentityError, open_captions

START, END = 49406, 49407
N_IMAGES = 40
MODEL = {
    "embed_dim": 16,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16,
        "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True,
    },
    "text_cfg": {
        "context_length": 76, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1, "embed_cls": True,
        "output_tokens": True,
    },
    "multimodal_cfg": {
        "context_length": 76, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1,
        "attn_pooler_heads": 2,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def coca(tmp_path_factory):
    """A CoCa of random weights, 32 pixels and width 16, from a file like any other."""
    folder = tmp_path_factory.mktemp("coca")
    config = folder / "tiny_coca.json"
    config.write_text(json.dumps({"model_cfg": MODEL, "preprocess_cfg": {"size": 32}}))
    spec = BackboneSpec(
        "tiny_coca", "open_clip", "tiny_coca", "random", {}, has_text=True, source="random", config=config
    )
    with torch.random.fork_rng(), pytest.MonkeyPatch.context() as patch:
        torch.manual_seed(3)
        patch.chdir(folder)
        (folder / "open_clip_config.json").write_text(config.read_text())
        model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
        for parameter in model.parameters():  # far from the uniform logits of a fresh model
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.3)
        torch.save(model.state_dict(), folder / "coca.pt")
    return load_backbone(spec, folder / "coca.pt")


@pytest.fixture
def table(tmp_path, rng):
    """40 small photographs; number 7 is no image, number 39 is a copy of number 1."""
    for i in range(N_IMAGES):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / f"{i:03}.png")
    (tmp_path / "007.png").write_bytes(b"no image at all")
    (tmp_path / "039.png").write_bytes((tmp_path / "001.png").read_bytes())
    names = np.array([f"{i:03}.png" for i in range(N_IMAGES)])
    return ImageTable("some", tmp_path, np.array([name[:3] for name in names]), names)


def test_every_token_is_the_most_probable_one_after_those_before_it(coca, rng):
    """Against one pass over the finished texts, in which each position sees what stands before it."""
    images = torch.from_numpy(rng.standard_normal((5, 3, 32, 32)).astype(np.float32))
    tokens = write_tokens(coca, images, START, END, 12)
    with torch.no_grad():
        logits = coca.model(images, tokens, output_labels=False)["logits"]
    logits[:, :, [START, 0]] = -torch.inf
    logits[:, : captioning.MIN_WORDS, END] = -torch.inf
    n_compared = 0
    for row, ids in zip(logits, tokens.tolist(), strict=True):
        assert ids[0] == START
        last = ids.index(END)
        for position in range(1, min(last + 1, 11)):
            best, second = row[position - 1].topk(2).values
            if best - second > 1e-3:
                assert int(row[position - 1].argmax()) == ids[position]
                n_compared += 1
        assert not any(ids[last + 1 :])
    assert n_compared > 20
    assert len({tuple(ids) for ids in tokens.tolist()}) > 1, "the texts depend on the images"


def test_rows_stay_in_order_failures_have_reasons_and_a_kill_loses_a_part_at_most(
    coca, table, tmp_path, monkeypatch
):
    options, seen = Options(n_threads=1), []
    monkeypatch.setattr(captioning, "N_TOKENS", 7)
    monkeypatch.setattr(captioning, "PART_ROWS", 32)
    path = tmp_path / "coca.h5"
    write = captioning.write_tokens

    def killed(*given, **named):
        seen.append(len(given[1]))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return write(*given, **named)

    monkeypatch.setattr(captioning, "write_tokens", killed)
    with pytest.raises(KeyboardInterrupt):
        caption_images(table, coca, "coca", path, options)
    assert not path.exists()
    seen.clear()
    rows = []
    digest = caption_images(table, coca, "coca", path, options, lambda *told: rows.append(told))
    assert rows[0] == (32, 0, False), "the finished part is not made again"
    monkeypatch.setattr(captioning, "write_tokens", write)
    assert caption_images(table, coca, "coca", tmp_path / "fresh" / "coca.h5", options) == digest
    assert not list(tmp_path.glob("*.parts"))
    with open_captions(path) as found:
        assert found.image_id.tolist() == table.image_id.tolist()
        assert np.flatnonzero(found.n_captions == 0).tolist() == [7]
        assert found.reason[7] and not found.reason[8]
        assert found.of(39) == found.of(1)
        assert len(set(found.text)) > 10
        alone = caption_images(
            ImageTable("one", table.root, table.image_id[[20]], table.path[[20]]),
            coca,
            "one",
            tmp_path / "1.h5",
            options,
        )
        assert alone
        with open_captions(tmp_path / "1.h5") as single:
            assert single.of(0) == found.of(20)
    with pytest.raises(IdentityError, match="n_images"):
        caption_images(
            ImageTable("two", table.root, table.image_id[:2], table.path[:2]), coca, "coca", path, options
        )


def test_a_model_without_a_decoder_is_refused():
    with pytest.raises(BackboneError, match="writes no captions"):
        check_writes(load_backbone("demo_clip"))


def test_words_come_in_one_line_without_the_tokens_around_them():
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    ids = tokenizer(["a dog,   on a beach"])[0].tolist()
    assert tokens_to_text(ids, tokenizer, START, END) == "a dog , on a beach"
    assert tokens_to_text([START, END, 320, 320], tokenizer, START, END) == ""
