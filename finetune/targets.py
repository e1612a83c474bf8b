"""What is learned: for each image a distribution over the levels of the data set."""

from dataclasses import dataclass

import numpy as np

from embed.images.datasets import hash_split
from finetune.errors import FinetuneError
from store import Targets
from store.shapes import Float, Float32, Int

N_SCORE_LEVELS = 10
"""Levels of a data set that has scores instead of votes."""


@dataclass(frozen=True)
class Lesson:
    """Which images teach, which are held out to decide when to stop, and what is to be predicted."""

    levels: Float[np.ndarray, " n_levels"]
    """Value of each level, in the data set's own units, ascending."""
    shares: Float32[np.ndarray, "n_images n_levels"]
    """Share of the votes on each level; rows outside `fitted` and `held_out` may be NaN."""
    fitted: Int[np.ndarray, " n_fitted"]
    """Rows of the image table whose gradients are followed."""
    held_out: Int[np.ndarray, " n_held_out"]
    """Rows of train that only decide about the best epoch."""
    n_train: int


def build_lesson(targets: Targets, held_out_share: float = 0.1) -> Lesson:
    """Distributions and roles of the training images; the test split has none.

    A share of train is held out by a hash of the image_id alone, which no split's hash has a part in, so that
    neither the seed nor other images move it. Votes become shares; a score becomes a Gaussian over levels
    (`gaussian_shares`).

    Raises FinetuneError where there are no ratings, no training images, or an image without votes.
    """
    train = np.flatnonzero(targets.split == "train")
    if not targets.is_rated or len(train) < 2:
        raise FinetuneError(
            f"data set {targets.dataset!r}, split {targets.split_name!r}: "
            f"{len(train) if targets.is_rated else 'no ratings and so no'} training images; fine-tuning "
            "needs rated images of split 'train'. Add it again with ratings: iaa dataset add "
            f"{targets.dataset} --kind table --images DIR --ratings FILE --overwrite"
        )
    if targets.votes is not None:
        levels, shares = _vote_shares(targets, train)
    else:
        levels, shares = _score_shares(targets, train)
    ids = np.array([f"held-out:{i}" for i in targets.image_id[train].tolist()])
    is_held_out = hash_split(ids, held_out_share) == "test"
    lesson = Lesson(levels, shares, train[~is_held_out], train[is_held_out], len(train))
    if len(lesson.held_out) < 2 or len(lesson.fitted) < 2:
        raise FinetuneError(
            f"data set {targets.dataset!r}: of {len(train)} training images {len(lesson.held_out)} would be "
            "held out to decide when to stop; 2 are needed on either side. Give more training images; "
            "a backbone can be fine-tuned with a larger --held-out"
        )
    return lesson


def gaussian_shares(
    scores: Float[np.ndarray, " n"], levels: Float[np.ndarray, " n_levels"]
) -> Float[np.ndarray, "n n_levels"]:
    """A Gaussian around each score, taken at the levels and scaled to sum 1; its standard deviation is the
    distance of two levels (AVA's votes spread by 1.4 levels)."""
    z = (levels[None, :] - scores[:, None]) / (levels[1] - levels[0])
    density = np.exp(-0.5 * (z**2 - (z**2).min(axis=1, keepdims=True)))
    return np.asarray(density / density.sum(axis=1, keepdims=True))


def score_levels(scores: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n_levels"]:
    """Ten levels, evenly over the range of the scores widened by a quarter on both sides, so that a Gaussian
    around the lowest or the highest score is hardly cut off."""
    low, high = float(scores.min()), float(scores.max())
    margin = (high - low) / 4
    return np.linspace(low - margin, high + margin, N_SCORE_LEVELS)


def _vote_shares(targets: Targets, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    votes = targets.votes
    assert votes is not None
    total = votes.sum(axis=1)
    bad = train[(total[train] <= 0) | (votes[train] < 0).any(axis=1)]
    if len(bad):
        raise FinetuneError(
            f"data set {targets.dataset!r}: {len(bad)} training images without votes or with negative ones, "
            f"the first {targets.image_id[bad[0]]!r} ({votes[bad[0]].tolist()}). Remove them from the ratings"
        )
    levels = np.arange(1, votes.shape[1] + 1) if targets.levels is None else targets.levels
    with np.errstate(invalid="ignore", divide="ignore"):
        return levels.astype(np.float64), (votes / total[:, None]).astype(np.float32)


def _score_shares(targets: Targets, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    assert targets.scores is not None
    scores = targets.scores[train]
    if not np.isfinite(scores).all() or scores.min() == scores.max():
        raise FinetuneError(
            f"data set {targets.dataset!r}: the scores of the training images must be finite and not all the "
            f"same; found {scores.min()} to {scores.max()}. Correct the ratings file"
        )
    levels = score_levels(scores)
    shares = np.full((targets.n_images, len(levels)), np.nan, np.float32)
    shares[train] = gaussian_shares(scores, levels)
    return levels, shares
