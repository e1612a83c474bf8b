"""How the project's figures look: colours that survive colour blindness and print, and the rest."""

from collections.abc import Sequence
from contextlib import AbstractContextManager

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, NullFormatter

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444")
"""One per backbone or method, in order (Okabe & Ito)."""
REFERENCE = "#777777"
"""Baselines, ceilings and diagonals."""


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
INK = "#262626"
"""Text and axes; pages in the dark turn it light."""


def styled() -> AbstractContextManager[None]:
    """Settings for the figures drawn inside; nothing outside changes."""
    return plt.rc_context(
        {
            "font.family": ["DejaVu Sans"],
            "text.color": INK,
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "xtick.bottom": True,
            "ytick.left": False,
            "savefig.facecolor": "white",
            "figure.dpi": 110,
            "savefig.dpi": 300,
            "figure.constrained_layout.use": True,
            "text.parse_math": False,  # names may hold dollars; there are no formulas
            "font.size": 9,
            "axes.titlesize": 9.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#e6e6e6",
            "grid.linewidth": 0.6,
            "legend.frameon": False,
        }
    )


def colour(index: int) -> str:
    """The colour of the index-th backbone or method; they repeat after seven."""
    return COLOURS[index % len(COLOURS)]


def log_ticks(axis: Axis) -> None:
    """Powers of ten as plain text on a logarithmic axis (call it after the scale is set): matplotlib writes
    them as formulas, which are not read here."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: power_text(value)))
    axis.set_minor_formatter(NullFormatter())


def power_text(value: float) -> str:
    """0.01, 1, 1,000, and 10⁶ or 10⁻⁵ beyond."""
    if value == 0 or 1e-4 <= abs(value) < 1e5:
        return f"{value:,g}"
    power = round(np.log10(abs(value)))
    if not np.isclose(abs(value), 10.0**power):
        return f"{value:.2g}"
    return ("−" if value < 0 else "") + "10" + str(power).translate(_RAISED)


def label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]], size: float = 8) -> None:
    """Write (x, y, text, colour) at the right ends of curves, moved apart where they would overlap."""
    if not ends:
        return
    figure = axes.figure
    height = axes.get_position().height * figure.get_figheight() * 72  # type: ignore[union-attr]
    low, high = axes.get_ylim()
    step = 1.25 * size * (high - low) / max(height, 1.0)
    order = sorted(range(len(ends)), key=lambda i: ends[i][1])
    places = np.array([ends[i][1] for i in order], dtype=float)
    for _ in range(200):  # push neighbours apart, half each
        gaps = step - np.diff(places)
        if not (gaps > 1e-9 * step).any():
            break
        push = np.where(gaps > 0, gaps / 2, 0)
        places[:-1] -= push
        places[1:] += push
    x = max(end[0] for end in ends)
    for place, i in zip(places, order, strict=True):
        _, _, text, tone = ends[i]
        axes.annotate(
            text, (x, place), (6, 0), textcoords="offset points", va="center", fontsize=size, color=tone,
            annotation_clip=False,
        )  # fmt: skip
