"""Which content words fit a photograph best: those of ImageNet's 1,000 classes, by a text tower."""

import logging
from typing import Any

import numpy as np

from iaa.library.gallery.encoding import words_of
from iaa.library.gallery.gallery import Gallery
from iaa.library.gallery.jobs import Job, Key
from store.rows import unit_rows

logger = logging.getLogger(__name__)

TEMPLATE = "a photo of a {label}"
N_SHOWN = 5
_ROWS_AT_ONCE = 4096
_PARTS_PER_ANSWER = 16


class Vocabulary:
    """The words of one gallery: encoded once (and kept), compared when they are asked
    for."""

    def __init__(self, gallery: Gallery) -> None:
        self.gallery = gallery
        self._job: Job[tuple[list[str], np.ndarray, np.ndarray, np.ndarray]] = Job(self._make)

    def words_of(self, row: int) -> list[dict[str, Any]]:
        """The words that fit a photograph more than they fit the others: text, cosine, and the percentile of
        that cosine among all photographs. Words are compared by how far their cosine lies above their own
        mean here, for some words are like everything. Empty without a text tower, and while they are encoded.
        """
        gallery = self.gallery
        if gallery.why_no_words or "embedding" not in gallery.outputs:
            return []
        matrix = gallery.matrix("embedding")
        if not matrix.has[row]:
            return []
        try:
            found = self._job.ask(self._key(), patience=0.0)
        except Exception as error:  # no number depends on it
            logger.info("no content words: %s", error)
            return []
        if found is None:
            return []
        words, vectors, mean, spread = found
        cosine = vectors @ matrix.rows[row]
        best = np.argsort(-(cosine - mean) / spread, kind="stable")[:N_SHOWN]
        of_all = matrix.rows[matrix.has] @ vectors[best].T
        below = (of_all < cosine[best]).sum(axis=0) / max(len(of_all) - 1, 1)
        return [
            {"text": words[n], "cosine": float(cosine[n]), "percentile": float(min(100, 100 * share))}
            for n, share in zip(best.tolist(), below.tolist(), strict=True)
        ]

    def _key(self) -> Key:
        listing, digest, n_pieces = self.gallery.vectors_version
        return listing, digest, n_pieces // _PARTS_PER_ANSWER

    def _make(self) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
        from embed.prompts.sets import get_prompt_set, resolve_contents

        made_by = self.gallery.made_by
        assert made_by is not None
        words = list(dict.fromkeys(resolve_contents(get_prompt_set("paper_context"))))
        vectors = unit_rows(words_of(self.gallery.encoder, made_by, words, TEMPLATE))
        matrix = self.gallery.matrix("embedding")
        rows, has = matrix.rows, matrix.has
        total, squares, n = np.zeros(len(words)), np.zeros(len(words)), int(has.sum())
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            block = rows[start : start + _ROWS_AT_ONCE]
            cosines = (block[has[start : start + _ROWS_AT_ONCE]] @ vectors.T).astype(np.float64)
            total += cosines.sum(axis=0)
            squares += (cosines**2).sum(axis=0)
        mean = total / max(n, 1)
        spread = np.sqrt(np.maximum(squares / max(n, 1) - mean**2, 1e-12))
        return words, vectors, mean, spread
