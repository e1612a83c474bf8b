"""The images of a data set in the order of a score: a head's, two words', or a prompt set's."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from iaa.library.errors import UsageError
from iaa.library.layout import Layout
from iaa.library.names import Method
from iaa.library.opening import existing_head, open_clip_features, open_embedded, open_photographs
from iaa.library.progress import Progress
from iaa.library.ranking import Asked, Ranking
from iaa.library.searching import encode_words
from store import Captions, Features, IdentityError, MissingFileError, Prompts, open_prompts, open_targets
from store.errors import did_you_mean, hinting

if TYPE_CHECKING:
    from analysis.prompting.scores import LabelScores

logger = logging.getLogger(__name__)

#: Cosines below which the CPU needs no help and torch is not worth loading.
_FEW_COSINES = 100_000_000


def rank_by_head(layout: Layout, head: str, n_boot: int = 1000, seed: int = 0) -> Ranking:
    """The images by a head's score, best first; `result` says how well that agrees with the test images'
    ratings, where the data set has some and the head cannot have seen them.

    Raises MissingFileError for an unknown head or features that are not there, HeadError for damaged heads.
    """
    from analysis.evidence.labels import RatingsError
    from analysis.probing.heads import evaluate_head, load_head, may_have_seen_test, score_features
    from analysis.probing.probes import join_rows
    from analysis.prompting.scores import rank_images

    loaded = load_head(existing_head(layout.root, head))
    with open_embedded(layout, loaded.backbone) as features:
        order = rank_images(score_features(loaded, features))
        targets = open_targets(layout.targets)
        result, why_not = None, ""
        if targets.is_rated and may_have_seen_test(loaded, targets):
            why_not = f"fitted on another split of {layout.dataset}, it may have seen the test images"
            if loaded.is_of_all:
                why_not = f"it was fitted on {loaded.origin}; then it reached {loaded.reaches}"
        elif targets.is_rated and np.any(targets.split == "test"):
            try:
                rows = join_rows(features, targets)
                result = evaluate_head(loaded, features, rows, targets, n_boot, seed)
            except RatingsError as error:
                why_not = str(error)
        facts = {"head": loaded.name, "fitted_on": loaded.origin}
        title = f"{layout.dataset} by head {loaded.name}"
        return Ranking(
            Asked(title, layout.dataset, loaded.backbone, loaded.output, facts),
            "score",
            order,
            features.image_id,
            dict(zip(targets.image_id.tolist(), targets.path.tolist(), strict=True)),
            partial(open_photographs, layout, features.path),
            len(features.failures),
            result=result,
            why_not=why_not,
        )


def rank_by_words(
    layout: Layout,
    high: Sequence[str],
    low: Sequence[str],
    backbone: str | None = None,
    weights: Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Ranking:
    """The images by words that praise against words that damn, any words: each as "a [word] picture" (the
    paper's fixed prompt, section 4.1), encoded now by the weights that made the vectors.

    Score: the sum of the cosines with the high ones less that with the low ones, as `rank_by_prompts`.
    """
    from analysis.prompting.scores import cosines, index_labels, one_prompt_per_label, unit_directions
    from analysis.twins import first_equal_rows
    from embed.prompts.sets import FIXED_TEMPLATE

    words = _distinct_sides(high, low)
    labels = [*words[0], *words[1]]
    polarity = [1] * len(words[0]) + [-1] * len(words[1])
    with open_clip_features(layout, backbone) as features:
        raw = encode_words(layout, features, labels, weights, device, FIXED_TEMPLATE, progress)
        vectors = unit_directions(raw)
        first = first_equal_rows(partial(features.read, "embedding"), features.n_images)
        similarity = cosines(features.blocks("embedding"), first, vectors)
        scores = one_prompt_per_label("fixed", similarity, index_labels(labels, polarity))
        return _ranking(layout, features, scores, "fixed", *words, set_name=None)


def rank_by_prompts(
    layout: Layout,
    prompts: str = "paper_fixed",
    high: Sequence[str] | None = None,
    low: Sequence[str] | None = None,
    method: Method | None = None,
    backbone: str | None = None,
    device: str = "auto",
) -> Ranking:
    """The images by the labels of an encoded prompt set (a name or its TOML file): those named, or all.

    `method` is `fixed` by default for one prompt per label, else `ensemble_mean_of_unit` (docs/prompting.md).
    Raises UsageError for labels that the set does not have, MissingFileError where it is not encoded.
    """
    with open_clip_features(layout, backbone) as features:
        stored = open_prompt_set(layout, prompts, features.backbone)
        sides = _sides(stored, high, low)
        one_each = stored.n_prompts == len(set(stored.label.tolist()))
        method = method or ("fixed" if one_each else "ensemble_mean_of_unit")
        if method == "fixed" and not one_each:
            raise UsageError(f"{stored.set_name} has several prompts per label: method fixed takes one")
        if method == "clip_iqa" and len(sides[0]) != len(sides[1]):
            raise UsageError(
                "method clip_iqa pairs the labels in their order: give as many high as low ones, "
                f"not {len(sides[0])} and {len(sides[1])}"
            )
        cache = layout.maxima(stored.set_name, features.backbone)
        if method in ("context", "context_max") and "captions" not in stored.identity:
            prepare_maxima(features, stored, cache, device)
        plain = ("fixed" if one_each else "ensemble_mean_of_unit") if method == "clip_iqa" else method
        scores = _score_stored(layout, features, stored, plain, cache)
        return _ranking(layout, features, scores, method, *sides, set_name=stored.set_name, stored=stored)


def _score_stored(
    layout: Layout, features: Features, stored: Prompts, method: str, cache: Path
) -> "LabelScores":
    """The scores of an encoded set; of captions, each photograph with its own alone."""
    if "captions" in stored.identity:
        from analysis.prompting.captions import own_prompts, score_captions

        own = own_prompts(stored, open_captions_of(layout, stored), features.image_id)
        return score_captions(features, "embedding", stored, own)[method]
    from analysis.prompting.evaluation import score_prompts

    return score_prompts(features, "embedding", stored, method, cache)


def open_captions_of(layout: Layout, stored: Prompts) -> Captions:
    """The captions that a prompt set was encoded from. Raises IdentityError where they have changed since."""
    from iaa.library.captions import open_named

    name = stored.set_name.removeprefix("captions-")
    captions = open_named(layout, name)
    if stored.identity["captions"] != captions.digest:
        error = IdentityError(
            f"{stored.path} was encoded from other captions than {captions.path} holds now. Encode them again"
        )
        asked = f"--dataset {layout.dataset} --backbone {stored.backbone}"
        command = f"iaa caption embed {name} {asked} --overwrite"
        call = f"iaa.open_dataset({layout.dataset!r}).embed_captions({name!r}, overwrite=True)"
        raise hinting(error, command, call)
    return captions


def open_prompt_set(layout: Layout, prompts: str, backbone: str) -> Prompts:
    """An encoded prompt set by name, or that of a TOML file, which must not have changed since."""
    expect: dict[str, Any] = {"backbone": backbone}
    name = prompts
    if prompts.endswith(".toml"):
        from embed.prompts.sets import expand, load_prompt_file, prompt_identity

        prompt_set = load_prompt_file(prompts)
        name = prompt_set.name
        expect |= prompt_identity(name, expand(prompt_set))
    path = layout.prompts(name, backbone)
    if not path.exists() and name.startswith("captions-"):
        from iaa.library.captions import open_named

        captions = name.removeprefix("captions-")
        open_named(layout, captions)  # raises where there are none, and lists those there are
        error = MissingFileError(f"{path} does not exist. Encode the captions first")
        command = f"iaa caption embed {captions} --dataset {layout.dataset} --backbone {backbone}"
        call = f"iaa.open_dataset({layout.dataset!r}).embed_captions({captions!r}, {backbone!r})"
        raise hinting(error, command, call)
    if not path.exists():
        from embed.prompts.sets import PromptSetError, get_prompt_set

        try:
            get_prompt_set(prompts)  # raises for an unknown name, and lists the known
        except PromptSetError as error:
            encoded = sorted(folder.name for folder in (layout.folder / "prompts").glob("*"))
            if encoded:
                near = did_you_mean(prompts, encoded)
                error.add_note(f"Encoded for {layout.dataset}: {', '.join(encoded)}.{near}")
            raise
        raise no_prompts(path, layout, backbone, prompts)
    try:
        return open_prompts(path, expect)
    except IdentityError as error:
        stale = IdentityError(
            f"{path} was encoded from another content than {prompts} has now. Encode it again"
        )
        command, call = _encoding(layout, backbone, prompts)
        raise hinting(stale, f"{command} --overwrite", f"{call[:-1]}, overwrite=True)") from error


def no_prompts(path: Path, layout: Layout, backbone: str, prompts: str) -> MissingFileError:
    """The error for a prompt set that is not encoded, with the command that encodes it."""
    error = MissingFileError(f"{path} does not exist. Encode the prompts first")
    return hinting(error, *_encoding(layout, backbone, prompts))


def _encoding(layout: Layout, backbone: str, prompts: str) -> tuple[str, str]:
    """The command and the call that encode a prompt set."""
    return (
        f"iaa embed --prompts {prompts} --dataset {layout.dataset} --backbone {backbone}",
        f"iaa.open_dataset({layout.dataset!r}).embed_prompts({backbone!r}, {prompts!r})",
    )


def prepare_maxima(features: Features, context: Prompts, cache: Path, device: str) -> None:
    """Make the context maxima on a GPU where there is one; without, analysis makes them on the CPU."""
    from analysis.prompting.maxima import ContextMaxima, maxima_key, save_context_maxima
    from analysis.prompting.scores import index_labels, unit_directions
    from store import load_derived

    key = maxima_key(features, "embedding", context)
    n_cosines = features.n_images * context.n_prompts
    if device == "cpu" or load_derived(cache, key) is not None:
        return
    if device == "auto" and n_cosines < _FEW_COSINES:
        return
    from embed.backbones.device import describe_device, pick_device
    from embed.prompts.maxima import compute_maxima

    chosen = pick_device(device)
    logger.info("%s cosines with context prompts; device: %s", f"{n_cosines:,}", describe_device(chosen))
    if chosen.type == "cpu":
        return
    index = index_labels(context.label.tolist(), context.polarity)
    arrays = compute_maxima(
        features.blocks("embedding"), features.n_images, unit_directions(context.read()), index.of_prompt,
        index.n_labels, chosen,
    )  # fmt: skip
    save_context_maxima(cache, ContextMaxima(index.labels, index.polarity, *arrays), key)


def listed(labels: Sequence[str]) -> str:
    """Up to four labels, or three and how many more."""
    return ", ".join(labels) if len(labels) <= 4 else f"{', '.join(labels[:3])} and {len(labels) - 3} more"


def _ranking(
    layout: Layout,
    features: Features,
    scores: "LabelScores",
    method: Method,
    high: Sequence[str],
    low: Sequence[str],
    set_name: str | None,
    stored: Prompts | None = None,
) -> Ranking:
    from analysis.prompting.scores import rank_images, winning_prompt

    scored = _score(scores, method, high, low)
    order = rank_images(scored.score)
    more = {"class": ["high" if yes else "low" for yes in scored.is_high[order.row].tolist()]}
    if stored is not None and scores.winner is not None and len(high) == len(low) == 1:
        more["content"] = stored.content[winning_prompt(scores, high[0], low[0])[order.row]].tolist()
    targets = open_targets(layout.targets)
    title = f"{layout.dataset}: {listed(high)} against {listed(low)}"
    facts = {"prompts": set_name, "method": method, "high": list(high), "low": list(low)}
    return Ranking(
        Asked(title, layout.dataset, features.backbone, "embedding", facts),
        "score",
        order,
        features.image_id,
        dict(zip(targets.image_id.tolist(), targets.path.tolist(), strict=True)),
        partial(open_photographs, layout, features.path),
        len(features.failures),
        more=more,
    )


@dataclass(frozen=True)
class _Scored:
    score: np.ndarray
    is_high: np.ndarray


def _score(scores: "LabelScores", method: Method, high: Sequence[str], low: Sequence[str]) -> _Scored:
    """Score and class per image."""
    from analysis.prompting.scores import predict_is_high, score_clip_iqa, score_continuous

    if method == "clip_iqa":
        probability = score_clip_iqa(scores, list(zip(high, low, strict=True)))
        return _Scored(probability, probability >= 0.5)
    return _Scored(score_continuous(scores, high, low), predict_is_high(scores, high, low))


def _sides(
    stored: Prompts, high: Sequence[str] | None, low: Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """The labels asked for, or all of a polarity; wrong ones are a UsageError."""
    known = dict(zip(stored.label.tolist(), stored.polarity.tolist(), strict=True))
    high = high or [label for label, polarity in known.items() if polarity > 0]
    low = low or [label for label, polarity in known.items() if polarity < 0]
    unknown = [label for label in (*high, *low) if label not in known]
    if unknown:
        raise UsageError(
            f"{stored.set_name} has no label {unknown[0]!r}; it has {', '.join(known)}."
            f"{did_you_mean(unknown[0], known)} Any other word: leave the prompt set out"
        )
    for side, labels in (("high", high), ("low", low)):
        if not labels:
            raise UsageError(
                f"{stored.set_name} has no {side} label: name one of {', '.join(known)} as {side}"
            )
    return _distinct_sides(high, low)


def _distinct_sides(high: Sequence[str], low: Sequence[str]) -> tuple[list[str], list[str]]:
    """Each word once; one that is empty or on both sides is a UsageError."""
    if isinstance(high, str) or isinstance(low, str):
        high, low = ([high] if isinstance(high, str) else high), ([low] if isinstance(low, str) else low)
    sides = list(dict.fromkeys(high)), list(dict.fromkeys(low))
    if not all(sides) or not all(word.strip() for side in sides for word in side):
        raise UsageError("give at least one word on each side, high and low, none of them empty")
    if both := [word for word in sides[0] if word in sides[1]]:
        raise UsageError(f"{both[0]!r} is on both sides: it would say nothing")
    return sides
