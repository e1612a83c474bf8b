"""Heads of several layers on stored features, trained to predict the mean vote: MLSP's (Hosu et al. 2019).

Narrow: linear, ReLU, batch norm and dropout three times, then linear to one score. Wide, on a grid of
vectors: before these one Inception block, averaged over the grid. Squared error. The learning rate falls in
stages, each of which begins with the best weights so far. Which images teach and which decide is the lesson
of fine-tuning (finetune.targets). Layers and settings are those of the authors' code (subpic/ava-mlsp and
subpic/kutils), as far as it gives them.
"""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping
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

GRID = (5, 5)
"""Rows and columns of the grid that a wide head reads."""


@dataclass(frozen=True)
class StackSettings:
    """How to train; the defaults are those of MLSP's narrow head. The optimiser is Adam. That a tenth of
    train decides, how weights begin, and the batch norms' momentum are this project's."""

    block: int = 0
    """Channels of each of the three branches of the block on a grid; 0: no grid, the layers read a vector."""
    widths: tuple[int, ...] = (2048, 1024, 256)
    dropouts: tuple[float, ...] = (0.25, 0.25, 0.5)
    rates: tuple[float, ...] = (1e-3, 1e-4, 1e-5)
    epochs: int = 20
    """At most, at each rate."""
    patience: int = 5
    """Epochs without gain on the held-out images after which a rate is done with."""
    decides: str = "loss"
    """What has to gain on the held-out images: `loss`, or `plcc`."""
    batch_size: int = 128
    held_out: float = 0.1
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """All settings as plain values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}


STACKS: Mapping[str, StackSettings] = {
    "narrow": StackSettings(),
    "wide": StackSettings(block=1024, rates=(1e-4, 1e-5, 1e-6), decides="plcc"),
}
"""The presets, by name."""

_CHECK = "are the features finite? iaa verify says whether they are what was written"

Read = Callable[[np.ndarray], np.ndarray]
"""Rows of the image list, ascending, to their features (n, dim)."""


class Block(nn.Module):
    """An Inception block on a grid of vectors, averaged over the grid: a 1x1 convolution; one followed by
    1x3 and 3x1 side by side; and one after averaging each 3x3."""

    def __init__(self, dim: int, channels: int) -> None:
        super().__init__()
        self.point = _convolution(dim, channels, (1, 1))
        self.reduce = _convolution(dim, channels, (1, 1))
        self.across = _convolution(channels, channels // 2, (1, 3))
        self.down = _convolution(channels, channels // 2, (3, 1))
        self.smooth = nn.Sequential(
            nn.AvgPool2d(3, 1, padding=1, count_include_pad=False), _convolution(dim, channels, (1, 1))
        )

    def forward(self, cells: Float[Tensor, "b dim"]) -> Float[Tensor, "b width"]:
        """Means over the grid of all branches, one after the other; `cells` are vectors row by row."""
        grid = cells.view(len(cells), *GRID, -1).permute(0, 3, 1, 2)
        reduced = self.reduce(grid)
        branches = [self.point(grid), self.across(reduced), self.down(reduced), self.smooth(grid)]
        return torch.cat([branch.mean(dim=(2, 3)) for branch in branches], dim=1)


def _convolution(dim: int, channels: int, size: tuple[int, int]) -> nn.Sequential:
    padding = (size[0] // 2, size[1] // 2)
    layers = nn.Conv2d(dim, channels, size, padding=padding, bias=False), nn.BatchNorm2d(channels, eps=1e-3)
    return nn.Sequential(*layers, nn.ReLU())


def build_stack(dim: int, settings: StackSettings) -> nn.Sequential:
    """The head, initialised from the seed. Raises FinetuneError where `dim` numbers are no grid and the
    settings ask for one."""
    layers: list[nn.Module] = []
    n_cells = GRID[0] * GRID[1]
    if settings.block and dim % n_cells:
        raise FinetuneError(f"{dim:,} numbers are no grid of {GRID[0]} x {GRID[1]} vectors of one length")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        if settings.block:
            layers.append(Block(dim // n_cells, settings.block))
            dim = 2 * settings.block + 2 * (settings.block // 2)
        for width, dropout in zip(settings.widths, settings.dropouts, strict=True):
            norm = nn.BatchNorm1d(width, eps=1e-3)
            layers += [nn.Linear(dim, width), nn.ReLU(), norm, nn.Dropout(dropout)]
            dim = width
        return nn.Sequential(*layers, nn.Linear(dim, 1))


def _missed(entry: Mapping[str, float], settings: StackSettings) -> float:
    """What the best epoch has least of."""
    return entry["held_out_loss"] if settings.decides == "loss" else 1 - entry["held_out_plcc"]


def stage_of(history: list[dict[str, float]], settings: StackSettings) -> tuple[int, int]:
    """The number of the stage that the next epoch belongs to, and how many epochs it has had. A stage past
    the last rate means that training is done."""
    stage = since = n = 0
    best = math.inf
    for entry in history:
        n += 1
        if (missed := _missed(entry, settings)) < best:
            best, since = missed, 0
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
                    raise FinetuneError(f"the loss became {loss.item()} in epoch {epoch}: {_CHECK}")
                if on_step is not None:
                    on_step(epoch, step, len(batches), total / (step * settings.batch_size))
        found = predict_stack(model, read, held_out, settings.batch_size)
        if not np.isfinite(found).all():
            raise FinetuneError(f"scores of held-out images became no numbers in epoch {epoch}: {_CHECK}")
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
            "held_out_plcc": float(np.corrcoef(found, scores[held_out])[0, 1]) if spread else 0.0,
            "seconds": state.seconds,
        }
        state.history.append(entry)
        missed = _missed(entry, settings)
        if state.best_loss is None or missed < state.best_loss:
            state.best_epoch, state.best_loss = epoch, missed
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


def predict_stack(
    model: nn.Sequential,
    read: Read,
    rows: Int[np.ndarray, " n"],
    batch_size: int = 128,
    on_rows: Callable[[int], object] | None = None,
) -> Float[np.ndarray, " n"]:
    """Scores of rows, ascending, float64. `on_rows` takes numbers of rows as they get done."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    found = []
    with torch.inference_mode():
        for start in range(0, len(rows), batch_size):
            values = model(_tensor(read, rows[start : start + batch_size], device))
            found.append(values[:, 0].double().cpu().numpy())
            if on_rows is not None:
                on_rows(len(values))
    model.train(was_training)
    return np.concatenate(found) if found else np.zeros(0)


def _tensor(read: Read, rows: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.array(read(rows), np.float32)).to(device)
