"""Figures of the probes: each function draws one figure and returns it."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from analysis.figures.style import REFERENCE, colour, label_ends, log_ticks, styled
from analysis.probing.evidence import Binned, LearningCurve
from analysis.probing.importance import TopCurve
from analysis.probing.probes import ProbeFit
from analysis.results.markup import visible
from analysis.results.methods import MethodResult, Metric
from analysis.results.names import OUTPUTS, name_backbone, name_output, short_method
from store.shapes import Float

METRIC_NAMES = {"accuracy": "accuracy", "srcc": "SRCC", "plcc": "PLCC"}


def plot_results(
    results: Sequence[MethodResult], metric: str = "srcc", reference: float | None = None, label: str = ""
) -> Figure:
    """One metric of many methods with intervals, best on top: a panel per backbone, each with its axis where
    its data are; `reference` draws a dashed line where it lies within."""
    shown = [(result, value) for result in results if (value := getattr(result, metric)) is not None]
    shown.sort(key=lambda pair: np.nan_to_num(pair[1].value, nan=-np.inf))
    backbones = list(dict.fromkeys(result.backbone for result, _ in reversed(shown)))
    sizes = [sum(r.backbone == name for r, _ in shown) for name in backbones]
    with styled():
        figure, panels = plt.subplots(
            len(backbones), 1, figsize=(7.4, 0.5 + 0.55 * len(backbones) + 0.23 * len(shown)), squeeze=False,
            gridspec_kw={"height_ratios": [size + 0.6 for size in sizes]},
        )  # fmt: skip
        for index, (name, axes) in enumerate(zip(backbones, panels[:, 0], strict=True)):
            rows = [(r, v) for r, v in shown if r.backbone == name]
            for row, (_, value) in enumerate(rows):
                axes.plot([value.low, value.high], [row, row], color=colour(index), linewidth=2, alpha=0.45)
                axes.plot(value.value, row, "o", color=colour(index), markersize=4.5)
            several = len({r.output for r, _ in rows}) > 1
            named = [
                f"{OUTPUTS.get(r.output, r.output)}: {short_method(r)}" if several else short_method(r)
                for r, _ in rows
            ]
            axes.set_yticks(range(len(rows)), [visible(text) for text in named])
            axes.set_ylim(-0.6, len(rows) - 0.4)
            axes.grid(axis="y", visible=False)
            axes.set_title(visible(name_backbone(name)) or "added here", loc="left", color=colour(index))
            low, high = axes.get_xlim()
            if reference is not None and low <= reference <= high:
                axes.axvline(reference, color=REFERENCE, linestyle="--", linewidth=1)
                axes.annotate(
                    label, (reference, 1), (3, -2), xycoords=("data", "axes fraction"),
                    textcoords="offset points", va="top", color=REFERENCE, fontsize=8,
                )  # fmt: skip
        panels[-1, 0].set_xlabel(
            f"{METRIC_NAMES.get(metric, metric)} on the test images, 95 % interval; each panel its own axis"
        )
    return figure


def plot_importance(
    importances: Mapping[str, Float[np.ndarray, " dim"]], measures: Mapping[str, str] | None = None
) -> Figure:
    """Figure 3: |weight x standard deviation| of every dimension, one panel per backbone on one scale.

    `measures` gives a line of text per panel.
    """
    names = list(importances)
    top = max(float(values.max()) for values in importances.values()) * 1.05
    with styled():
        figure, panels = plt.subplots(
            1, len(names), figsize=(max(4.2, 3.6 * len(names)), 2.9), sharey=True, squeeze=False
        )
        for index, (name, axes) in enumerate(zip(names, panels[0], strict=True)):
            values = importances[name]
            # One line per dimension, never thinner than print can show.
            width = max(0.4, min(1.6, 200 / len(values)))
            axes.vlines(np.arange(len(values)), 0, values, color=colour(index), linewidth=width)
            axes.set_title(names_for_people(name) + (f"\n{measures[name]}" if measures else ""))
            axes.set_xlabel("dimension")
            axes.set_xlim(-0.01 * len(values), 1.01 * len(values))
            axes.set_ylim(0, top)
        panels[0][0].set_ylabel("|weight × std of the feature|\n(vote units)")
    return figure


def plot_sorted_importance(importances: Mapping[str, Float[np.ndarray, " dim"]]) -> Figure:
    """Share of the total importance held by the most important dimensions (a Lorenz curve from the top)."""
    with styled():
        figure, axes = plt.subplots(figsize=(4.2, 3.2))
        for index, (name, values) in enumerate(importances.items()):
            held = np.append(0.0, np.cumsum(-np.sort(-values)) / values.sum())
            axes.plot(np.linspace(0, 100, len(held)), 100 * held, color=colour(index))
            axes.annotate(
                names_for_people(name), (1, 0), (-2, 6 + 12 * (len(importances) - 1 - index)), ha="right",
                xycoords="axes fraction", textcoords="offset points", color=colour(index), fontsize=8,
            )  # fmt: skip
        axes.plot([0, 100], [0, 100], color=REFERENCE, linestyle="--", linewidth=1)
        axes.annotate("all alike", (30, 30), (4, -8), textcoords="offset points", color=REFERENCE, fontsize=8)
        axes.set_xlabel("most important dimensions kept (%)")
        axes.set_ylabel("share of the total importance (%)")
    return figure


def plot_top_curves(curves: Mapping[str, TopCurve]) -> Figure:
    """Accuracy and SRCC, with intervals, when only the k most important dimensions of a probe are kept."""
    with styled():
        figure, panels = plt.subplots(1, 2, figsize=(8.4, 2.9))
        ends: list[tuple[float, float, str, str]] = []
        for axes, metric in zip(panels, ("accuracy", "srcc"), strict=True):
            for index, (name, curve) in enumerate(curves.items()):
                found = getattr(curve, metric)
                bounds = [m.low for m in found], [m.high for m in found]
                axes.fill_between(curve.k, *bounds, color=colour(index), alpha=0.15, linewidth=0)
                values = [m.value for m in found]
                axes.plot(curve.k, values, "o-", color=colour(index), markersize=3)
                if metric == "srcc":
                    ends.append((curve.k[-1], values[-1], names_for_people(name), colour(index)))
            _log2_ticks(axes, np.concatenate([curve.k for curve in curves.values()]))
            axes.set_xlabel("dimensions kept")
            axes.set_ylabel(METRIC_NAMES[metric])
        label_ends(panels[1], ends)
    return figure


def plot_ridge_paths(fits: Sequence[ProbeFit]) -> Figure:
    """Left-out error on the training images by ridge penalty; the ring marks the penalty chosen."""
    with styled():
        figure, axes = plt.subplots(figsize=(6.4, 3.2))
        ends = []
        for index, fit in enumerate(fits):
            error = np.sqrt(fit.cv_mse.mean(axis=0))
            axes.plot(fit.alphas, error, color=colour(index))
            ends.append((fit.alphas[-1], float(error[-1]), names_for_people(fit.name), colour(index)))
            best = int(np.argmin(error))
            axes.plot(fit.alphas[best], error[best], "o", color=colour(index), fillstyle="none", markersize=8)
        axes.set_xscale("log")
        log_ticks(axes.xaxis)
        axes.set_xlabel("ridge penalty alpha")
        axes.set_ylabel("left-out error (RMSE, vote units)")
        label_ends(axes, ends)
    return figure


def plot_predictions(fit: ProbeFit, method: str, calibrated: Binned) -> Figure:
    """Mean vote by prediction, one dot per test image (shades of density for many), with the means of
    ten bins; on the dashed diagonal predictions are right."""
    score, y = fit.predictions[method], fit.y_test
    bounds = [min(score.min(), y.min()), max(score.max(), y.max())]
    with styled():
        figure, axes = plt.subplots(figsize=(3.8, 3.6))
        if len(y) > 3000:
            axes.hexbin(score, y, gridsize=60, cmap="Blues", mincnt=1, bins="log", linewidths=0.1)
        else:
            axes.plot(score, y, ".", color=colour(0), markersize=3, alpha=0.4)
        axes.plot(bounds, bounds, color=REFERENCE, linestyle="--", linewidth=1)
        axes.errorbar(
            calibrated.x, calibrated.y, 1.96 * calibrated.standard_error,
            fmt="o", color=colour(1), markersize=4, linewidth=1.2,
        )  # fmt: skip
        axes.axhline(fit.threshold, color=REFERENCE, linewidth=0.6)
        axes.axvline(fit.threshold, color=REFERENCE, linewidth=0.6)
        axes.set_xlabel("predicted mean vote")
        axes.set_ylabel("mean vote")
        axes.set_title(f"{names_for_people(fit.name)}, {method}")
        axes.annotate("means of ten groups", (bounds[0], bounds[1]), color=colour(1), fontsize=8, va="top")
    return figure


def plot_residuals(spreads: Mapping[str, Binned]) -> Figure:
    """Absolute error by how much people disagree about an image (standard deviation of its votes)."""
    with styled():
        figure, axes = plt.subplots(figsize=(4.4, 3.0))
        ends = []
        for index, (name, binned) in enumerate(spreads.items()):
            axes.errorbar(
                binned.x, binned.y, 1.96 * binned.standard_error,
                fmt="o-", color=colour(index), markersize=3.5, linewidth=1.2,
            )  # fmt: skip
            ends.append((binned.x[-1], float(binned.y[-1]), names_for_people(name), colour(index)))
        axes.set_ylim(bottom=0)
        axes.set_xlabel("standard deviation of an image's votes")
        axes.set_ylabel("absolute error (vote units)")
        label_ends(axes, ends)
    return figure


def plot_learning_curves(curves: Sequence[LearningCurve], ceiling: Metric | None = None) -> Figure:
    """SRCC on test by number of training images: mean over repeats, the band from lowest to highest."""
    with styled():
        figure, axes = plt.subplots(figsize=(7.0, 3.2))
        ends = []
        for index, curve in enumerate(curves):
            axes.fill_between(
                curve.n_train, curve.srcc.min(axis=0), curve.srcc.max(axis=0), color=colour(index), alpha=0.2
            )
            mean = curve.srcc.mean(axis=0)
            axes.plot(curve.n_train, mean, "o-", color=colour(index), markersize=3.5)
            ends.append((curve.n_train[-1], float(mean[-1]), names_for_people(curve.name), colour(index)))
        if ceiling is not None:
            axes.axhline(ceiling.value, color=REFERENCE, linestyle="--", linewidth=1)
            axes.annotate(
                "ceiling set by the number of votes", (0.01, ceiling.value), (0, -3),
                xycoords=("axes fraction", "data"), textcoords="offset points",
                va="top", color=REFERENCE, fontsize=8,
            )  # fmt: skip
        _log2_ticks(axes, curves[0].n_train)
        axes.set_xlabel("training images")
        axes.set_ylabel("SRCC on the test images")
        label_ends(axes, ends)
    return figure


def plot_distributions(
    levels: Float[np.ndarray, " n_levels"],
    shares: Float[np.ndarray, "n_shown n_levels"],
    predicted: Float[np.ndarray, "n_shown n_levels"],
    titles: Sequence[str],
) -> Figure:
    """Votes (bars) and predicted distribution (line) of a few images."""
    n_columns = min(4, len(shares))
    n_rows = -(-len(shares) // n_columns)
    with styled():
        figure, panels = plt.subplots(
            n_rows, n_columns, figsize=(1.95 * n_columns, 1.6 * n_rows + 0.3), sharex=True, sharey=True,
            squeeze=False,
        )  # fmt: skip
        for index, axes in enumerate(panels.flat):
            if index >= len(shares):
                axes.set_visible(False)
                continue
            axes.bar(levels, 100 * shares[index], color="#c9c9c9", label="votes")
            axes.plot(levels, 100 * predicted[index], "o-", color=colour(0), markersize=3, label="predicted")
            axes.set_title(visible(titles[index]), fontsize=8)
            axes.set_xticks(levels[:: max(1, len(levels) // 5)])
        panels[0][0].legend(fontsize=7)
        figure.supxlabel("vote", fontsize=9)
        figure.supylabel("share of votes (%)", fontsize=9)
    return figure


def names_for_people(name: str) -> str:
    """'demo_clip/pre_projection' as a reader would call it; what is no backbone/output stays as it is."""
    backbone, _, output = visible(name).partition("/")
    return name_output(backbone, output)


def _log2_ticks(axes: Axes, values: np.ndarray) -> None:
    """A logarithmic axis with plain numbers at (some of) the values shown."""
    axes.set_xscale("log", base=2)
    ticks = np.unique(values)
    axes.set_xticks(ticks[:: max(1, len(ticks) // 6)])
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
