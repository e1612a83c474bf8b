"""A head of several layers on stored features, trained to predict the mean vote: MLSP's (Hosu et al. 2019).

Linear, batch norm, ReLU and dropout three times, then linear to one score; squared error. The learning rate
falls in stages, each of which begins with the best weights so far. Which images teach and which decide is the
lesson of fine-tuning (finetune.targets).
"""

import dataclasses
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from finetune.checkpoint import (
    State,
    best_epoch_of,
    load_training,
    put_tensors,
    read_tensors,
    save_tensors,
    save_training,
)
from finetune.errors import FinetuneError
from finetune.training import BEST, LAST, LOG, epoch_batches
from store.durable import whole_file
from store.shapes import Float, Float64, Int

EVALUATION_BATCH = 512


@dataclass(frozen=True)
class StackSettings:
    """How to train; the defaults are MLSP's as far as they are published. That the optimiser is Adam, that a
    tenth of train decides, and the order of norm and ReLU are ours."""

    widths: tuple[int, ...] = (2048, 1024, 256)
    dropouts: tuple[float, ...] = (0.25, 0.25, 0.5)
    rates: tuple[float, ...] = (1e-3, 1e-4, 1e-5)
    epochs: int = 20
    """At most, at each rate."""
    patience: int = 5
    """Epochs without gain on the held-out images after which a rate is done with."""
    batch_size: int = 128
    held_out: float = 0.1
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """All settings as plain values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}


Read = Callable[[np.ndarray], np.ndarray]
"""Rows of the image list, ascending, to their features (n, dim)."""


def build_stack(dim: int, settings: StackSettings) -> nn.Sequential:
    """The head, initialised from the seed."""
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        for width, dropout in zip(settings.widths, settings.dropouts, strict=True):
            layers += [nn.Linear(dim, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout)]
            dim = width
        return nn.Sequential(*layers, nn.Linear(dim, 1))


def stage_of(history: list[dict[str, float]], settings: StackSettings) -> tuple[int, int]:
    """The number of the stage that the next epoch belongs to, and how many epochs it has had. A stage past
    the last rate means that training is done."""
    stage = since = n = 0
    best = math.inf
    for entry in history:
        n += 1
        if entry["held_out_loss"] < best:
            best, since = entry["held_out_loss"], 0
        else:
            since += 1
        if n == settings.epochs or since == settings.patience:
            stage, since, n = stage + 1, 0, 0
    return stage, n


def train_stack(
    read: Read,
    fitted: Int[np.ndarray, " n_fitted"],
    held_out: Int[np.ndarray, " n_held_out"],
    scores: Float64[np.ndarray, " n_images"],
    dim: int,
    settings: StackSettings,
    folder: Path,
    device: torch.device | str = "cpu",
    on_step: Callable[[int, int, int, float], None] | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
) -> tuple[nn.Sequential, State]:
    """Train, or go on where it stopped, and return the head as it was in its best epoch.

    `on_step` takes epoch, step, number of steps and mean loss. A run that was killed goes on after its last
    whole epoch. Raises FinetuneError for fewer than two images on either side, and a loss that is no number.
    """
    if len(fitted) < 2 or len(held_out) < 2:
        raise FinetuneError(
            f"{len(fitted)} images to learn from and {len(held_out)} held out: 2 of each are needed"
        )
    folder.mkdir(parents=True, exist_ok=True)
    device = torch.device(device)
    model = build_stack(dim, settings).to(device)
    with torch.no_grad():
        model.get_parameter(f"{len(model) - 1}.bias").fill_(float(scores[fitted].mean()))
    tensors = {name: value for name, value in model.state_dict().items() if value.is_floating_point()}
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.rates[0])
    state = State()
    if (folder / LAST).exists():
        state = load_training(folder / LAST, model, tensors, optimizer)
        if best_epoch_of(folder / BEST) != state.best_epoch and state.best_epoch == state.epoch:
            save_tensors(folder / BEST, tensors, {"epoch": state.best_epoch, "loss": state.best_loss})
    target = torch.from_numpy(scores.astype(np.float32)).to(device)
    while (place := stage_of(state.history, settings))[0] < len(settings.rates):
        started = time.perf_counter()
        stage, n_done = place
        if n_done == 0 and stage > 0:  # the best so far, and an optimiser without memory
            put_tensors(folder / BEST, tensors, read_tensors(folder / BEST)[0])
            optimizer = torch.optim.Adam(model.parameters(), lr=settings.rates[stage])
        for group in optimizer.param_groups:
            group["lr"] = settings.rates[stage]
        epoch = state.epoch + 1
        batches = epoch_batches(fitted, settings.batch_size, settings.seed, epoch)
        if len(batches) > 1 and len(batches[-1]) < 2:  # a batch norm needs two
            batches[-2:] = [np.concatenate(batches[-2:])]
        total = 0.0
        model.train()
        with torch.random.fork_rng([device.index or 0] if device.type == "cuda" else []):
            torch.manual_seed(int(np.random.SeedSequence([settings.seed, epoch]).generate_state(1)[0]))
            for step, rows in enumerate(batches, 1):
                rows = np.sort(rows)
                predicted = model(_tensor(read, rows, device))[:, 0]
                loss = nn.functional.mse_loss(predicted, target[torch.from_numpy(rows).to(device)])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                total += loss.item() * len(rows)
                if not math.isfinite(total):
                    raise FinetuneError(
                        f"the loss became {loss.item()} in epoch {epoch}. Features not finite?"
                    )
                if on_step is not None:
                    on_step(epoch, step, len(batches), total / (step * settings.batch_size))
        found = predict_stack(model, read, held_out)
        held_out_loss = float(np.mean((found - scores[held_out]) ** 2))
        state.epoch = epoch
        state.seconds += time.perf_counter() - started
        spread = np.ptp(found) and np.ptp(scores[held_out])
        entry = {
            "epoch": epoch,
            "rate": settings.rates[stage],
            "train_loss": total / len(fitted),
            "held_out_loss": held_out_loss,
            "held_out_srcc": float(spearmanr(found, scores[held_out]).statistic) if spread else 0.0,
            "seconds": state.seconds,
        }
        state.history.append(entry)
        if state.best_loss is None or held_out_loss < state.best_loss:
            state.best_epoch, state.best_loss = epoch, held_out_loss
        save_training(folder / LAST, model, tensors, optimizer, state)
        if state.best_epoch == epoch:
            save_tensors(folder / BEST, tensors, {"epoch": epoch, "loss": held_out_loss})
        with whole_file(folder / LOG) as partial:
            lines = (json.dumps(each) + "\n" for each in state.history)
            partial.write_text("".join(lines), encoding="utf-8")
        if on_epoch is not None:
            on_epoch(entry)
    put_tensors(folder / BEST, tensors, read_tensors(folder / BEST)[0])
    return model.eval(), state


def predict_stack(model: nn.Sequential, read: Read, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Scores of rows, ascending, float64."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    found = []
    with torch.inference_mode():
        for start in range(0, len(rows), EVALUATION_BATCH):
            values = model(_tensor(read, rows[start : start + EVALUATION_BATCH], device))
            found.append(values[:, 0].double().cpu().numpy())
    model.train(was_training)
    return np.concatenate(found) if found else np.zeros(0)


def _tensor(read: Read, rows: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.array(read(rows), np.float32)).to(device)
