"""Does an aesthetic direction lie along style or along content?

Features are standardised and whitened: t = sqrt(n) V_r' Z' / S_r for Z = U S V' of the n training
photographs, with as many components r as hold 99 % of their variance, and at most n / 10. There every
component varies by 1, so a direction's squared length is what it explains of a score's variance. With more
components the sample's own correlations would turn directions apart that are one: squared cosines shrink by
about r / n. A probe's score is u't, as far as it lies in these components, with

    u_j = v_j' w S_j / sqrt(n)      (w: its weights for standardised features),

an alteration is d = the mean over photographs of the slope of t with its strength, a content is the mean of t
over the photographs of one label less the mean of all. The share of a set of directions D is

    share = |Q'u|^2 / |u|^2,        Q: an orthonormal basis of the span of D.

All directions come from photographs that the probe was not fitted on: on those it was, every label that goes
with the ratings would share the probe's own noise. Noise in directions hides share, so the bootstrap over
photographs takes its mean effect off (2 share - mean of resampled shares) and mirrors the interval.

Beside it: k/r, what k random directions hold on average, with the range of 95 % (the share then has a
Beta(k/2, (r - k)/2) distribution), and the shares of probes fitted with the same alpha to the same ratings
dealt out anew: where a probe that has learned nothing lies. Ridge leans on components of large variance,
so that is no random direction.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.cluster.vq import kmeans2
from scipy.stats import beta

from analysis.evidence.bootstrap import interval, resample_counts
from analysis.parallel import one_blas_thread
from analysis.results.methods import Metric
from analysis.variants.stored import Variants
from store.shapes import Bool, Float, Int

KEPT_VARIANCE = 0.99
PHOTOGRAPHS_PER_COMPONENT = 10
N_PERMUTED = 999
MIN_PER_LABEL = 5
"""Photographs that a label needs to be a content."""


@dataclass(frozen=True)
class Whitening:
    """The space in which directions are compared."""

    mean: Float[np.ndarray, " dim"]
    inverse: Float[np.ndarray, " dim"]
    vectors: Float[np.ndarray, "dim rank"]
    values: Float[np.ndarray, " rank"]
    """Singular values of the standardised features."""
    left: Float[np.ndarray, "n rank"]
    n: int

    @property
    def rank(self) -> int:
        """Number of components kept, r."""
        return len(self.values)

    def points(self, x: Float[np.ndarray, "... dim"]) -> Float[np.ndarray, "... rank"]:
        """Whitened coordinates of features."""
        return np.asarray(((x - self.mean) * self.inverse) @ self.vectors * (np.sqrt(self.n) / self.values))

    def differences(self, x: Float[np.ndarray, "... dim"]) -> Float[np.ndarray, "... rank"]:
        """Whitened coordinates of differences of features."""
        return np.asarray((x * self.inverse) @ self.vectors * (np.sqrt(self.n) / self.values))

    def probe(self, weights: Float[np.ndarray, " dim"]) -> Float[np.ndarray, " rank"]:
        """Direction of a probe's score, from its weights for features as they are stored."""
        standard = np.divide(weights, self.inverse, out=np.zeros_like(weights), where=self.inverse > 0)
        return np.asarray(standard @ self.vectors * (self.values / np.sqrt(self.n)))

    def ridge(self, y: Float[np.ndarray, "n ..."], alpha: float) -> Float[np.ndarray, "rank ..."]:
        """Direction of the ridge probes of some targets, within the components kept."""
        shrunk = self.values**2 / (self.values**2 + alpha) / np.sqrt(self.n)
        projected = self.left.T @ (y - y.mean(axis=0))
        return np.asarray((projected.T * shrunk).T)


@dataclass(frozen=True)
class Share:
    """How much of a probe's direction a set of directions holds."""

    what: str
    n_directions: int
    share: Metric
    """With the noise of the directions taken off, and its interval over the photographs they come from."""
    measured: float
    """As measured, noise and all; what `random`, `unlearned` and `p_value` are to be compared with."""
    random: Metric
    """What as many random directions hold: mean and the middle 95 %."""
    unlearned: Metric
    """What probes of votes dealt out anew have there: mean and the middle 95 %."""
    p_value: float
    """Of a share so large if the votes had nothing to do with the photographs; never below 1 / 1,000."""


def fit_whitening(x: Float[np.ndarray, "n dim"], kept: float = KEPT_VARIANCE) -> Whitening:
    """The whitening of some photographs' features."""
    x = np.asarray(x, np.float64)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 1e-7 * np.abs(mean).max())
    with one_blas_thread():
        u, s, vt = np.linalg.svd((x - mean) * inverse, full_matrices=False)
    rank = int(np.searchsorted(np.cumsum(s**2) / np.sum(s**2), kept)) + 1
    rank = max(1, min(rank, len(x) // PHOTOGRAPHS_PER_COMPONENT))
    return Whitening(mean, inverse, vt[:rank].T, s[:rank], u[:, :rank], len(x))


def style_slopes(
    variants: Variants,
    output: str,
    whitening: Whitening,
    only: Bool[np.ndarray, " n_all"] | None = None,
) -> tuple[list[str], Float[np.ndarray, "n_photographs n_changes rank"]]:
    """The alterations, and by each photograph the slope of its whitened features with their strength (from
    least to greatest in 1), for the photographs (`only` some) that have every row."""
    changes = variants.changes
    families = {change: variants.family(change, only) for change in changes}
    whole = sorted(set.intersection(*(set(f.photographs.tolist()) for f in families.values())))
    found = np.empty((len(whole), len(changes), whitening.rank))
    for column, family in enumerate(families.values()):
        rows = family.rows[np.isin(family.photographs, whole)]
        x = variants.features.read(output, rows.ravel()).astype(np.float64).reshape(*rows.shape, -1)
        step = (family.strengths - family.strengths[0]) / np.ptp(family.strengths)
        centred = step - step.mean()
        found[:, column] = whitening.differences(np.einsum("s,psd->pd", centred / (centred @ centred), x))
    return changes, found


def span(directions: Float[np.ndarray, "k rank"]) -> Float[np.ndarray, "rank k"]:
    """An orthonormal basis of the span of some directions; those of length 0 add nothing to it."""
    length = np.linalg.norm(directions, axis=1)
    moved = directions[length > 1e-9 * length.max(initial=0.0)]
    u, s, _ = np.linalg.svd(moved.T / np.linalg.norm(moved, axis=1), full_matrices=False)
    return np.asarray(u[:, s > 1e-9])


def share_in(
    basis: Float[np.ndarray, "rank k"], u: Float[np.ndarray, "rank ..."]
) -> Float[np.ndarray, "..."]:
    """|Q'u|^2 / |u|^2, 0 to 1, of one direction or several."""
    return np.asarray((np.einsum("rk,r...->k...", basis, u) ** 2).sum(axis=0) / (u**2).sum(axis=0))


def measure_share(
    what: str,
    u: Float[np.ndarray, " rank"],
    directions: Float[np.ndarray, "k rank"],
    resampled: Sequence[Float[np.ndarray, "k rank"]],
    unlearned: Float[np.ndarray, "rank n_permuted"],
) -> Share:
    """The share of one set of directions in a probe's, with all that it is to be compared with."""
    basis = span(directions)
    share = float(share_in(basis, u))
    draws = np.array([share_in(span(each), u) for each in resampled])
    k, rank = basis.shape[1], len(u)
    ends = beta.ppf([0.025, 0.975], k / 2, (rank - k) / 2) if k < rank else np.ones(2)
    null = share_in(basis, unlearned)
    return Share(
        what,
        k,
        without_noise(share, draws, 0.0),
        share,
        Metric(k / rank, float(ends[0]), float(ends[1])),
        Metric(float(null.mean()), *interval(null)),
        (1 + int(np.count_nonzero(null >= share))) / (1 + len(null)),
    )


def without_noise(value: float, draws: Float[np.ndarray, " n_boot"], least: float = -1.0) -> Metric:
    """A value with the mean effect of resampling taken off, and the basic bootstrap's 95 % interval (the
    distances of resampled values from the value, mirrored); all of them between `least` and 1."""
    low, high = interval(draws)
    found = np.clip([2 * value - draws.mean(), 2 * value - high, 2 * value - low], least, 1.0)
    return Metric(*map(float, found))


def shares_of(
    u: Float[np.ndarray, " rank"],
    unlearned: Float[np.ndarray, "rank n_permuted"],
    slopes: Float[np.ndarray, "n_photographs n_changes rank"],
    points: Float[np.ndarray, "n_unseen rank"],
    contents: Mapping[str, np.ndarray],
    n_boot: int = 300,
    seed: int = 0,
) -> list[Share]:
    """Shares of a probe's direction: of all alterations together, of each way of naming contents, and of the
    alterations with the last of these.

    Args:
        u: the probe's direction; `unlearned` those of probes of ratings dealt out anew.
        slopes: of the alterations, by photograph (style_slopes).
        points: whitened features of photographs that the probe was not fitted on.
        contents: their labels by name; '' for a photograph without one.
    """
    rng = np.random.default_rng(seed)
    style = slopes.mean(axis=0)
    styles = [weighted_mean(slopes, c) for c in resample_counts(len(slopes), n_boot, rng)]
    draws = list(resample_counts(len(points), n_boot, rng))
    found = [measure_share("style: the alterations", u, style, styles, unlearned)]
    last = None
    for name, labels in contents.items():
        group = number_groups(labels)
        if group.max(initial=-1) < 1:
            continue
        content, means = group_means(points, group), [group_means(points, group, c) for c in draws]
        found.append(measure_share(f"content: {name}", u, content, means, unlearned))
        last = name, content, means
    if last is not None:
        name, content, means = last
        pairs = [np.concatenate(pair) for pair in zip(styles, means, strict=True)]
        found.append(
            measure_share(f"both: style and {name}", u, np.concatenate([style, content]), pairs, unlearned)
        )
    return found


def weighted_mean(
    slopes: Float[np.ndarray, "n_photographs n_changes rank"], counts: Int[np.ndarray, " n_photographs"]
) -> Float[np.ndarray, "n_changes rank"]:
    """The mean over photographs that were drawn so often each."""
    return np.asarray(np.tensordot(counts / counts.sum(), slopes, axes=1))


def clusters(
    train: Float[np.ndarray, "n_train rank"], unseen: Float[np.ndarray, "n_unseen rank"], k: int, seed: int
) -> np.ndarray:
    """A name for each unseen photograph: the nearest of k centres of training photographs with like features
    (k-means, the best of ten starts)."""
    best, least = train[:k], np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a centre without photographs is no harm
        for run in range(10):
            start = train[np.random.default_rng([seed, run]).choice(len(train), k, replace=False)]
            centres, member = kmeans2(train, start, minit="matrix", iter=30)
            if (spread := float(((train - centres[member]) ** 2).sum())) < least:
                best, least = centres, spread
    distance = (best**2).sum(axis=1) - 2 * unseen @ best.T
    return np.asarray(np.argmin(distance, axis=1).astype(str))


def number_groups(labels: np.ndarray) -> Int[np.ndarray, " n"]:
    """Number of each photograph's label; -1 for '' and for labels that too few have."""
    names, member, n_each = np.unique(labels, return_inverse=True, return_counts=True)
    large = (n_each >= MIN_PER_LABEL) & (names.astype(str) != "")
    number = np.where(large, np.cumsum(large) - 1, -1)
    return np.asarray(number[member])


def group_means(
    points: Float[np.ndarray, "n rank"],
    group: Int[np.ndarray, " n"],
    counts: Int[np.ndarray, " n"] | None = None,
) -> Float[np.ndarray, "n_groups rank"]:
    """Mean of each group less the mean of all that are in one: their span has one dimension less than there
    are groups. `counts` weighs the photographs."""
    weights = np.ones(len(group)) if counts is None else counts.astype(np.float64)
    weights = np.where(group >= 0, weights, 0.0)
    member = (group[None, :] == np.arange(group.max() + 1)[:, None]) * weights
    sizes = member.sum(axis=1)
    member = member[sizes > 0] / sizes[sizes > 0, None]
    return np.asarray(member @ points - weights @ points / weights.sum())


def along(
    u: Float[np.ndarray, " rank"],
    slopes: Float[np.ndarray, "n_photographs n_changes rank"],
    n_boot: int = 300,
    seed: int = 0,
) -> list[Metric]:
    """Cosine of a probe's direction with each alteration's, -1 to 1, with its interval over photographs."""

    def cosines(style: Float[np.ndarray, "n_changes rank"]) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):  # an alteration that moves nothing has none
            return np.asarray(style @ u / np.linalg.norm(style, axis=1) / np.linalg.norm(u))

    rng = np.random.default_rng(seed)
    draws = [cosines(weighted_mean(slopes, c)) for c in resample_counts(len(slopes), n_boot, rng)]
    values = cosines(slopes.mean(axis=0))
    return [
        without_noise(float(value), draw) for value, draw in zip(values, np.stack(draws, axis=1), strict=True)
    ]
