"""The figure of probes that were applied to other data sets than their own."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from analysis.figures.style import REFERENCE, colour, styled
from analysis.probing.transfer import Transfer
from analysis.results.markup import visible
from analysis.results.names import name_output


def plot_transfers(found: Sequence[Transfer]) -> Figure:
    """SRCC of each foreign probe and, on the same photographs, of the data set's own, with intervals; a grey
    mark at the ceiling that the votes allow."""
    with styled():
        figure, axes = plt.subplots(figsize=(7.0, 1.1 + 0.5 * len(found)))
        for row, each in enumerate(found):
            marks = (
                (each.srcc, colour(1), -0.13, "foreign probe"),
                (each.own, colour(0), 0.13, "its own probe, by folds"),
            )
            for metric, tone, offset, name in marks:
                axes.plot([metric.low, metric.high], [row + offset] * 2, color=tone, linewidth=2, alpha=0.45)
                axes.plot(
                    metric.value, row + offset, "o", color=tone, markersize=5, label=name if not row else ""
                )
            if each.ceiling is not None:
                ends = [row - 0.28, row + 0.28]
                axes.plot(
                    [each.ceiling.value] * 2,
                    ends,
                    color=REFERENCE,
                    linewidth=1.5,
                    label="" if row else "ceiling",
                )
        axes.axvline(0, color=REFERENCE, linewidth=0.8)
        axes.set_yticks(
            range(len(found)),
            [
                visible(f"{t.source} → {t.target}") + "\n" + visible(name_output(t.backbone, t.output))
                for t in found
            ],
        )
        axes.set_ylim(len(found) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("SRCC with the mean ratings, 95 % interval over photographs")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure
