"""Words and pictures into vectors, in a process apart that keeps the backbone loaded.

The backbone is the one whose weights made the gallery's vectors; other weights of its name are refused.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from iaa.library.errors import UsageError
from iaa.library.gallery.processes import Helpers
from iaa.library.layout import Layout
from iaa.library.words import kept_words

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


def words_of(helpers: Helpers, made_by: MadeBy, words: list[str], template: str) -> np.ndarray:
    """As encode_words, by a helper, and kept: what was asked before needs no model."""
    layout = Layout(made_by.root, made_by.dataset)
    encode = partial(helpers.call, encode_words, made_by, words, template)
    return kept_words(layout, made_by, words, template, encode, made_by.weights, made_by.device)


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
