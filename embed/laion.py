"""LAION's aesthetic heads, converted from their checkpoints to the project's head files.

Two kinds: the linear head of `aesthetic-predictor` (weight (1, dim) and bias) and the five linear layers of
`improved-aesthetic-predictor` (layers.0, 2, 4, 6, 7; those between are dropouts, there is no activation).
Both expect CLIP's joint embedding at unit length, of exactly one backbone.
"""

import hashlib
import json
import os
import re
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import save as save_tensors

EXPECTED_DIM = {"vit_b32.openai": 512, "vit_l14.openai": 768}
"""Backbones that LAION published heads for, and the width of their joint embedding."""


class LaionHeadError(Exception):
    """The checkpoint is none of LAION's heads, or not for this backbone."""


def read_checkpoint(path: Path) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The (weight, bias) of each linear layer in order, float32 on the CPU wherever they were saved.

    Only tensors are unpickled. Raises LaionHeadError for anything that is not one of the two kinds.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:
        raise LaionHeadError(f"{path} is no PyTorch checkpoint of plain tensors ({error})") from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise LaionHeadError(f"{path} holds {type(state).__name__}, expected a dictionary of tensors")
    if set(state) == {"weight", "bias"}:
        names = [("weight", "bias")]
    else:
        matches = {name: re.fullmatch(r"(?:.*\.)?layers\.(\d+)\.weight", name) for name in state}
        order = sorted((int(found[1]), name) for name, found in matches.items() if found)
        names = [(name, name.removesuffix("weight") + "bias") for _, name in order]
    if not names or {name for pair in names for name in pair} != set(state):
        raise LaionHeadError(
            f"{path} has the tensors {sorted(state)}; expected weight and bias, or layers.<i>.weight "
            "and layers.<i>.bias"
        )
    layers = [(state[weight].float(), state[bias].float()) for weight, bias in names]
    shapes = [tuple(weight.shape) for weight, _ in layers]
    if any(a[0] != b[1] for a, b in pairwise(shapes)) or shapes[-1][0] != 1:
        raise LaionHeadError(f"{path}: layers of shapes {shapes} do not lead to one score")
    return layers


def convert_head(checkpoint: Path, target: Path, backbone: str, output: str = "embedding") -> Path:
    """Write a checkpoint as TARGET.safetensors and TARGET.json and return the path of the latter.

    The head is bound to `backbone`, on unit-length features. Raises LaionHeadError where the width of the
    head is not that backbone's.
    """
    layers = read_checkpoint(checkpoint)
    dim = layers[0][0].shape[1]
    if EXPECTED_DIM.get(backbone) != dim:
        raise LaionHeadError(
            f"{checkpoint} takes {dim} features; backbone {backbone!r} has "
            f"{EXPECTED_DIM.get(backbone, 'no published head')}. "
            f"Known: {', '.join(f'{name} ({width})' for name, width in EXPECTED_DIM.items())}"
        )
    tensors = {}
    for index, (weight, bias) in enumerate(layers):
        tensors[f"layers.{index}.weight"] = weight.double().contiguous()
        tensors[f"layers.{index}.bias"] = bias.double().contiguous()
    content = save_tensors(tensors)
    description = {
        "schema": "iaa/head",
        "schema_version": 1,
        "backbone": backbone,
        "output": output,
        "unit_norm": True,
        "sha256": hashlib.sha256(content).hexdigest(),
        "about": {
            "origin": "LAION aesthetic predictor",
            "checkpoint": checkpoint.name,
            "checkpoint_sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        },
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    _write(Path(f"{target}.safetensors"), content)
    _write(Path(f"{target}.json"), (json.dumps(description, indent=1, sort_keys=True) + "\n").encode())
    return Path(f"{target}.json")


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
