"""Text towers of the weights that made vectors: from the kept export in a moment, else loaded with torch."""

import logging
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from iaa.library.engines import engine_folder
from iaa.library.progress import Progress, show_progress
from iaa.library.words import Maker, which_file

if TYPE_CHECKING:
    from embed.backbones.kept_text import KeptTower
    from embed.backbones.loading import Backbone
    from embed.prompts.sets import PromptTable

logger = logging.getLogger(__name__)

MANY = 200
"""From so many texts on loading torch takes less time than the kept tower takes longer."""

_opened: "dict[tuple[int, ...], KeptTower]" = {}
_asked: set[tuple[object, ...]] = set()
"""Towers that this process has kept, or could not."""

_WEIGHTS = ("weights_sha256", "weights_entry")


def weights_of(made_by: Maker) -> dict[str, str]:
    """What tells the weights that made vectors from others."""
    return {key: str(made_by.identity[key]) for key in _WEIGHTS if key in made_by.identity}


def words_kept(
    made_by: Maker, words: list[str], template: str, weights: Path | None, device: str
) -> np.ndarray | None:
    """Raw vectors (n_words, dim) of words in a template by the kept text tower of the weights that made the
    photographs' vectors, without torch; None where there is none that can be used, or another device or
    weights file is asked for.

    Raises PromptTooLong, SamePrompts for two words that are one text to the tokenizer.
    """
    from embed.prompts.tokens import check_prompts

    made_of = weights_of(made_by)
    if device not in ("auto", "cpu") or len(words) >= MANY or not _are_those(weights, made_of):
        return None
    tower = _kept(made_by.backbone, made_of)
    if tower is None:
        return None
    table = table_of(words, template)
    check_prompts("words", table, tower)
    return tower.encode(table.text)


def _kept(backbone: str, made_of: Mapping[str, str]) -> "KeptTower | None":
    """The kept tower, opened once in a process."""
    from embed.backbones.kept_text import kept_path, open_kept_text
    from embed.backbones.registry import resolve_backbone

    spec = resolve_backbone(backbone)
    try:
        found = kept_path(engine_folder(), spec, made_of).stat()
    except OSError:
        return None
    key = (found.st_dev, found.st_ino, found.st_mtime_ns)
    if key not in _opened:
        tower = open_kept_text(engine_folder(), spec, made_of)
        _opened.clear()
        if tower is None:
            return None
        _opened[key] = tower
    return _opened[key]


def words_by(loaded: "Backbone", words: list[str], template: str = "{label}") -> np.ndarray:
    """Raw vectors (n_words, dim) of words put into a template, by a loaded backbone. Raises PromptTooLong,
    SamePrompts."""
    from embed.prompts.text import encode_part
    from embed.prompts.tokens import check_prompts

    table = table_of(words, template)
    check_prompts("words", table, loaded)
    vectors: np.ndarray = encode_part(loaded, table.text)
    return vectors


def keep_words(loaded: "Backbone", progress: Progress | None = None) -> None:
    """Keep the backbone's text tower, for the next words; where that cannot be, they take as long again."""
    from embed.backbones.exports import EngineUnavailable
    from embed.backbones.text_export import keep_text

    key = (loaded.id, *sorted(loaded.weights_identity.items()))
    if key in _asked:
        return
    _asked.add(key)
    try:
        with (progress or show_progress)(f"keeping what {loaded.id} needs for words, once", 0, ""):
            keep_text(loaded, engine_folder())
    except EngineUnavailable as error:
        logger.info("%s", error)


def table_of(words: list[str], template: str) -> "PromptTable":
    """Words put into a template, as a table of prompts."""
    from embed.prompts.sets import PromptTable

    texts, n = tuple(template.format(label=word) for word in words), len(words)
    return PromptTable(texts, tuple(words), (0,) * n, ("",) * n, (template,) * n)


def _are_those(weights: Path | None, made_of: Mapping[str, str]) -> bool:
    """Whether a file holds the weights that made vectors; what it is otherwise is told by who loads it."""
    if weights is None:
        return True
    return weights.is_file() and _sha256_of(weights, which_file(weights)) == made_of.get("weights_sha256")


@lru_cache(maxsize=4)
def _sha256_of(path: Path, which: str) -> str:
    """Read once in a process, as long as the file is the same one."""
    from embed.backbones.weights import file_sha256

    return file_sha256(path)
