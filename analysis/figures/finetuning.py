"""Figures of fine-tuning: how training went, and what a method costs for what it reaches."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.style import colour, label_ends, log_ticks, styled
from analysis.results.finetuning import Cost, TrainingRun
from analysis.results.names import name_backbone

_MARKS = ("o", "s", "^", "D", "v", "P")


def plot_epochs(runs: Sequence[TrainingRun]) -> Figure:
    """Loss (training dotted) and SRCC on the held-out images by epoch; a ring marks the best epoch."""
    with styled():
        figure, (losses, ranks) = plt.subplots(1, 2, figsize=(8.6, 3.3))
        ends = []
        for index, run in enumerate(runs):
            label = f"{name_backbone(run.backbone)}, best {run.best_epoch}"
            ends.append((float(run.epoch[-1]), float(run.held_out_srcc[-1]), label, colour(index)))
            tone, best = colour(index), run.best_epoch - 1
            losses.plot(run.epoch, run.train_loss, ":", color=tone, linewidth=1)
            for axes, values in ((losses, run.held_out_loss), (ranks, run.held_out_srcc)):
                axes.plot(run.epoch, values, "-", color=tone, marker=".", markersize=4)
                axes.plot(run.epoch[best], values[best], "o", color=tone, fillstyle="none", markersize=10)
        losses.set_ylabel("emd_r2 (dotted: training images)")
        ranks.set_ylabel("SRCC, held-out images")
        for axes in (losses, ranks):
            axes.set_xlabel("epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
        label_ends(ranks, ends)
    return figure


def plot_cost(costs: Sequence[Cost]) -> Figure:
    """SRCC on test with interval by number of trainable parameters and by seconds of training, one colour per
    backbone and one mark per kind of method."""
    backbones = list(dict.fromkeys(cost.backbone for cost in costs))
    kinds = list(dict.fromkeys(cost.label for cost in costs))
    with styled():
        figure, panels = plt.subplots(1, 2, figsize=(8.6, 3.6), sharey=True)
        for axes, name in zip(panels, ("n_trainable", "seconds"), strict=True):
            for cost in costs:
                x = getattr(cost, name)
                if x is None:
                    continue
                tone = colour(backbones.index(cost.backbone))
                mark = _MARKS[kinds.index(cost.label) % len(_MARKS)]
                axes.plot([x, x], [cost.srcc.low, cost.srcc.high], color=tone, linewidth=1.5, alpha=0.4)
                axes.plot(x, cost.srcc.value, mark, color=tone, markersize=6)
        panels[0].set_xscale("symlog", linthresh=10)
        log_ticks(panels[0].xaxis)
        panels[0].set_xlabel("parameters that are fitted")
        panels[1].set_xscale("log")
        log_ticks(panels[1].xaxis)
        panels[1].set_xlabel("seconds of fitting")
        panels[0].set_ylabel("SRCC, test images")
        colours = [Line2D([], [], color=colour(i), linewidth=3) for i in range(len(backbones))]
        marks = [
            Line2D([], [], color="#555555", linestyle="", marker=_MARKS[i % len(_MARKS)])
            for i in range(len(kinds))
        ]
        named = [name_backbone(backbone) for backbone in backbones]
        figure.legend(colours + marks, named + kinds, loc="outside lower center", ncols=4, fontsize=8)
    return figure
