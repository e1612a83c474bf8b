"""Figures of the data: how people rated, and where photographs lie."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from analysis.figures.style import COLOURS, INK, styled
from store.shapes import Float, Int


def plot_votes(
    mean_vote: Float[np.ndarray, " n_images"],
    threshold: float,
    votes: Int[np.ndarray, "n_images n_levels"] | None,
    levels: Int[np.ndarray, " n_levels"] | None,
) -> Figure:
    """Left: mean votes with the threshold. Right: all votes by level, or the scores' cumulative share."""
    import seaborn as sns  # seconds, and not every page needs it

    with styled():
        figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 2.9))
        sns.histplot(x=mean_vote, bins=60, color=COLOURS[0], element="step", ax=left)
        left.axvline(threshold, color=COLOURS[1])
        top = left.get_ylim()[1]
        left.annotate(
            f"threshold {threshold:g}",
            (threshold, top),
            (4, -8),
            textcoords="offset points",
            color=COLOURS[1],
        )
        left.set(xlabel="mean vote", ylabel="photographs")
        if votes is not None and levels is not None:
            shares = 100 * votes.sum(axis=0) / votes.sum()
            right.bar(levels, shares, color=COLOURS[2], width=0.7)
            right.set(xlabel="vote", ylabel="share of all votes (%)", xticks=levels)
        else:
            sns.ecdfplot(x=mean_vote, color=COLOURS[2], ax=right)
            right.set(xlabel="score", ylabel="share of photographs below")
    return figure


def plot_map(plane: Float[np.ndarray, "n 2"], image_ids: Sequence[str]) -> Figure:
    """Photographs as dots in a plane, one scale both ways; those at the edges are named."""
    with styled():
        figure, axes = plt.subplots(figsize=(6.4, 5.0))
        axes.scatter(
            plane[:, 0],
            plane[:, 1],
            s=14,
            color=COLOURS[0],
            alpha=0.55,
            linewidths=0,
            rasterized=len(plane) > 500,
        )
        named: list[int] = []
        for row in dict.fromkeys(int(f(plane[:, k])) for k in (0, 1) for f in (np.argmin, np.argmax)):
            if any(np.abs(plane[row] - plane[other]).max() < 0.1 for other in named):
                continue  # one name would cover the other
            named.append(row)
            axes.annotate(
                str(image_ids[row])[:18],
                plane[row],
                (3, 3),
                textcoords="offset points",
                fontsize=7,
                color=INK,
            )
        axes.set_aspect("equal", adjustable="datalim")
        axes.set(xlabel="first direction", ylabel="second direction")
    return figure
