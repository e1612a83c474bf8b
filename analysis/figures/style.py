"""How the project's figures look: colours that survive colour blindness and print, and the rest."""

from contextlib import AbstractContextManager

import matplotlib.pyplot as plt

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444")
"""One per backbone or method, in order (Okabe & Ito)."""
REFERENCE = "#777777"
"""Baselines, ceilings and diagonals."""


def styled() -> AbstractContextManager[None]:
    """Settings for the figures drawn inside; nothing outside changes."""
    return plt.rc_context(
        {
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
