"""Vectors of words that were asked before: kept below the data set, so that no text tower is loaded again."""

import os
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from iaa.library.layout import Layout
from store import load_derived, save_derived
from store.digests import digest_of_strings
from store.file_names import cache_stem, file_stem

N_KEPT = 1000
"""Questions kept of one data set, the newest: of one word about 7 KB each."""


class Maker(Protocol):
    """What made vectors of photographs: what a feature file says about itself."""

    @property
    def backbone(self) -> str:
        """Backbone id."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """The combination they were made from."""


def kept_words(
    layout: Layout,
    made_by: Maker,
    words: Sequence[str],
    template: str,
    encode: Callable[[], np.ndarray],
    weights: Path | None = None,
    device: str = "auto",
) -> np.ndarray:
    """Raw vectors (n_words, dim) of words in a template by the weights that made the photographs' vectors:
    those of the last time they were asked, else those that `encode` makes.

    Words that were asked together are kept together, for the vectors of a batch may differ from others' in
    the last bit; of another torch, device or weights file they are encoded anew.
    """
    key = {
        "words": digest_of_strings(np.array(words)),
        "template": template,
        "torch": version("torch"),
        "device": device,
        "given": which_file(weights),
        **{name: value for name, value in made_by.identity.items() if name.startswith("weights")},
    }
    folder = layout.derived / "words"
    asked = digest_of_strings(np.array([f"{name}={value}" for name, value in sorted(key.items())]))
    path = folder / f"{cache_stem(asked[:16], file_stem(made_by.backbone))}.h5"
    kept = load_derived(path, key)
    if kept is not None and "vectors" in kept:
        return kept["vectors"]
    vectors = encode()
    if os.access(layout.folder, os.W_OK):
        save_derived(path, {"vectors": vectors}, key)
        _leave_newest(folder)
    return vectors


def which_file(weights: Path | None) -> str:
    """Which weights file was given: the same one need not be read again to know whose vectors it makes."""
    if weights is None:
        return ""
    try:
        found = weights.stat()
    except OSError:  # told by who loads it
        return "not there"
    return f"{weights.resolve()}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"


def _leave_newest(folder: Path) -> None:
    """Removes the oldest of too many."""
    try:
        found = list(folder.glob("*.h5"))
        if len(found) <= N_KEPT:
            return
        found.sort(key=lambda path: path.stat().st_mtime_ns)
        for path in found[:-N_KEPT]:
            path.unlink(missing_ok=True)
    except OSError:  # another process removes them, too
        return
