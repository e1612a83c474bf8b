"""What each method says about altered photographs: probes, heads and prompt pairs."""

from collections.abc import Mapping, Sequence

import numpy as np

from analysis.probing.heads import Head
from analysis.probing.probes import ProbeFit
from analysis.prompting.evaluation import join_ratings, score_context_continuous, score_prompts
from analysis.prompting.pairs import search_pairs
from analysis.prompting.scores import LabelScores, score_continuous
from analysis.variants.moving import Scored
from analysis.variants.stored import Variants
from store.features import Features
from store.prompts import Prompts
from store.shapes import Bool, Float
from store.targets import Targets

PAPER_PAIRS = (("outstanding", "atrocious"), ("outstanding", "horrible"))
"""The fixed pairs that the paper found on AVA (section 4.1), for the binary and the continuous task."""

PROMPTING = {"fixed": "", "context": "context-aware ", "ensemble_mean_of_raw": "ensemble "}
"""Methods whose continuous scores are looked at, and how they are called before a pair of labels."""


def score_by_probe(fit: ProbeFit, variants: Variants) -> Scored:
    """The ridge probe of one output; it has learned from the photographs of split 'train'."""
    score = _where_ok(fit.ridge.predict, variants, fit.output, fit.ridge.unit_norm)
    return Scored(f"probe on {fit.name}", "probe", fit.output, score, variants.split != "train")


def score_by_head(head: Head, variants: Variants, targets: Targets) -> Scored:
    """A head. One of this data set has seen its training images; if of another split, perhaps all."""
    score = _where_ok(head.score, variants, head.output, head.unit_norm)
    unseen = np.ones(len(variants.photograph_id), bool)
    if head.about.get("dataset") == targets.dataset:
        is_same = head.about.get("split") == targets.split_name
        unseen = variants.split != "train" if is_same else ~unseen
    return Scored(f"head {head.name}", "head", head.output, score, unseen)


def score_by_pairs(
    features: Features, variants: Variants, targets: Targets, prompts: Mapping[str, Prompts]
) -> list[Scored]:
    """Pairs of labels under each method of PROMPTING that has its prompts: of fixed prompts those that the
    paper names, of the others its continuous one, and where there are ratings to choose by, the one with the
    highest SRCC on train."""
    rated = None
    if targets.is_rated and np.count_nonzero(targets.split == "train") >= 10:
        rated = join_ratings(features, targets)
    unseen = np.ones(len(variants.photograph_id), bool)
    found = []
    for method, encoded in prompts.items():
        scores = _score(variants.features, encoded, method)
        named = PAPER_PAIRS if method == "fixed" else PAPER_PAIRS[-1:]
        pairs = {pair: "the paper's" for pair in named if set(pair) <= set(scores.labels)}
        if rated is not None:
            on_train = _score(features, encoded, method).take(rated.train)
            best = search_pairs(on_train, rated.mos[rated.train], rated.is_high[rated.train]).best("srcc")
            pairs[best.high, best.low] = "best on train"
        for (high, low), which in pairs.items():
            score = score_continuous(scores, [high], [low]).astype(np.float64)
            name = f"{PROMPTING[method]}{high} / {low} ({which})"
            found.append(Scored(name, "prompts", "embedding", score, unseen))
    return found


def _score(features: Features, prompts: Prompts, method: str) -> LabelScores:
    if method == "context":
        return score_context_continuous(features, "embedding", prompts)
    return score_prompts(features, "embedding", prompts, method)


def score_by_all(
    features: Features,
    variants: Variants,
    targets: Targets,
    fits: Sequence[ProbeFit],
    heads: Sequence[Head],
    prompts: Mapping[str, Prompts],
) -> list[Scored]:
    """Every method of one backbone, probes first; `prompts` by method of PROMPTING."""
    found = [score_by_probe(fit, variants) for fit in fits if fit.backbone == features.backbone]
    found += [score_by_head(head, variants, targets) for head in heads]
    return found + score_by_pairs(features, variants, targets, prompts)


def _where_ok(
    score: object, variants: Variants, output: str, unit_norm: bool
) -> Float[np.ndarray, " n_rows"]:
    ok: Bool[np.ndarray, " n_rows"] = variants.ok
    found = np.full(len(ok), np.nan)
    assert callable(score)
    found[ok] = score(variants.features.read(output, np.flatnonzero(ok), unit_norm).astype(np.float64))
    return found
