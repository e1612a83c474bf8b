"""The page about prompting: section 4.1 of the paper, and how much depends on the choice of words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.evidence.bootstrap import Prediction, bootstrap_metrics, paired_differences
from analysis.evidence.labels import majority_prediction
from analysis.figures import prompting as figures
from analysis.figures.drawn import Drawn
from analysis.figures.photographs import PhotoGrid, Shot
from analysis.prompting.evaluation import (
    METHOD_NAMES,
    PromptingEvaluation,
    RatedImages,
    evaluate_prompting,
    join_ratings,
    score_methods,
)
from analysis.prompting.groups import evaluate_groups, list_groupings, read_group_names
from analysis.prompting.scores import (
    LabelScores,
    predict_is_high,
    rank_images,
    score_continuous,
    winning_prompt,
)
from analysis.prompting.tables import print_chosen_pairs, print_groups, print_pair_spread, print_results
from analysis.report.needs import need
from analysis.report.study import NothingToShowError, Study
from analysis.results.methods import MethodResult, Metric
from analysis.results.names import METHODS, name_backbone
from analysis.results.predictions import Predicted, result_name
from analysis.results.printed import Printed
from analysis.results.tables import print_differences
from store import Features, Prompts

TITLES = {"accuracy": "Accuracy", "srcc": "SRCC"}


@dataclass(frozen=True)
class Prompted:
    """A backbone with its scores of all prompts, and what came out on the test images."""

    name: str
    features: Features
    scores: dict[str, LabelScores]
    context: Prompts | None
    rated: RatedImages
    evaluation: PromptingEvaluation

    @property
    def stem(self) -> str:
        """For names of files: that of the feature file."""
        return self.features.path.stem

    @property
    def base(self) -> LabelScores:
        """Scores of one prompt per label, fixed ones where they are there."""
        return self.scores.get("fixed", next(iter(self.scores.values())))

    def majority(self) -> Metric:
        """Accuracy on test of always saying the commoner class of the training images."""
        rated = self.rated
        commoner = Prediction(None, majority_prediction(rated.is_high[rated.train], int(rated.test.sum())))
        high = rated.is_high[rated.test]
        return bootstrap_metrics(None, high, commoner, 2, np.random.default_rng(0))["accuracy"]


def score_prompts_of(study: Study, name: str) -> dict[str, LabelScores]:
    """Scores of every method for a backbone; the maxima of context-aware prompts from their cache."""
    features, prompts = study.features[name], study.prompts[name]
    cache = study.folder / "derived" / f"context_maxima_{features.path.stem}.h5"
    return score_methods(features, "embedding", prompts["fixed"], prompts["context"], cache)


def evaluate(study: Study) -> list[Prompted]:
    """Every backbone that has prompts, measured. Raises NothingToShowError without ratings or prompts."""
    need(study, "10_prompting")
    found = []
    for name, prompts in study.prompts.items():
        features = study.features[name]
        scores, rated = score_prompts_of(study, name), join_ratings(features, study.targets)
        digests = {"targets": study.targets.digest, "features": features.digest}
        evaluation = evaluate_prompting(
            scores, rated, name, "embedding", study.seed, study.n_boot, digests=digests
        )
        found.append(Prompted(name, features, scores, prompts["context"], rated, evaluation))
    return found


def predictions(found: Sequence[Prompted]) -> dict[str, Predicted]:
    """What each method said of each test image."""
    return {
        result_name(p.evaluation.result(m)): Predicted(
            p.rated.image_id[p.rated.test],
            p.rated.mos[p.rated.test],
            p.rated.is_high[p.rated.test],
            prediction,
        )
        for p in found
        for m, prediction in p.evaluation.predictions.items()
    }


def results(found: Sequence[Prompted]) -> list[MethodResult]:
    """The results of all backbones."""
    return [result for p in found for result in p.evaluation.results]


def tables(found: Sequence[Prompted]) -> Iterator[Printed]:
    """Per backbone: what the methods reach, and the pairs that were chosen."""
    for p in found:
        r = p.rated
        caption = (
            f"{name_backbone(p.name)} on {r.dataset}, split {r.split_name}: {r.train.sum():,} "
            f"training and {r.test.sum():,} "
            f"test photographs (failed rows left out: {r.n_failed_train} and "
            f"{r.n_failed_test}). Always the commoner "
            f"class: accuracy {p.majority().value:.3f}"
        )
        yield print_results(p.evaluation.results, f"prompting_{p.stem}", caption)
        yield print_chosen_pairs(
            p.evaluation.results, f"pairs_{p.stem}", "The pairs that were chosen on the training photographs"
        )


def differences(study: Study, found: Sequence[Prompted]) -> Iterator[Printed]:
    """Per backbone: methods against fixed prompts, paired."""
    order = ("fixed", "context", "ensemble_mean_of_raw", "ensemble_mean_of_unit", "greedy", "bottleneck")
    for p in found:
        shown = [m for m in order if m in p.evaluation.predictions]
        pairs = [(other, shown[0]) for other in shown[1:]]
        y, high = p.rated.mos[p.rated.test], p.rated.is_high[p.rated.test]
        predicted = {m: p.evaluation.predictions[m] for m in shown}
        rows = [
            d
            for metric in ("srcc", "accuracy")
            for d in paired_differences(y, high, predicted, metric, None, study.rng, pairs)
        ]
        names = {m: METHODS[f"prompting.{m}"] for m in METHOD_NAMES}
        yield print_differences(rows, f"prompting_differences_{p.stem}", name_backbone(p.name), names)


def pair_maps(found: Sequence[Prompted]) -> Iterator[Drawn]:
    """Per backbone and metric: every pair of labels on the training images."""
    for p in found:
        method = "fixed" if "fixed" in p.evaluation.train_tables else "context"
        table = p.evaluation.train_tables[method]
        for metric in ("srcc", "accuracy"):
            best, on_test = table.best(metric), getattr(p.evaluation.result(method), metric)
            rated = p.rated
            share = float(rated.is_high[rated.train].mean())
            center = max(share, 1 - share) if metric == "accuracy" else 0.0
            title = (
                f"{TITLES[metric]} on train, {METHODS[f'prompting.{method}']}; colours part at "
                f"{'the majority' if metric == 'accuracy' else 'zero'}"
            )
            values = table.metric(metric)
            said = (
                f"Best: {best.high} / {best.low}, {best.value:.3f} on train, {on_test.value:.3f} "
                f"[{on_test.low:.3f}, {on_test.high:.3f}] on test"
            )
            lines = [
                [high, low, float(values[i, j])]
                for i, high in enumerate(table.high)
                for j, low in enumerate(table.low)
            ]
            yield Drawn(
                f"pairs_{metric}_{p.stem}",
                figures.plot_pair_heatmap(table, metric, title, center),
                f"{TITLES[metric]} of all {values.size} pairs of {name_backbone(p.name)} as a map. {said}.",
                ("high", "low", metric),
                lines,
                f"{name_backbone(p.name)}. {said}.",
            )


def pair_spread(found: Sequence[Prompted]) -> Iterator[Drawn | Printed]:
    """Per backbone and metric: how much the choice of the pair matters."""
    for p in found:
        tables_ = {METHODS[f"prompting.{m}"]: t for m, t in p.evaluation.test_tables.items()}
        for metric in ("accuracy", "srcc"):
            chosen = {
                METHODS[f"prompting.{m}"]: getattr(p.evaluation.result(m), metric)
                for m in p.evaluation.test_tables
            }
            train = {METHODS[f"prompting.{m}"]: t for m, t in p.evaluation.train_tables.items()}
            baseline = p.majority().value if metric == "accuracy" else None
            lines = [
                [method, high, low, float(t.metric(metric)[i, j])]
                for method, t in tables_.items()
                for i, high in enumerate(t.high)
                for j, low in enumerate(t.low)
            ]
            table = print_pair_spread(
                train, tables_, metric, chosen, f"pair_spread_{metric}_{p.stem}", name_backbone(p.name)
            )
            yield Drawn(
                f"pair_spread_{metric}_{p.stem}",
                figures.plot_pair_distribution(tables_, metric, chosen, baseline),
                f"{TITLES[metric]} of every pair on the test images, one dot each, by method. "
                f"{table.to_markdown()}",
                ("method", "high", "low", metric),
                lines,
                f"{name_backbone(p.name)}: {TITLES[metric]} of all pairs",
            )
            yield table


def figure_2(study: Study, found: Sequence[Prompted], n_shown: int = 12) -> Iterator[PhotoGrid]:
    """Figure 2: test photographs, evenly spaced from the lowest to the highest score, with the binary
    prediction, the mean vote in parentheses, and the content of the most similar prompt."""
    for p in found:
        method = "context_max" if "context_max" in p.scores else "fixed"
        pair = p.evaluation.result(method).detail["binary_pair"]
        yield photograph_grid(study, p.name, p.scores[method], p.rated, p.context, method, pair, n_shown)


def photograph_grid(
    study: Study,
    name: str,
    scores: LabelScores,
    rated: RatedImages,
    context: Prompts | None,
    method: str,
    pair: Sequence[str],
    n_shown: int,
) -> PhotoGrid:
    """Figure 2 for one backbone and pair of labels."""
    part = scores.take(rated.test)
    decided, score = predict_is_high(part, pair[:1], pair[1:]), score_continuous(part, pair[:1], pair[1:])
    rows = rank_images(score).row[::-1]
    rows = rows[np.linspace(0, len(rows) - 1, min(n_shown, len(rows))).astype(int)]
    content = None
    if method == "context_max" and context is not None:
        content = context.content[winning_prompt(part, *pair)[rows]].tolist()
    ids, files = rated.image_id[rated.test][rows].tolist(), rated.path[rated.test][rows].tolist()
    high, mos = rated.is_high[rated.test][rows], rated.mos[rated.test][rows]
    shots = [
        Shot(
            str(ids[i]),
            str(files[i]),
            [
                f"{'high' if decided[row] else 'low'} ({mos[i]:.2f}), score {score[row]:+.4f}",
                *([f"#{content[i]}"] if content else []),
            ],
            "right" if decided[row] == high[i] else "wrong",
        )
        for i, row in enumerate(rows)
    ]
    named = METHODS["prompting." + method.removesuffix("_max")]
    said = "predicted class, mean vote in parentheses, score" + (
        ", content of the best prompt" if content else ""
    )
    caption = f"{name_backbone(name)}, {named}, {' / '.join(pair)}: {said}."
    return PhotoGrid(f"figure_2_{study.features[name].path.stem}", shots, study.images, caption)


def score_figures(found: Sequence[Prompted]) -> Iterator[Drawn]:
    """Per backbone, for fixed and context-aware prompts: score against votes, and scores by class."""
    for p in found:
        for method in [m for m in ("fixed", "context") if m in p.evaluation.predictions]:
            score, y = p.evaluation.predictions[method].score, p.rated.mos[p.rated.test]
            assert score is not None
            result = p.evaluation.result(method)
            said = (
                f"{name_backbone(p.name)}, {METHODS[result.key]}, "
                f"{' / '.join(result.detail['continuous_pair'])}: "
                f"SRCC {_with_ends(result.srcc)}, PLCC {_with_ends(result.plcc)}"
            )
            ids, high = p.rated.image_id[p.rated.test], p.rated.is_high[p.rated.test]
            lines = [
                list(line)
                for line in zip(ids.tolist(), score.tolist(), y.tolist(), high.tolist(), strict=True)
            ]
            named = ("image_id", "score", "mean_vote", "is_high")
            yield Drawn(
                f"score_{method}_{p.stem}",
                figures.plot_score_against_mos(score, y, p.rated.threshold),
                f"Continuous score against mean vote of {len(y):,} test images. {said}.",
                named,
                lines,
                said,
            )
            yield Drawn(
                f"score_by_class_{method}_{p.stem}",
                figures.plot_score_distributions(score, y, high),
                "Distribution of the score among photographs rated high and low, and in five "
                f"classes of the mean vote. {said}.",
                caption="Left: density of the score by class; zero is where the binary task cuts. "
                "Right: by mean vote.",
            )


def greedy(study: Study, found: Sequence[Prompted]) -> Iterator[Drawn]:
    """Per backbone: what more labels than two gain."""
    for p in found:
        base, steps = p.base.take(p.rated.test), p.evaluation.greedy
        if len(steps) < 2:
            continue
        on_test = []
        for step in steps:
            said = Prediction(score_continuous(base, step.high, step.low).astype(np.float64), None)
            on_test.append(
                bootstrap_metrics(p.rated.mos[p.rated.test], None, said, study.n_boot, study.rng)["srcc"]
            )
        caption = (
            f"{name_backbone(p.name)}: {len(steps[-1].high)} high and {len(steps[-1].low)} "
            "low labels; SRCC on test "
            f"{_with_ends(on_test[0])} for the pair, {_with_ends(on_test[-1])} for all."
        )
        lines = [
            [s.added, s.train_value, m.value, m.low, m.high] for s, m in zip(steps, on_test, strict=True)
        ]
        yield Drawn(
            f"greedy_{p.stem}",
            figures.plot_greedy_path(steps, on_test),
            f"SRCC while labels are added. {caption}",
            ("added", "train", "test", "test_low", "test_high"),
            lines,
            caption,
        )


def words(found: Sequence[Prompted]) -> Iterator[Drawn]:
    """Per backbone: each label alone, and its weight beside the others."""
    for p in found:
        probe = p.evaluation.bottleneck
        srcc = p.evaluation.result("bottleneck").srcc
        caption = (
            f"{name_backbone(p.name)}: SRCC of the probe on test {_with_ends(srcc)}, alpha {probe.alpha:.3g}."
        )
        columns = (
            probe.weight,
            probe.weight_low,
            probe.weight_high,
            probe.alone,
            probe.alone_low,
            probe.alone_high,
        )
        lines = [[label, *(float(c[i]) for c in columns)] for i, label in enumerate(probe.labels)]
        yield Drawn(
            f"words_{p.stem}",
            figures.plot_bottleneck_weights(probe, p.base.polarity),
            f"Weight of each label in a ridge probe, and its correlation with the votes alone. {caption}",
            ("label", "weight", "low", "high", "alone", "alone_low", "alone_high"),
            lines,
            caption,
        )


def by_group(study: Study, found: Sequence[Prompted]) -> Iterator[Drawn | Printed]:
    """Per backbone and grouping: the method within each group."""
    ratings = study.config.get("ratings")
    named = read_group_names(study.folder / Path(ratings).parent) if ratings else {}
    for p in found:
        method = "context" if "context" in p.evaluation.predictions else "fixed"
        rated = p.rated
        groups: dict[str, np.ndarray] = {}
        if method == "context" and p.context is not None:
            pair = p.evaluation.result("context").detail["binary_pair"]
            groups["winning content"] = p.context.content[
                winning_prompt(p.scores["context"].take(rated.test), *pair)
            ]
        groups |= {
            title: values[rated.test] for title, values in list_groupings(rated.columns, named).items()
        }
        for title, group in groups.items():
            measured = evaluate_groups(
                group,
                rated.mos[rated.test],
                rated.is_high[rated.test],
                p.evaluation.predictions[method],
                study.n_boot,
                study.rng,
                max_groups=15,
            )
            if len(measured) < 2:
                continue
            said = (
                f"{name_backbone(p.name)}, {METHODS[f'prompting.{method}']}, by {title} (the "
                f"{len(measured)} largest of {len(np.unique(group))} groups)"
            )
            overall = p.evaluation.result(method).srcc
            name = f"groups_{title}_{p.stem}".replace(" ", "_")
            yield print_groups(measured, name, said)
            yield Drawn(
                name,
                figures.plot_groups(measured, "srcc", overall.value if overall else np.nan),
                f"SRCC within each group with its interval. {said}.",
                caption=said,
            )


def ranked(study: Study, n_shown: int = 8) -> Iterator[PhotoGrid]:
    """Without ratings: the first and the last photographs by the paper's pair for the continuous task."""
    for name in study.prompts:
        scores = score_prompts_of(study, name)
        method = "context" if "context" in scores else "fixed"
        if not {"outstanding", "horrible"} <= set(scores[method].labels):
            continue
        score = score_continuous(scores[method], ["outstanding"], ["horrible"])
        yield from ends_of(study, name, np.asarray(score, np.float64), "outstanding / horrible", n_shown)


def ends_of(study: Study, name: str, score: np.ndarray, by: str, n_shown: int) -> Iterator[PhotoGrid]:
    """The best and the worst photographs of a feature file by a score per row."""
    features = study.features[name]
    file_of = dict(zip(study.targets.image_id.tolist(), study.targets.path.tolist(), strict=True))
    ranking = rank_images(np.where(features.ok, score, np.nan))
    if not len(ranking.row):
        raise NothingToShowError("no photograph could be embedded")
    ids, n = features.image_id[ranking.row].tolist(), len(ranking.row)
    n_shown = min(n_shown, n // 2) or 1
    for which, places in (("best", range(n_shown)), ("last", range(n - n_shown, n))):
        shots = [
            Shot(
                str(ids[i]),
                str(file_of.get(ids[i], "")),
                [f"{ranking.rank[i]} of {n:,}, score {ranking.score[i]:.3f}".replace("-", "−")],
            )
            for i in places
        ]
        yield PhotoGrid(
            f"{which}_{features.path.stem}",
            shots,
            study.images,
            f"The {which} {len(shots)} of {n:,} by {by}, {name_backbone(name)}.",
        )


def _with_ends(metric: Any) -> str:
    return f"{metric.value:.3f} [{metric.low:.3f}, {metric.high:.3f}]"
