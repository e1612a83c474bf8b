"""Probes of the whole vote: what is fitted to shares of votes, and how, on standardised features in memory.

    ridge       linear, squared error, on the mean vote or on each level's share (projected on the simplex)
    soft labels softmax over the levels, cross entropy with the shares of votes
    ordinal     cumulative logits (McCullagh 1980): P(vote <= k) = logistic(theta_k - w'z), so one
    direction and a threshold per level; the likelihood of the shares

Each image counts once, whatever its number of votes. The penalty acts on the weights of standardised
features, not on intercepts and thresholds: strength / 2 * |w|^2 beside the sum over the images.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from analysis.probing.distribution import project_simplex
from analysis.twins import product
from store.shapes import Float64

_TOLERANCE = 1e-7
_MAX_STEPS = 2000


@dataclass(frozen=True)
class Linear:
    """Weights and intercepts on standardised features, one column per level (or one for the mean vote)."""

    weights: Float64[np.ndarray, "dim k"]
    intercept: Float64[np.ndarray, " k"]

    def scores(self, z: Float64[np.ndarray, "n dim"]) -> Float64[np.ndarray, "n k"]:
        """The linear function of rows; equal rows have equal ones."""
        return np.asarray(product(z, self.weights) + self.intercept)


@dataclass(frozen=True)
class Ordinal:
    """One direction and a rising threshold between neighbouring levels."""

    weights: Float64[np.ndarray, " dim"]
    thresholds: Float64[np.ndarray, " k_less_1"]

    def shares(self, z: Float64[np.ndarray, "n dim"]) -> Float64[np.ndarray, "n k"]:
        """Predicted shares per level; each row sums to 1."""
        below = _logistic(self.thresholds[None, :] - product(z, self.weights)[:, None])
        edges = np.concatenate([np.zeros((len(z), 1)), below, np.ones((len(z), 1))], axis=1)
        return np.asarray(np.diff(edges, axis=1))


def fit_ridge(
    z: Float64[np.ndarray, "n dim"], y: Float64[np.ndarray, "n k"], strengths: Sequence[float]
) -> Iterator[Linear]:
    """Ridge of every column of y for each strength, from one decomposition; z has column means of zero."""
    u, values, vt = np.linalg.svd(z, full_matrices=False)
    mean = y.mean(axis=0)
    projected = u.T @ (y - mean)
    for strength in strengths:
        shrunk = values / (values**2 + strength) if strength else np.divide(
            1.0, values, out=np.zeros_like(values), where=values > values[0] * 1e-10
        )  # fmt: skip
        yield Linear(vt.T @ (shrunk[:, None] * projected), mean)


def ridge_shares(fitted: Linear, z: Float64[np.ndarray, "n dim"]) -> Float64[np.ndarray, "n k"]:
    """Predicted shares of a ridge per level: the nearest that are at least 0 and sum to 1."""
    return project_simplex(fitted.scores(z))


def fit_soft_labels(
    z: Float64[np.ndarray, "n dim"], shares: Float64[np.ndarray, "n k"], strengths: Sequence[float]
) -> Iterator[Linear]:
    """Softmax regression on shares of votes for each strength, each started from the one before."""
    n, dim = z.shape
    k = shares.shape[1]
    start = np.zeros((dim + 1) * k)
    start[dim * k :] = np.log(np.maximum(shares.mean(axis=0), 1e-12))
    for strength in strengths:

        def loss(parameters: np.ndarray, strength: float = strength) -> tuple[float, np.ndarray]:
            weights, intercept = parameters[: dim * k].reshape(dim, k), parameters[dim * k :]
            logits = z @ weights + intercept
            logits -= logits.max(axis=1, keepdims=True)
            log_sum = np.log(np.exp(logits).sum(axis=1, keepdims=True))
            value = float((shares * (log_sum - logits)).sum()) + strength / 2 * float((weights**2).sum())
            residual = np.exp(logits - log_sum) - shares
            gradient = np.concatenate([(z.T @ residual + strength * weights).ravel(), residual.sum(axis=0)])
            return value / n, gradient / n

        start = _minimum(loss, start)
        yield Linear(start[: dim * k].reshape(dim, k).copy(), start[dim * k :].copy())


def soft_shares(fitted: Linear, z: Float64[np.ndarray, "n dim"]) -> Float64[np.ndarray, "n k"]:
    """Predicted shares of a softmax regression; each row sums to 1."""
    logits = fitted.scores(z)
    grown = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=1, keepdims=True))


def fit_ordinal(
    z: Float64[np.ndarray, "n dim"], shares: Float64[np.ndarray, "n k"], strengths: Sequence[float]
) -> Iterator[Ordinal]:
    """Cumulative logits on shares of votes for each strength, each started from the one before.

    Every level must have some votes. Thresholds are the first one and the logarithms of the steps between
    them, so that they rise whatever the numbers are.
    """
    n, dim = z.shape
    below = np.clip(np.cumsum(shares.mean(axis=0))[:-1], 1e-9, 1 - 1e-9)
    thresholds = np.log(below / (1 - below))
    start = np.concatenate([np.zeros(dim), thresholds[:1], np.log(np.maximum(np.diff(thresholds), 1e-6))])
    for strength in strengths:

        def loss(parameters: np.ndarray, strength: float = strength) -> tuple[float, np.ndarray]:
            weights, first, log_steps = parameters[:dim], parameters[dim], parameters[dim + 1 :]
            steps = np.exp(log_steps)
            thetas = first + np.concatenate([[0.0], np.cumsum(steps)])
            value, by_theta, by_score = _likelihood(thetas, steps, z @ weights, shares)
            from_here = np.cumsum(by_theta[::-1])[::-1]
            gradient = np.concatenate(
                [z.T @ by_score - strength * weights, from_here[:1], from_here[1:] * steps]
            )
            return (strength / 2 * float(weights @ weights) - value) / n, -gradient / n

        start = _minimum(loss, start)
        thetas = start[dim] + np.concatenate([[0.0], np.cumsum(np.exp(start[dim + 1 :]))])
        yield Ordinal(start[:dim].copy(), thetas)


def _likelihood(
    thetas: np.ndarray, steps: np.ndarray, score: np.ndarray, shares: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Log-likelihood of the shares, and its derivatives by threshold and by image's score.

    With a < b the two edges of a level, P = logistic(b) logistic(-a) (1 - exp(a - b)), which loses no digits
    where both are far out; log P grows with b by logistic(-b) + r and falls with a by logistic(a) + r,
    r = 1 / (exp(b - a) - 1).
    """
    edge = thetas[None, :] - score[:, None]
    log_below, log_above = -np.logaddexp(0, -edge), -np.logaddexp(0, edge)
    value = float((shares[:, :-1] * log_below).sum() + (shares[:, 1:] * log_above).sum())
    value += float(shares[:, 1:-1].sum(axis=0) @ np.log(-np.expm1(-steps)))
    rate = 1.0 / np.expm1(steps)
    as_upper = np.exp(log_above) + np.append(0.0, rate)
    as_lower = np.exp(log_below) + np.append(rate, 0.0)
    by_edge = shares[:, :-1] * as_upper - shares[:, 1:] * as_lower
    return value, by_edge.sum(axis=0), -by_edge.sum(axis=1)


def _logistic(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


def _minimum(loss: Callable[[np.ndarray], tuple[float, np.ndarray]], start: np.ndarray) -> np.ndarray:
    options = {
        "maxiter": _MAX_STEPS,
        "maxfun": 4 * _MAX_STEPS,
        "ftol": 1e-12,
        "gtol": _TOLERANCE,
        "maxcor": 20,
    }
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    return np.asarray(found.x)
