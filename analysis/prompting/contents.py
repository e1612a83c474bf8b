"""Other contents beside ImageNet's 1,000: lists of names, and captions, compared on the same images and
labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analysis.evidence.bootstrap import (
    Difference,
    Prediction,
    holm,
    resamples_needed,
    smallest_corrected_p,
)
from analysis.prompting.evaluation import (
    METHOD_NAMES,
    RatedImages,
    choose_pairs,
    measured,
    require_split,
)
from analysis.prompting.pairs import search_pairs
from analysis.prompting.scores import LabelScores
from analysis.results.methods import MethodResult
from analysis.results.predictions import Predicted, compare_methods

IMAGENET = "ImageNet's 1,000"
COMPARED = ("srcc", "accuracy")


@dataclass(frozen=True)
class Contents:
    """A prompt set with contents, scored under its methods."""

    name: str
    scores: Mapping[str, LabelScores]
    digest: str
    n_contents: int


@dataclass(frozen=True)
class ContentsEvaluation:
    """What the methods reach with each set, and with the 1,000 on the same images and labels; paired
    differences by metric ("srcc", "accuracy")."""

    results: list[MethodResult]
    differences: dict[str, list[Difference]]
    n_left_out: dict[str, int]
    """By set: rated images of train and test that have no scores with it, for want of a caption."""


def evaluate_contents(
    sets: Sequence[Contents],
    base: Mapping[str, LabelScores],
    rated: RatedImages,
    backbone: str,
    output: str,
    seed: int = 0,
    n_boot: int = 1000,
    digests: Mapping[str, str] | None = None,
) -> ContentsEvaluation:
    """Pairs of each set's labels chosen on train, measured on test; beside it, restricted to the same
    labels and
    images, the methods of `base`: those of the 1,000 contents, and `fixed`, as far as they are encoded.

    Each set is paired with the 1,000 under the same method (where its own methods are one: under every
    method), and with fixed prompts; p-values are Holm-corrected
    over all differences of one metric.
    """
    results: list[MethodResult] = []
    families: list[tuple[dict[str, Predicted], list[tuple[str, str]]]] = []
    left_out = {}
    for contents in sets:
        has = np.logical_and.reduce([scores.ok for scores in contents.scores.values()])
        left_out[contents.name] = int(np.count_nonzero((rated.train | rated.test) & ~has))
        here = replace(rated, train=rated.train & has, test=rated.test & has)
        require_split(here)
        labels = next(iter(contents.scores.values())).labels
        beside = {
            method: _only_labels(scores, labels)
            for method, scores in base.items()
            if set(labels) <= set(scores.labels)
        }
        named = [(_named(m, contents.name), m, contents.name, s) for m, s in contents.scores.items()]
        named += [(_named(m, IMAGENET), m, IMAGENET, s) for m, s in beside.items()]
        predicted = {}
        for name, method, of, scores in named:
            prediction, detail = _measure(scores, here)
            predicted[name] = Predicted(
                here.image_id[here.test], here.mos[here.test], here.is_high[here.test], prediction
            )
            about = {"contents": of, "images_of": contents.name, "n_left_out": left_out[contents.name]}
            own = {"prompts": contents.digest} if of == contents.name else {}
            key = f"prompting.{method}.{contents.name}{'' if own else '.beside'}"
            told = detail | about | ({"n_contents": contents.n_contents} if own else {})
            made_of = {**(digests or {}), **own}
            results.append(
                measured(key, name, (backbone, output), here, prediction, told, made_of, seed, n_boot)
            )
        pairs = [
            (_named(method, contents.name), _named(other, IMAGENET))
            for method in contents.scores
            for other in ((method, "fixed") if len(contents.scores) > 1 else beside)
            if other in beside
        ]
        families.append((predicted, pairs))
    return ContentsEvaluation(results, {m: _compare(families, m, seed) for m in COMPARED}, left_out)


def _named(method: str, contents: str) -> str:
    return METHOD_NAMES[method] if method == "fixed" else f"{METHOD_NAMES[method]} ({contents})"


def _only_labels(scores: LabelScores, labels: Sequence[str]) -> LabelScores:
    """The scores of some labels, in that order."""
    columns = [scores.column(label) for label in labels]
    return LabelScores(
        scores.method,
        tuple(labels),
        scores.polarity[columns],
        scores.decision[:, columns],
        scores.strength[:, columns],
        None if scores.winner is None else scores.winner[:, columns],
    )


def _measure(scores: LabelScores, rated: RatedImages) -> tuple[Prediction, dict[str, Any]]:
    """The predictions for the test images of the pairs that are best on train."""
    table = search_pairs(scores.take(rated.train), rated.mos[rated.train], rated.is_high[rated.train])
    return choose_pairs(table, scores.take(rated.test))


def _compare(
    families: Sequence[tuple[dict[str, Predicted], list[tuple[str, str]]]], metric: str, seed: int
) -> list[Difference]:
    """The paired differences of all sets, each on its images, corrected over all of them together."""
    n_tests = sum(len(pairs) for _, pairs in families)
    n_boot = resamples_needed(n_tests)
    found = [
        difference
        for predicted, pairs in families
        if pairs
        for difference in compare_methods(predicted, metric, n_boot, seed, pairs)
    ]
    corrected = holm(np.array([difference.p_value for difference in found]))
    floor = smallest_corrected_p(len(found), n_boot)
    return [
        replace(difference, p_holm=float(p), p_floor=floor)
        for difference, p in zip(found, corrected, strict=True)
    ]
