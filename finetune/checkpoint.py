"""Checkpoints: tensors and the state of training in one safetensors file, there complete or not at all."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn, optim

from finetune.errors import FinetuneError
from store.durable import whole_file
from store.errors import SpaceError, StoreError
from store.tensor_files import TensorFileError, check_tensor_file


@dataclass
class State:
    """Where training stands. Floats survive JSON to the last bit."""

    epoch: int = 0
    """Epochs that are finished."""
    step: int = 0
    """Steps finished in the epoch under way."""
    loss_sum: float = 0.0
    """Sum of the losses of the images seen in the epoch under way."""
    n_seen: int = 0
    best_epoch: int = 0
    best_loss: float | None = None
    seconds: float = 0.0
    """Spent on training and evaluation, over all runs; a clock, not part of the numbers."""
    history: list[dict[str, float]] = field(default_factory=list)
    """One entry per finished epoch."""


def save_tensors(path: Path, tensors: dict[str, Tensor], note: dict[str, Any]) -> None:
    """Write tensors and a JSON note, complete or not at all. Raises FinetuneError where that fails."""
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        with whole_file(path) as partial:
            mode = partial.stat().st_mode & 0o777  # what the user's umask leaves of it
            # One key only: the order of several is not fixed, and equal content is to give equal bytes.
            save_file(on_cpu, partial, {"note": json.dumps(note, sort_keys=True)})
            partial.chmod(mode)  # save_file gives them to their owner alone
    except (SpaceError, SafetensorError) as error:
        raise FinetuneError(
            f"cannot write {path}: {error.__cause__ or error}. Free some space, then run the same command "
            "again: it goes on from the last checkpoint"
        ) from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors on the CPU, and the note. Raises FinetuneError for a file that is not of `save_tensors`."""
    try:
        if check_tensor_file(path) != "safetensors":
            raise TensorFileError(f"{path} is no safetensors file")
        with safe_open(path, "pt") as file:
            note = json.loads((file.metadata() or {})["note"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if not isinstance(note, dict):
            raise ValueError(f"its note is {note!r:.80}, expected an object")
    except (SafetensorError, StoreError, OSError, KeyError, ValueError, RecursionError) as error:
        raise _unusable(path, str(error)) from error
    return tensors, note


def _unusable(path: Path, why: str) -> FinetuneError:
    return FinetuneError(
        f"{path} is no whole checkpoint of this program ({why}). Delete its folder {path.parent} to start "
        "anew"
    )


def save_training(
    path: Path, model: nn.Module, tensors: dict[str, Tensor], optimizer: optim.Optimizer, state: State
) -> None:
    """Everything needed to go on bit for bit: what training changes, the optimiser's memory, the state.

    Random numbers and the order of images need no memory: they are functions of seed, epoch and step.
    """
    names = {id(p): name for name, p in model.named_parameters()}
    memory = {
        f"optimizer/{names[id(p)]}/{key}": value
        for p, values in optimizer.state.items()
        for key, value in values.items()
        if isinstance(value, Tensor)
    }
    save_tensors(path, {**tensors, **memory}, asdict(state))


def load_training(
    path: Path, model: nn.Module, tensors: dict[str, Tensor], optimizer: optim.Optimizer
) -> State:
    """Put a checkpoint back into the model and the optimiser; returns the state.

    Raises FinetuneError where its tensors or its note are not those of this model's training.
    """
    found, note = read_tensors(path)
    parameters: dict[str, nn.Parameter] = dict(model.named_parameters())
    memory = {name: found.pop(name) for name in list(found) if name.startswith("optimizer/")}
    put_tensors(path, tensors, found)
    for name, value in memory.items():
        _, parameter, key = [*name.split("/"), "", ""][:3]
        at = parameters.get(parameter)
        if at is None or value.shape not in (at.shape, torch.Size([])):
            raise _unusable(path, f"its {name} of shape {tuple(value.shape)} belongs to no parameter")
        # Adam keeps its count of steps on the CPU.
        optimizer.state[at][key] = value if key == "step" else value.to(at.device)
    try:
        return State(**note)
    except TypeError as error:
        raise _unusable(path, f"its note is of another version: {error}") from error


def put_tensors(path: Path, tensors: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    """Copy tensors of a file into those of a model; names and shapes must be the same."""
    shapes = {name: tuple(t.shape) for name, t in tensors.items()}
    if shapes != {name: tuple(t.shape) for name, t in found.items()}:
        differing = sorted(set(shapes).symmetric_difference(found))[:5]
        raise FinetuneError(
            f"{path} holds {len(found)} tensors, the model trains {len(shapes)}; differing: "
            f"{differing or 'shapes'}. Delete its folder {path.parent} to start anew"
        )
    if wrong := [name for name, value in found.items() if not bool(torch.isfinite(value).all())]:
        raise _unusable(path, f"NaN or infinity in {', '.join(wrong[:3])}")
    for name, tensor in tensors.items():
        tensor.copy_(found[name])


def best_epoch_of(path: Path) -> int | None:
    """Epoch of the best checkpoint, None where there is none."""
    if not path.exists():
        return None
    epoch = read_tensors(path)[1].get("epoch")
    if not isinstance(epoch, int):
        raise _unusable(path, f"its epoch is {epoch!r:.80}, expected a whole number")
    return epoch
