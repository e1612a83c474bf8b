"""Figures of personal taste."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from analysis.figures.style import REFERENCE, colour, styled
from analysis.results.markup import visible
from analysis.taste.people import BOTH, GENERIC, METHODS, OTHERS, PERSONAL, REPEAT, RESIDUAL, PeopleResult

_LINES = {GENERIC: "--", OTHERS: "--"}
"""Methods that learn nothing from the person are dashed."""


def plot_people_curve(result: PeopleResult) -> Figure:
    """SRCC of every method by how many of a person's photographs were learned from, mean over people with
    intervals; her own repeat above, chance below."""
    shots = np.array(result.shots)
    with styled():
        figure, axes = plt.subplots(figsize=(7.2, 3.8))
        for index, method in enumerate(METHODS):
            found = [result.metric(method, int(k)) for k in shots]
            bounds = np.array([[metric.low, metric.high] for metric in found])
            moved = shots * 2 ** (0.05 * (index - 2))  # beside each other, not on top
            axes.vlines(moved, bounds[:, 0], bounds[:, 1], color=colour(index), linewidth=2, alpha=0.4)
            values = [metric.value for metric in found]
            axes.plot(
                moved, values, _LINES.get(method, "-"), marker="o", color=colour(index), markersize=4,
                label=method,
            )  # fmt: skip
        repeat = result.metric(REPEAT, 0)
        levels = [(0.0, "chance")]
        if np.isfinite(repeat.value):
            levels.append((repeat.value, "a person's own repeat"))
            if np.isfinite(repeat.low):
                axes.axhspan(repeat.low, repeat.high, color=REFERENCE, alpha=0.12, linewidth=0)
        for level, name in levels:
            axes.axhline(level, color=REFERENCE, linestyle=":", linewidth=1)
            axes.annotate(
                name, (0.01, level), (0, 2), xycoords=("axes fraction", "data"),
                textcoords="offset points", va="bottom", color=REFERENCE, fontsize=8,
            )  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set_xticks(shots)
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("photographs of the person that were learned from")
        axes.set_ylabel("SRCC with her other scores")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def plot_people(result: PeopleResult, k: int, most: int = 60) -> Figure:
    """Each person: what her own scores, the generic model with her residual, and the others' mean reach with
    k photographs, best on top; the bar is what answers at random would leave of the first."""
    own = result.of_each(PERSONAL, k)
    values = np.array([metric.value for metric in own])
    order = np.argsort(np.where(np.isfinite(values), values, -np.inf))[-most:]
    shown = ((RESIDUAL, "o"), (OTHERS, "|"), (BOTH, "x"))
    with styled():
        figure, axes = plt.subplots(figsize=(7.2, 1.0 + 0.2 * len(order)))
        rows = np.arange(len(order))
        bounds = np.array([[own[at].low, own[at].high] for at in order])
        tone = colour(METHODS.index(PERSONAL))
        axes.hlines(rows, bounds[:, 0], bounds[:, 1], color=tone, linewidth=2, alpha=0.3)
        axes.plot(values[order], rows, "o", color=tone, markersize=4.5, label=PERSONAL)
        for method, marker in shown:
            reached = result.per_person(method, k)[order]
            tone, fill = colour(METHODS.index(method)), "none" if marker == "o" else "full"
            axes.plot(reached, rows, marker, color=tone, markersize=6, label=method, fillstyle=fill)
        axes.axvline(0, color=REFERENCE, linestyle=":", linewidth=1)
        axes.set_yticks(rows, [visible(result.names[at]) for at in order])
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"SRCC with a person's other scores, {k} photographs learned from")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure
