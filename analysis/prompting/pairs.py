"""Accuracy, Spearman and Pearson correlation of every pair of a high and a low label at once.

Section 4.1 tries all 27 x 12 pairs on the training images. Nothing here passes over the images once
per pair in full precision where once is enough:

- accuracy: comparing two columns of similarities gives the decision of a pair;
- Pearson: score = a - b, so its covariance with the votes is cov(a, y) - cov(b, y) and its variance
  var(a) + var(b) - 2 cov(a, b): all pairs follow from one covariance matrix of the labels;
- Spearman: one sort per pair, of 64-bit integers that carry the score in the upper half and the rank
  of the image's vote in the lower, so that nothing is gathered afterwards. Pairs run in threads, and by the
  sort that suits the processor.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
from threadpoolctl import threadpool_limits

from analysis.evidence.metrics import average_ranks
from analysis.prompting.scores import LabelScores
from analysis.prompting.sorting import faster_sort
from store.shapes import Bool, Float, Float32, Float64, Int32, Int64
from store.system import n_cores

PairMetric = Literal["accuracy", "srcc", "plcc"]
_CHUNK_IMAGES = 4096


@dataclass(frozen=True)
class LabelPair:
    """A high and a low label with the value of the metric they were chosen by."""

    high: str
    low: str
    value: float


@dataclass(frozen=True)
class PairTable:
    """Metrics of every pair: row = high label, column = low label. NaN where undefined."""

    method: str
    high: tuple[str, ...]
    low: tuple[str, ...]
    n_images: int
    accuracy: Float64[np.ndarray, "n_high n_low"]
    recall_low: Float64[np.ndarray, "n_high n_low"]
    recall_high: Float64[np.ndarray, "n_high n_low"]
    srcc: Float64[np.ndarray, "n_high n_low"]
    plcc: Float64[np.ndarray, "n_high n_low"]

    def metric(self, name: PairMetric) -> Float64[np.ndarray, "n_high n_low"]:
        """The table of one metric."""
        values: np.ndarray = getattr(self, name)
        return values

    def best(self, name: PairMetric) -> LabelPair:
        """The pair with the highest value; of equal ones the first in the order of the lists."""
        return self.ranked(name)[0]

    def ranked(self, name: PairMetric) -> list[LabelPair]:
        """All pairs with a defined value, from best to worst."""
        values = self.metric(name)
        order = np.argsort(-values, axis=None, kind="stable")  # NaN sorts last
        pairs = [
            LabelPair(self.high[i // len(self.low)], self.low[i % len(self.low)], values.flat[i])
            for i in order.tolist()
            if np.isfinite(values.flat[i])
        ]
        if not pairs:
            raise ValueError(f"{self.method}: {name} is undefined for every pair (constant votes?)")
        return pairs


def search_pairs(
    scores: LabelScores,
    mos: Float[np.ndarray, " n_images"],
    is_high: Bool[np.ndarray, " n_images"],
    n_threads: int | None = None,
) -> PairTable:
    """All three metrics of all pairs of a positive and a negative label on the given images."""
    _check_inputs(scores, mos, is_high)
    rows, columns = np.flatnonzero(scores.polarity > 0), np.flatnonzero(scores.polarity < 0)
    if not len(rows) or not len(columns):
        raise ValueError(
            f"{scores.method}: a pair search needs labels of polarity +1 and -1, "
            f"got {len(rows)} and {len(columns)}"
        )
    strength = np.ascontiguousarray(scores.strength.T)
    same = scores.decision is scores.strength
    decision = strength if same else np.ascontiguousarray(scores.decision.T)
    n_threads = n_threads or n_cores()
    # A pair is one core's work, and so is a product of a few long rows: threads of the BLAS inside the
    # pool's threads, or beside other processes, wait for each other (40 times slower on two busy cores).
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(n_threads) as pool:
        n_true, n_predicted = _count_predictions(decision[rows], decision[columns], is_high, pool)
        linear = pool.submit(_pair_plcc, strength[rows], strength[columns], mos)
        srcc = _pair_srcc(strength[rows], strength[columns], mos, pool)
        plcc = linear.result()
    n_high = int(np.count_nonzero(is_high))
    n_low = len(is_high) - n_high
    n_true_low = n_low - (n_predicted - n_true)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall_low, recall_high = n_true_low / np.float64(n_low), n_true / np.float64(n_high)
    return PairTable(
        method=scores.method,
        high=tuple(scores.labels[i] for i in rows),
        low=tuple(scores.labels[i] for i in columns),
        n_images=len(mos),
        accuracy=(n_true + n_true_low) / len(mos),
        recall_low=recall_low,
        recall_high=recall_high,
        srcc=srcc,
        plcc=plcc,
    )


def _check_inputs(scores: LabelScores, mos: np.ndarray, is_high: np.ndarray) -> None:
    if not len(mos) == len(is_high) == scores.n_images or not len(mos):
        raise ValueError(
            f"{scores.method}: {scores.n_images} images have scores, {len(mos)} a mean vote and "
            f"{len(is_high)} a class; expected the same number, at least 1"
        )
    n_bad = int(np.count_nonzero(~(scores.ok & np.isfinite(mos))))
    if n_bad:
        raise ValueError(
            f"{scores.method}: {n_bad} of {len(mos)} images have no score or vote (failed rows?); "
            "take the images with status ok first: scores.take(scores.ok)"
        )


def _count_predictions(
    high: Float32[np.ndarray, "n_high n_images"],
    low: Float32[np.ndarray, "n_low n_images"],
    is_high: Bool[np.ndarray, " n_images"],
    pool: ThreadPoolExecutor,
) -> tuple[np.ndarray, np.ndarray]:
    """(true high, predicted high) counts of every pair; a tie is predicted high."""

    def count(row: int) -> tuple[list[int], list[int]]:
        n_true, n_predicted = [], []
        for column in low:
            predicted = high[row] >= column
            n_predicted.append(int(np.count_nonzero(predicted)))
            n_true.append(int(np.count_nonzero(predicted & is_high)))
        return n_true, n_predicted

    counted = list(pool.map(count, range(len(high))))
    return np.array([c[0] for c in counted]), np.array([c[1] for c in counted])


def _pair_plcc(
    high: Float32[np.ndarray, "n_high n_images"],
    low: Float32[np.ndarray, "n_low n_images"],
    mos: Float[np.ndarray, " n_images"],
) -> Float64[np.ndarray, "n_high n_low"]:
    columns = np.concatenate([high, low])
    means = columns.mean(axis=1, dtype=np.float64)[:, None]
    centred = mos - np.mean(mos, dtype=np.float64)
    covariance, with_mos = np.zeros((len(columns), len(columns))), np.zeros(len(columns))
    for start in range(0, len(mos), _CHUNK_IMAGES):  # float64 copies that stay in the cache
        chunk = columns[:, start : start + _CHUNK_IMAGES] - means
        covariance += chunk @ chunk.T
        with_mos += chunk @ centred[start : start + _CHUNK_IMAGES]
    variance = np.diag(covariance)
    n_high = len(high)
    spread = variance[:n_high, None] + variance[None, n_high:] - 2 * covariance[:n_high, n_high:]
    # A difference that is zero but for rounding has no correlation.
    spread[spread <= 1e-12 * variance.max(initial=0.0)] = np.nan
    with np.errstate(invalid="ignore", divide="ignore"):
        plcc: np.ndarray = (with_mos[:n_high, None] - with_mos[None, n_high:]) / np.sqrt(
            spread * (centred @ centred)
        )
    return plcc


def _pair_srcc(
    high: Float32[np.ndarray, "n_high n_images"],
    low: Float32[np.ndarray, "n_low n_images"],
    mos: Float[np.ndarray, " n_images"],
    pool: ThreadPoolExecutor,
) -> Float64[np.ndarray, "n_high n_low"]:
    votes = VoteRanks(mos)

    def correlate(row: np.ndarray) -> list[float]:
        score, work = np.empty_like(row), Workspace(len(row))
        return [votes.srcc(np.subtract(row, column, out=score), work) for column in low]

    return np.array(list(pool.map(correlate, high)))


class Workspace:
    """Arrays used again for every score: fresh ones of this size would cost as much as the sort."""

    def __init__(self, n_images: int) -> None:
        self.bits = np.empty(n_images, np.int32)
        self.flip = np.empty(n_images, np.int32)
        self.keys = np.empty(n_images, np.int64)
        self.low = np.empty(n_images, np.int64)
        self.ranks = np.empty(n_images, np.float64)


class VoteRanks:
    """Ranks of the mean votes, made once, to correlate many scores with."""

    def __init__(self, mos: Float[np.ndarray, " n_images"]) -> None:
        self.payload: Int64[np.ndarray, " n_images"] = np.rint(2 * average_ranks(mos)).astype(np.int64)
        """Twice the mean rank: an exact integer below 2**32 also for ties."""
        centred = self.payload.astype(np.float64) - (len(mos) + 1)
        self.sum_of_squares = float(centred @ centred)
        self.positions = np.arange(1, len(mos) + 1, dtype=np.float64) - (len(mos) + 1) / 2
        self.sort = faster_sort(self.payload << 32 | np.arange(len(mos)), self.payload.astype(np.float32))

    def srcc(self, score: Float[np.ndarray, " n_images"], work: Workspace | None = None) -> float:
        """Spearman correlation of float32 scores with the votes, ties by mean rank; NaN if constant."""
        n = len(self.payload)
        work = work or Workspace(n)
        keys, vote_ranks = work.keys, work.ranks
        keys[:] = sortable_bits(score, work.bits, work.flip)
        keys <<= 32
        keys |= self.payload
        keys = self.sort(keys, score)
        vote_ranks[:] = np.bitwise_and(keys, 0xFFFFFFFF, out=work.low)
        keys >>= 32
        product = float(self.positions @ vote_ranks)
        spread = n * (n * n - 1) / 12
        as_before = np.flatnonzero(keys[1:] == keys[:-1])
        if len(as_before):
            moved, lost = self._tie_corrections(as_before, vote_ranks)
            product += moved
            spread -= lost
        if spread <= 0 or self.sum_of_squares <= 0:
            return float("nan")
        return product / float(np.sqrt(spread * self.sum_of_squares))

    def _tie_corrections(
        self, as_before: Int64[np.ndarray, " n_ties"], vote_ranks: Float64[np.ndarray, " n_images"]
    ) -> tuple[float, float]:
        """Change of the product and loss of spread when tied scores share their mean position.

        `as_before` holds the positions whose successor has the same score; runs of them are groups.
        """
        first = np.flatnonzero(np.diff(as_before, prepend=-2) != 1)
        sizes = np.diff(first, append=len(as_before)) + 1
        starts, offsets = as_before[first], np.cumsum(sizes) - sizes
        members = np.arange(sizes.sum()) + np.repeat(starts - offsets, sizes)
        tied = vote_ranks[members]
        means = self.positions[starts] + (sizes - 1) / 2
        shared = float(means @ np.add.reduceat(tied, offsets))
        counts = sizes.astype(np.float64)
        return shared - float(self.positions[members] @ tied), float(
            (counts * (counts * counts - 1)).sum()
        ) / 12


def sortable_bits(
    score: Float[np.ndarray, " n"],
    bits: Int32[np.ndarray, " n"] | None = None,
    flip: Int32[np.ndarray, " n"] | None = None,
) -> Int32[np.ndarray, " n"]:
    """Integers that order as the scores do as float32; -0 equals 0. Written to `bits` where given."""
    bits = np.empty(len(score), np.int32) if bits is None else bits
    np.add(score, np.float32(0), out=bits.view(np.float32), casting="same_kind")
    flip = np.right_shift(bits, 31, out=flip)  # -1 for negative floats, which count downwards:
    flip &= np.int32(0x7FFFFFFF)  # flip all but the sign
    bits ^= flip
    return bits


def untangle_pairs(pairs: Sequence[LabelPair], n_pairs: int) -> list[LabelPair]:
    """The first pairs of a ranked list that share no label, at most `n_pairs`."""
    chosen: list[LabelPair] = []
    used: set[str] = set()
    for pair in pairs:
        if len(chosen) < n_pairs and not used & {pair.high, pair.low}:
            chosen.append(pair)
            used |= {pair.high, pair.low}
    return chosen
