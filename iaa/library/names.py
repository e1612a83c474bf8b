"""What the library and its faces are at one about; nothing is loaded to know them."""

from typing import Literal

ME = "me"
"""Who rates where nobody says who."""
PROTOCOL = "curve"
"""How single people's taste is measured where nobody says how (analysis/taste/protocols.py)."""
Method = Literal[
    "fixed", "context", "context_max", "ensemble_mean_of_raw", "ensemble_mean_of_unit", "clip_iqa"
]
"""How the prompts of a set make a score (docs/prompting.md)."""
STARS_FROM = (20.0, 50.0, 80.0, 95.0)
"""Percentiles from which on a photograph has two, three, four and five stars."""


def told_version() -> str:
    """Which version this is, and on which Python."""
    import importlib.metadata
    import platform

    version = importlib.metadata.version("image-aesthetics-store")
    return f"iaa {version}, Python {platform.python_version()}"
