"""What the votes say about each image: mean vote, exact high/low label, shares, spread."""

from fractions import Fraction

import numpy as np

from store.shapes import Bool, Float, Int
from store.targets import Targets


class RatingsError(ValueError):
    """The ratings do not allow what was asked for; the text says what is missing and how to add it."""


def vote_levels(votes: Int[np.ndarray, "n_images n_levels"]) -> Int[np.ndarray, " n_levels"]:
    """The vote values 1..k of k columns, the levels of a data set that names none."""
    return np.arange(1, votes.shape[1] + 1, dtype=np.int64)


def n_votes(votes: Int[np.ndarray, "n_images n_levels"]) -> Int[np.ndarray, " n_images"]:
    """Number of votes per image, at least 1; raises RatingsError naming the first image without votes."""
    total = votes.sum(axis=1, dtype=np.int64)
    if (votes < 0).any() or (total == 0).any():
        row = int(np.flatnonzero((votes < 0).any(axis=1) | (total == 0))[0])
        raise RatingsError(
            f"votes of row {row} are {votes[row].tolist()}: expected counts of at least 0 and one vote or "
            "more. Remove unrated images from the data set or give their votes."
        )
    return np.asarray(total)


def mos(
    votes: Int[np.ndarray, "n_images n_levels"], levels: Int[np.ndarray, " n_levels"] | None = None
) -> Float[np.ndarray, " n_images"]:
    """Mean vote, 1 to n_levels (mean opinion score). Never compare it with a threshold: use `is_high`."""
    levels = vote_levels(votes) if levels is None else levels
    return np.asarray(votes.astype(np.int64) @ levels / n_votes(votes))


def vote_shares(
    votes: Int[np.ndarray, "n_images n_levels"],
) -> Float[np.ndarray, "n_images n_levels"]:
    """Share of an image's votes on each level, 0 to 1; each row sums to 1."""
    return np.asarray(votes / n_votes(votes)[:, None])


def vote_std(
    votes: Int[np.ndarray, "n_images n_levels"], levels: Int[np.ndarray, " n_levels"] | None = None
) -> Float[np.ndarray, " n_images"]:
    """Standard deviation of an image's votes around their mean, in vote units (divisor: n votes)."""
    levels = vote_levels(votes) if levels is None else levels
    squares = votes.astype(np.int64) @ (levels * levels) / n_votes(votes)
    return np.asarray(np.sqrt(np.maximum(squares - mos(votes, levels) ** 2, 0.0)))


def is_high(
    votes: Int[np.ndarray, "n_images n_levels"],
    threshold: float,
    levels: Int[np.ndarray, " n_levels"] | None = None,
) -> Bool[np.ndarray, " n_images"]:
    """True where the mean vote lies strictly above the threshold, exactly.

    The paper's threshold is five (sections 2 and 4.2); that it is strict follows from its 70.3 % of high
    images (section 4): with ties it would be 70.5 %.

    Decided in integers, sum(level * votes) * q > p * sum(votes) for threshold p/q: in floating point, 12
    of the 62 images of the paper's test split that tie at 5 come out as high. A threshold such as 4.3
    means the decimal number 43/10, not the nearest binary fraction.
    """
    levels = vote_levels(votes) if levels is None else levels
    bound = Fraction(repr(float(threshold)))
    total, weighted = n_votes(votes), votes.astype(np.int64) @ levels.astype(np.int64)
    largest = max(int(np.abs(weighted).max(initial=0)), int(total.max(initial=0)))
    if largest * max(abs(bound.numerator), bound.denominator) >= 2**62:
        total, weighted = total.astype(object), weighted.astype(object)
    return np.asarray(weighted * bound.denominator > bound.numerator * total, dtype=bool)


def targets_mos(targets: Targets) -> Float[np.ndarray, " n_images"]:
    """Mean vote, or the score where a data set has scores; in the data set's own units."""
    if targets.votes is not None:
        return mos(targets.votes, targets.levels)
    return _scores(targets)


def high_from_targets(targets: Targets) -> Bool[np.ndarray, " n_images"]:
    """True where an image lies strictly above the data set's threshold: votes exactly, scores as given."""
    if targets.votes is not None:
        return is_high(targets.votes, targets.threshold, targets.levels)
    return np.asarray(_scores(targets) > targets.threshold)


def require_ratings(targets: Targets) -> None:
    """Raise RatingsError where a data set has neither votes nor scores."""
    if not targets.is_rated:
        raise RatingsError(
            f"data set {targets.dataset!r} has neither votes nor scores, so nothing can be learned or "
            f"measured on it. Add it again with ratings: iaa dataset add {targets.dataset} --kind table "
            "--images DIR --ratings FILE --overwrite"
        )


def majority_prediction(
    is_high_train: Bool[np.ndarray, " n_train"], n_test: int
) -> Bool[np.ndarray, " n_test"]:
    """The commoner class of the training images for every test image (the majority baseline).

    A tie counts as high.
    """
    return np.full(n_test, 2 * np.count_nonzero(is_high_train) >= len(is_high_train))


def _scores(targets: Targets) -> Float[np.ndarray, " n_images"]:
    require_ratings(targets)
    assert targets.scores is not None
    bad = np.flatnonzero(~np.isfinite(targets.scores))
    if len(bad):
        raise RatingsError(
            f"data set {targets.dataset!r} has {len(bad)} scores that are no finite numbers, first at row "
            f"{bad[0]} ({targets.image_id[bad[0]]}). Correct the ratings file and add the data set again."
        )
    return targets.scores
