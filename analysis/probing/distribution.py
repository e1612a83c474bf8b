"""Beyond the mean: a probe of the whole distribution of votes, and the ceiling that the votes allow."""

from dataclasses import dataclass

import numpy as np

from analysis.evidence import labels
from analysis.evidence.bootstrap import Prediction, bootstrap_metrics, interval, resample_counts
from analysis.evidence.metrics import emd_r2, plcc, srcc
from analysis.probing.probes import Features, ProbeFit, predict_rows, probe_of
from analysis.probing.spectrum import gcv_error
from analysis.results.methods import METRICS, MethodResult, Metric
from analysis.twins import product
from store.shapes import Float, Int


@dataclass(frozen=True)
class DistributionFit:
    """Predicted shares of votes per level for the test images, and what they are compared with."""

    levels: Int[np.ndarray, " n_levels"]
    shares: Float[np.ndarray, "n_test n_levels"]
    """Shares of the test images' votes."""
    predicted: Float[np.ndarray, "n_test n_levels"]
    """Predicted shares: at least 0, each row sums to 1."""
    train_mean: Float[np.ndarray, " n_levels"]
    """Mean shares of the training images: the prediction that looks at no image."""
    alpha: float

    @property
    def mean(self) -> Float[np.ndarray, " n_test"]:
        """Mean of the predicted distribution, in vote units."""
        return product(self.predicted, self.levels)


def project_simplex(rows: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    """The nearest rows with non-negative entries that sum to 1 (Euclidean; Duchi et al. 2008)."""
    k = rows.shape[1]
    ordered = -np.sort(-rows, axis=1)
    excess = (np.cumsum(ordered, axis=1) - 1.0) / np.arange(1, k + 1)
    n_positive = np.count_nonzero(ordered > excess, axis=1)
    shift = excess[np.arange(len(rows)), n_positive - 1]
    return np.asarray(np.maximum(rows - shift[:, None], 0.0))


def fit_distribution(fit: ProbeFit, features: Features) -> DistributionFit | None:
    """A ridge probe per vote level with one alpha for all, projected on the simplex; None without votes.

    The levels' probes come from the statistics that the probe of the mean has already gathered. alpha
    minimises the generalised cross-validation error summed over the levels, on the training images.
    """
    names = fit.rows.target_names
    targets = [column for column, name in enumerate(names) if name.startswith("share_")]
    if not targets:
        return None
    errors = np.sum([gcv_error(fit.path, fit.alphas, column) for column in targets], axis=0)
    alpha = float(fit.alphas[np.argmin(errors)])
    probes = {names[c]: probe_of(fit.path, alpha, fit.ridge.unit_norm, c) for c in targets}
    predicted = predict_rows(features, fit.output, fit.rows.test, probes)
    return DistributionFit(
        levels=np.array([int(names[c].removeprefix("share_")) for c in targets]),
        shares=fit.rows.y[fit.rows.test][:, targets],
        predicted=project_simplex(np.stack(list(predicted.values()), axis=1)),
        train_mean=fit.path.mean_y[targets],
        alpha=alpha,
    )


def evaluate_distribution(fit: ProbeFit, found: DistributionFit, n_boot: int = 1000) -> MethodResult:
    """The metrics of the predicted distributions' means, and in the detail `emd_r2` with its interval
    beside that of predicting the mean training distribution for every image."""
    prediction = Prediction(found.mean, found.mean > fit.threshold)
    measured = bootstrap_metrics(
        fit.y_test, fit.is_high_test, prediction, n_boot, np.random.default_rng(fit.seed), METRICS
    )
    constant = np.broadcast_to(found.train_mean, found.shares.shape)
    distances = {"emd_r2": found.predicted, "emd_r2_train_mean": constant}
    emd = {
        name: mean_with_interval(emd_r2(found.shares, shares), n_boot, np.random.default_rng(fit.seed))
        for name, shares in distances.items()
    }
    return MethodResult(
        key="probe.distribution",
        method="vote distribution probe, ridge" + (", unit norm" if fit.ridge.unit_norm else ""),
        backbone=fit.backbone,
        output=fit.output,
        dataset=fit.dataset,
        split_name=fit.split_name,
        n_train=fit.path.basis.n,
        n_test=len(fit.y_test),
        seed=fit.seed,
        **measured,
        detail={name: [m.value, m.low, m.high] for name, m in emd.items()}
        | {"alpha": found.alpha, "alpha_chosen_by": "generalised cross-validation over all levels"},
        digests=fit.digests,
    )


def mean_with_interval(values: Float[np.ndarray, " n"], n_boot: int, rng: np.random.Generator) -> Metric:
    """The mean over the images with its percentile bootstrap interval."""
    means = [
        float(np.einsum("i,i->", counts, values)) for counts in resample_counts(len(values), n_boot, rng)
    ]
    return Metric(float(values.mean()), *interval(np.array(means) / len(values)))


@dataclass(frozen=True)
class NoiseCeiling:
    """How well any predictor can agree with mean votes of so few votes per image."""

    srcc: Metric
    """Expected SRCC between the true means and the mean votes."""
    plcc: Metric
    split_half_srcc: Metric
    """SRCC between the means of two random halves of each image's votes."""


def noise_ceiling(
    votes: Int[np.ndarray, "n_images n_levels"],
    levels: Int[np.ndarray, " n_levels"],
    n_repeats: int,
    rng: np.random.Generator,
) -> NoiseCeiling:
    """The correlation that a perfect predictor of the images' true means would reach with these votes.

    Each image's votes are dealt into two halves, n_repeats times. The correlation r of the halves' means
    gives the reliability of all votes, 2r / (1 + r) (Spearman-Brown), whose root is the ceiling. Bounds: the
    2.5 % and 97.5 % points over the repeats. Images with a single vote cannot be halved and are left out.
    """
    total = labels.n_votes(votes)
    votes, total = votes[total >= 2], total[total >= 2]
    halves: dict[str, list[float]] = {"srcc": [], "plcc": []}
    for _ in range(n_repeats):
        first = split_votes(votes, total // 2, rng)
        a, b = labels.mos(first, levels), labels.mos(votes - first, levels)
        halves["srcc"].append(srcc(a, b))
        halves["plcc"].append(plcc(a, b))
    found = {}
    for name, values in halves.items():
        r = np.maximum(np.array(values), 0.0)
        ceiling = np.sqrt(2 * r / (1 + r))
        found[name] = Metric(float(ceiling.mean()), *interval(ceiling))
    half = np.array(halves["srcc"])
    return NoiseCeiling(found["srcc"], found["plcc"], Metric(float(half.mean()), *interval(half)))


def split_votes(
    votes: Int[np.ndarray, "n_images n_levels"],
    n_drawn: Int[np.ndarray, " n_images"],
    rng: np.random.Generator,
) -> Int[np.ndarray, "n_images n_levels"]:
    """n_drawn votes of each image, drawn without replacement (level by level, for all images at once)."""
    drawn = np.zeros_like(votes, dtype=np.int64)
    left = votes.sum(axis=1, dtype=np.int64)
    wanted = np.array(n_drawn, dtype=np.int64)
    for level in range(votes.shape[1]):
        here = votes[:, level].astype(np.int64)
        left = left - here
        drawn[:, level] = rng.hypergeometric(here, left, wanted)
        wanted = wanted - drawn[:, level]
    return drawn
