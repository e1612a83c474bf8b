"""Backbones for the benchmarks: random weights, whose speed is that of any others."""

from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

from embed.backbones.architectures import quiet
from embed.backbones.families import family
from embed.backbones.loading import Backbone, load_backbone
from embed.backbones.registry import BackboneSpec, resolve_backbone


def load_random(id: str, folder: Path, device: str = "cpu", precision: str = "float32") -> Backbone:
    """A registered backbone with random weights, which are kept in `folder`."""
    spec = resolve_backbone(id)
    file = folder / f"{spec.file_stem}.safetensors"
    if not file.exists():
        torch.manual_seed(0)
        # As the library makes a model for training; build_architecture leaves memory as it was found.
        with quiet():
            model, _ = family(spec.library).build(spec, torch.device("cpu"))
        save_file({k: v.contiguous().clone() for k, v in model.state_dict().items()}, file)
    return load_backbone(id, file, device, precision)


def small_vit(name: str, size: int, dim: int, device: str = "cpu") -> Backbone:
    """A vision transformer of one layer: next to nothing beside decoding an image."""
    torch.manual_seed(dim)
    arguments = {"img_size": size, "patch_size": 32, "embed_dim": dim, "depth": 1, "num_heads": 2}
    model = timm.create_model("test_vit", num_classes=0, **arguments)
    settings = timm.data.resolve_data_config({"input_size": (3, size, size), "crop_pct": 1.0}, model=model)
    return Backbone(
        BackboneSpec(name, "timm", "test_vit", "random", {}, has_text=False, source="random weights"),
        model,
        timm.data.create_transform(**settings, is_training=False),
        weights_sha256="0" * 64,
        weights_file="random",
        weights_source="benchmark",
        device=torch.device(device),
        precision="float32",
    )


def four_small_vits(device: str = "cpu") -> list[Backbone]:
    """Four cheap backbones of two geometries, 160 and 224 pixels."""
    return [small_vit(f"small_{size}_{dim}", size, dim, device) for size in (160, 224) for dim in (32, 64)]


def load_test_model(name: str, folder: Path) -> Backbone:
    """One of timm's models for tests (160 pixels), random weights."""
    file = folder / f"{name}.safetensors"
    if not file.exists():
        torch.manual_seed(0)
        save_file({k: v.contiguous().clone() for k, v in timm.create_model(name).state_dict().items()}, file)
    return load_backbone(f"timm:{name}.r160_in1k", file)
