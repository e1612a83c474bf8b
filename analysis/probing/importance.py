"""Which features a probe relies on (Figure 3): |weight x standard deviation| per dimension, how concentrated
that is, and what follows from it in words."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from analysis.evidence import bootstrap
from analysis.evidence.bootstrap import Prediction, bootstrap_replicates, interval
from analysis.probing.probes import Probe
from analysis.probing.spectrum import RidgePath, residual_variance
from analysis.results.methods import Metric
from analysis.results.names import name_output
from analysis.twins import product
from store.shapes import Bool, Float, Int


def feature_importance(probe: Probe) -> Float[np.ndarray, " dim"]:
    """|weight x standard deviation of the feature over train|, in vote units: by how much the prediction
    moves when a feature moves by one standard deviation. Section 4.2 scales weights in this way for Figure 3;
    the figure itself is not known to us, leaving out the sign is ours."""
    return np.asarray(np.abs(probe.weights * probe.scale))


def top_share(importance: Float[np.ndarray, "*batch dim"]) -> Float[np.ndarray, "*batch"]:
    """Share of the total importance that the most important tenth of the dimensions holds, 0.1 to 1."""
    n_top = max(1, importance.shape[-1] // 10)
    ordered = np.sort(importance, axis=-1)
    return np.asarray(ordered[..., -n_top:].sum(axis=-1) / ordered.sum(axis=-1))


def largest_share(importance: Float[np.ndarray, "*batch dim"]) -> Float[np.ndarray, "*batch"]:
    """Share of the total importance that the single most important dimension holds, 1 / dim to 1."""
    return np.asarray(importance.max(axis=-1) / importance.sum(axis=-1))


def effective_dimensions(importance: Float[np.ndarray, "*batch dim"]) -> Float[np.ndarray, "*batch"]:
    """Number of equally important dimensions that would be as concentrated, 1 to dim: (sum v)^2 / sum v^2."""
    return np.asarray(importance.sum(axis=-1) ** 2 / (importance**2).sum(axis=-1))


def gini(importance: Float[np.ndarray, "*batch dim"]) -> Float[np.ndarray, "*batch"]:
    """Gini coefficient of the importance: 0 if all dimensions count alike, near 1 if one counts alone."""
    ordered, dim = np.sort(importance, axis=-1), importance.shape[-1]
    position = 2 * np.arange(1, dim + 1) - dim - 1
    return np.asarray(ordered @ position / (dim * ordered.sum(axis=-1)))


CONCENTRATION: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "top_share": top_share,
    "largest_share": largest_share,
    "effective_dimensions": effective_dimensions,
    "gini": gini,
}


FEW, MANY = 0.1, 1 / 3
"""Shares of the dimensions below and above which a probe is said to lean on few and on many."""
FIGURE_3 = (
    "The paper (section 4.2, Figure 3; AVA) says that the regression focuses mainly on one dimension of the "
    "ImageNet ViT's features, and on a broader set of CLIP's."
)
CLIP = ("vit_b32.openai/pre_projection", "demo_clip/pre_projection")
VIT = ("vit_b32.in21k/pre_logits", "demo_vit/pre_logits")
"""The outputs that the paper's sentence is about, and the demo's in their place."""


def concentration(
    path: RidgePath, probe: Probe, n_boot: int, rng: np.random.Generator, level: float = 0.95
) -> dict[str, Metric]:
    """The measures of how concentrated a probe's importance is, with residual-bootstrap intervals.

    Targets are drawn again around the fitted values with normal errors of the residual variance, which in
    the basis of the features is noise on U'y; so no row is read. Noise in the weights always spreads
    importance, so the interval is the basic one (2 x value - quantiles), which takes that bias off. Bounds
    are NaN where the fit leaves no degrees of freedom.
    """
    values = path.basis.values
    squares, free = residual_variance(path, np.array([probe.alpha]))
    importance = feature_importance(probe)
    measured = {name: float(measure(importance)) for name, measure in CONCENTRATION.items()}
    if free[0] < 1 or path.basis.rank == 0:
        return {name: Metric(value) for name, value in measured.items()}
    sigma = np.sqrt(squares[0] / free[0])
    noise = rng.normal(0.0, sigma, size=(n_boot, path.basis.rank))
    # Expected U'y under the fit: what the ridge keeps of it.
    mean = path.projected[:, 0] * values**2 / (values**2 + probe.alpha)
    shrunk = (mean + noise) * (values / (values**2 + probe.alpha))
    drawn = np.abs(shrunk @ path.basis.vectors.T)
    fitted = np.abs((mean * values / (values**2 + probe.alpha)) @ path.basis.vectors.T)
    found = {}
    for name, measure in CONCENTRATION.items():
        # The world drawn from has the fit for its truth: the error made there is the error made here.
        error_low, error_high = np.quantile(
            measure(drawn) - float(measure(fitted)), [(1 - level) / 2, (1 + level) / 2]
        )
        value = measured[name]
        found[name] = Metric(value, value - float(error_high), value - float(error_low))
    return found


def breadth(measured: Mapping[str, Metric], dim: int) -> str:
    """'one', 'few', 'many' or 'between': how many dimensions a probe of this width leans on.

    One: the largest holds more than half of all importance. Few and many: fewer than a tenth and more than a
    third of the dimensions count as if alike (weights drawn from one bell curve reach 64 %). Each must hold
    for the whole interval, where there is one.
    """
    low, high = _bounds(measured["effective_dimensions"])
    if _bounds(measured["largest_share"])[0] > 0.5:
        return "one"
    if high < FEW * dim:
        return "few"
    return "many" if low > MANY * dim else "between"


def describe_breadth(name: str, measured: Mapping[str, Metric], dim: int) -> str:
    """A sentence on how many dimensions a probe leans on, with the numbers that say so."""
    words = {
        "one": "leans mainly on one dimension",
        "few": "leans on few dimensions",
        "many": "leans on many dimensions",
        "between": "leans on neither few nor many dimensions",
    }
    count, largest = measured["effective_dimensions"].value, measured["largest_share"].value
    return (
        f"{name} {words[breadth(measured, dim)]}: {count:.1f} of {dim} as if alike, "
        f"the largest alone holds {100 * largest:.1f} % of the importance."
    )


def compare_with_figure_3(measured: Mapping[str, Mapping[str, Metric]]) -> str:
    """What the paper says about Figure 3, and whether CLIP's and the ViT's probe are ordered like that here.

    `measured` is by output, such as "vit_b32.openai/pre_projection". '' where one of the two is missing. An
    order is reported only where the intervals of the effective dimensions do not overlap.
    """
    clip, vit = (next((name for name in names if name in measured), "") for names in (CLIP, VIT))
    if not clip or not vit:
        return ""
    counts = {name: measured[name]["effective_dimensions"] for name in (clip, vit)}
    if any(np.isnan([metric.low, metric.high]).any() for metric in counts.values()):
        found = "there are no intervals, so no order can be reported"
    elif counts[clip].low > counts[vit].high:
        found = "CLIP's is the broader set, as in the paper"
    elif counts[vit].low > counts[clip].high:
        found = "it is the other way round, the ViT's is the broader set"
    else:
        found = "the intervals overlap, so no order can be reported"
    shown = ", ".join(
        f"{name_output(*name.split('/', 1))} {metric.value:.1f} [{metric.low:.1f}, {metric.high:.1f}]"
        for name, metric in counts.items()
    )
    return f"{FIGURE_3} Here, by effective dimensions ({shown}), {found}."


def _bounds(metric: Metric) -> tuple[float, float]:
    """The interval, or the value twice where there is none."""
    if np.isnan([metric.low, metric.high]).any():
        return metric.value, metric.value
    return metric.low, metric.high


def permutation_importance(
    features: Float[np.ndarray, "n_images dim"],
    y: Float[np.ndarray, " n_images"],
    probe: Probe,
    n_repeats: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "n_repeats dim"]:
    """By how much the mean squared error grows when one feature's values are dealt out anew among the
    images, in squared vote units, once per repeat. A check on Figure 3 that needs no formula for it.

    Shuffling feature j moves the prediction by m = w_j (x_perm - x), and the error by mean(m^2 - 2 m r)
    with the residual r.
    """
    residual = y - probe.predict(features)
    growth = np.zeros((n_repeats, features.shape[1]))
    for repeat in range(n_repeats):
        order = rng.permutation(len(y))
        for start in range(0, features.shape[1], 64):
            columns = slice(start, start + 64)
            values = features[:, columns].astype(np.float64)
            moved = (values[order] - values) * probe.weights[columns]
            growth[repeat, columns] = np.einsum("ij,ij->j", moved, moved - 2 * residual[:, None]) / len(y)
    return growth


@dataclass(frozen=True)
class TopCurve:
    """What is left of a probe when only its k most important dimensions are kept."""

    k: Int[np.ndarray, " n_steps"]
    accuracy: list[Metric]
    srcc: list[Metric]


def keep_top(
    features: Float[np.ndarray, "n_images dim"],
    y: Float[np.ndarray, " n_images"],
    is_high: Bool[np.ndarray, " n_images"],
    threshold: float,
    probe: Probe,
    mean: Float[np.ndarray, " dim"],
    n_boot: int,
    rng: np.random.Generator,
) -> TopCurve:
    """Accuracy and SRCC with the k most important dimensions, all others set to their training mean and the
    weights left as they are, for k = 1, 2, 4, ... dim, with bootstrap intervals over the images."""
    order = np.argsort(-feature_importance(probe), kind="stable")
    dim = len(order)
    steps = np.unique(np.append(2 ** np.arange(int(np.log2(dim)) + 1), dim))
    kept = np.full(len(y), probe.bias + float(mean @ probe.weights))
    predictions, done = {}, 0
    for k in steps:
        new = order[done:k]
        kept = kept + product(features[:, new].astype(np.float64) - mean[new], probe.weights[new])
        predictions[str(k)] = Prediction(kept, kept > threshold)
        done = k
    names = ("accuracy", "srcc")
    drawn = bootstrap_replicates(y, is_high, predictions, n_boot, rng, names)
    measured = {k: bootstrap.measure(y, is_high, prediction, names) for k, prediction in predictions.items()}
    curves = {
        name: [Metric(measured[k][name], *interval(drawn[k][name])) for k in predictions] for name in names
    }
    return TopCurve(steps, curves["accuracy"], curves["srcc"])
