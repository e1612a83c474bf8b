"""Words and pictures into vectors, in a process apart that keeps the backbone loaded.

The backbone is the one whose weights made the gallery's vectors; other weights of its name are refused.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from iaa.library.errors import UsageError
from iaa.library.gallery.processes import HelperDied, Helpers
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
    from iaa.library.text_towers import words_by, words_kept

    with _without_torch():
        found = words_kept(made_by, words, template, made_by.weights, made_by.device)
        return words_by(_loaded(made_by), words, template) if found is None else found


def keep_words_of(made_by: MadeBy) -> None:
    """Keep the text tower of the loaded backbone, if there is one, for the next time the page is opened."""
    from iaa.library.text_towers import keep_words

    if _loaded.cache_info().currsize:
        keep_words(_loaded(made_by))


def encode_picture(made_by: MadeBy, output: str, data: bytes) -> np.ndarray:
    """Raw vector of a picture (dim,). Raises UsageError where it cannot be read, StoreError as above."""
    from iaa.library.searching import picture_by

    with _without_torch():
        return picture_by(_loaded(made_by), made_by.identity, output, Sent(data), "the picture")


def words_of(helpers: Helpers, made_by: MadeBy, words: list[str], template: str) -> np.ndarray:
    """As encode_words, by a helper, and kept: what was asked before needs no model."""
    layout = Layout(made_by.root, made_by.dataset)

    def encode() -> np.ndarray:
        vectors = helpers.call(encode_words, made_by, words, template)
        threading.Thread(target=_keep, args=(helpers, made_by), daemon=True).start()  # nobody waits for it
        return vectors

    return kept_words(layout, made_by, words, template, encode, made_by.weights, made_by.device)


def _keep(helpers: Helpers, made_by: MadeBy) -> None:
    with suppress(HelperDied):
        helpers.call(keep_words_of, made_by)


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
