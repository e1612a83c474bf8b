"""Words and pictures into vectors, in a process apart that keeps the backbone loaded.

The backbone is the one whose weights made the gallery's vectors; other weights of its name are refused.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from iaa.library.errors import UsageError
from iaa.library.gallery.processes import Helpers
from iaa.library.layout import Layout
from store import load_derived, save_derived
from store.digests import digest_of_strings
from store.file_names import cache_stem, file_stem

if TYPE_CHECKING:
    from embed.backbones.loading import Backbone


@dataclass(frozen=True)
class MadeBy:
    """What made the vectors: where they are kept, and what is written about them."""

    root: Path
    dataset: str
    path: Path
    backbone: str
    identity: dict[str, Any]
    provenance: dict[str, Any]
    weights: Path | None = None
    """Weights file, where it is not the registered one."""
    device: str = "auto"

    def __hash__(self) -> int:
        return hash((self.path, self.backbone, self.weights))


@dataclass(frozen=True)
class Sent:
    """Bytes of a picture, read as a file is."""

    data: bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)

    def read_bytes(self) -> bytes:
        """All of them."""
        return self.data


def encode_words(made_by: MadeBy, words: list[str], template: str) -> np.ndarray:
    """Raw vectors of words in a template (n_words, dim). Raises UsageError for words that cannot be read,
    StoreError where the weights are others than those that made the vectors."""
    from iaa.library.searching import words_by

    with _without_torch():
        return words_by(_loaded(made_by), words, template)


def encode_picture(made_by: MadeBy, output: str, data: bytes) -> np.ndarray:
    """Raw vector of a picture (dim,). Raises UsageError where it cannot be read, StoreError as above."""
    from iaa.library.searching import picture_by

    with _without_torch():
        return picture_by(_loaded(made_by), made_by.identity, output, Sent(data), "the picture")


def kept_words(helpers: Helpers, made_by: MadeBy, stem: str, words: list[str], template: str) -> np.ndarray:
    """As encode_words, by a helper, and kept as a derived file: what every page asks is encoded once."""
    layout = Layout(made_by.root, made_by.dataset)
    weights = {name: value for name, value in made_by.identity.items() if name.startswith("weights")}
    key = {"words": digest_of_strings(np.array(words)), "template": template, **weights}
    path = layout.derived / f"{cache_stem(stem, file_stem(made_by.backbone))}.h5"
    kept = load_derived(path, key)
    if kept is not None and "vectors" in kept:
        return kept["vectors"]
    vectors = helpers.call(encode_words, made_by, words, template)
    save_derived(path, {"vectors": vectors}, key)
    return vectors


@contextmanager
def _without_torch() -> Iterator[None]:
    """Errors of backbones as UsageError: their own kinds would bring torch into the process that asked."""
    from embed.backbones.spec import BackboneError

    try:
        yield
    except BackboneError as error:
        raise UsageError("\n".join([str(error), *getattr(error, "__notes__", [])])) from None


@lru_cache(maxsize=1)
def _loaded(made_by: MadeBy) -> "Backbone":
    from iaa.library.searching import same_weights

    return same_weights(Layout(made_by.root, made_by.dataset), made_by, made_by.weights, made_by.device)
