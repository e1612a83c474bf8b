"""Section 4.1 as an experiment: pairs chosen on the training images, measured on the test images."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from analysis.evidence.bootstrap import Prediction, bootstrap_metrics
from analysis.evidence.labels import high_from_targets, targets_mos
from analysis.prompting.ensembles import BottleneckProbe, GreedyStep, fit_bottleneck, grow_ensemble
from analysis.prompting.maxima import load_context_maxima
from analysis.prompting.pairs import PairTable, search_pairs, untangle_pairs
from analysis.prompting.scores import (
    EnsembleMode,
    LabelScores,
    cosines,
    ensemble_vectors,
    index_labels,
    label_means,
    one_prompt_per_label,
    predict_is_high,
    score_clip_iqa,
    score_continuous,
    unit_directions,
)
from analysis.results.methods import METRICS, MethodResult
from analysis.twins import first_equal_rows
from store import Features, Prompts, Targets, align
from store.shapes import Bool, Float

#: Pairs averaged by CLIP-IQA here: the best on train that share no label.
N_CLIP_IQA_PAIRS = 5

METHOD_NAMES = {
    "fixed": "Prompting, fixed",
    "context": "Prompting, context-aware",
    "context_max": "Prompting, context-aware, difference of maxima",
    "ensemble_mean_of_raw": "Prompting, ensemble (mean of raw)",
    "ensemble_mean_of_unit": "Prompting, ensemble (mean of unit)",
    "clip_iqa": f"CLIP-IQA, mean of {N_CLIP_IQA_PAIRS} pairs",
    "greedy": "Greedy ensemble of labels",
    "bottleneck": "Prompt bottleneck (ridge on label similarities)",
}


@dataclass(frozen=True)
class RatedImages:
    """What people said about the images of a feature file, in its row order, and who takes part."""

    image_id: np.ndarray
    path: np.ndarray
    mos: Float[np.ndarray, " n_images"]
    is_high: Bool[np.ndarray, " n_images"]
    train: Bool[np.ndarray, " n_images"]
    test: Bool[np.ndarray, " n_images"]
    n_failed_train: int
    n_failed_test: int
    dataset: str
    split_name: str
    threshold: float
    columns: dict[str, np.ndarray] = field(default_factory=dict)


def join_ratings(features: Features, targets: Targets) -> RatedImages:
    """Ratings joined to the rows of a feature file by image id; train and test hold only rows that are ok.

    Raises IdentityError where the two are of different lists of images.
    """
    features.check_images(targets.images)
    rows = align(targets.image_id, features.image_id)
    split, ok = targets.split[rows], features.ok
    return RatedImages(
        image_id=features.image_id,
        path=targets.path[rows],
        mos=targets_mos(targets)[rows],
        is_high=high_from_targets(targets)[rows],
        train=(split == "train") & ok,
        test=(split == "test") & ok,
        n_failed_train=int(np.count_nonzero((split == "train") & ~ok)),
        n_failed_test=int(np.count_nonzero((split == "test") & ~ok)),
        dataset=targets.dataset,
        split_name=targets.split_name,
        threshold=targets.threshold,
        columns={name: values[rows] for name, values in targets.columns.items()},
    )


def score_methods(
    features: Features,
    output: str,
    fixed: Prompts | None,
    context: Prompts | None,
    cache: Path | None = None,
    n_threads: int | None = None,
) -> dict[str, LabelScores]:
    """Scores of every method that the given prompt files allow, rows as in the feature file.

    One pass over the features serves fixed prompts and both ensembles; context-aware prompting takes its
    maxima from the cache file or computes and keeps them there.
    """
    for prompts in (fixed, context):
        if prompts is not None:
            _check_backbone(features, prompts)
    texts, indices = {}, {}
    if fixed is not None:
        indices["fixed"] = index_labels(fixed.label.tolist(), fixed.polarity)
        texts["fixed"] = unit_directions(fixed.read("embedding"))
        if len(indices["fixed"].labels) != fixed.n_prompts:
            raise ValueError(
                f"{fixed.path} has {fixed.n_prompts} prompts for {len(indices['fixed'].labels)} labels; "
                "fixed prompting takes one per label. Pass a set with several as `context`."
            )
    if context is not None:
        index = index_labels(context.label.tolist(), context.polarity)
        raw = context.read("embedding")
        texts["ensemble_mean_of_raw"] = ensemble_vectors(raw, index, "mean_of_raw")
        texts["ensemble_mean_of_unit"] = ensemble_vectors(raw, index, "mean_of_unit")
        indices["ensemble_mean_of_raw"] = indices["ensemble_mean_of_unit"] = index
    if not texts:
        return {}
    first_equal = first_equal_rows(partial(features.read, output), features.n_images)
    stacked = cosines(features.blocks(output), first_equal, np.concatenate(list(texts.values())))
    scores: dict[str, LabelScores] = {}
    first = 0
    for method, text in texts.items():
        columns = np.ascontiguousarray(stacked[:, first : first + len(text)])
        scores[method] = one_prompt_per_label(method, columns, indices[method])
        first += len(text)
    if context is not None:
        maxima = load_context_maxima(features, output, context, cache, n_threads)
        scores["context"] = maxima.context()
        scores["context_max"] = maxima.context_max()
    return {method: scores[method] for method in METHOD_NAMES if method in scores}


def score_prompts(
    features: Features, output: str, prompts: Prompts, method: str, cache: Path | None = None
) -> LabelScores:
    """Scores of one prompt file under one method (see `prompting.scores`), rows as in the feature file.

    `fixed` takes one prompt per label, the others any number. Raises ValueError otherwise.
    """
    if method == "fixed":
        return score_methods(features, output, prompts, None)["fixed"]
    _check_backbone(features, prompts)
    if method in ("context", "context_max"):
        maxima = load_context_maxima(features, output, prompts, cache)
        return maxima.context() if method == "context" else maxima.context_max()
    if method not in ("ensemble_mean_of_raw", "ensemble_mean_of_unit"):
        known = "fixed, context, context_max, ensemble_mean_of_raw, ensemble_mean_of_unit"
        raise ValueError(f"unknown method {method!r}; known: {known}")
    index = index_labels(prompts.label.tolist(), prompts.polarity)
    mode: EnsembleMode = "mean_of_raw" if method.endswith("raw") else "mean_of_unit"
    vectors = ensemble_vectors(prompts.read("embedding"), index, mode)
    first_equal = first_equal_rows(partial(features.read, output), features.n_images)
    similarity = cosines(features.blocks(output), first_equal, vectors)
    return one_prompt_per_label(method, similarity, index)


def score_context_continuous(features: Features, output: str, prompts: Prompts) -> LabelScores:
    """Equation 1's score of context-aware prompting, without its decision: the mean of the cosines with all
    prompts of a label is the cosine with their mean, so no image meets every prompt. Both arrays hold it."""
    _check_backbone(features, prompts)
    index = index_labels(prompts.label.tolist(), prompts.polarity)
    means = label_means(prompts.read("embedding", unit_norm=True), index).astype(np.float32)
    first_equal = first_equal_rows(partial(features.read, output), features.n_images)
    return one_prompt_per_label("context", cosines(features.blocks(output), first_equal, means), index)


def _check_backbone(features: Features, prompts: Prompts) -> None:
    if prompts.backbone != features.backbone:
        raise ValueError(
            f"{prompts.path} was encoded by {prompts.backbone}, {features.path} by {features.backbone}: "
            "their cosines mean nothing. Encode the prompts with the same backbone: iaa embed --prompts NAME"
        )


@dataclass(frozen=True)
class PromptingEvaluation:
    """Everything the experiment found: results per method, and what they were made from.

    Tables and predictions are by method name; predictions are for the test images in row order.
    """

    results: list[MethodResult]
    train_tables: dict[str, PairTable]
    test_tables: dict[str, PairTable]
    predictions: dict[str, Prediction]
    greedy: list[GreedyStep]
    bottleneck: BottleneckProbe

    def result(self, method: str) -> MethodResult:
        """The result of one method, such as `fixed`."""
        return next(r for r in self.results if r.key == f"prompting.{method}")


def evaluate_prompting(
    scores: Mapping[str, LabelScores],
    rated: RatedImages,
    backbone: str,
    output: str,
    seed: int = 0,
    n_boot: int = 1000,
    n_threads: int | None = None,
    digests: Mapping[str, str] | None = None,
    extras_from: str = "fixed",
) -> PromptingEvaluation:
    """Best pair per task on train, metrics with intervals on test, for every method (section 4.1).

    Accuracy and recalls are those of the pair with the best training accuracy, SRCC and PLCC those of the
    pair with the best training SRCC; `detail` names both. CLIP-IQA, the greedy ensemble and the bottleneck
    probe work on the label scores of the method `extras_from`.
    """
    require_split(rated)
    rng = np.random.default_rng(seed)
    y, high = rated.mos[rated.test], rated.is_high[rated.test]
    train_tables, test_tables, predictions = {}, {}, {}
    details: dict[str, dict[str, Any]] = {}
    for method, all_scores in scores.items():
        on_test = all_scores.take(rated.test)
        table = search_pairs(
            all_scores.take(rated.train), rated.mos[rated.train], rated.is_high[rated.train], n_threads
        )
        train_tables[method] = table
        test_tables[method] = search_pairs(on_test, y, high, n_threads)
        predictions[method], details[method] = choose_pairs(table, on_test)
    base = scores[extras_from] if extras_from in scores else next(iter(scores.values()))
    base_table = train_tables[base.method]
    on_train, on_test = base.take(rated.train), base.take(rated.test)
    y_train, high_train = rated.mos[rated.train], rated.is_high[rated.train]

    pairs = untangle_pairs(base_table.ranked("srcc"), N_CLIP_IQA_PAIRS)
    named = [(pair.high, pair.low) for pair in pairs]
    probability = score_clip_iqa(on_test, named)
    predictions["clip_iqa"] = Prediction(probability, probability >= 0.5)
    details["clip_iqa"] = {"pairs": [" / ".join(pair) for pair in named], "labels_of": base.method}

    by_srcc = grow_ensemble(on_train, y_train, high_train, base_table, "srcc")
    by_accuracy = grow_ensemble(on_train, y_train, high_train, base_table, "accuracy")
    decided = score_continuous(on_test, by_accuracy[-1].high, by_accuracy[-1].low) >= 0
    continuous = score_continuous(on_test, by_srcc[-1].high, by_srcc[-1].low)
    predictions["greedy"] = Prediction(continuous.astype(np.float64), decided)
    details["greedy"] = {
        "binary_labels": {"high": by_accuracy[-1].high, "low": by_accuracy[-1].low},
        "continuous_labels": {"high": by_srcc[-1].high, "low": by_srcc[-1].low},
        "labels_of": base.method,
    }

    probe = fit_bottleneck(on_train, y_train, rng, n_boot=min(n_boot, 200))
    predicted = probe.predict(on_test)
    predictions["bottleneck"] = Prediction(predicted, predicted > rated.threshold)
    details["bottleneck"] = {"alpha": probe.alpha, "labels_of": base.method}

    failed = {"n_failed_train": rated.n_failed_train, "n_failed_test": rated.n_failed_test}
    results = [
        measured(
            f"prompting.{method}", METHOD_NAMES.get(method, method), (backbone, output), rated, prediction,
            details[method] | failed, digests or {}, seed, n_boot,
        )
        for method, prediction in predictions.items()
    ]  # fmt: skip
    return PromptingEvaluation(results, train_tables, test_tables, predictions, by_srcc, probe)


def measured(
    key: str,
    method: str,
    of: tuple[str, str],
    rated: RatedImages,
    prediction: Prediction,
    detail: Mapping[str, Any],
    digests: Mapping[str, str],
    seed: int,
    n_boot: int,
) -> MethodResult:
    """What predictions for the test images reach, with intervals; `of` names backbone and output."""
    y, high, rng = rated.mos[rated.test], rated.is_high[rated.test], np.random.default_rng(seed)
    return MethodResult(
        key=key,
        method=method,
        backbone=of[0],
        output=of[1],
        dataset=rated.dataset,
        split_name=rated.split_name,
        n_train=int(np.count_nonzero(rated.train)),
        n_test=int(np.count_nonzero(rated.test)),
        seed=seed,
        **bootstrap_metrics(y, high, prediction, n_boot, rng, METRICS),
        detail=dict(detail),
        digests=dict(digests),
    )


def require_split(rated: RatedImages) -> None:
    """Raises ValueError where there are not enough rated train and test images to choose and measure."""
    n_train, n_test = int(np.count_nonzero(rated.train)), int(np.count_nonzero(rated.test))
    if n_train < 10 or n_test < 2:
        raise ValueError(
            f"data set {rated.dataset!r}, split {rated.split_name!r}: {n_train} train and {n_test} test "
            "images with features; the pair is chosen on train (10 or more) and measured on test (2 or more)."
            " Give the data set a split: iaa dataset add"
        )


def choose_pairs(table: PairTable, on_test: LabelScores) -> tuple[Prediction, dict[str, Any]]:
    """The predictions of the best pair per task of a table of training images, and what was chosen."""
    binary, continuous = table.best("accuracy"), table.best("srcc")
    linear = table.best("plcc")
    prediction = Prediction(
        score_continuous(on_test, [continuous.high], [continuous.low]).astype(np.float64),
        predict_is_high(on_test, [binary.high], [binary.low]),
    )
    detail = {
        "binary_pair": [binary.high, binary.low],
        "binary_train_accuracy": binary.value,
        "continuous_pair": [continuous.high, continuous.low],
        "continuous_train_srcc": continuous.value,
        "plcc_pair": [linear.high, linear.low],
        "plcc_train": linear.value,
        "n_pairs": int(table.accuracy.size),
    }
    return prediction, detail
