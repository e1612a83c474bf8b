"""Weights files read without running code from them, and loaded with every tensor accounted for."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import timm
import torch
from open_clip.model import convert_to_custom_text_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor, nn

from embed.backbones import BackboneError, BackboneSpec
from embed.weights import hub_location

_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
_WRAPPERS = ("state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")


class WeightsError(BackboneError):
    """A weights file that cannot be read, or that does not fit the architecture."""


def load_weights(model: nn.Module, path: Path, spec: BackboneSpec) -> None:
    """Loads a weights file into the model; every key and every shape must fit.

    Only counters that evaluation never reads (`num_batches_tracked`) may be missing.
    """
    state = to_layout(read_state_dict(path, spec), model, spec)
    problems = find_misfits(state, model.state_dict())
    if problems:
        raise WeightsError(
            f"{path}: these weights do not fit backbone {spec.id!r} ({spec.library} "
            f"{spec.architecture}): {'; '.join(problems)}. Wrong file or wrong architecture?"
        )
    model.load_state_dict(state, strict=False)


def read_state_dict(path: Path, spec: BackboneSpec) -> dict[str, Tensor]:
    """The tensors of a .safetensors, .pt, .pth or .bin file by name, on the CPU."""
    if path.suffix not in _SUFFIXES:
        raise WeightsError(
            f"{path}: weights must be {', '.join(_SUFFIXES)}, not {path.suffix or 'without suffix'}"
        )
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{path} is not a whole safetensors file: {error}") from error
    if _is_torchscript(path):
        raise WeightsError(_torchscript(path, spec))
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise WeightsError(
            f"{path} cannot be read as tensors alone (torch.load with weights_only=True): "
            f"{str(error).splitlines()[0]}. It is damaged, or a pickle that would run code; "
            "convert it to safetensors where you trust it"
        ) from error
    return _unwrapped(content, path)


def to_layout(
    state: dict[str, Tensor], model: nn.Module, spec: BackboneSpec
) -> dict[str, Tensor]:
    """The tensors under the architecture's own names, for the foreign layouts that are known."""
    expected = model.state_dict()
    if state.keys() == expected.keys():
        return state
    if spec.key_order and _same_order(state, expected):
        return dict(zip(expected, state.values(), strict=True))
    if spec.library == "open_clip":
        if "positional_embedding" in state and "positional_embedding" not in expected:
            state = convert_to_custom_text_state_dict(state)
        for name in ("logit_scale", "logit_bias"):
            if name in state and name in expected and state[name].numel() == 1:
                state = state | {name: state[name].reshape(expected[name].shape)}
    elif isinstance(model, timm.models.VisionTransformer) and "mask_token" in state:
        return checkpoint_filter_fn(state, model)  # DINOv2 as its authors published it
    return state


def find_misfits(state: dict[str, Tensor], expected: dict[str, Tensor]) -> list[str]:
    """What keeps these tensors from fitting: keys missing, keys unexpected, shapes that differ."""
    missing = [k for k in expected if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in expected]
    shapes = [
        f"{k} is {tuple(state[k].shape)}, expected {tuple(expected[k].shape)}"
        for k in expected
        if k in state and state[k].shape != expected[k].shape
    ]
    return [
        f"{len(items)} {what}: {', '.join(items[:3])}{' ...' if len(items) > 3 else ''}"
        for what, items in (
            ("keys missing", missing),
            ("keys unexpected", unexpected),
            ("shapes differ", shapes),
        )
        if items
    ]


def _same_order(state: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return len(state) == len(expected) and all(
        given.shape == wanted.shape
        for given, wanted in zip(state.values(), expected.values(), strict=True)
    )


def _unwrapped(content: Any, path: Path) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    tensors = isinstance(content, dict) and all(isinstance(v, Tensor) for v in content.values())
    if not tensors or not content:
        held = type(content).__name__
        raise WeightsError(
            f"{path} holds no tensors by name (a {held}, also looked under {', '.join(_WRAPPERS)})"
        )
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in content):
            content = {key.removeprefix(prefix): value for key, value in content.items()}
    return dict(content)


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(Path(name).name == "constants.pkl" for name in archive.namelist())


def _torchscript(path: Path, spec: BackboneSpec) -> str:
    repo, files, _ = hub_location(spec)
    instead = f"the same weights as tensors: {repo}/{files[0]}" if repo else "a safetensors file"
    return (
        f"{path} is a TorchScript archive, a program and not only tensors (OpenAI published CLIP "
        f"like this). Use {instead}"
    )
