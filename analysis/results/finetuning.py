"""Fine-tuned backbones as methods: what they predict for the test images, and how their training went."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from analysis.evidence.bootstrap import Difference, Prediction, bootstrap_metrics, paired_differences
from analysis.evidence.metrics import emd_r2
from analysis.probing.distribution import mean_with_interval
from analysis.probing.probes import ProbeFit, join_rows
from analysis.results.methods import METRICS, MethodResult, Metric
from analysis.results.names import name_backbone
from analysis.results.predictions import Predicted
from analysis.results.printed import Cell, Code, Number, Printed
from analysis.results.published import BEST_EPOCH
from analysis.twins import product
from store.errors import StoreError
from store.features import Features
from store.json_files import parse_json, read_note
from store.rows import align
from store.shapes import Float, Int
from store.targets import Targets

DISTRIBUTION = "distribution"
STAND_INS = {"demo_clip": "vit_b32.openai", "demo_vit": "vit_b32.in21k"}


@dataclass(frozen=True)
class TrainingRun:
    """A finished fine-tuning, as its record tells it."""

    id: str
    backbone: str
    """Id of the backbone it started from."""
    settings: dict[str, Any]
    best_epoch: int
    n_trainable: int
    n_fitted: int
    n_held_out: int
    seconds: float
    """Of training and evaluation, decoding included where it was streamed."""
    stopped: str
    epoch: Int[np.ndarray, " n_epochs"]
    train_loss: Float[np.ndarray, " n_epochs"]
    held_out_loss: Float[np.ndarray, " n_epochs"]
    held_out_srcc: Float[np.ndarray, " n_epochs"]

    @property
    def name(self) -> str:
        """Backbone, what was trained, and the preset."""
        return f"{self.backbone}, {trained_part(self.settings)} ({self.settings['preset']})"

    @property
    def trains_all(self) -> bool:
        """True if every parameter before the output was trained."""
        return bool(self.settings["train"] == "all")


def read_runs(folder: Path, dataset: str) -> list[TrainingRun]:
    """The finished runs below a folder for one data set, by name. Raises ValueError for a damaged record."""
    runs = []
    for path in sorted(folder.glob("*/run.json")):
        try:
            record = read_note(path)
            lines = (path.parent / "log.jsonl").read_text(encoding="utf-8").splitlines()
            history = [parse_json(line) for line in lines]
            identity = record["identity"]
            if identity["dataset"] != dataset:
                continue
            columns = {key: np.array([entry[key] for entry in history]) for key in history[0]}
            runs.append(
                TrainingRun(
                    id=record["id"],
                    backbone=identity["backbone"],
                    settings=identity["settings"],
                    best_epoch=record["best_epoch"],
                    n_trainable=record["n_trainable"],
                    n_fitted=record["n_fitted"],
                    n_held_out=record["n_held_out"],
                    seconds=record["seconds"],
                    stopped=record["stopped"],
                    epoch=columns["epoch"].astype(np.int64),
                    train_loss=columns["train_loss"],
                    held_out_loss=columns["held_out_loss"],
                    held_out_srcc=columns["held_out_srcc"],
                )
            )
        except (StoreError, ValueError, KeyError, IndexError, TypeError, RecursionError, OSError) as error:
            raise ValueError(
                f"{path.parent} is no whole fine-tuning ({type(error).__name__}: {error}). Delete it and run "
                "iaa finetune again"
            ) from error
    return sorted(runs, key=_order)


def _order(run: TrainingRun) -> tuple[Any, ...]:
    """Those that train most first; of several, the paper's settings, then the lowest held-out loss."""
    best = float(run.held_out_loss[run.best_epoch - 1])
    return run.backbone, -run.n_trainable, run.settings["preset"] != "paper", best, run.id


def trained_part(settings: dict[str, Any]) -> str:
    """What was trained, in words."""
    train = str(settings["train"])
    if train.startswith("last:"):
        n_blocks = train.removeprefix("last:")
        return f"last {n_blocks} block{'s' if n_blocks != '1' else ''}"
    return {"all": "all", "head": "head alone"}[train]


def evaluate_finetuned(
    features: Features, targets: Targets, n_boot: int = 1000, seed: int = 0
) -> MethodResult:
    """Accuracy, recalls, SRCC and PLCC of the mean of the predicted distribution on the test images.

    High means a predicted mean above the threshold. With votes, the detail has `emd_r2` with its interval.
    The result stands under the id of the backbone that was fine-tuned; its own id is in the detail.

    Raises ValueError where there is nothing to test on, or the file holds no predicted distribution.
    """
    shares, levels = read_distributions(features)
    record = features.provenance["finetune"]
    rows = join_rows(features, targets)
    predicted = predict_finetuned(features, targets)
    measured = bootstrap_metrics(
        predicted.y, predicted.is_high, predicted.prediction, n_boot, np.random.default_rng(seed), METRICS
    )
    settings = record["identity"]["settings"]
    detail = {
        "finetuned": features.backbone,
        "settings": settings,
        "best_epoch": record["best_epoch"],
        "n_trainable": record["n_trainable"],
        "trained_on": record["identity"]["dataset"],
        "n_failed_test": rows.n_failed["test"],
        "n_boot": n_boot,
    }
    columns = [i for i, name in enumerate(rows.target_names) if name.startswith("share_")]
    if len(columns) == len(levels):
        emd = emd_r2(rows.y[rows.test][:, columns], shares[rows.test].astype(np.float64))
        found = mean_with_interval(emd, n_boot, np.random.default_rng(seed))
        detail["emd_r2"] = [found.value, found.low, found.high]
    return MethodResult(
        key=_key(settings),
        method=f"fine-tuned, {trained_part(settings)} (preset {settings['preset']})",
        backbone=record["identity"]["backbone"],
        output=record["identity"]["output"],
        dataset=targets.dataset,
        split_name=targets.split_name,
        n_train=len(rows.train),
        n_test=len(predicted.y),
        seed=seed,
        **measured,
        detail=detail,
        digests={"features": features.digest, "targets": targets.digest},
    )


def predict_finetuned(features: Features, targets: Targets) -> Predicted:
    """The means of the predicted distributions of the test images beside their ratings; high means above the
    threshold."""
    shares, levels = read_distributions(features)
    rows = join_rows(features, targets)
    mean = product(shares[rows.test].astype(np.float64), levels)
    prediction = Prediction(mean, mean > targets.threshold)
    y, is_high = rows.y[rows.test, 0], rows.is_high[rows.test]
    return Predicted(features.image_id[rows.test], y, is_high, prediction)


def read_distributions(
    features: Features,
) -> tuple[Float[np.ndarray, "n_images n_levels"], Float[np.ndarray, " n_levels"]]:
    """The predicted share of each level for every image (NaN where it failed), and the levels.

    Raises ValueError where the file is not that of a fine-tuned backbone.
    """
    record = features.provenance.get("finetune")
    if record is None or DISTRIBUTION not in features.outputs:
        raise ValueError(f"{features.path}: {features.backbone} was not fine-tuned: no distribution")
    return features.read(DISTRIBUTION), np.array(record["levels"], dtype=np.float64)


def compare_finetuned(
    fits: Sequence[ProbeFit],
    tuned: Sequence[Features],
    targets: Targets,
    metric: str,
    n_boot: int | None = None,
    seed: int = 0,
) -> list[Difference]:
    """Paired differences of one metric on test: each fine-tuned backbone against the frozen ridge probe of
    the backbone it started from, and fully fine-tuned ones of different backbones against each other.
    Without n_boot there are as many resamples as the family needs."""
    first = fits[0]
    probes = {fit.backbone: f"frozen {fit.name}" for fit in fits}
    predictions = {
        probes[fit.backbone]: _on(first.test_id, fit.test_id, fit.prediction("ridge")) for fit in fits
    }
    pairs: list[tuple[str, str]] = []
    full: dict[str, str] = {}
    for features in tuned:
        features.check_images(targets.images)
        shares, levels = read_distributions(features)
        mean = product(shares[align(features.image_id, first.test_id)].astype(np.float64), levels)
        predictions[features.backbone] = Prediction(mean, mean > targets.threshold)
        base = features.provenance["finetune"]["identity"]
        pairs.append((features.backbone, probes[base["backbone"]]))
        if base["settings"]["train"] == "all" and base["settings"]["preset"] != "nima":
            full.setdefault(base["backbone"], features.backbone)
    pairs += list(combinations(full.values(), 2))
    rng = np.random.default_rng(seed)
    return paired_differences(first.y_test, first.is_high_test, predictions, metric, n_boot, rng, pairs)


def _on(wanted: np.ndarray, ids: np.ndarray, prediction: Prediction) -> Prediction:
    at = align(ids, wanted)
    assert prediction.score is not None and prediction.high is not None
    return Prediction(prediction.score[at], prediction.high[at])


def print_runs(runs: Sequence[TrainingRun]) -> Printed:
    """What each run trained, with which settings, and how it ended."""
    rows: list[list[Cell]] = []
    for run in runs:
        settings = run.settings
        is_sgd = settings["optimizer"] == "sgd"
        optimizer = f"SGD, momentum {settings['momentum']:g}" if is_sgd else "Adam"
        lr_tower = f"{settings['lr_tower']:g}" if settings["train"] != "head" else ""
        rows.append(
            [trained_part(settings), run.n_trainable, optimizer, f"{settings['lr_head']:g}", lr_tower,
             int(settings["batch_size"]), f"{run.n_fitted:,} + {run.n_held_out:,} held out", len(run.epoch),
             run.stopped, Number(run.seconds, shown=f"{run.seconds:,.0f}"), Code(run.id)]
        )  # fmt: skip
    headings = [
        "trained",
        "parameters",
        "optimiser",
        "rate, head",
        "rate, tower",
        "batch",
        "images",
        "epochs",
    ]
    headings += ["stopped by", "seconds", "id"]
    return Printed("runs", headings, rows, "The runs", [name_backbone(run.backbone) for run in runs])


def print_epochs(runs: Sequence[TrainingRun]) -> Printed:
    """The best epoch of each run beside the paper's."""
    rows: list[list[Cell]] = []
    for run in runs:
        best, published = run.best_epoch - 1, published_best_epoch(run.backbone)
        epochs = f"{run.best_epoch} of {len(run.epoch)}"
        if run.stopped == "max_epochs":
            epochs += ", stopped by their number"
        loss, srcc = Number(float(run.held_out_loss[best])), Number(float(run.held_out_srcc[best]))
        rows.append([name_backbone(run.backbone), epochs, loss, srcc, published])
    headings = ["backbone, all layers trained", "best epoch", "held-out emd_r2", "held-out SRCC"]
    headings += ["best epoch, paper (section 4.3, AVA)"]
    return Printed(
        "best_epochs", headings, rows, "The epoch with the lowest loss on the held-out photographs"
    )


def _key(settings: dict[str, Any]) -> str:
    """'finetune' is the paper's method (section 4.3), whatever the settings; cheaper variants are not."""
    if settings["preset"] == "nima":
        return "nima"
    return "finetune" if settings["train"] == "all" else f"tuned.{settings['train']}"


@dataclass(frozen=True)
class Cost:
    """What a method costs beyond the pass through the frozen backbone, and what it reaches."""

    label: str
    backbone: str
    n_trainable: int
    seconds: float | None
    srcc: Metric


def published_best_epoch(backbone: str) -> int | None:
    """The paper's best epoch (section 4.3) for a backbone or for what the demo's backbone stands in for."""
    return BEST_EPOCH.get(STAND_INS.get(backbone, backbone))
