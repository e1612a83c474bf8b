"""Each photograph against the prompts of its own captions alone (what the paper's section 5 leaves open).

A photograph with the captions c_1 .. c_m meets, for each label, the m prompts "a [label] picture, of [c_k]".
The methods are those of `prompting.scores` with these m in the place of the 1,000 contents: maximum and
mean of
the cosines, and the cosine with the mean of the m vectors, raw or of unit length. With one caption they
are one.
"""

from dataclasses import dataclass

import numpy as np

from analysis.prompting.scores import LabelScores, index_labels
from store import Captions, Features, IdentityError, Prompts, SchemaError, align
from store.shapes import Bool, Float64, Int

METHODS = ("context", "context_max", "ensemble_mean_of_raw", "ensemble_mean_of_unit")
_BLOCK_ENTRIES = 4096


@dataclass(frozen=True)
class OwnPrompts:
    """Which rows of a prompt file each image is compared with: `content[first[i] : first[i + 1]]` of every
    label's rows, in the order of the feature file."""

    labels: tuple[str, ...]
    polarity: Int[np.ndarray, " n_labels"]
    n_rows: int
    """Rows of each label in the prompt file; label l's start at l * n_rows."""
    first: Int[np.ndarray, " n_images_and_1"]
    content: Int[np.ndarray, " n_entries"]
    has_caption: Bool[np.ndarray, " n_images"]

    @property
    def n_most(self) -> int:
        """The largest number of prompts that an image has per label."""
        return int(np.diff(self.first).max(initial=0))


def own_prompts(
    prompts: Prompts, captions: Captions, image_id: np.ndarray, fall_back: bool = False
) -> OwnPrompts:
    """The rows of a caption file's prompts (`embed.prompts.captions`) that are each image's own.

    An image without a caption has none; with `fall_back` it has the label's fixed prompt. Raises
    IdentityError
    where the prompts were made from other captions, SchemaError where they are no captions' prompts.
    """
    if prompts.identity.get("captions") != captions.digest:
        raise IdentityError(
            f"{prompts.path} was encoded from other captions than {captions.path} holds now. Encode them "
            f"again: iaa caption embed {captions.name} --overwrite"
        )
    index = index_labels(prompts.label.tolist(), prompts.polarity)
    n_rows = prompts.n_prompts // index.n_labels
    contents = prompts.content[:n_rows].tolist()
    row_of = {content: row for row, content in enumerate(contents)}
    expected = np.repeat(np.arange(index.n_labels), n_rows)
    if (
        len(row_of) != n_rows
        or "" not in row_of
        or not np.array_equal(index.of_prompt, expected)
        or not (prompts.content.reshape(index.n_labels, n_rows) == prompts.content[:n_rows]).all()
        or not all(text in row_of for text in captions.text)
    ):
        raise SchemaError(f"{prompts.path} does not hold every caption once per label, in one order")
    rows = align(captions.image_id, image_id)
    own = [[row_of[text] for text in captions.of(row)] for row in rows.tolist()]
    has_caption = np.array([bool(each) for each in own], dtype=bool)
    if fall_back:
        own = [each or [row_of[""]] for each in own]
    first = np.concatenate([[0], np.cumsum([len(each) for each in own])]).astype(np.int64)
    content = np.array([row for each in own for row in each], dtype=np.int64)
    return OwnPrompts(index.labels, index.polarity, n_rows, first, content, has_caption)


def score_captions(
    features: Features, output: str, prompts: Prompts, own: OwnPrompts
) -> dict[str, LabelScores]:
    """Scores of every method, rows as in the feature file; NaN for failed rows and images without prompts.

    Every number is a sum over one image's row and its own texts alone, so it depends neither on the place of
    the image nor on other images: equal images with equal captions have equal scores.
    """
    n_images, n_labels = features.n_images, len(own.labels)
    found = {
        name: np.full((n_images, n_labels), np.nan, dtype=np.float32)
        for name in ("maximum", "mean", "ensemble_mean_of_raw", "ensemble_mean_of_unit")
    }
    winner = np.full((n_images, n_labels), -1, dtype=np.int32)
    text = prompts.read("embedding")
    n_each = np.diff(own.first)
    scored = np.flatnonzero((n_each > 0) & features.ok)
    ends = np.cumsum(n_each[scored])
    start = 0
    while start < len(scored):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _BLOCK_ENTRIES, side="right")))
        rows = scored[start:stop]
        start = stop
        images = _unit(features.read(output, rows).astype(np.float64), rows, "image")
        n_of = n_each[rows]
        image_of = np.repeat(np.arange(len(rows)), n_of)
        begins = np.cumsum(n_of) - n_of
        entry = np.concatenate([own.content[own.first[row] : own.first[row + 1]] for row in rows])
        for label in range(n_labels):
            at = label * own.n_rows + entry
            raw = text[at].astype(np.float64)
            unit = _unit(raw, at, "prompt")
            cosine = _dot(images[image_of], unit)
            found["maximum"][rows, label] = np.maximum.reduceat(cosine, begins)
            found["mean"][rows, label] = np.add.reduceat(cosine, begins) / n_of
            winner[rows, label] = at[_first_best(cosine.astype(np.float32), begins, image_of)]
            for name, vectors in (("ensemble_mean_of_raw", raw), ("ensemble_mean_of_unit", unit)):
                mean = np.add.reduceat(vectors, begins, axis=0) / n_of[:, None]
                found[name][rows, label] = _dot(images, _unit(mean, rows, "mean prompt of image"))

    def scored_by(method: str, decision: str, strength: str, has_winner: bool) -> LabelScores:
        won = winner if has_winner else None
        return LabelScores(method, own.labels, own.polarity, found[decision], found[strength], won)

    return {
        "context": scored_by("context", "maximum", "mean", True),
        "context_max": scored_by("context_max", "maximum", "maximum", True),
        **{name: scored_by(name, name, name, False) for name in METHODS[2:]},
    }


def _unit(vectors: Float64[np.ndarray, "n dim"], rows: np.ndarray, what: str) -> Float64[np.ndarray, "n dim"]:
    norms = np.sqrt(_dot(vectors, vectors))
    if (norms == 0).any():
        raise ValueError(f"{what} {rows[int(np.argmax(norms == 0))]} is all zeros and has no direction")
    return np.asarray(vectors / norms[:, None])


def _dot(a: Float64[np.ndarray, "n dim"], b: Float64[np.ndarray, "n dim"]) -> Float64[np.ndarray, " n"]:
    """Products row by row, each summed by itself: no matrix product, whose sums depend on a row's place."""
    return np.asarray(np.einsum("ij,ij->i", a, b))


def _first_best(
    cosine: np.ndarray, begins: Int[np.ndarray, " n"], image_of: Int[np.ndarray, " n_entries"]
) -> Int[np.ndarray, " n"]:
    """Position of each image's first entry with its largest cosine."""
    best = np.maximum.reduceat(cosine, begins)[image_of]
    positions = np.flatnonzero(cosine == best)
    _, where = np.unique(image_of[positions], return_index=True)
    return np.asarray(positions[where])
