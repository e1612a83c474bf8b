"""Figures of the prompting experiment: each function draws one figure and returns it."""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import ParamSpec

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.figures.style import COLOURS, INK, REFERENCE, label_ends, styled
from analysis.prompting.ensembles import BottleneckProbe, GreedyStep
from analysis.prompting.groups import GroupResult
from analysis.prompting.pairs import PairMetric, PairTable
from analysis.results.markup import visible
from analysis.results.methods import Metric
from store.shapes import Bool, Float

HIGH, LOW, NEUTRAL = COLOURS[0], COLOURS[1], REFERENCE
METRIC_NAMES = {"accuracy": "accuracy", "srcc": "SRCC", "plcc": "PLCC"}

P = ParamSpec("P")


def _in_style(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """The drawing function, run with the project's settings."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with styled():
            return draw(*args, **kwargs)

    return drawn


@_in_style
def plot_pair_heatmap(
    table: PairTable, metric: PairMetric, title: str = "", center: float | None = None
) -> Figure:
    """Value of every pair, high labels down, low labels across; rows and columns by their mean.

    The best pair has a frame. Colours part at `center`: for accuracy the majority's, where it is given; for
    correlations zero.
    """
    import seaborn as sns  # seconds, and not every page needs it

    diverging = sns.diverging_palette(250, 30, s=85, l=50, as_cmap=True)  # blue to orange through white
    values = table.metric(metric)
    rows, columns = np.argsort(-_means(values, 1)), np.argsort(-_means(values, 0))
    shown = values[np.ix_(rows, columns)]
    figure, axes = plt.subplots(figsize=(2.6 + 0.55 * shown.shape[1], 1.6 + 0.25 * shown.shape[0]))
    if center is None and metric != "accuracy":
        center = 0.0
    texts = np.vectorize(lambda v: "–" if np.isnan(v) else f"{v:.2f}".replace("0.", "."))(shown)
    sns.heatmap(
        shown,
        ax=axes,
        cmap=diverging if center is not None else "viridis",
        annot=texts,
        fmt="",
        center=center,
        annot_kws={"fontsize": 6.5},
        linewidths=0.4,
        linecolor="white",
        cbar_kws={"label": METRIC_NAMES[metric], "shrink": 0.7},
        xticklabels=[visible(table.low[i]) for i in columns],
        yticklabels=[visible(table.high[i]) for i in rows],
    )
    axes.tick_params(axis="x", rotation=50)
    bar = axes.collections[0].colorbar
    if bar is not None and center is not None:
        bar.ax.axhline(center, color=INK, linewidth=1)
    best = table.best(metric)
    row, column = (
        [table.high[i] for i in rows].index(best.high),
        [table.low[i] for i in columns].index(best.low),
    )
    axes.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor="black", linewidth=2.2))
    axes.set_title(title or f"{METRIC_NAMES[metric]}; best: {best.high} / {best.low}, {best.value:.3f}")
    axes.set_xlabel("low label")
    axes.set_ylabel("high label")
    return figure


def _means(values: np.ndarray, axis: int) -> np.ndarray:
    means: np.ndarray = np.nan_to_num(values, nan=0.0).mean(axis=axis)
    return means


@_in_style
def plot_pair_distribution(
    tables: Mapping[str, PairTable],
    metric: PairMetric,
    chosen: Mapping[str, Metric] | None = None,
    baseline: float | None = None,
) -> Figure:
    """Values of all pairs, one row of dots per method; a cross line for the pair chosen on train, as long as
    its interval."""
    figure, axes = plt.subplots(figsize=(8, 1.2 + 0.55 * len(tables)))
    shown = {name: (v := table.metric(metric).ravel())[np.isfinite(v)] for name, table in tables.items()}
    names = [name for name, values in shown.items() for _ in values]
    jitter = np.random.default_rng(0).uniform(-0.25, 0.25, len(names))
    place = np.array([list(shown).index(name) for name in names])
    axes.scatter(
        np.concatenate(list(shown.values())),
        place + jitter,
        s=8,
        color=HIGH,
        alpha=0.45,
        linewidths=0,
        rasterized=True,
    )
    for row, (method, values) in enumerate(shown.items()):
        median = float(np.median(values))
        axes.plot([median, median], [row - 0.36, row + 0.36], color=INK, linewidth=1.4)
        if row == 0:
            axes.annotate("median pair", (median, row - 0.4), ha="center", va="bottom", fontsize=8, color=INK)
        if chosen and method in chosen:
            measured = chosen[method]
            axes.errorbar(
                measured.value,
                row + 0.37,
                xerr=[[measured.value - measured.low], [measured.high - measured.value]],
                fmt="D",
                color=LOW,
                markersize=4.5,
                linewidth=1.8,
            )
            if row == 0:
                axes.annotate(
                    "chosen on train, 95 %",
                    (measured.high, row + 0.37),
                    (4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=8,
                    color=LOW,
                )
    if baseline is not None:
        axes.axvline(baseline, color=NEUTRAL, linestyle="--", linewidth=1)
        axes.annotate(
            "majority",
            (baseline, len(shown) - 0.5),
            (3, 0),
            textcoords="offset points",
            color=NEUTRAL,
            fontsize=8,
        )
    axes.set_yticks(range(len(shown)), list(shown))
    axes.set_ylim(len(shown) - 0.4, -0.75)
    axes.set_xlabel(f"{METRIC_NAMES[metric]} on test, one dot per pair")
    axes.grid(False, axis="y")
    return figure


def _shorten(text: str, n_characters: int) -> str:
    return text if len(text) <= n_characters else text[: n_characters - 1] + "…"


@_in_style
def plot_score_against_mos(
    score: Float[np.ndarray, " n_images"],
    mos: Float[np.ndarray, " n_images"],
    threshold: float,
    title: str = "",
) -> Figure:
    """Density of images over continuous score and mean vote, with the regression line of the vote."""
    figure, axes = plt.subplots(figsize=(6, 4.6))
    many = len(score) > 3000
    cells = axes.hexbin(
        score, mos, gridsize=60 if many else 28, mincnt=1, bins="log" if many else None, cmap="viridis"
    )
    slope, intercept = np.polyfit(score, mos, 1)
    ends = np.array([score.min(), score.max()])
    axes.plot(ends, slope * ends + intercept, color=LOW, linewidth=2)
    axes.axhline(threshold, color=NEUTRAL, linestyle="--", linewidth=1)
    axes.annotate(
        f"threshold {threshold:g}", (ends[0], threshold), (0, 3), textcoords="offset points", color=NEUTRAL
    )
    axes.set(xlabel="continuous score", ylabel="mean vote", title=title)
    figure.colorbar(cells, ax=axes, label="images per cell" + (" (logarithmic)" if many else ""))
    return figure


@_in_style
def plot_score_distributions(
    score: Float[np.ndarray, " n_images"],
    mos: Float[np.ndarray, " n_images"],
    is_high: Bool[np.ndarray, " n_images"],
    n_classes: int = 5,
) -> Figure:
    """Left: scores of high and other images. Right: boxes per equal-sized class of the mean vote; the notch
    is the 95 % interval of the median."""
    import seaborn as sns  # seconds, and not every page needs it

    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.3))
    words = np.where(is_high, "high", "low")
    sns.histplot(
        x=score,
        hue=words,
        hue_order=["low", "high"],
        palette=[LOW, HIGH],
        stat="density",
        common_norm=False,
        element="step",
        bins=40,
        alpha=0.35,
        ax=left,
        legend=False,
    )
    for name, tone in (("low", LOW), ("high", HIGH)):
        if (words == name).any():
            at = float(np.median(score[words == name]))
            top = left.get_ylim()[1]
            left.annotate(f"{name} ({np.count_nonzero(words == name):,})", (at, top), ha="center", color=tone)
    left.axvline(0, color=INK, linewidth=0.8)
    left.set(xlabel="continuous score", ylabel="density")
    bounds = np.unique(np.quantile(mos, np.linspace(0, 1, n_classes + 1)))
    member = np.clip(np.searchsorted(bounds, mos, side="right") - 1, 0, len(bounds) - 2)
    present = [k for k in range(len(bounds) - 1) if (member == k).any()]
    classes = [score[member == k] for k in present]
    right.boxplot(
        classes,
        showfliers=False,
        widths=0.6,
        notch=True,
        conf_intervals=[_median_interval(values) for values in classes],
        medianprops={"color": LOW, "linewidth": 1.6},
    )
    names = [f"{bounds[k]:.2f}\nto {bounds[k + 1]:.2f}" for k in present]
    right.set_xticks(range(1, len(present) + 1), names, fontsize=8)
    right.set(xlabel="mean vote (notch: 95 % interval of the median)", ylabel="continuous score")
    right.axhline(0, color=INK, linewidth=0.8)
    return figure


def _median_interval(values: np.ndarray, n_boot: int = 500) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    medians = [np.median(values[rng.integers(0, len(values), len(values))]) for _ in range(n_boot)]
    low, high = np.quantile(medians, [0.025, 0.975])
    return float(low), float(high)


@_in_style
def plot_greedy_path(steps: Sequence[GreedyStep], on_test: Sequence[Metric]) -> Figure:
    """SRCC on train and, with intervals, on test while labels are added; each step's label is named."""
    figure, axes = plt.subplots(figsize=(7.5, 3.4))
    positions = np.arange(len(steps))
    axes.plot(positions, [s.train_value for s in steps], "o-", color=NEUTRAL)
    axes.vlines(positions, [m.low for m in on_test], [m.high for m in on_test], color=HIGH, alpha=0.5)
    axes.plot(positions, [m.value for m in on_test], "o-", color=HIGH)
    ends = [(steps[-1].train_value, "train", NEUTRAL), (on_test[-1].value, "test, 95 %", HIGH)]
    axes.set_xlim(-0.5, len(steps) - 0.5)
    axes.set_xticks(positions, [s.added for s in steps], rotation=35, ha="right")
    axes.set(xlabel="label added (+ high, - low)", ylabel="SRCC")
    label_ends(axes, [(float(positions[-1]), value, text, tone) for value, text, tone in ends])
    return figure


@_in_style
def plot_bottleneck_weights(probe: BottleneckProbe, polarity: Sequence[int] | np.ndarray) -> Figure:
    """Left: weight of each label. Right: correlation of the label alone with the votes. Both with intervals.

    Sorted by the right side; colour by the polarity that the prompt set gives the word.
    """
    order = np.argsort(np.nan_to_num(probe.alone))
    size = (9.5, 1.2 + 0.2 * len(order))
    figure, (left, right) = plt.subplots(1, 2, figsize=size, sharey=True)
    positions = np.arange(len(order))
    colours = [{1: HIGH, -1: LOW}.get(int(polarity[i]), NEUTRAL) for i in order]
    left.barh(positions, probe.weight[order], color=colours, height=0.7)
    left.hlines(positions, probe.weight_low[order], probe.weight_high[order], color="black", linewidth=1)
    left.set(xlabel="weight, votes per standard deviation", title="in the probe")
    right.barh(positions, probe.alone[order], color=colours, height=0.7)
    right.hlines(positions, probe.alone_low[order], probe.alone_high[order], color="black", linewidth=1)
    right.set(xlabel="correlation with the mean vote (train)", title="alone, against the mean of all labels")
    left.set_yticks(positions, [probe.labels[i] for i in order], fontsize=8)
    left.set_ylim(-0.7, len(order) - 0.3)
    for axes in (left, right):
        axes.axvline(0, color="black", linewidth=0.8)
        axes.grid(False, axis="y")
    return figure


@_in_style
def plot_groups(groups: Sequence[GroupResult], metric: str, overall: float) -> Figure:
    """One metric per group with its interval, largest group on top; dashed: all test images."""
    figure, axes = plt.subplots(figsize=(7, 1.1 + 0.27 * len(groups)))
    for row, group in enumerate(groups):
        measured = group.metrics.get(metric)
        if measured is None or np.isnan(measured.value):
            continue
        axes.hlines(row, measured.low, measured.high, color=NEUTRAL, linewidth=1.5)
        axes.plot(measured.value, row, "o", color=HIGH, markersize=5)
    axes.axvline(overall, color="black", linestyle="--", linewidth=1)
    names = [f"{_shorten(visible(g.name), 28)} ({g.n_images:,})" for g in groups]
    axes.set_yticks(range(len(groups)), names, fontsize=8)
    axes.set_ylim(len(groups) - 0.4, -0.6)
    axes.set_xlabel(f"{METRIC_NAMES.get(metric, metric)} with 95 % interval")
    return figure
