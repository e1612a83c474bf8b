"""The pages about linear probes: section 4.2 and Figure 3, and section 5's question about pretraining."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from analysis.evidence.bootstrap import Prediction
from analysis.evidence.metrics import srcc
from analysis.figures import probing as figures
from analysis.figures.drawn import Drawn
from analysis.probing.distribution import NoiseCeiling, evaluate_distribution, fit_distribution, noise_ceiling
from analysis.probing.evidence import (
    calibration,
    compare_fits,
    cross_validated_srcc,
    learning_curve,
    predicted_by,
    predicted_majority,
    residuals_by_spread,
)
from analysis.probing.heads import evaluate_head, find_heads, head_importance, may_have_seen_test
from analysis.probing.importance import (
    CONCENTRATION,
    compare_with_figure_3,
    concentration,
    describe_breadth,
    feature_importance,
    keep_top,
    permutation_importance,
)
from analysis.probing.joint import Joint
from analysis.probing.probes import ProbeFit, evaluate_majority, evaluate_probe, fit_probes
from analysis.report.study import Study
from analysis.results.methods import MethodResult, Metric
from analysis.results.names import name_backbone, name_method, name_output
from analysis.results.predictions import Predicted, result_name
from analysis.results.printed import Cell, Code, Printed
from analysis.results.tables import HEADINGS, print_differences, print_probes

MEASURES = {
    "top_share": "top tenth holds",
    "largest_share": "largest holds",
    "effective_dimensions": "effective dimensions",
    "gini": "Gini",
}


def evaluate(study: Study, fits: Sequence[ProbeFit]) -> list[MethodResult]:
    """The majority row, then both probes of every fit."""
    return [
        evaluate_majority(fits[0], study.n_boot),
        *(r for fit in fits for r in evaluate_probe(fit, study.n_boot)),
    ]


def raw(fits: Sequence[ProbeFit]) -> list[ProbeFit]:
    """The fits on features as they are stored."""
    return [fit for fit in fits if not fit.ridge.unit_norm]


def probe_table(
    study: Study, fits: Sequence[ProbeFit], results: Sequence[MethodResult], name: str = "probes"
) -> Printed:
    """All probes with what their fits were like."""
    majority, *others = results
    lost = fits[0].rows.n_failed
    rows = fits[0].rows
    assert majority.accuracy is not None
    caption = (
        f"{study.dataset}, split {study.targets.split_name}: {len(rows.train):,} training and "
        f"{len(rows.test):,} test "
        f"photographs (failed rows left out: {lost['train']} and {lost['test']}); threshold "
        f"{study.targets.threshold:g}. "
        f"Always the commoner class: accuracy {majority.accuracy.value:.3f}. Seed "
        f"{study.seed}, {study.n_boot:,} resamples."
    )
    return print_probes([r for r in others if r.key in ("probe.ols", "probe.ridge")], name, caption)


def at_a_glance(results: Sequence[MethodResult], name: str) -> Iterator[Drawn]:
    """SRCC and accuracy of all probes with their intervals."""
    majority, *probes = results
    for metric in ("srcc", "accuracy"):
        reference = majority.accuracy.value if metric == "accuracy" and majority.accuracy else None
        yield dots(
            [r for r in probes if r.detail.get("unit_norm") is not True],
            metric,
            f"{name}_{metric}",
            reference,
        )


def dots(results: Sequence[MethodResult], metric: str, name: str, reference: float | None = None) -> Drawn:
    """One metric of many methods as dots with intervals."""
    shown = [(r, m) for r in results if (m := getattr(r, metric)) is not None]
    lines = [
        [name_output(r.backbone, r.output), name_method(r), m.value, m.low, m.high, r.n_test]
        for r, m in shown
    ]
    said = "; ".join(f"{line[0]}, {line[1]} {line[2]:.3f}" for line in lines)
    return Drawn(
        name,
        figures.plot_results(results, metric, reference, "majority"),
        f"{HEADINGS[metric]} on the test images with 95 % intervals: {said}.",
        ("backbone", "method", metric, "low", "high", "n"),
        lines,
    )


def differences(
    study: Study, fits: Sequence[ProbeFit], name: str, kinds: Sequence[str] = ("ridge",)
) -> Iterator[Printed]:
    """Every pair of outputs, paired, for SRCC and accuracy."""
    for kind in kinds if len(fits) > 1 else ():
        rows = [
            d for metric in ("srcc", "accuracy") for d in compare_fits(fits, metric, kind, seed=study.seed)
        ]
        names = {fit.name: figures.names_for_people(fit.name) for fit in fits}
        yield print_differences(
            rows, f"{name}_{kind}", {"ridge": "Ridge", "ols": "Least squares"}[kind], names
        )


def penalty(fits: Sequence[ProbeFit]) -> Drawn:
    """Left-out error by ridge penalty."""
    lines = [
        [fit.name, float(a), float(e)]
        for fit in fits
        for a, e in zip(fit.alphas, np.sqrt(fit.cv_mse.mean(axis=0)), strict=True)
    ]
    return Drawn(
        "penalty",
        figures.plot_ridge_paths(fits),
        "Left-out error on the training images by ridge penalty, one curve per output; a "
        "ring marks the penalty chosen.",
        ("output", "alpha", "rmse"),
        lines,
    )


def measure_importance(study: Study, fits: Sequence[ProbeFit], kind: str) -> dict[str, dict[str, Metric]]:
    """How concentrated each probe's importance is, by output, with intervals."""
    return {fit.name: concentration(fit.path, getattr(fit, kind), study.n_boot, study.rng) for fit in fits}


def figure_3(
    fits: Sequence[ProbeFit], measured: Mapping[str, Mapping[str, Metric]], kind: str, name: str
) -> Drawn:
    """|weight x std| of every dimension: one panel per output on one scale, as the paper's Figure 3."""
    shown = {fit.name: feature_importance(getattr(fit, kind)) for fit in fits}
    notes = {
        n: f"{m['effective_dimensions'].value:.0f} of {len(shown[n])} effective dimensions"
        for n, m in measured.items()
    }
    lines = [[output, i, float(v)] for output, values in shown.items() for i, v in enumerate(values)]
    said = {"ols": "least squares", "ridge": "ridge"}[kind]
    return Drawn(
        name,
        figures.plot_importance(shown, notes),
        f"Absolute weight times standard deviation of every feature, {said}, one panel per "
        "output on one scale. "
        + " ".join(
            describe_breadth(figures.names_for_people(n), m, len(shown[n])) for n, m in measured.items()
        ),
        ("output", "dimension", "importance"),
        lines,
        f"Weights of the linear regression ({said}), scaled by the standard deviation of the features.",
    )


def importance_table(
    fits: Sequence[ProbeFit], measured: Mapping[str, Mapping[str, Metric]], kind: str, name: str
) -> Printed:
    """The measures below Figure 3, and the sentences that follow from them."""
    dims = {fit.name: len(fit.ridge.weights) for fit in fits}
    rows: list[list[Cell]] = [
        [figures.names_for_people(n), dims[n], *(m[k] for k in MEASURES)] for n, m in measured.items()
    ]
    notes = [describe_breadth(figures.names_for_people(n), m, dims[n]) for n, m in measured.items()]
    notes.append(compare_with_figure_3(measured))
    said = {"ols": "least squares", "ridge": "ridge"}[kind]
    return Printed(
        name,
        ["output", "dimensions", *MEASURES.values()],
        rows,
        f"How concentrated the importance is, {said}",
        notes=[n for n in notes if n],
    )


def lorenz(fits: Sequence[ProbeFit]) -> Drawn:
    """Share of importance held by the most important dimensions."""
    shown = {fit.name: feature_importance(fit.ridge) for fit in fits}
    return Drawn(
        "importance_sorted",
        figures.plot_sorted_importance(shown),
        "Share of the total importance held by the most important dimensions, one curve per output.",
    )


def checks(study: Study, fits: Sequence[ProbeFit]) -> Iterator[Drawn | Printed]:
    """Permutation against weights, and what is left when only the top dimensions are kept."""
    tops, rng = {}, study.rng
    rows: list[list[Cell]] = []
    for fit in fits:
        features = study.features[fit.backbone].read(fit.output, fit.rows.test)
        agree = [
            srcc(feature_importance(fit.ridge), growth)
            for growth in permutation_importance(features, fit.y_test, fit.ridge, 5, rng)
        ]
        rows.append(
            [figures.names_for_people(fit.name), Metric(float(np.mean(agree)), min(agree), max(agree))]
        )
        tops[fit.name] = keep_top(
            features,
            fit.y_test,
            fit.is_high_test,
            fit.threshold,
            fit.ridge,
            fit.path.basis.mean,
            study.n_boot,
            rng,
        )
    note = "Brackets: the lowest and the highest of 5 shuffles."
    yield Printed(
        "permutation",
        ["output, ridge", "rank correlation"],
        rows,
        "|weight × std| against permutation",
        notes=[note],
    )
    lines = [
        [name, int(k), a.value, a.low, a.high, s.value, s.low, s.high]
        for name, curve in tops.items()
        for k, a, s in zip(curve.k, curve.accuracy, curve.srcc, strict=True)
    ]
    headings = (
        "output",
        "kept",
        "accuracy",
        "accuracy_low",
        "accuracy_high",
        "srcc",
        "srcc_low",
        "srcc_high",
    )
    yield Drawn(
        "top_kept",
        figures.plot_top_curves(tops),
        "Accuracy and SRCC when only the k most important dimensions are kept.",
        headings,
        lines,
    )


def cross_validated(study: Study, fits: Sequence[ProbeFit]) -> Iterator[Printed]:
    """SRCC by ten folds, three times, where few photographs are in the test set."""
    if len(fits[0].rows.test) >= 1000:
        return
    rows: list[list[Cell]] = []
    for fit in fits:
        means = cross_validated_srcc(
            study.features[fit.backbone], study.targets, fit.output, 10, 3, study.seed
        ).mean(axis=1)
        rows.append(
            [
                figures.names_for_people(fit.name),
                Metric(float(means.mean()), float(means.min()), float(means.max())),
            ]
        )
    note = "Brackets: the lowest and the highest of the three means."
    yield Printed(
        "folds", ["output, ridge", "SRCC"], rows, "3 × 10 folds of all rated photographs", notes=[note]
    )


def calibrations(fits: Sequence[ProbeFit]) -> Iterator[Drawn]:
    """Predictions against votes per output, then errors by how much people disagreed."""
    for fit in fits:
        found = calibration(fit, "ridge")
        lines = [
            list(line)
            for line in zip(
                fit.test_id.tolist(), fit.predictions["ridge"].tolist(), fit.y_test.tolist(), strict=True
            )
        ]
        name = figures.names_for_people(fit.name)
        yield Drawn(
            f"predictions_{fit.name}",
            figures.plot_predictions(fit, "ridge", found),
            f"Predicted against real mean vote of the test images, {name}, with the means of ten groups.",
            ("image_id", "predicted", "mean_vote"),
            lines,
        )
    spreads = {fit.name: binned for fit in fits if (binned := residuals_by_spread(fit, "ridge")) is not None}
    if spreads:
        lines = [
            [n, float(x), float(y), float(e)]
            for n, b in spreads.items()
            for x, y, e in zip(b.x, b.y, b.standard_error, strict=True)
        ]
        yield Drawn(
            "errors_by_spread",
            figures.plot_residuals(spreads),
            "Absolute error of the ridge probes by the standard deviation of an image's votes.",
            ("output", "vote_std", "absolute_error", "standard_error"),
            lines,
        )


def ceiling_of(study: Study) -> NoiseCeiling | None:
    """The highest correlation that so few votes allow; None where there are scores."""
    if study.targets.votes is None or study.targets.levels is None:
        return None
    return noise_ceiling(
        study.targets.votes[study.targets.split == "test"], study.targets.levels, 20, study.rng
    )


def learning(
    study: Study, fits: Sequence[ProbeFit], ceiling: NoiseCeiling | None = None, name: str = "learning"
) -> Drawn:
    """SRCC by number of training images."""
    curves = [learning_curve(fit, study.features[fit.backbone]) for fit in fits]
    lines = [
        [c.name, int(n), float(m), float(low), float(high)]
        for c in curves
        for n, m, low, high in zip(
            c.n_train, c.srcc.mean(axis=0), c.srcc.min(axis=0), c.srcc.max(axis=0), strict=True
        )
    ]
    return Drawn(
        name,
        figures.plot_learning_curves(curves, None if ceiling is None else ceiling.srcc),
        "SRCC on the test images by number of training images, one curve per output; bands "
        "from the lowest to the highest of five draws.",
        ("output", "n_train", "srcc", "lowest", "highest"),
        lines,
    )


def ceiling_table(ceiling: NoiseCeiling | None) -> Iterator[Printed]:
    """The ceiling as a table; nothing for scores."""
    if ceiling is not None:
        row: list[Cell] = [ceiling.srcc, ceiling.plcc, ceiling.split_half_srcc]
        yield Printed(
            "ceiling",
            ["SRCC", "PLCC", "SRCC between halves"],
            [row],
            "What the number of votes allows on test",
        )


def distributions(
    study: Study, fits: Sequence[ProbeFit], probes: Sequence[MethodResult]
) -> tuple[list[MethodResult], dict[str, Predicted], list[Drawn | Printed]]:
    """Probes of the whole vote distribution: their results, what they said of the test images, and a table
    with a figure per output; all empty for scores."""
    predicted: dict[str, Predicted] = {}
    results, rows, drawn = [], [], []
    for fit in fits:
        distribution = fit_distribution(fit, study.features[fit.backbone])
        if distribution is None:
            continue
        result = evaluate_distribution(fit, distribution, study.n_boot)
        results.append(result)
        said = Prediction(distribution.mean, distribution.mean > fit.threshold)
        predicted[result_name(result)] = Predicted(fit.test_id, fit.y_test, fit.is_high_test, said)
        of_mean = next(
            r
            for r in probes
            if r.key == "probe.ridge" and (r.backbone, r.output) == (fit.backbone, fit.output)
        )
        emd = (Metric(*result.detail[key]) for key in ("emd_r2", "emd_r2_train_mean"))
        name = figures.names_for_people(fit.name)
        rows.append([name, *emd, result.srcc, of_mean.srcc])
        distance = np.abs(np.cumsum(distribution.predicted - distribution.shares, axis=1)).sum(axis=1)
        chosen = np.argsort(-distance)[np.linspace(0, len(distance) - 1, min(8, len(distance))).astype(int)]
        shown = (distribution.levels, distribution.shares[chosen], distribution.predicted[chosen])
        lines = [
            [str(fit.test_id[c]), int(level), float(shown[1][i, k]), float(shown[2][i, k])]
            for i, c in enumerate(chosen)
            for k, level in enumerate(shown[0])
        ]
        drawn.append(
            Drawn(
                f"distributions_{fit.name}",
                figures.plot_distributions(*shown, fit.test_id[chosen].tolist()),
                f"Votes and predicted distribution of eight test images, {name}, from the "
                "worst to the best predicted.",
                ("image_id", "vote", "share", "predicted"),
                lines,
                name,
            )
        )
    headings = [
        "output",
        "emd_r2",
        "emd_r2 of the mean distribution",
        "SRCC of its mean",
        "SRCC of the probe of the mean",
    ]
    table = [Printed("distributions", headings, rows, "Probes of the vote distribution")] if rows else []
    return results, predicted, [*table, *drawn]


def heads(study: Study, fits: Sequence[ProbeFit]) -> tuple[list[MethodResult], list[Drawn | Printed]]:
    """Heads made elsewhere that read these outputs: their results, and what to show of them."""
    results, shown, notes, left_out = [], {}, {}, []
    for fit in fits:
        found, problems = find_heads(study.folder.parent / "heads", study.features[fit.backbone])
        left_out += problems
        for head in found:
            if (head.output, head.unit_norm) != (fit.output, fit.ridge.unit_norm):
                continue
            if may_have_seen_test(head, study.targets):
                left_out.append(
                    f"{head.name} was fitted on another split of {study.dataset} and may have "
                    "seen these test photographs: not measured."
                )
                continue
            results.append(
                evaluate_head(
                    head, study.features[fit.backbone], fit.rows, study.targets, study.n_boot, study.seed
                )
            )
            shown[head.name] = head_importance(head, fit.path.basis.scale)
            count = CONCENTRATION["effective_dimensions"](shown[head.name])
            reads = name_output(head.backbone, head.output)
            notes[head.name] = f"{reads}\n{count:.0f} effective dimensions"
    rows: list[list[Cell]] = [
        [r.method, name_output(r.backbone, r.output), r.detail["fitted_on"], r.srcc, r.plcc, r.accuracy]
        for r in results
    ]
    drawn: list[Drawn | Printed] = []
    if results:
        drawn.append(
            Printed(
                "heads",
                ["head", "reads", "fitted on", "SRCC", "PLCC", "accuracy"],
                rows,
                "Heads made elsewhere",
            )
        )
        drawn.append(
            Drawn(
                "heads_importance",
                figures.plot_importance(shown, notes),
                "Importance of every dimension in each head.",
            )
        )
    if left_out:
        drawn.append(
            Printed("heads_left_out", ["left out"], [[problem] for problem in dict.fromkeys(left_out)])
        )
    return results, drawn


def predictions(fits: Sequence[ProbeFit], results: Sequence[MethodResult]) -> dict[str, Predicted]:
    """What the majority row and each probe said of each test image."""
    by_fit = {(fit.backbone, fit.output, fit.ridge.unit_norm): fit for fit in fits}
    found = {"majority": predicted_majority(fits[0])}
    for r in results:
        if r.key in ("probe.ols", "probe.ridge"):
            fit = by_fit[r.backbone, r.output, r.detail["unit_norm"]]
            found[result_name(r)] = predicted_by(fit, r.key.removeprefix("probe."))
    return found


def backbones_table(study: Study) -> Printed:
    """What each backbone gives, as recorded when the photographs went through it."""
    rows: list[list[Cell]] = [
        [
            name_backbone(name),
            Code(name),
            ", ".join(f"{o} ({dim})" for o, dim in file.outputs.items()),
            int(file.ok.sum()),
            int((~file.ok).sum()),
            Code(file.digest[:12]),
        ]
        for name, file in study.features.items()
    ]
    return Printed(
        "backbones", ["backbone", "id", "outputs (features)", "photographs", "failed rows", "digest"], rows
    )


def together(study: Study, fits: Sequence[ProbeFit]) -> list[ProbeFit]:
    """A probe that reads one output of every backbone side by side; none where there is one backbone."""
    outputs = {
        f.backbone: f.output
        for f in reversed(fits)
        if f.output != "embedding" or len(study.features[f.backbone].outputs) == 1
    }
    if len(outputs) < 2:
        return []
    joint: Any = Joint([(study.features[name], outputs[name]) for name in study.features])
    return [fit_probes(joint, study.targets, joint.output, seed=study.seed, cache=study.folder / "derived")]
