"""What each method says about altered photographs: probes, heads and prompt pairs."""

from collections.abc import Sequence

import numpy as np

from analysis.probing.heads import Head
from analysis.probing.probes import ProbeFit
from analysis.prompting.evaluation import join_ratings, score_methods
from analysis.prompting.pairs import search_pairs
from analysis.prompting.scores import score_continuous
from analysis.variants.moving import Scored
from analysis.variants.stored import Variants
from store.features import Features
from store.prompts import Prompts
from store.shapes import Bool, Float
from store.targets import Targets

PAPER_PAIRS = (("outstanding", "atrocious"), ("outstanding", "horrible"))
"""The fixed pairs that the paper found on AVA (section 4.1), for the binary and the continuous task."""


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


def score_by_pairs(features: Features, variants: Variants, targets: Targets, fixed: Prompts) -> list[Scored]:
    """The pairs of fixed prompts that the paper names and, where there are ratings to choose by, the one with
    the highest SRCC on train."""
    scores = score_methods(variants.features, "embedding", fixed, None)["fixed"]
    pairs = {pair: "the paper's" for pair in PAPER_PAIRS if set(pair) <= set(scores.labels)}
    if targets.is_rated and np.count_nonzero(targets.split == "train") >= 10:
        rated = join_ratings(features, targets)
        on_train = score_methods(features, "embedding", fixed, None)["fixed"].take(rated.train)
        best = search_pairs(on_train, rated.mos[rated.train], rated.is_high[rated.train]).best("srcc")
        pairs[best.high, best.low] = "best on train"
    unseen = np.ones(len(variants.photograph_id), bool)
    return [
        Scored(
            f"{high} / {low} ({which})", "prompts", "embedding",
            score_continuous(scores, [high], [low]).astype(np.float64), unseen,
        )
        for (high, low), which in pairs.items()
    ]  # fmt: skip


def score_by_all(
    features: Features,
    variants: Variants,
    targets: Targets,
    fits: Sequence[ProbeFit],
    heads: Sequence[Head],
    fixed: Prompts | None,
) -> list[Scored]:
    """Every method of one backbone, probes first."""
    found = [score_by_probe(fit, variants) for fit in fits if fit.backbone == features.backbone]
    found += [score_by_head(head, variants, targets) for head in heads]
    return found + (score_by_pairs(features, variants, targets, fixed) if fixed is not None else [])


def _where_ok(
    score: object, variants: Variants, output: str, unit_norm: bool
) -> Float[np.ndarray, " n_rows"]:
    ok: Bool[np.ndarray, " n_rows"] = variants.ok
    found = np.full(len(ok), np.nan)
    assert callable(score)
    found[ok] = score(variants.features.read(output, np.flatnonzero(ok), unit_norm).astype(np.float64))
    return found
