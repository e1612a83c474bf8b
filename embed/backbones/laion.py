"""LAION's aesthetic heads, converted from their checkpoints to the project's head files.

Two kinds: the linear head of `aesthetic-predictor` (weight (1, dim) and bias) and the five linear layers of
`improved-aesthetic-predictor` (layers.0, 2, 4, 6, 7; those between are dropouts, there is no activation).
Both expect CLIP's joint embedding at unit length, of exactly one backbone.
"""

import hashlib
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import save as save_tensors

from embed.backbones.checkpoints import read_checkpoint
from store.durable import whole_file, write_json
from store.tensor_files import TensorFileError

EXPECTED_DIM = {
    "vit_b32.openai": 512,
    "open_clip:ViT-B-16-quickgelu/openai": 512,
    "vit_l14.openai": 768,
}
"""Backbones that LAION published heads for, and the width of their joint embedding."""


MLP_LAYERS, RELU_LAYERS = (0, 2, 4, 6, 7), (0, 3, 6, 9, 11)
"""Where the linear layers stand in LAION's MLP: without and with a ReLU before each dropout."""


class LaionHeadError(Exception):
    """The checkpoint is none of LAION's heads, or not for this backbone."""


def read_head(path: Path) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The (weight, bias) of each linear layer in order, float32 on the CPU wherever they were saved.

    Only tensors are read. Raises LaionHeadError for anything that is not one of the two kinds: other numbers
    of layers mean that something lies between, which the tensors do not show, and values must be finite.
    """
    try:
        state = read_checkpoint(path).tensors
    except TensorFileError as error:
        raise LaionHeadError(f"{error}. A head of LAION's is a .pth file of a few tensors") from error
    layers = [(state[weight], state[bias]) for weight, bias in _layer_names(path, state)]
    shapes = [(tuple(weight.shape), tuple(bias.shape)) for weight, bias in layers]
    fitting = all(len(weight) == 2 and bias == weight[:1] for weight, bias in shapes)
    if not fitting or any(a[0] != b[1] for (a, _), (b, _) in pairwise(shapes)) or shapes[-1][0][0] != 1:
        raise LaionHeadError(
            f"{path}: layers of weights and biases of shapes {shapes} do not lead to one score: expected "
            "(n_out, n_in) and (n_out,), each layer taking what the one before gives, the last giving one"
        )
    for name, tensor in state.items():
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor.float()).all()):
            raise LaionHeadError(
                f"{path}: {name} holds NaN, infinity or no real numbers ({tensor.dtype}): no image would get "
                "a score. A training that diverged, or a damaged file? Fetch it again"
            )
    if not all(bool(weight.any()) for weight, _ in layers):
        raise LaionHeadError(f"{path} has a layer of zeros only: every image would get the same score")
    return [(weight.float(), bias.float()) for weight, bias in layers]


def _layer_names(path: Path, state: dict[str, torch.Tensor]) -> list[tuple[str, str]]:
    """Names of the weight and the bias of each layer. Raises LaionHeadError for what is no linear head."""
    if set(state) == {"weight", "bias"}:
        return [("weight", "bias")]
    matches = {name: re.fullmatch(r"(?:.*\.)?layers\.(\d{1,3})\.weight", name) for name in state}
    order = sorted((int(found[1]), name) for name, found in matches.items() if found)
    names = [(name, name.removesuffix("weight") + "bias") for _, name in order]
    if not names or {name for pair in names for name in pair} != set(state):
        listed = ", ".join(sorted(state)[:12]) + (" ..." if len(state) > 12 else "")
        raise LaionHeadError(
            f"{path} has the tensors {listed}; expected weight and bias, or layers.<i>.weight and "
            "layers.<i>.bias"
        )
    if (numbers := tuple(number for number, _ in order)) != MLP_LAYERS:
        relu = " (those of LAION's head with ReLU)" if numbers == RELU_LAYERS else ""
        raise LaionHeadError(
            f"{path} has layers at {', '.join(map(str, numbers))}{relu}, expected those of the linear MLP, "
            f"{', '.join(map(str, MLP_LAYERS))}, which has no activations between. Here one may "
            "lie between, and a linear head would give other scores. Take one of LAION's linear heads "
            "(linearMSE in its name)"
        )
    return names


def convert_head(
    checkpoint: Path,
    target: Path,
    backbone: str,
    output: str = "embedding",
    about: Mapping[str, str] | None = None,
) -> Path:
    """Write a checkpoint as TARGET.safetensors and TARGET.json and return the path of the latter.

    The head is bound to `backbone`, on unit-length features. `about`: what else is known of where it comes
    from. Raises LaionHeadError where the width of the
    head is not that backbone's.
    """
    layers = read_head(checkpoint)
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
            **(about or {}),
        },
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(Path(f"{target}.safetensors")) as partial:
        partial.write_bytes(content)
    write_json(Path(f"{target}.json"), description)
    return Path(f"{target}.json")
