"""Stars by ridge, comparisons by a logistic model of differences, both as one fit.

The score of a photograph is f(x) = b0 + b1 g(x) + w'z: z are its standardised features, g is a general head's
score where there is one (then w is what the person differs in), b0 and b1 are not shrunk, w is. Minimised is

    sum over stars (y - f)^2 + 2 s^2 sum over pairs loss(k (f_first - f_second)) + alpha |w|^2

with the logistic loss. s is the spread of the person's stars about f. A comparison is taken as one of two
scores that each have this spread: then k = pi / (s sqrt 6) (a logistic's variance is pi^2 / 3).

Everything is said about f in a few places only, so it is solved there: with G the inner products of the rows
(of differences, for pairs), N = alpha / weight on the diagonal and B the columns that are not shrunk,

    C = (G + N)^-1,   Q = C - C B (B'C B)^-1 B'C,   dual coefficients = Q y,

and what is predicted of an observation by all others (B refitted, too) is y_i - (Q y)_i / Q_ii, exactly for
stars. For pairs, which are solved by Newton steps (y and N are then the working response and weights), it is
that of the last step. alpha is the one that predicts left-out observations best.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import LinAlgError, lapack
from scipy.special import expit

from analysis.parallel import one_blas_thread
from analysis.taste.gram import Gram
from analysis.taste.opinions import Opinions
from analysis.taste.path import StarsPath
from store.shapes import Float

ALPHAS = (*np.logspace(0, 6, 25).tolist(), 1e9)
"""Penalties tried: 25 from 1 to 1e6, as for probes, and one that leaves the general head as it is."""
FEWEST = 4
"""Observations below which nothing can be left out: alpha is then DEFAULT."""
DEFAULT = 16
_EXACT = 30
"""Observations up to which every alpha is tried; beyond, a walk begins at the last one."""
_AT_ONCE = 300
"""Photographs with stars up to which one decomposition, for every alpha, costs less than a walk."""
_LOGISTIC = math.pi / math.sqrt(6.0)
_MAX_STEPS = 30
_SMALL_GAIN = 1e-7


@dataclass(frozen=True)
class Taste:
    """A fitted taste: linear in the standardised features and the general head's score."""

    weights: Float[np.ndarray, " dim"]
    bias: float
    slope: float
    """Of the general head's score; 0 without one."""
    place: int
    """Of alpha among those tried."""
    alpha: float
    spread: float
    """Of the person's stars about the score, estimated on left-out ones; 1 where there are only pairs."""
    n_stars: int
    n_pairs: int
    left_out: Float[np.ndarray, " n_stars"]
    """What all others predict of each photograph with stars; NaN where nothing could be left out."""

    def predict(
        self,
        standard: Float[np.ndarray, "n_rows dim"],
        general: Float[np.ndarray, " n_rows"] | None = None,
    ) -> Float[np.ndarray, " n_rows"]:
        """Scores, in stars where stars were given, of standardised rows; not clipped."""
        score = standard @ self.weights + self.bias
        return np.asarray(score if general is None else score + self.slope * general)


def fit_taste(
    gram: Gram,
    opinions: Opinions,
    general: Float[np.ndarray, " n_images"] | None = None,
    start: int | None = None,
    alphas: Sequence[float] = ALPHAS,
) -> Taste:
    """The taste behind some opinions; `general` is a head's score of every row, from which it starts.

    `start` is the place of the last alpha, from which a walk begins where there are many observations.
    Raises ValueError without any opinion.
    """
    if not len(opinions):
        raise ValueError("nothing was said yet: there is nothing to learn from")
    rows = opinions.rows
    with one_blas_thread():
        products = gram.of(rows)
        problem = _Problem(products, rows, opinions, general)
        stars = None
        if opinions.n_stars and opinions.n_pairs:
            alone = opinions.take(np.ones(opinions.n_stars, bool), np.zeros(opinions.n_pairs, bool))
            stars = _Problem(products, rows, alone, general)
        place, spread = _choose(problem, stars, alphas, start)
        solved = problem.solve(alphas[place], spread)
        on_rows = problem.spread_over_rows(solved.dual)
        weights = gram.rows(rows).T @ on_rows
    bias, slope = 0.0, 0.0
    free = list(solved.free)
    if problem.has_bias:
        bias = free.pop(0)
    if general is not None:
        slope = free.pop(0)
    n = opinions.n_stars
    left_out = problem.y[:n] - solved.left_out[:n]
    return Taste(weights, bias, slope, place, float(alphas[place]), spread, n, opinions.n_pairs, left_out)


@dataclass(frozen=True)
class _Solved:
    dual: Float[np.ndarray, " n_said"]
    free: Float[np.ndarray, " n_free"]
    """b0 (where stars are) and b1 (where there is a general head)."""
    left_out: Float[np.ndarray, " n_said"]
    """Observation less what all others predict; of pairs the working response's."""
    response: Float[np.ndarray, " n_said"]


class _Problem:
    """Observations as linear functions of the scores of some rows."""

    def __init__(
        self,
        gram: Float[np.ndarray, "n_rows n_rows"],
        rows: np.ndarray,
        opinions: Opinions,
        general: np.ndarray | None,
    ) -> None:
        self.opinions, self.n_rows = opinions, len(rows)
        at = {row: place for place, row in enumerate(rows.tolist())}
        self._star, self._first, self._second = (
            np.array([at[row] for row in some.tolist()], dtype=int)
            for some in (opinions.row, opinions.first, opinions.second)
        )
        # D gram D', where D picks a row, or the difference of two.
        if opinions.n_pairs:
            left = np.concatenate([gram[self._star], gram[self._first] - gram[self._second]])
            across = [left[:, self._star], left[:, self._first] - left[:, self._second]]
            self.gram = np.concatenate(across, axis=1)
        else:
            self.gram = (
                gram
                if np.array_equal(self._star, np.arange(len(gram)))
                else gram[np.ix_(self._star, self._star)]
            )
        self._known: dict[tuple[float, float], _Solved] = {}
        self.y = np.concatenate([opinions.stars, np.zeros(opinions.n_pairs)])
        self.outcome = np.concatenate([np.zeros(opinions.n_stars), opinions.outcome])
        self.is_pair = np.arange(len(self.y)) >= opinions.n_stars
        self.has_bias = opinions.n_stars > 0
        columns = [~self.is_pair * 1.0] if self.has_bias else []
        if general is not None:
            said = general[opinions.first] - general[opinions.second]
            columns.append(np.concatenate([general[opinions.row], said]))
        self.free = np.stack(columns, axis=1) if columns else np.zeros((len(self.y), 0))

    def spread_over_rows(self, dual: Float[np.ndarray, " n_said"]) -> Float[np.ndarray, " n_rows"]:
        """D' times dual coefficients: coefficients of the rows."""
        found = np.zeros(self.n_rows)
        n = self.opinions.n_stars
        np.add.at(found, self._star, dual[:n])
        np.add.at(found, self._first, dual[n:])
        np.add.at(found, self._second, -dual[n:])
        return found

    def solve(self, alpha: float, spread: float) -> _Solved:
        """The fit for one alpha, kept for when it is asked for again."""
        if not self.is_pair.any():
            spread = 1.0
        if (alpha, spread) not in self._known:
            self._known[alpha, spread] = self._solve(alpha, spread)
        return self._known[alpha, spread]

    def _solve(self, alpha: float, spread: float) -> _Solved:
        if not self.is_pair.any():
            return self._step(np.full(len(self.y), alpha), self.y)
        near = min(self._known, key=lambda known: abs(math.log(known[0] / alpha)), default=None)
        dual, free = np.zeros(len(self.y)), np.zeros(self.free.shape[1])
        if near is not None:  # from where Newton's steps are few
            dual, free = self._known[near].dual, self._known[near].free
        loss = self._loss(dual, free, alpha, spread)
        for _ in range(_MAX_STEPS):
            eta = self.gram @ dual + self.free @ free
            response, weight = self._working(eta, spread)
            solved = self._step(alpha / weight, response)
            share = 1.0
            while True:  # a whole step, unless it leads up
                new_dual = dual + share * (solved.dual - dual)
                new_free = free + share * (solved.free - free)
                new_loss = self._loss(new_dual, new_free, alpha, spread)
                if new_loss <= loss or share < 1e-3:
                    break
                share /= 2
            gain, dual, free, loss = loss - new_loss, new_dual, new_free, new_loss
            if gain < _SMALL_GAIN * (1.0 + abs(loss)):
                break
        return replace(solved, dual=dual, free=free)

    def _working(self, eta: np.ndarray, spread: float) -> tuple[np.ndarray, np.ndarray]:
        """Response and weight by which a step of least squares is one of Newton's; for stars, themselves."""
        slope = _LOGISTIC / spread
        p = expit(slope * eta)
        curvature = np.maximum(p * (1 - p), 1e-6) * slope
        response = np.where(self.is_pair, eta + (self.outcome - p) / curvature, self.y)
        return response, np.where(self.is_pair, curvature * slope * spread**2, 1.0)

    def _loss(self, dual: np.ndarray, free: np.ndarray, alpha: float, spread: float) -> float:
        along = self.gram @ dual
        score = along + self.free @ free
        lost = np.where(
            self.is_pair,
            2 * spread**2 * _logistic_loss(_LOGISTIC / spread * score, self.outcome),
            (self.y - score) ** 2,
        )
        return float(lost.sum() + alpha * (dual @ along))

    def _step(self, noise: np.ndarray, response: np.ndarray) -> _Solved:
        matrix = np.array(self.gram, order="F")
        matrix[np.diag_indices_from(matrix)] += noise
        factor, fault = lapack.dpotrf(matrix, lower=1, overwrite_a=1, clean=1)
        if fault:
            raise LinAlgError(f"the Gram matrix of {len(noise)} observations is not positive definite")
        inverse, _ = lapack.dtrtri(factor, lower=1, overwrite_c=1)
        diagonal = np.einsum("ij,ij->j", inverse, inverse)

        def apply(columns: np.ndarray) -> np.ndarray:
            return np.asarray(inverse.T @ (inverse @ columns))

        by_y, by_free = apply(response), apply(self.free)
        inner = np.linalg.pinv(self.free.T @ by_free, hermitian=True)
        free = inner @ (self.free.T @ by_y)
        dual = by_y - by_free @ free
        diagonal = diagonal - np.einsum("ij,jk,ik->i", by_free, inner, by_free)
        # Where nothing is left of an observation, it alone determines what is not shrunk.
        with np.errstate(divide="ignore", invalid="ignore"):
            left_out = np.where(diagonal * noise > 1e-9, dual / diagonal, np.nan)
        return _Solved(dual, free, left_out, response)

    def error(self, alpha: float, spread: float) -> float:
        """How badly left-out observations are predicted: half the squared error of stars in spreads, and the
        logistic loss of pairs, on average."""
        solved = self.solve(alpha, spread)
        predicted = solved.response - solved.left_out
        n = self.opinions.n_stars
        lost = 0.5 * (solved.left_out[:n] / spread) ** 2
        pairs = _logistic_loss(_LOGISTIC / spread * predicted[n:], self.outcome[n:])
        both = np.concatenate([lost, pairs])
        return float(np.mean(both[np.isfinite(both)])) if np.isfinite(both).any() else math.inf


def _choose(
    problem: _Problem, stars: _Problem | None, alphas: Sequence[float], start: int | None
) -> tuple[int, float]:
    """Place of the alpha that predicts left-out observations best, and the spread of the stars; `stars` is
    the problem without pairs, where there are both."""
    opinions = problem.opinions
    spread = (float(np.std(opinions.stars)) if opinions.n_stars > 1 else 0.0) or 1.0
    if len(opinions) < FEWEST:
        return min(DEFAULT, len(alphas) - 1), spread
    alone = problem if not opinions.n_pairs else stars
    if alone is problem and len(opinions) <= _AT_ONCE:
        path = StarsPath(problem.gram, problem.free, np.array(alphas))
        left_out = path.left_out(problem.y[:, None])[0]
        place = int(path.choose(problem.y[:, None])[0])
        return place, _root_mean_square(left_out[place]) or spread
    if alone is not None and opinions.n_stars >= FEWEST:
        place = _walk(lambda at: alone.error(alphas[at], 1.0), len(alphas), opinions.n_stars, start)
        left_out = alone.solve(alphas[place], 1.0).left_out
        spread = _root_mean_square(left_out) or spread
        if alone is problem:
            return place, spread
    return _walk(lambda at: problem.error(alphas[at], spread), len(alphas), len(opinions), start), spread


def _walk(error: Callable[[int], float], n: int, n_said: int, start: int | None) -> int:
    """Place of the smallest error: of all for few observations; for many a walk downhill, from `start`, or
    from the best of a few."""
    known: dict[int, float] = {}

    def at(place: int) -> float:
        if place not in known:
            known[place] = error(place)
        return known[place]

    if n_said <= _EXACT:
        return min(range(n), key=at)
    here = min(range(0, n, 5), key=at) if start is None else min(start, n - 1)
    while (best := min((p for p in (here, here - 1, here + 1) if 0 <= p < n), key=at)) != here:
        here = best
    return here


def _logistic_loss(margin: np.ndarray, outcome: np.ndarray) -> Float[np.ndarray, " n"]:
    """-log of the probability that the model gives an outcome; half of each side's for equal ones."""
    return np.asarray(np.logaddexp(0.0, margin) - outcome * margin)


def _root_mean_square(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.sqrt(np.mean(finite**2))) if len(finite) else 0.0
