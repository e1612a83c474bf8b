"""Beyond single pairs: ensembles of labels grown on the training images, and a probe on all labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from analysis.prompting.pairs import PairTable, VoteRanks
from analysis.prompting.scores import LabelScores
from analysis.twins import product
from store.shapes import Bool, Float, Float64

GreedyMetric = Literal["accuracy", "srcc"]


@dataclass(frozen=True)
class GreedyStep:
    """An ensemble of labels after one step and its metric on the training images."""

    added: str
    high: tuple[str, ...]
    low: tuple[str, ...]
    train_value: float


def grow_ensemble(
    scores: LabelScores,
    mos: Float[np.ndarray, " n_images"],
    is_high: Bool[np.ndarray, " n_images"],
    table: PairTable,
    metric: GreedyMetric = "srcc",
    max_labels: int = 10,
    min_gain: float = 1e-4,
) -> list[GreedyStep]:
    """Ensembles from the best pair upwards, each with the one label more that helps most on these images.

    The score is that of `score_continuous`, mean strength of the high labels minus that of the low;
    for accuracy an image is called high where it is not below zero. Ends when no label gains `min_gain`.
    """
    pair = table.best(metric)
    strength = np.ascontiguousarray(scores.strength.T)
    votes = VoteRanks(mos)
    sides = {+1: [pair.high], -1: [pair.low]}
    sums = {sign: strength[scores.column(names[0])].astype(np.float64) for sign, names in sides.items()}

    def evaluate(score: np.ndarray) -> float:
        if metric == "srcc":
            return votes.srcc(score)
        return float(np.mean((score >= 0) == is_high))

    value = evaluate(sums[+1] - sums[-1])
    steps = [GreedyStep(f"{pair.high} / {pair.low}", (pair.high,), (pair.low,), value)]
    while len(sides[+1]) + len(sides[-1]) < max_labels:
        means = {sign: sums[sign] / len(sides[sign]) for sign in sides}
        best_value, best_column = -np.inf, -1
        for column, sign in enumerate(scores.polarity.tolist()):
            if sign == 0 or scores.labels[column] in sides[sign]:
                continue
            grown = (sums[sign] + strength[column]) / (len(sides[sign]) + 1)
            candidate = evaluate(sign * (grown - means[-sign]))
            if candidate > best_value:
                best_value, best_column = candidate, column
        if best_column < 0 or best_value < value + min_gain:
            break
        sign, value = int(scores.polarity[best_column]), best_value
        sides[sign].append(scores.labels[best_column])
        sums[sign] += strength[best_column]
        added = ("+ " if sign > 0 else "- ") + scores.labels[best_column]
        steps.append(GreedyStep(added, tuple(sides[+1]), tuple(sides[-1]), value))
    return steps


@dataclass(frozen=True)
class BottleneckProbe:
    """Ridge regression of the mean vote on the label similarities, standardised on train.

    `weight` is in vote units per standard deviation of the similarity; `weight_low` and `weight_high`
    bound it over resamples of the training images. Labels whose similarities go together share
    weight between them, also with opposite signs: look at the interval, and at `alone`, before a single word.
    `alone_low` and `alone_high` bound it over the same resamples.
    """

    labels: tuple[str, ...]
    weight: Float64[np.ndarray, " n_labels"]
    weight_low: Float64[np.ndarray, " n_labels"]
    weight_high: Float64[np.ndarray, " n_labels"]
    intercept: float
    alpha: float
    mean: Float64[np.ndarray, " n_labels"]
    std: Float64[np.ndarray, " n_labels"]
    alone: Float64[np.ndarray, " n_labels"]
    """Correlation of the votes with the label's similarity less the image's mean over all labels."""
    alone_low: Float64[np.ndarray, " n_labels"]
    alone_high: Float64[np.ndarray, " n_labels"]

    def predict(self, scores: LabelScores) -> Float64[np.ndarray, " n_images"]:
        """Predicted mean vote."""
        standardised = (scores.strength.astype(np.float64) - self.mean) / self.std
        return product(standardised, self.weight) + self.intercept


def fit_bottleneck(
    scores: LabelScores,
    mos: Float[np.ndarray, " n_images"],
    rng: np.random.Generator,
    alphas: Sequence[float] = tuple(np.logspace(-4, 5, 28)),
    n_folds: int = 5,
    n_boot: int = 200,
) -> BottleneckProbe:
    """A probe that sees an image only through its label similarities (39 numbers in the paper's set).

    Alpha is chosen by the mean squared error over folds of the training images. Folds and resamples
    are sums of Gram matrices over small groups of images, so each fit is a 39-dimensional solve; the
    bootstrap resamples groups of images rather than single ones where there are more than 2,000.
    """
    X = scores.strength.astype(np.float64)
    mean, std = X.mean(axis=0), X.std(axis=0)
    if (std == 0).any():
        name = scores.labels[int(np.argmax(std == 0))]
        raise ValueError(f"the similarity to label {name!r} is the same for all images: drop it")
    n_images = len(X)
    if n_images < 2 * n_folds:
        raise ValueError(f"{n_images} training images are too few for {n_folds} folds")
    design = np.column_stack([(X - mean) / std, np.ones(n_images), mos])
    n_groups = min(n_images, 2000)
    group = rng.permutation(np.arange(n_images) % n_groups)
    order = np.argsort(group, kind="stable")
    bounds = np.searchsorted(group[order], np.arange(n_groups + 1))
    grams = np.stack([part.T @ part for part in (design[order[a:b]] for a, b in pairwise(bounds))])
    total = grams.sum(axis=0)
    errors = np.zeros(len(alphas))
    for fold in range(n_folds):
        held_out = grams[fold::n_folds].sum(axis=0)
        for i, alpha in enumerate(alphas):
            coefficients = _ridge(total - held_out, alpha)
            residual = np.append(-coefficients, 1.0)
            errors[i] += residual @ held_out @ residual
    alpha = float(alphas[int(np.argmin(errors))])
    solution = _ridge(total, alpha)
    weights, alone = np.empty((2, n_boot, len(scores.labels)))
    for i in range(n_boot):
        counts = np.bincount(rng.integers(0, n_groups, n_groups), minlength=n_groups)
        resampled = np.tensordot(counts, grams, axes=1)
        weights[i] = _ridge(resampled, alpha)[:-1]
        alone[i] = _correlations_alone(resampled, std)
    (low, alone_low), (high, alone_high) = (
        [np.quantile(values, q, axis=0) for values in (weights, alone)] for q in (0.025, 0.975)
    )
    return BottleneckProbe(
        labels=scores.labels,
        weight=solution[:-1],
        weight_low=low,
        weight_high=high,
        intercept=float(solution[-1]),
        alpha=alpha,
        mean=mean,
        std=std,
        alone=_correlations_alone(total, std),
        alone_low=alone_low,
        alone_high=alone_high,
    )


def _correlations_alone(
    gram: Float64[np.ndarray, "k k"], std: Float64[np.ndarray, " n_labels"]
) -> Float64[np.ndarray, " n_labels"]:
    """`BottleneckProbe.alone` from the Gram matrix of [standardised similarities, 1, votes].

    A similarity less the mean over the labels is linear in the standardised ones, up to a constant, which
    no correlation sees.
    """
    n_labels = len(std)
    centring = std[:, None] * (np.eye(n_labels) - 1 / n_labels)
    n_images, sums = gram[-2, -2], gram[-2]
    covariance = gram - np.outer(sums, sums) / n_images
    inner = covariance[:n_labels, :n_labels]
    spread = np.einsum("ij,ij->j", centring, inner @ centring)
    with_votes = centring.T @ covariance[:n_labels, -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        correlations: np.ndarray = with_votes / np.sqrt(spread * covariance[-1, -1])
    return correlations


def _ridge(gram: Float64[np.ndarray, "k k"], alpha: float) -> Float64[np.ndarray, " k1"]:
    """Weights and intercept from the Gram matrix of [features, 1, target]; the intercept is free."""
    penalty = np.full(len(gram) - 1, alpha)
    penalty[-1] = 0.0
    coefficients: np.ndarray = np.linalg.solve(gram[:-1, :-1] + np.diag(penalty), gram[:-1, -1])
    return coefficients
