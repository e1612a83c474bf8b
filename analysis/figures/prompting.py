"""Figures of the prompting experiment: each function draws one figure and returns it."""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import ParamSpec

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import Rectangle

from analysis.figures.style import COLOURS, REFERENCE, styled
from analysis.prompting.ensembles import BottleneckProbe, GreedyStep
from analysis.prompting.groups import GroupResult
from analysis.prompting.pairs import PairMetric, PairTable
from analysis.results.markup import visible
from analysis.results.methods import Metric
from store.shapes import Bool, Float

HIGH, LOW, NEUTRAL = COLOURS[0], COLOURS[1], REFERENCE
RIGHT, WRONG = "#2e7d32", "#c62828"
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
def plot_pair_heatmap(table: PairTable, metric: PairMetric, title: str = "") -> Figure:
    """Value of every pair, high labels down, low labels across; rows and columns by their mean.

    The best pair has a frame. Correlations of both signs get colours centred on zero.
    """
    values = table.metric(metric)
    rows, columns = np.argsort(-_means(values, 1)), np.argsort(-_means(values, 0))
    shown = values[np.ix_(rows, columns)]
    n_high, n_low = shown.shape
    size = (2.2 + 0.55 * n_low, 1.6 + 0.26 * n_high)
    figure, axes = plt.subplots(figsize=size)
    one_sign = metric == "accuracy" or not (shown < 0).any()
    if one_sign:
        image = axes.imshow(shown, cmap="viridis", aspect="auto")
    else:
        limit = float(np.nanmax(np.abs(shown)))
        image = axes.imshow(shown, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    axes.grid(False)
    axes.set_xticks(range(n_low), [table.low[i] for i in columns], rotation=50, ha="right")
    axes.set_yticks(range(n_high), [table.high[i] for i in rows])
    lowest, highest = image.get_clim()
    for (row, column), value in np.ndenumerate(shown):
        share = (value - lowest) / (highest - lowest) if highest > lowest else 0.5
        dark = share < 0.55 if one_sign else abs(2 * share - 1) > 0.65
        text = "-" if np.isnan(value) else f"{value:.3f}".replace("0.", ".")
        axes.text(
            column, row, text, ha="center", va="center", fontsize=6.5, color="white" if dark else "black"
        )
    best = table.best(metric)
    row, column = (
        [table.high[i] for i in rows].index(best.high),
        [table.low[i] for i in columns].index(best.low),
    )
    for colour, width in (("white", 4.0), ("black", 2.0)):
        frame = Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=colour, linewidth=width)
        axes.add_patch(frame)
    axes.set_title(title or f"{METRIC_NAMES[metric]}; best: {best.high} / {best.low}, {best.value:.3f}")
    axes.set_xlabel("low label")
    axes.set_ylabel("high label")
    figure.colorbar(image, ax=axes, label=METRIC_NAMES[metric], shrink=0.7)
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
    figure, axes = plt.subplots(figsize=(8, 0.9 + 0.62 * len(tables)))
    jitter = np.random.default_rng(0)
    for row, (method, table) in enumerate(tables.items()):
        values = table.metric(metric).ravel()
        values = values[np.isfinite(values)]
        offsets = jitter.uniform(-0.28, 0.28, len(values))
        axes.scatter(values, row + offsets, s=10, color=HIGH, alpha=0.5, linewidths=0)
        median = float(np.median(values))
        axes.plot([median, median], [row - 0.36, row + 0.36], color="black", linewidth=1.2)
        if chosen and method in chosen:
            measured = chosen[method]
            axes.plot([measured.value] * 2, [row - 0.4, row + 0.4], color=LOW, linewidth=2.2)
            axes.plot([measured.low, measured.high], [row + 0.36] * 2, color=LOW, linewidth=2.2)
    if baseline is not None:
        axes.axvline(baseline, color=NEUTRAL, linestyle="--", linewidth=1)
        axes.text(baseline, -0.55, " majority", color=NEUTRAL, fontsize=8, va="center")
    axes.set_yticks(range(len(tables)), list(tables))
    axes.set_ylim(len(tables) - 0.45, -0.75)
    axes.set_xlabel(f"{METRIC_NAMES[metric]} on test, one dot per pair")
    axes.set_title("black: median pair; orange: pair chosen on train, with its 95 % interval")
    axes.grid(False, axis="y")
    return figure


@_in_style
def plot_image_grid(
    paths: Sequence[Path],
    image_ids: Sequence[str],
    predicted_high: Bool[np.ndarray, " n_shown"],
    is_high: Bool[np.ndarray, " n_shown"] | None,
    score: Float[np.ndarray, " n_shown"],
    mos: Float[np.ndarray, " n_shown"] | None,
    content: Sequence[str] | None = None,
    n_columns: int = 6,
) -> Figure:
    """Figure 2: photographs with predicted class, score, mean vote and winning content.

    Green and a check mark where the prediction is right, red and a cross where it is wrong; image ids
    stand below. Without ratings (`is_high` and `mos` None) frames are grey. A file that matplotlib cannot
    read is shown as an empty frame that says so.
    """
    n_columns = min(n_columns, len(paths))
    n_rows = -(-len(paths) // n_columns)
    figure, grid = plt.subplots(n_rows, n_columns, figsize=(2.15 * n_columns, 2.75 * n_rows), squeeze=False)
    for axes in grid.flat[len(paths) :]:
        axes.set_axis_off()
    for i, (path, axes) in enumerate(zip(paths, grid.flat, strict=False)):
        axes.set_xticks([])
        axes.set_yticks([])
        pixels = _read_image(Path(path))
        if pixels is None:
            axes.text(0.5, 0.5, "not readable here", ha="center", transform=axes.transAxes, fontsize=7)
        else:
            axes.imshow(pixels, cmap="gray" if pixels.ndim == 2 else None)
        axes.grid(False)
        axes.set_facecolor("#eeeeee")
        axes.set_box_aspect(1)
        axes.set_anchor("S")
        colour, mark = NEUTRAL, ""
        if is_high is not None:
            right = bool(predicted_high[i] == is_high[i])
            colour, mark = (RIGHT, "\N{CHECK MARK} ") if right else (WRONG, "\N{BALLOT X} ")
        for spine in axes.spines.values():
            spine.set(edgecolor=colour, linewidth=3, visible=True)
        lines = [f"{mark}{'high' if predicted_high[i] else 'low'}, score {score[i]:+.4f}"]
        lines += [f"mean vote {mos[i]:.2f}"] if mos is not None else []
        lines += [f"#{_shorten(visible(content[i]), 24)}"] if content is not None else []
        axes.set_title("\n".join(lines), fontsize=8, color=colour)
        axes.set_xlabel(_shorten(visible(str(image_ids[i])), 24), fontsize=7)
    return figure


def _read_image(path: Path) -> np.ndarray | None:
    try:
        pixels: np.ndarray = imread(path)
    except Exception:  # decoders raise what they like, and it costs this picture, not the page
        return None
    return pixels if pixels.ndim in (2, 3) else None


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
    axes.plot(ends, slope * ends + intercept, color=LOW, linewidth=2, label="least squares")
    axes.axhline(threshold, color=NEUTRAL, linestyle="--", linewidth=1, label=f"threshold {threshold:g}")
    axes.set(xlabel="continuous score", ylabel="mean vote", title=title)
    axes.legend(frameon=False, fontsize=8, loc="lower right" if slope > 0 else "lower left")
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
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
    edges = np.linspace(score.min(), score.max(), 50)
    for rows, colour, name in ((~is_high, LOW, "low"), (is_high, HIGH, "high")):
        if rows.any():
            label = f"{name} ({np.count_nonzero(rows):,})"
            left.hist(score[rows], bins=edges, density=True, color=colour, alpha=0.55, label=label)
    left.axvline(0, color="black", linewidth=0.8)
    left.set(xlabel="continuous score", ylabel="density", title="by class")
    left.legend(frameon=False)
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
    right.set(xlabel="mean vote", ylabel="continuous score")
    right.set_title("by class of the mean vote; notch: 95 % interval of the median")
    right.axhline(0, color="black", linewidth=0.8)
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
    axes.plot(positions, [s.train_value for s in steps], "o-", color=NEUTRAL, label="train")
    axes.vlines(positions, [m.low for m in on_test], [m.high for m in on_test], color=HIGH, alpha=0.5)
    axes.plot(positions, [m.value for m in on_test], "o-", color=HIGH, label="test, with 95 % interval")
    axes.set_xlim(-0.5, len(steps) - 0.5)
    axes.set_xticks(positions, [s.added for s in steps], rotation=35, ha="right")
    axes.set(xlabel="label added (+ high, - low)", ylabel="SRCC")
    axes.legend(frameon=False)
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
