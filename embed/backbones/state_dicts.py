"""Weights loaded into an architecture with every tensor accounted for."""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from embed.backbones.checkpoints import Checkpoint, TorchScriptError, read_checkpoint
from embed.backbones.families import family, family_of
from embed.backbones.spec import BackboneError, BackboneSpec
from embed.backbones.weights import hub_location
from store.tensor_files import TensorFileError

#: What wrapping a model puts before all its names, and torch.compile and FSDP anywhere into them.
_PREFIXES = ("module", "model")
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
#: OpenAI's state dict says three sizes that its shapes say, too; torch's averaged models count their steps.
_NOTES = ("input_resolution", "context_length", "vocab_size", "n_averaged")


class WeightsError(BackboneError):
    """A weights file that cannot be read, or that does not fit the architecture."""


def load_weights(model: nn.Module, path: Path, spec: BackboneSpec) -> Checkpoint:
    """Loads a weights file into the model and returns what was read; every key and every shape must fit.

    Only counters that evaluation never reads (`num_batches_tracked`) may be missing.
    """
    checkpoint = _read(path, spec)
    state = to_layout(checkpoint.tensors, model, spec)
    if not spec.registered:
        fit_classifier(model, state)
    problems = find_misfits(state, model.state_dict())
    if problems:
        taken = f" (its {checkpoint.entry})" if checkpoint.entry else ""
        raise WeightsError(
            f"{path}{taken}: these weights do not fit backbone {spec.id!r} ({spec.library} "
            f"{spec.architecture}): {'; '.join(problems)}. Wrong file or wrong architecture?"
        )
    if unusable := find_unusable(state, model.state_dict()):
        raise WeightsError(
            f"{path}: {'; '.join(unusable)}. A training that diverged, or a damaged or quantised file?"
        )
    model.load_state_dict(state, strict=False)
    return checkpoint


def fit_classifier(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Give a model as many classes as the weights have, be it none: no output of a backbone depends on
    its classifier, and weights of one's own were seldom trained for the published classes."""
    family_of(model).fit_classifier(model, state)


def _read(path: Path, spec: BackboneSpec) -> Checkpoint:
    try:
        return read_checkpoint(path)
    except TorchScriptError as error:
        raise WeightsError(f"{error} {_instead_of_torchscript(path, spec)}") from error
    except TensorFileError as error:
        raise WeightsError(str(error)) from error


def to_layout(state: dict[str, Tensor], model: nn.Module, spec: BackboneSpec) -> dict[str, Tensor]:
    """The tensors under the architecture's own names, for the foreign layouts that are known."""
    expected = model.state_dict()
    state = without_prefixes(state, expected)
    if spec.key_order and state.keys() != expected.keys() and _same_order(state, expected):
        return dict(zip(expected, state.values(), strict=True))
    return family(spec.library).to_layout(state, model)


def without_prefixes(state: dict[str, Tensor], expected: Iterable[str]) -> dict[str, Tensor]:
    """The tensors without what data-parallel training, compiling and Lightning put into their names.

    `module.` and `model.` come off where all names have them, in any order and nesting, unless the
    architecture's own names do; `_orig_mod.` and the like come off anywhere. Raises WeightsError where
    two tensors would then have one name.
    """
    expected = set(expected)
    state = _without_notes(state, expected)
    names = [".".join(part for part in name.split(".") if part not in _WRAPPERS) for name in state]
    while names and (first := names[0].partition(".")[0]) in _PREFIXES:
        prefix = f"{first}."
        if not all(n.startswith(prefix) for n in names) or all(n.startswith(prefix) for n in expected):
            break
        names = [name.removeprefix(prefix) for name in names]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        both = [given for given, name in zip(state, names, strict=True) if name == twice]
        raise WeightsError(f"{' and '.join(both[:2])} would both be {twice}: two models in one file?")
    return _without_notes(dict(zip(names, state.values(), strict=True)), expected)


def _without_notes(state: dict[str, Tensor], expected: set[str]) -> dict[str, Tensor]:
    return {k: v for k, v in state.items() if k in expected or k not in _NOTES or v.numel() != 1}


def find_misfits(state: dict[str, Tensor], expected: dict[str, Tensor]) -> list[str]:
    """What keeps these tensors from fitting: keys missing, keys unexpected, shapes that differ."""
    missing = [k for k in expected if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in expected]
    shapes = [
        f"{k} is {tuple(state[k].shape)}, expected {tuple(expected[k].shape)}"
        for k in expected
        if k in state and state[k].shape != expected[k].shape
    ]
    return _listed({"keys missing": missing, "keys unexpected": unexpected, "shapes differ": shapes})


def find_unusable(state: dict[str, Tensor], expected: dict[str, Tensor]) -> list[str]:
    """Which tensors cannot be weights: whole or complex numbers where the architecture has real ones, or
    values that are not finite."""
    kinds, values = [], []
    for name, tensor in state.items():
        if tensor.is_floating_point() != expected[name].is_floating_point():
            kinds.append(f"{name} ({str(tensor.dtype).removeprefix('torch.')})")
        elif tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all()):
            values.append(name)
    return _listed({"tensors are no real numbers": kinds, "tensors hold NaN or infinity": values})


def _listed(problems: dict[str, list[str]]) -> list[str]:
    return [
        f"{len(items)} {what}: {', '.join(items[:3])}{' ...' if len(items) > 3 else ''}"
        for what, items in problems.items()
        if items
    ]


def _same_order(state: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return len(state) == len(expected) and all(
        given.shape == wanted.shape for given, wanted in zip(state.values(), expected.values(), strict=True)
    )


def _instead_of_torchscript(path: Path, spec: BackboneSpec) -> str:
    repo, files, _ = hub_location(spec)
    hub = f"Use the same weights as tensors: {repo}/{files[0]}. " if repo else "Use a safetensors file. "
    out = f"{path.stem}.state.pt"
    return (
        f"(OpenAI published CLIP like this), and loading it would run it. {hub}Or, where you trust its "
        'origin, take the tensors out of it: python -c "import torch; torch.save(torch.jit.load('
        f"'{path.name}', 'cpu').state_dict(), '{out}')\"; then --weights {out}"
    )
