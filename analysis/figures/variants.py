"""Figures of altered photographs: each function draws one figure from plain values and returns it."""

from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.style import COLOURS, INK, REFERENCE, colour, styled
from analysis.results.markup import visible
from analysis.results.methods import Metric
from analysis.variants.directions import Share
from analysis.variants.moving import Move
from store.shapes import Float, UInt8

N_COLUMNS = 3


def plot_readings(found: Mapping[str, Mapping[str, Metric]]) -> Figure:
    """R2 with interval of each alteration (rows) by each output (colours); below 0 is worse than the mean,
    and drawn at 0."""
    changes = list(dict.fromkeys(change for of in found.values() for change in of))
    offsets = _offsets(len(found))
    with styled():
        figure, axes = plt.subplots(figsize=(6.4, 1.0 + 0.2 * len(changes) * max(2, len(found))))
        for index, (name, of) in enumerate(found.items()):
            rows = np.array([changes.index(change) for change in of]) + offsets[index]
            shown = np.maximum([[m.value, m.low, m.high] for m in of.values()], 0.0)
            axes.hlines(rows, shown[:, 1], shown[:, 2], color=colour(index), linewidth=2, alpha=0.45)
            axes.plot(shown[:, 0], rows, "o", color=colour(index), markersize=4.5, label=visible(name))
        _named_rows(axes, changes)
        axes.set_xlim(-0.02, 1.02)
        axes.set_xlabel("R² of the strength, photographs left out, 95 % interval")
        _legend(figure, axes)
    return figure


def plot_moves(
    moves: Sequence[Move], measure: str = "move", called: Callable[[Move], str] = lambda move: move.method
) -> Figure:
    """How strength moves the scores of each method: a panel per alteration, a line per method.

    `measure` is move, places or order (analysis.variants.moving), `called` what a method is called.
    """
    titles = {
        "move": "change of the score\n(standard deviations)",
        "places": "places won by one\naltered photograph (%)",
        "order": "SRCC of the order\nbefore and after",
    }
    changes, methods = (list(dict.fromkeys(getattr(m, of) for m in moves)) for of in ("change", "method"))
    n_rows = -(-len(changes) // N_COLUMNS)
    with styled():
        figure, panels = plt.subplots(
            n_rows, N_COLUMNS, figsize=(8.6, 0.7 + 2.0 * n_rows), sharey=True, squeeze=False
        )
        for axes in panels.flat[len(changes) :]:
            axes.set_visible(False)
        for move in moves:
            axes = panels.flat[changes.index(move.change)]
            tone, values = colour(methods.index(move.method)), getattr(move, measure)
            bounds = [m.low for m in values], [m.high for m in values]
            axes.fill_between(move.strengths, *bounds, color=tone, alpha=0.13, linewidth=0)
            line = ("o-", "s--", "^:")[min(methods.index(move.method) // len(COLOURS), 2)]
            axes.plot(
                move.strengths, [m.value for m in values], line, color=tone, markersize=3,
                label=visible(called(move)),
            )  # fmt: skip
            axes.set_title(move.change)
        for change, axes in zip(changes, panels.flat, strict=False):
            rest = next(m.strengths[m.at_rest] for m in moves if m.change == change)
            axes.axvline(rest, color=REFERENCE, linewidth=0.8, linestyle=":")
            axes.axhline(1 if measure == "order" else 0, color=REFERENCE, linewidth=0.8)
        for row in panels:
            row[0].set_ylabel(titles[measure])
        _legend(figure, panels[0][0])
    return figure


def plot_shares(found: Mapping[str, Sequence[Share]]) -> Figure:
    """How much of each probe's direction lies along what: dots with intervals; grey bars where probes of
    ratings dealt out anew lie (95 %), a tick at what random directions hold."""
    with styled():
        figure, panels = plt.subplots(
            len(found), 1, squeeze=False, sharex=True,
            figsize=(7.0, 0.8 + sum(0.42 + 0.3 * len(shares) for shares in found.values())),
            gridspec_kw={"height_ratios": [len(shares) for shares in found.values()]},
        )  # fmt: skip
        for index, ((name, shares), axes) in enumerate(zip(found.items(), panels[:, 0], strict=True)):
            for row, share in enumerate(shares):
                axes.plot(
                    [share.unlearned.low, share.unlearned.high], [row, row], color=REFERENCE, linewidth=9,
                    alpha=0.3, solid_capstyle="butt", zorder=1,
                )  # fmt: skip
                axes.plot([share.random.value] * 2, [row - 0.3, row + 0.3], color=INK, linewidth=1.2)
                axes.plot([share.share.low, share.share.high], [row, row], color=colour(index), linewidth=2)
                axes.plot(share.share.value, row, "o", color=colour(index), markersize=5)
            _named_rows(axes, [f"{s.what} ({s.n_directions})" for s in shares])
            axes.set_title(visible(name), loc="left", color=colour(index))
            axes.set_xlim(left=0)
        panels[-1][0].set_xlabel("share of the probe's direction, 0 to 1")
    return figure


def plot_cosines(found: Mapping[str, Mapping[str, Metric]]) -> Figure:
    """Cosine of each probe's direction with each alteration's: right of zero the probe likes more of it."""
    changes = list(dict.fromkeys(change for of in found.values() for change in of))
    offsets = _offsets(len(found))
    with styled():
        figure, axes = plt.subplots(figsize=(6.4, 1.0 + 0.2 * len(changes) * max(2, len(found))))
        for index, (name, of) in enumerate(found.items()):
            rows = np.array([changes.index(change) for change in of]) + offsets[index]
            tone, metrics = colour(index), list(of.values())
            axes.hlines(
                rows, [m.low for m in metrics], [m.high for m in metrics], color=tone, linewidth=2, alpha=0.45
            )
            axes.plot([m.value for m in metrics], rows, "o", color=tone, markersize=4.5, label=visible(name))
        axes.axvline(0, color=REFERENCE, linewidth=0.8)
        _named_rows(axes, changes)
        axes.set_xlabel("cosine with the probe's direction, 95 % interval")
        _legend(figure, axes)
    return figure


def plot_strip(
    pixels: UInt8[np.ndarray, "n_versions height width 3"],
    change: Sequence[str],
    strength: Float[np.ndarray, " n_versions"],
    unchanged_at: Mapping[str, float],
    score: Float[np.ndarray, " n_versions"] | None = None,
) -> Figure:
    """Every version of one photograph: a row per alteration from least to greatest, the unchanged one framed;
    above each its strength and, if given, its score."""
    named, strength = np.asarray(change, str), np.asarray(strength, float)
    unchanged = int(np.flatnonzero(named == "")[0])
    rows = []
    for name, rest in unchanged_at.items():
        versions = [(float(strength[i]), int(i)) for i in np.flatnonzero(named == name)]
        rows.append((name, sorted([*versions, (rest, unchanged)])))
    n_columns = max(len(versions) for _, versions in rows)
    with styled():
        figure, grid = plt.subplots(
            len(rows), n_columns, figsize=(1.3 * n_columns, 1.12 * len(rows)), squeeze=False
        )
        for (name, versions), line in zip(rows, grid, strict=True):
            for axes in line:
                axes.set_xticks([])
                axes.set_yticks([])
                axes.grid(False)
            for axes in line[len(versions) :]:
                axes.set_visible(False)
            for (value, version), axes in zip(versions, line, strict=False):
                axes.imshow(pixels[version], interpolation="none")
                for spine in axes.spines.values():
                    spine.set(visible=version == unchanged, linewidth=2.5, edgecolor=colour(0))
                told = "as it is" if version == unchanged else f"{value:+g}" if value < 0 else f"{value:g}"
                axes.set_title(told if score is None else f"{told}: {score[version]:.2f}", fontsize=8, pad=2)
            line[0].set_ylabel(name, fontsize=9)
    return figure


def _offsets(n: int) -> Float[np.ndarray, " n"]:
    """Places of n marks around a row."""
    return (np.arange(n) - (n - 1) / 2) * min(0.2, 0.7 / max(n, 1))


def _legend(figure: Figure, axes: Axes) -> None:
    """What the colours are, below; a single one is named in the title."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8)
    else:
        figure.suptitle(labels[0], fontsize=9.5, color=colour(0))


def _named_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [visible(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
