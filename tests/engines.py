"""Backbones on either engine, for tests that must hold with both."""

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from embed.backbones.loading import Backbone, load_backbone
from embed.images.datasets import ImageTable
from iaa.library.engines import engine_folder

CONVOLUTIONAL = "timm:test_efficientnet.r160_in1k"


def load_on(engine: str, *ids: str) -> list[Backbone]:
    """Backbones that an engine computes."""
    loaded = [load_backbone(id) for id in ids]
    for backbone in loaded:
        backbone.use_engine(engine, engine_folder())
    return loaded


def write_photographs(folder, n):
    """A table of so many pictures of noise, each of its own size."""
    folder.mkdir()
    names = np.array([f"{i}.png" for i in range(n)])
    for i, name in enumerate(names):
        pixels = np.random.default_rng(i).integers(0, 256, (160 + i, 170, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name, compress_level=0)
    return ImageTable("t", folder, names, names)


def write_weights(folder, seed=0):
    """A weights file of CONVOLUTIONAL, whose batch norms have seen something."""
    torch.manual_seed(seed)
    model = timm.create_model("test_efficientnet").train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(8, 3, 64, 64))
    file = folder / f"convolutional{seed}.safetensors"
    save_file({name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}, file)
    return file
