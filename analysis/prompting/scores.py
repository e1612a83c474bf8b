"""Zero-shot prompting (section 4.1): label similarities, binary decisions and continuous scores.

Whatever the method, an image gets two numbers per label. `decision` is what the binary task compares
(the label of the most similar prompt wins); `strength` is what the continuous task sums with the
labels' weights +1 and -1. All methods differ only in how the two come about:

    method                  decision                          strength
    fixed                   cosine with the label's prompt    the same
    context                 maximum over the contents         mean over the contents (equation 1)
    context_max             maximum over the contents         the same
    ensemble_mean_of_raw    cosine with the mean of the label's raw context vectors      the same
    ensemble_mean_of_unit   cosine with the mean of the label's unit context vectors     the same
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from threadpoolctl import threadpool_limits

from analysis.twins import first_equal_rows, tie
from store.rows import unit_rows
from store.shapes import Bool, Float, Float32, Int
from store.system import n_cores

_BLOCKS_WAITING = 64
EnsembleMode = Literal["mean_of_raw", "mean_of_unit"]

#: CLIP's learned logit scale, exp(4.6052); open_clip and OpenAI clamp it to this value.
CLIP_LOGIT_SCALE = 100.0


@dataclass(frozen=True)
class LabelIndex:
    """The labels of a prompt table in order of first appearance, and the label of every prompt."""

    labels: tuple[str, ...]
    polarity: Int[np.ndarray, " n_labels"]
    of_prompt: Int[np.ndarray, " n_prompts"]

    @property
    def n_labels(self) -> int:
        """Number of labels."""
        return len(self.labels)


@dataclass(frozen=True)
class LabelScores:
    """Similarity of every image to every label under one method (see the module's table).

    Rows of images that failed are NaN, and -1 in `winner`. `winner` is the prompt row that gave the
    maximum, None for methods without contents.
    """

    method: str
    labels: tuple[str, ...]
    polarity: Int[np.ndarray, " n_labels"]
    decision: Float32[np.ndarray, "n_images n_labels"]
    strength: Float32[np.ndarray, "n_images n_labels"]
    winner: Int[np.ndarray, "n_images n_labels"] | None = None

    @property
    def n_images(self) -> int:
        """Number of rows, failed images included."""
        return len(self.decision)

    @property
    def ok(self) -> Bool[np.ndarray, " n_images"]:
        """True where the image has scores."""
        return np.asarray(np.isfinite(self.strength).all(axis=1))

    def take(self, rows: np.ndarray) -> "LabelScores":
        """The scores of some images, by index array or mask."""
        winner = None if self.winner is None else self.winner[rows]
        return replace(self, decision=self.decision[rows], strength=self.strength[rows], winner=winner)

    def column(self, label: str) -> int:
        """Column of a label; an unknown one lists the known."""
        if label not in self.labels:
            raise ValueError(f"unknown label {label!r}; this prompt set has: {', '.join(self.labels)}")
        return self.labels.index(label)


def index_labels(label: Sequence[str], polarity: Sequence[int] | np.ndarray) -> LabelIndex:
    """Labels of a prompt table in order of first appearance, each with its one polarity."""
    labels: dict[str, int] = {}
    polarities: list[int] = []
    of_prompt = np.empty(len(label), dtype=np.int64)
    for row, (name, sign) in enumerate(zip(label, polarity, strict=True)):
        column = labels.setdefault(str(name), len(labels))
        if column == len(polarities):
            polarities.append(int(sign))
        elif polarities[column] != int(sign):
            raise ValueError(
                f"label {str(name)!r} has polarity {polarities[column]} and, in row {row}, {int(sign)}"
            )
        of_prompt[row] = column
    return LabelIndex(tuple(labels), np.array(polarities, dtype=np.int8), of_prompt)


def row_norms(vectors: Float[np.ndarray, "n dim"], first_row: int = 0) -> Float[np.ndarray, " n"]:
    """Euclidean lengths, float64; NaN for NaN rows. A row of zeros has no direction and is an error.

    `first_row` is the row that a block starts at, for the error's sake.
    """
    norms: np.ndarray = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    if (norms == 0).any():
        raise ValueError(f"row {first_row + int(np.argmax(norms == 0))} is all zeros and has no direction")
    return norms


def unit_directions(vectors: Float[np.ndarray, "n dim"]) -> Float32[np.ndarray, "n dim"]:
    """Rows scaled to Euclidean length 1; a row of zeros is an error, NaN rows stay NaN."""
    row_norms(vectors)  # refuses a row of zeros
    return unit_rows(vectors)


def label_means(
    vectors: Float[np.ndarray, "n_prompts dim"], index: LabelIndex
) -> Float[np.ndarray, "n_labels dim"]:
    """Mean vector of each label's prompts, float64."""
    means = np.empty((index.n_labels, vectors.shape[1]))
    for column in range(index.n_labels):
        means[column] = vectors[index.of_prompt == column].mean(axis=0, dtype=np.float64)
    return means


def ensemble_vectors(
    text_features: Float[np.ndarray, "n_prompts dim"], index: LabelIndex, mode: EnsembleMode
) -> Float32[np.ndarray, "n_labels dim"]:
    """One unit vector per label: the mean of its prompts' vectors, scaled to length 1.

    `mean_of_raw` averages the vectors as the text tower gave them (the authors' code),
    `mean_of_unit` averages directions (open_clip's zero-shot classifier).
    """
    if mode == "mean_of_raw":
        return unit_directions(label_means(text_features, index))
    if mode == "mean_of_unit":
        return unit_directions(label_means(unit_directions(text_features), index))
    raise ValueError(f"unknown ensemble mode {mode!r}; known: mean_of_raw, mean_of_unit")


def cosines(
    blocks: Iterable[tuple[int, Float32[np.ndarray, "n_rows dim"]]],
    first: Int[np.ndarray, " n_images"],
    text: Float32[np.ndarray, "n_text dim"],
) -> Float32[np.ndarray, "n_images n_text"]:
    """Cosines of raw image rows, given as (first row, rows) block by block, with unit text rows, -1 to 1.

    The products are divided by the lengths of the image rows, which saves scaling every row first. `first`
    is the images' `first_equal_rows`: equal images have equal cosines, and so have equal texts.
    """
    n_images = len(first)
    products = np.full((n_images, len(text)), np.nan, dtype=np.float32)

    def multiply(start: int, block: np.ndarray) -> None:
        here = products[start : start + len(block)]
        np.matmul(block, text.T, out=here)
        here /= row_norms(block, start)[:, None]

    # Blocks are read and checked here while others are multiplied there, each by a BLAS of one thread.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(n_cores()) as pool:
        waiting: deque[Future[None]] = deque()
        for start, block in blocks:
            waiting.append(pool.submit(multiply, start, block))
            if len(waiting) > _BLOCKS_WAITING:  # else blocks that are read faster than multiplied pile up
                waiting.popleft().result()
        for future in waiting:
            future.result()
    same_text = first_equal_rows(text.__getitem__, len(text))
    return tie(tie(products.T, same_text).T, first)


def row_blocks(
    image_features: Float[np.ndarray, "n_images dim"], n_rows: int = 4096
) -> Iterator[tuple[int, Float32[np.ndarray, "n_rows dim"]]]:
    """(first row, rows) of each block of a matrix in memory."""
    for start in range(0, len(image_features), n_rows):
        yield start, np.asarray(image_features[start : start + n_rows], dtype=np.float32)


def one_prompt_per_label(
    method: str, similarity: Float32[np.ndarray, "n_images n_labels"], index: LabelIndex
) -> LabelScores:
    """Scores of a method whose labels are one vector each: decision and strength are that cosine."""
    if similarity.shape[1] != index.n_labels:
        raise ValueError(
            f"{method}: expected one vector for each of {index.n_labels} labels, "
            f"got {similarity.shape[1]} columns"
        )
    return LabelScores(method, index.labels, index.polarity, similarity, similarity)


def score_fixed(
    image_features: Float[np.ndarray, "n_images dim"],
    text_features: Float[np.ndarray, "n_labels dim"],
    label: Sequence[str],
    polarity: Sequence[int] | np.ndarray,
) -> LabelScores:
    """Cosines with one prompt per label, -1 to 1 (section 4.1, fixed prompts)."""
    index = index_labels(label, polarity)
    similarity = _cosines_in_memory(image_features, unit_directions(text_features))
    return one_prompt_per_label("fixed", similarity, index)


def score_ensemble(
    image_features: Float[np.ndarray, "n_images dim"],
    text_features: Float[np.ndarray, "n_prompts dim"],
    label: Sequence[str],
    polarity: Sequence[int] | np.ndarray,
    mode: EnsembleMode,
) -> LabelScores:
    """Cosines with each label's averaged context vector, -1 to 1 (section 4.1, ensemble)."""
    index = index_labels(label, polarity)
    vectors = ensemble_vectors(text_features, index, mode)
    similarity = _cosines_in_memory(image_features, vectors)
    return one_prompt_per_label(f"ensemble_{mode}", similarity, index)


def _cosines_in_memory(
    images: Float[np.ndarray, "n_images dim"], text: Float32[np.ndarray, "n_text dim"]
) -> Float32[np.ndarray, "n_images n_text"]:
    return cosines(row_blocks(images), first_equal_rows(images.__getitem__, len(images)), text)


def predict_is_high(
    scores: LabelScores, high: Sequence[str], low: Sequence[str]
) -> Bool[np.ndarray, " n_images"]:
    """True where the most similar prompt belongs to a high label (section 4.1).

    A tie goes to the high side: its prompts are listed first and an argmax takes the first.
    """
    best_high = scores.decision[:, [scores.column(name) for name in high]].max(axis=1)
    best_low = scores.decision[:, [scores.column(name) for name in low]].max(axis=1)
    return np.asarray(best_high >= best_low)


def score_continuous(
    scores: LabelScores, high: Sequence[str], low: Sequence[str]
) -> Float32[np.ndarray, " n_images"]:
    """Mean strength of the high labels minus that of the low ones (section 4.1, equation 1).

    For as many high as low labels, as in a pair, this is the paper's sum of w_i * cos(image,
    prompt_i) divided by the number of prompts on a side, which changes no correlation.
    """
    of_high = _side_mean(scores, high)
    return np.asarray(of_high - _side_mean(scores, low))


def _side_mean(scores: LabelScores, names: Sequence[str]) -> Float32[np.ndarray, " n_images"]:
    if not names:
        raise ValueError("each side needs at least one label")
    columns = [scores.column(name) for name in names]
    return np.asarray(scores.strength[:, columns].mean(axis=1, dtype=np.float32))


def score_clip_iqa(
    scores: LabelScores,
    pairs: Sequence[tuple[str, str]],
    logit_scale: float = CLIP_LOGIT_SCALE,
) -> Float[np.ndarray, " n_images"]:
    """Mean over antonym pairs of the probability of the high label, 0 to 1.

    CLIP-IQA (Wang, Chan and Loy 2023): softmax over the two scaled cosines of a pair. For one pair
    it orders the images as the continuous score does; the mean over several does not.
    """
    if not pairs:
        raise ValueError("CLIP-IQA needs at least one pair of labels")
    total = np.zeros(scores.n_images)
    for high, low in pairs:
        difference = score_continuous(scores, [high], [low]).astype(np.float64)
        total += 0.5 * (1 + np.tanh(0.5 * logit_scale * difference))  # the logistic, no overflow
    return total / len(pairs)


def winning_prompt(scores: LabelScores, high: str, low: str) -> Int[np.ndarray, " n_images"]:
    """Row of the most similar prompt among both labels' contexts (Figure 2); -1 for failed images."""
    if scores.winner is None:
        raise ValueError(f"method {scores.method!r} has one prompt per label: no content can win")
    is_high = predict_is_high(scores, [high], [low])
    columns = scores.winner[:, scores.column(high)], scores.winner[:, scores.column(low)]
    return np.where(is_high, *columns)


@dataclass(frozen=True)
class ImageRanking:
    """Images from best to worst: rank (1 for the best), row, score, and percentile (100 for the best, 0 for
    the worst)."""

    rank: Int[np.ndarray, " n_ranked"]
    row: Int[np.ndarray, " n_ranked"]
    score: Float[np.ndarray, " n_ranked"]
    percentile: Float[np.ndarray, " n_ranked"]


def rank_images(score: Float[np.ndarray, " n_images"]) -> ImageRanking:
    """The images with a score from highest to lowest; failed ones (NaN) are left out.

    The rank is 1 and the number of images with a higher score, so images with one score share it: 1, 2, 2, 4.
    The percentile is the share of the other images with a lower score, ties counted half.
    """
    rows = np.flatnonzero(np.isfinite(score))
    order = rows[_descending(score[rows])]
    ranked = score[order]
    n = len(ranked)
    first = np.flatnonzero(np.concatenate([np.ones(min(n, 1), bool), ranked[1:] != ranked[:-1]]))
    n_equal = np.diff(np.append(first, n))
    above, tied = np.repeat(first, n_equal), np.repeat(n_equal - 1, n_equal)
    percentile = 100 * (n - 1 - above - tied + 0.5 * tied) / max(n - 1, 1)
    return ImageRanking(1 + above, order, ranked, percentile)


def _descending(score: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Positions from the highest score to the lowest, equal ones in their order; no NaN among them.

    Of float32 the bits, made to grow with the number, and the position are sorted as one integer each, which
    processors do several times faster than they sort positions by a score.
    """
    if score.dtype != np.float32 or len(score) > 2**32:
        return np.argsort(-score, kind="stable")
    bits = (score + np.float32(0)).view(np.uint32)  # of the two zeros one
    ascending = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    key = (~ascending).astype(np.uint64) << np.uint64(32) | np.arange(len(score), dtype=np.uint64)
    key.sort()
    return (key & np.uint64(0xFFFFFFFF)).astype(np.int64)
