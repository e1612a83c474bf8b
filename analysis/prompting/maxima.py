"""Per image and label: the most similar of the label's context prompts, how similar, and the mean.

AVA's 229,971 training images against 39,000 prompts are 9 billion cosines; kept as a matrix they
would take 36 GB. They are made tile by tile and reduced at once to one maximum, one winning prompt
and one mean per label. The mean costs nothing: the mean of the cosines is the cosine product with
the mean of the unit text vectors.

Each tile is a product of a few hundred rows with one label's prompts, by one thread with a
single-threaded BLAS: the tile stays in that core's cache until it is reduced, and results do not
depend on the number of threads.
"""

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from analysis.prompting.scores import LabelIndex, LabelScores, index_labels, label_means, row_norms
from analysis.twins import first_equal_rows, tie
from store import Features, Prompts, load_derived, save_derived
from store.rows import first_of_equal
from store.shapes import Float32, Int32
from store.system import n_cores

#: Part of the cache's key: raise it when the meaning or the rounding of the arrays changes.
MAXIMA_VERSION = 1
_TILE_ROWS = 512
_TILE_PROMPTS = 1024


@dataclass(frozen=True)
class ContextMaxima:
    """Cosines of images with each label's context prompts, reduced per label; failed rows are NaN, -1."""

    labels: tuple[str, ...]
    polarity: np.ndarray
    maximum: Float32[np.ndarray, "n_images n_labels"]
    winner: Int32[np.ndarray, "n_images n_labels"]
    """Row in the prompt table of the prompt that reached the maximum; of equal ones the first."""
    mean: Float32[np.ndarray, "n_images n_labels"]

    def context(self) -> LabelScores:
        """The paper's context-aware method: decided by the maxima, scored by equation 1 (the means)."""
        return LabelScores("context", self.labels, self.polarity, self.maximum, self.mean, self.winner)

    def context_max(self) -> LabelScores:
        """A variant whose continuous score is the difference of the two labels' maxima."""
        return LabelScores("context_max", self.labels, self.polarity, self.maximum, self.maximum, self.winner)


def compute_context_maxima(
    blocks: Iterable[tuple[int, Float32[np.ndarray, "n_rows dim"]]],
    n_images: int,
    text: Float32[np.ndarray, "n_prompts dim"],
    index: LabelIndex,
    n_threads: int | None = None,
) -> ContextMaxima:
    """Maximum, winner and mean per image and label, from raw image rows in blocks and unit text rows.

    Memory beyond the result: the text vectors once more if a label's prompts are not contiguous, and
    one tile per thread.
    """
    prompts_of = [np.flatnonzero(index.of_prompt == column) for column in range(index.n_labels)]
    texts = [text[_as_slice(rows)] for rows in prompts_of]
    means = label_means(text, index).astype(np.float32)
    shape = (n_images, index.n_labels)
    maximum = np.full(shape, np.nan, dtype=np.float32)
    mean = np.full(shape, np.nan, dtype=np.float32)
    winner = np.full(shape, -1, dtype=np.int32)

    def reduce_tile(start: int, rows: np.ndarray) -> None:
        here = slice(start, start + len(rows))
        norms = row_norms(rows, start)
        mean[here] = np.matmul(rows, means.T) / norms[:, None]
        buffer = np.empty((len(rows), _TILE_PROMPTS), dtype=np.float32)
        for column, vectors in enumerate(texts):
            best, where = _row_maxima(rows, vectors, buffer)
            maximum[here, column] = best / norms
            winner[here, column] = prompts_of[column][where]
        winner[here][np.isnan(maximum[here])] = -1

    n_threads = n_threads or n_cores()
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(n_threads) as pool:
        waiting: list[Future[None]] = []
        for start, block in blocks:
            for first in range(0, len(block), _TILE_ROWS):
                rows = block[first : first + _TILE_ROWS]
                waiting.append(pool.submit(reduce_tile, start + first, rows))
            while len(waiting) > 4 * n_threads:  # bounds the blocks held in memory
                waiting.pop(0).result()
        for future in waiting:
            future.result()
    return ContextMaxima(index.labels, index.polarity, maximum, winner, mean)


def _row_maxima(rows: np.ndarray, vectors: np.ndarray, buffer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(maximum, its position) of rows @ vectors.T along the vectors, tile by tile; ties: the first."""
    best = np.full(len(rows), -np.inf, dtype=np.float32)
    where = np.zeros(len(rows), dtype=np.int64)
    every = np.arange(len(rows))
    for first in range(0, len(vectors), _TILE_PROMPTS):
        part = vectors[first : first + _TILE_PROMPTS]
        n_cells = len(rows) * len(part)
        tile = buffer.reshape(-1)[:n_cells].reshape(len(rows), len(part))
        np.matmul(rows, part.T, out=tile)
        position = tile.argmax(axis=1)
        value = tile[every, position]
        better = ~(value <= best)  # true for NaN too, so that a failed row stays NaN
        best[better] = value[better]
        where[better] = position[better] + first
    return best, where


def _as_slice(rows: np.ndarray) -> slice | np.ndarray:
    if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


def maxima_key(features: Features, output: str, prompts: Prompts) -> dict[str, object]:
    """What the cached maxima depend on: contents of both files, and this module's version."""
    return {
        "kind": "context_maxima",
        "version": MAXIMA_VERSION,
        "features": features.digest,
        "output": output,
        "prompts": prompts.digest,
    }


def load_context_maxima(
    features: Features,
    output: str,
    prompts: Prompts,
    cache: Path | None = None,
    n_threads: int | None = None,
) -> ContextMaxima:
    """The maxima of a feature file and a prompt file, from the cache where it holds just these.

    Without a cache path they are computed and not kept. Equal images have equal ones, and of a label's equal
    text vectors the first wins.
    """
    found = _load_or_compute(features, output, prompts, cache, n_threads)
    first = first_equal_rows(partial(features.read, output), features.n_images)
    vectors = [vector.tobytes() for vector in prompts.read()]
    same_prompt = first_of_equal(zip(prompts.label.tolist(), vectors, strict=True))
    winner = np.append(same_prompt, -1).astype(np.int32)[found.winner]
    return replace(
        found, maximum=tie(found.maximum, first), winner=tie(winner, first), mean=tie(found.mean, first)
    )


def _load_or_compute(
    features: Features, output: str, prompts: Prompts, cache: Path | None, n_threads: int | None
) -> ContextMaxima:
    key = maxima_key(features, output, prompts)
    kept = load_derived(cache, key) if cache is not None else None
    index = index_labels(prompts.label.tolist(), prompts.polarity)
    if kept is not None:
        return ContextMaxima(index.labels, index.polarity, kept["maximum"], kept["winner"], kept["mean"])
    maxima = compute_context_maxima(
        features.blocks(output),
        features.n_images,
        prompts.read("embedding", unit_norm=True),
        index,
        n_threads,
    )
    if cache is not None:
        save_context_maxima(cache, maxima, key)
    return maxima


def save_context_maxima(cache: Path, maxima: ContextMaxima, key: dict[str, object]) -> None:
    """Keep maxima, computed here or on an accelerator, under their key."""
    arrays = {"maximum": maxima.maximum, "winner": maxima.winner, "mean": maxima.mean}
    save_derived(cache, arrays, key)
