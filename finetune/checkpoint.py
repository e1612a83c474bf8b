"""Checkpoints: tensors and the state of training in one safetensors file, there complete or not at all."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn, optim

from finetune.model import DistributionModel
from finetune.targets import FinetuneError
from store.durable import publish


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
    """Write tensors and a JSON note under a temporary name, fsync, rename."""
    partial = path.with_name(path.name + ".partial")
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        # One key only: the order of several is not fixed, and equal content is to give equal bytes.
        partial.touch(0o644)
        mode = partial.stat().st_mode & 0o777  # what the user's umask leaves of it
        save_file(on_cpu, partial, {"note": json.dumps(note, sort_keys=True)})
        partial.chmod(mode)  # save_file gives them to their owner alone
        publish(partial, path)
    except (OSError, SafetensorError) as error:
        raise FinetuneError(
            f"cannot write {path}: {error}. Free some space, then run the same command again: it goes on "
            "from the last checkpoint"
        ) from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors on the CPU, and the note."""
    try:
        with safe_open(path, "pt") as file:
            note = json.loads((file.metadata() or {})["note"])
            return {name: file.get_tensor(name) for name in file.keys()}, note  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise FinetuneError(
            f"{path} is no whole checkpoint of this program ({error}). Delete its folder {path.parent} to "
            "start anew"
        ) from error


def save_training(
    path: Path, model: DistributionModel, tensors: dict[str, Tensor], optimizer: optim.Optimizer, state: State
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
    path: Path, model: DistributionModel, tensors: dict[str, Tensor], optimizer: optim.Optimizer
) -> State:
    """Put a checkpoint back into the model and the optimiser; returns the state."""
    found, note = read_tensors(path)
    parameters: dict[str, nn.Parameter] = dict(model.named_parameters())
    memory = {name: found.pop(name) for name in list(found) if name.startswith("optimizer/")}
    put_tensors(path, tensors, found)
    for name, value in memory.items():
        _, parameter, key = name.split("/")
        at = parameters[parameter]
        # Adam keeps its count of steps on the CPU.
        optimizer.state[at][key] = value if key == "step" else value.to(at.device)
    return State(**note)


def put_tensors(path: Path, tensors: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    """Copy tensors of a file into those of a model; names and shapes must be the same."""
    shapes = {name: tuple(t.shape) for name, t in tensors.items()}
    if shapes != {name: tuple(t.shape) for name, t in found.items()}:
        differing = sorted(set(shapes).symmetric_difference(found))[:5]
        raise FinetuneError(
            f"{path} holds {len(found)} tensors, the model trains {len(shapes)}; differing: "
            f"{differing or 'shapes'}. Delete its folder {path.parent} to start anew"
        )
    for name, tensor in tensors.items():
        tensor.copy_(found[name])


def best_epoch_of(path: Path) -> int | None:
    """Epoch of the best checkpoint, None where there is none."""
    if not path.exists():
        return None
    return int(read_tensors(path)[1]["epoch"])
