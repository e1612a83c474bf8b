"""The training loop, in plain torch: one epoch after another until the held-out loss stops falling."""

import json
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import pearsonr, spearmanr
from tensorboardX import SummaryWriter
from torch import Tensor, optim

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
from finetune.loss import emd_r2
from finetune.model import (
    DistributionModel,
    parameter_groups,
    set_training,
    tower_parameters,
    trained_tensors,
)
from finetune.settings import Settings
from finetune.sources import RowNumbers, Source
from finetune.targets import Lesson
from store.durable import whole_file
from store.shapes import Float

LAST, BEST, LOG = "last.safetensors", "best.safetensors", "log.jsonl"
CHECKPOINT_SECONDS = 300.0
"""A checkpoint is kept at the end of every epoch, and so often within one."""
EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Progress:
    """What a progress bar shows."""

    epoch: int
    step: int
    n_steps: int
    loss: float
    n_images: int
    """Images of the step just done."""


def train(
    model: DistributionModel,
    source: Source,
    lesson: Lesson,
    settings: Settings,
    folder: Path,
    on_step: Callable[[Progress], None] | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> State:
    """Train until `patience` epochs bring no lower held-out loss; the model ends as in its best epoch.

    `folder` holds last.safetensors (what a resume needs), best.safetensors, log.jsonl (a line per epoch),
    events/ for TensorBoard. A run that was stopped goes on from its last checkpoint, on the CPU bit for bit
    (same number of threads). Order and random numbers are functions of (seed, epoch, step) alone.

    Raises FinetuneError where the loss is no number any more, or no held-out image could be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = trained_tensors(model)
    optimizer = _optimizer(model, settings)
    state = State()
    if (folder / LAST).exists():
        state = load_training(folder / LAST, model, tensors, optimizer)
        if state.best_epoch and best_epoch_of(folder / BEST) != state.best_epoch:
            if state.best_epoch != state.epoch or state.step:
                raise FinetuneError(
                    f"{folder / BEST} is not that of epoch {state.best_epoch}, which {LAST} calls the best. "
                    f"Delete the folder {folder} to start anew"
                )
            _keep_best(folder, tensors, state)  # the run died between the two files
    forward = _compiled(model, source, lesson, settings)
    with SummaryWriter(str(folder / "events"), purge_step=state.epoch + 1) as events:
        while not is_finished(state, settings):
            started = time.perf_counter() - state.seconds
            _train_epoch(
                model, forward, source, lesson, settings, optimizer, state, on_step,
                lambda: save_training(folder / LAST, model, tensors, optimizer, state), started,
                checkpoint_seconds,
            )  # fmt: skip
            entry = _end_epoch(model, source, lesson, settings, state)
            state.seconds = time.perf_counter() - started
            entry["seconds"] = state.seconds
            save_training(folder / LAST, model, tensors, optimizer, state)
            if state.best_epoch == state.epoch:
                _keep_best(folder, tensors, state)
            _write_log(folder / LOG, state)
            for name, value in entry.items():
                events.add_scalar(name, value, state.epoch)
            events.flush()
            if on_epoch is not None:
                on_epoch(entry)
    put_tensors(folder / BEST, tensors, read_tensors(folder / BEST)[0])
    return state


def is_finished(state: State, settings: Settings) -> bool:
    """True when the epochs are used up, or the held-out loss has not improved for `patience` of them."""
    return state.epoch >= settings.max_epochs or state.epoch - state.best_epoch >= settings.patience


def epoch_batches(rows: RowNumbers, batch_size: int, seed: int, epoch: int) -> list[RowNumbers]:
    """The rows in this epoch's order, cut into batches; the last may be smaller."""
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def gradient_step(
    forward: Callable[[Tensor], Tensor],
    inputs: Tensor,
    shares: Float[Tensor, "b n_levels"],
    prepare: Callable[[Tensor], Tensor],
    micro_batch: int,
    numerics: AbstractContextManager[Any],
) -> Tensor:
    """Add the gradient of the batch's mean loss to the parameters; returns the loss, on the device.

    With `micro_batch`, images go through in groups and each adds its share of the mean: the same gradient as
    from one pass, in less memory.
    """
    n = len(shares)
    size = micro_batch or n
    total = torch.zeros((), device=shares.device)
    for start in range(0, n, size):
        with numerics:
            predicted = forward(prepare(inputs[start : start + size]))
        loss = emd_r2(shares[start : start + size], predicted).sum() / n
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return total


def predict(
    model: Callable[[Tensor], Tensor], source: Source, rows: RowNumbers, device: torch.device, precision: str
) -> tuple[RowNumbers, Float[np.ndarray, "n n_levels"]]:
    """The rows that could be read and their predicted distributions, in order."""
    kept, found = [], []
    batches = [rows[i : i + EVALUATION_BATCH] for i in range(0, len(rows), EVALUATION_BATCH)]
    with torch.inference_mode():
        for good, inputs in source.batches(batches):
            if len(good):
                with _numerics(device, precision):
                    found.append(model(source.prepare(inputs, device)).float().cpu().numpy())
                kept.append(good)
    if not kept:
        return np.zeros(0, np.int64), np.zeros((0, 0), np.float32)
    return np.concatenate(kept), np.concatenate(found)


def _train_epoch(
    model: DistributionModel,
    forward: Callable[[Tensor], Tensor],
    source: Source,
    lesson: Lesson,
    settings: Settings,
    optimizer: optim.Optimizer,
    state: State,
    on_step: Callable[[Progress], None] | None,
    save: Callable[[], None],
    started: float,
    checkpoint_seconds: float,
) -> None:
    """The steps of one epoch that are still to be done."""
    device = model.head.weight.device
    epoch = state.epoch + 1
    shares = torch.from_numpy(lesson.shares)
    batches = epoch_batches(lesson.fitted, settings.batch_size, settings.seed, epoch)
    saved = time.perf_counter()
    set_training(model, settings.update_batch_norm)
    with _phase(model, optimizer, settings, epoch), torch.random.fork_rng(_generators(device)):
        for rows, inputs in source.batches(batches[state.step :]):
            torch.manual_seed(_step_seed(settings.seed, epoch, state.step))
            if len(rows):
                loss = gradient_step(
                    forward, inputs, shares[torch.from_numpy(rows)].to(device),
                    lambda part: source.prepare(part, device), settings.micro_batch,
                    _numerics(device, settings.precision),
                )  # fmt: skip
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                value = loss.item()
                if not math.isfinite(value):
                    raise FinetuneError(
                        f"the loss became {value} in epoch {epoch}, step {state.step + 1}. The last "
                        "checkpoint is from before; train with a lower --lr-tower or --lr-head"
                    )
                state.loss_sum += value * len(rows)
                state.n_seen += len(rows)
            state.step += 1
            if on_step is not None:
                mean = state.loss_sum / max(state.n_seen, 1)
                on_step(Progress(epoch, state.step, len(batches), mean, len(rows)))
            if time.perf_counter() - saved > checkpoint_seconds and state.step < len(batches):
                state.seconds = time.perf_counter() - started
                save()
                saved = time.perf_counter()


def _end_epoch(
    model: DistributionModel, source: Source, lesson: Lesson, settings: Settings, state: State
) -> dict[str, float]:
    """Measure the held-out images and move the state on to the next epoch; returns the epoch's entry."""
    model.eval()
    device = model.head.weight.device
    rows, predicted = predict(model, source, lesson.held_out, device, settings.precision)
    if len(rows) < 2 or state.n_seen == 0:
        raise FinetuneError(
            f"of {len(lesson.fitted)} training images {state.n_seen} could be read, of "
            f"{len(lesson.held_out)} held-out ones {len(rows)}. Reasons: "
            f"{sorted(set(source.failures.values()))[:3]}"
        )
    shares = lesson.shares[rows]
    loss = float(emd_r2(torch.from_numpy(shares), torch.from_numpy(predicted)).double().mean())
    mean, predicted_mean = shares @ lesson.levels, predicted @ lesson.levels
    state.epoch += 1
    entry: dict[str, float] = {
        "epoch": state.epoch,
        "train_loss": state.loss_sum / state.n_seen,
        "held_out_loss": loss,
        "held_out_srcc": _correlation(spearmanr, mean, predicted_mean),
        "held_out_plcc": _correlation(pearsonr, mean, predicted_mean),
        "n_fitted": state.n_seen,
        "n_held_out": len(rows),
    }
    if state.best_loss is None or loss < state.best_loss:
        state.best_epoch, state.best_loss = state.epoch, loss
    state.step, state.loss_sum, state.n_seen = 0, 0.0, 0
    state.history.append(entry)
    return entry


def _correlation(function: Callable[..., Any], a: np.ndarray, b: np.ndarray) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0  # no order at all; JSON has no NaN
    return float(function(a, b).statistic)


def _optimizer(model: DistributionModel, settings: Settings) -> optim.Optimizer:
    groups = parameter_groups(model, settings)
    if settings.optimizer == "adam":
        return optim.Adam(groups)
    return optim.SGD(groups, momentum=settings.momentum)


class _phase(AbstractContextManager[None]):  # noqa: N801
    """While the head alone is trained, the tower has no gradients and the head its first rate."""

    def __init__(
        self, model: DistributionModel, optimizer: optim.Optimizer, settings: Settings, epoch: int
    ) -> None:
        self.is_first = epoch <= settings.head_epochs
        self.frozen = list(tower_parameters(model)) if self.is_first else []
        first_rate = settings.lr_head_first or settings.lr_head
        optimizer.param_groups[0]["lr"] = first_rate if self.is_first else settings.lr_head

    def __enter__(self) -> None:
        for parameter in self.frozen:
            parameter.requires_grad_(False)

    def __exit__(self, *_: object) -> None:
        for parameter in self.frozen:
            parameter.requires_grad_(True)


def _numerics(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    if precision == "bfloat16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def _generators(device: torch.device) -> list[int]:
    return [device.index or 0] if device.type == "cuda" else []


def _step_seed(seed: int, epoch: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, epoch, step]).generate_state(1, np.uint32)[0])


def _compiled(
    model: DistributionModel, source: Source, lesson: Lesson, settings: Settings
) -> Callable[[Tensor], Tensor]:
    if not settings.compile:
        return model
    compiled: Callable[[Tensor], Tensor] = torch.compile(model)
    device = model.head.weight.device
    for _, inputs in source.batches([lesson.fitted[:2]]):
        try:
            with torch.no_grad(), _numerics(device, settings.precision):
                compiled(source.prepare(inputs, device))
        except Exception as error:  # torch raises many kinds, from its own compiler and from the system's
            raise FinetuneError(
                f"torch.compile does not work here ({type(error).__name__}: {str(error).splitlines()[0]}). "
                "Leave out --compile"
            ) from error
    return compiled


def _keep_best(folder: Path, tensors: dict[str, Tensor], state: State) -> None:
    save_tensors(folder / BEST, tensors, {"epoch": state.best_epoch, "loss": state.best_loss})


def _write_log(path: Path, state: State) -> None:
    """All epochs so far, one JSON object a line; the whole file anew, so that it never tells of an epoch that
    a resume will do again."""
    with whole_file(path) as partial:
        partial.write_text("".join(json.dumps(entry) + "\n" for entry in state.history), encoding="utf-8")
