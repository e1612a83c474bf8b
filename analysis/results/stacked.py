"""Heads of several layers that were trained on stored features (MLSP's): their folders, and what they reach.

A folder `finetuned/BACKBONE.OUTPUT.DIGEST` has a card, which says what the head was trained on, and its score
of every image. Scores of other features or other ratings than those that are there now are never compared.
"""

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.evidence.bootstrap import Prediction, bootstrap_metrics
from analysis.probing.probes import Features, join_rows
from analysis.results.methods import METRICS, MethodResult
from analysis.results.names import METHODS, name_output
from analysis.results.predictions import Predicted
from analysis.results.printed import Cell, Code, Number, Printed
from store.csv_files import unsafe_cell
from store.errors import StoreError
from store.json_files import read_note
from store.rows import align
from store.shapes import Float
from store.targets import Targets

CARD, PREDICTIONS = "stack.json", "predictions.csv"


@dataclass(frozen=True)
class Stack:
    """A trained head: what it was made from, and its scores."""

    folder: Path
    card: dict[str, Any]
    scores: Float[np.ndarray, " n_images"]
    """Of every image of the feature file, in its order; NaN where it has no features."""

    @property
    def key(self) -> str:
        """`stacked.narrow` and `stacked.wide` are MLSP's heads, `stacked.other` one of other settings."""
        return f"stacked.{self.card['head']}"

    @property
    def source(self) -> tuple[str, str]:
        """Backbone and output whose features it reads."""
        return self.card["identity"]["backbone"], self.card["identity"]["output"]


def evaluate_stack(
    stack: Stack, features: Features, targets: Targets, n_boot: int = 1000, seed: int = 0
) -> tuple[MethodResult, Predicted]:
    """Metrics on the test images, and what was predicted there; high means above the threshold."""
    rows = join_rows(features, targets)
    scores = stack.scores[rows.test]
    prediction = Prediction(scores, scores > targets.threshold)
    y, is_high = rows.y[rows.test, 0], rows.is_high[rows.test]
    measured = bootstrap_metrics(y, is_high, prediction, n_boot, np.random.default_rng(seed), METRICS)
    backbone, output = stack.source
    card = stack.card
    result = MethodResult(
        key=stack.key,
        method=METHODS[stack.key],
        backbone=backbone,
        output=output,
        dataset=targets.dataset,
        split_name=targets.split_name,
        n_train=len(rows.train),
        n_test=len(rows.test),
        seed=seed,
        **measured,
        detail={
            "n_boot": n_boot,
            "n_trainable": card["n_trainable"],
            "best_epoch": card["best_epoch"],
            "n_epochs": card["n_epochs"],
            "seconds": card["seconds"],
            "n_failed_test": rows.n_failed["test"],
        },
        digests={"features": features.digest, "targets": targets.digest},
    )
    return result, Predicted(features.image_id[rows.test], y, is_high, prediction)


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex characters."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_stacks(
    folder: Path, features: Mapping[str, Features], targets: Targets
) -> tuple[list[Stack], list[str]]:
    """The finished heads below a folder that belong to these features (by backbone) and ratings, and a
    sentence for each that does not any more. Raises ValueError for a damaged one."""
    found: list[Stack] = []
    stale: list[str] = []
    for path in sorted(folder.glob(f"*/{CARD}")):
        name = path.parent.name
        try:
            card = read_note(path)
            identity = card["identity"]
            file = features.get(identity["backbone"])
            if file is None:
                continue
            changed = [
                what
                for what, digest in (("features", file.digest), ("ratings", targets.digest))
                if identity["targets" if what == "ratings" else what] != digest
            ]
            if changed:
                stale.append(f"{name} was trained on other {' and '.join(changed)} than there are now")
                continue
            predictions = path.parent / PREDICTIONS
            if digest_of_file(predictions) != card["predictions_sha256"]:
                raise ValueError(f"{PREDICTIONS} is not what was written")
            with predictions.open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
                rows = [(unsafe_cell(row["image_id"]), float(row["score"])) for row in csv.DictReader(lines)]
            at = align(np.array([name for name, _ in rows], dtype=str), file.image_id)
            found.append(Stack(path.parent, card, np.array([score for _, score in rows])[at]))
        except (StoreError, ValueError, KeyError, TypeError, OSError) as error:
            raise ValueError(
                f"{path.parent} is no whole training of a head ({type(error).__name__}: {error}). Delete it, "
                "or run iaa finetune --from-features again"
            ) from error
    return found, stale


def print_stacks(stacks: Sequence[Stack], stale: Sequence[str] = ()) -> Printed:
    """What each head was trained on, with which settings, and how it ended."""
    rows: list[list[Cell]] = []
    for stack in stacks:
        card = stack.card
        seconds = Number(card["seconds"], shown=f"{card['seconds']:,.0f}")
        settings = card["identity"]["settings"]
        rows.append(
            [METHODS[stack.key], card["n_trainable"], ", ".join(f"{rate:g}" for rate in settings["rates"]),
             int(settings["batch_size"]), f"{card['n_fitted']:,} + {card['n_held_out']:,} held out",
             f"{card['best_epoch']} of {card['n_epochs']}", seconds,
             Code(stack.folder.name)]
        )  # fmt: skip
    headings = ["head", "parameters", "rates", "batch", "images", "best epoch", "seconds", "folder"]
    groups = [name_output(*stack.source) for stack in stacks]
    return Printed(
        "stacks",
        headings,
        rows,
        "Heads trained on stored features",
        groups,
        notes=[f"Left out: {why}." for why in stale],
    )
