"""A tiny backbone with random weights, and a world in which bright images are liked."""

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from embed.backbones.architectures import build_architecture
from embed.backbones.loading import load_backbone
from embed.backbones.registry import BackboneSpec
from embed.images.datasets import ImageTable
from store import Targets

CONFIG = {
    "architecture": "vit_base_patch16_224",
    "model_args": {
        "img_size": 16, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2, "num_classes": 4,
    },
    "pretrained_cfg": {
        "input_size": [3, 16, 16], "interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "center",
        "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "num_classes": 4,
    },
    "weights": "tiny.safetensors",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    """A checkpoint per epoch of milliseconds would spend the tests on fsync."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(autouse=True)
def _one_thread():
    """Two threads in steps of a millisecond wait longer for each other than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def load_spec(config):
    return BackboneSpec("tiny", "timm", "tiny", "random", {"pre_logits": 32}, False, "random", config=config)


@pytest.fixture(scope="session")
def tiny_spec(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "tiny.json").write_text(json.dumps(CONFIG))
    spec = load_spec(folder / "tiny.json")
    model, _ = build_architecture(spec)
    generator = torch.Generator().manual_seed(0)
    state = {
        name: torch.randn(t.shape, generator=generator) * 0.1 + ("norm" in name and "weight" in name)
        for name, t in model.state_dict().items()
    }
    save_file(state, folder / "tiny.safetensors")
    return spec


@pytest.fixture
def tiny(tiny_spec):
    """A fresh copy, since training changes it."""
    return load_backbone(tiny_spec)


def make_world(folder, n=60, bad=()):
    """n images, a third of them test; the votes' mean rises with brightness."""
    rng = np.random.default_rng(5)
    folder.mkdir(parents=True, exist_ok=True)
    brightness = rng.uniform(0, 1, n)
    for i in range(n):
        pixels = np.clip(rng.normal(255 * brightness[i], 20, (18 + i % 3, 20, 3)), 0, 255).astype(np.uint8)
        if i in bad:
            (folder / f"{i:03d}.png").write_bytes(b"oops")
        else:
            Image.fromarray(pixels).save(folder / f"{i:03d}.png")
    levels = np.arange(1, 6)
    density = np.exp(-0.5 * (levels[None] - (1.5 + 3 * brightness[:, None])) ** 2)
    votes = np.round(100 * density / density.sum(axis=1, keepdims=True)).astype(np.int64)
    ids = np.array([f"{i:03d}" for i in range(n)])
    split = np.where(np.arange(n) % 3 == 2, "test", "train")
    table = ImageTable("t", folder, ids, np.array([f"{i}.png" for i in ids]), votes=votes, split=split)
    return table


def targets_of(table, scores=None):
    return Targets(
        image_id=table.image_id, path=table.path, scores=scores,
        votes=table.votes if scores is None else None,
        levels=np.arange(1, 6) if scores is None else None, threshold=3.0, split=table.split,
        split_name="given", dataset=table.dataset, digest="d" * 64,
    )  # fmt: skip


@pytest.fixture
def world(tmp_path):
    return make_world(tmp_path / "images")
