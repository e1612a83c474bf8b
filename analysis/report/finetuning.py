"""The page about fine-tuning: section 4.3 of the paper."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from analysis.evidence.bootstrap import holm
from analysis.figures.drawn import Drawn
from analysis.figures.finetuning import plot_cost, plot_epochs
from analysis.figures.probing import names_for_people
from analysis.probing.probes import ProbeFit, evaluate_probe, fit_probes, too_wide
from analysis.report.needs import need
from analysis.report.study import Study
from analysis.results.finetuning import (
    Cost,
    TrainingRun,
    compare_finetuned,
    evaluate_finetuned,
    predict_finetuned,
    print_epochs,
    print_runs,
)
from analysis.results.methods import MethodResult, Metric
from analysis.results.names import name_backbone, name_method, name_result
from analysis.results.predictions import Predicted, compare_methods, result_name
from analysis.results.printed import Cell, Number, Printed
from analysis.results.stacked import Stack, evaluate_stack, print_stacks, read_stacks
from analysis.results.tables import print_differences


@dataclass(frozen=True)
class Tuned:
    """The runs with their results on test, heads trained on stored features, and the frozen ridge probes
    beside them."""

    runs: list[TrainingRun]
    results: list[MethodResult]
    """Of the runs, in their order."""
    fits: dict[tuple[str, str], ProbeFit]
    """By backbone and output, as `seconds`."""
    probes: list[MethodResult]
    seconds: dict[tuple[str, str], float]
    stacks: list[Stack] = field(default_factory=list)
    stacked: list[MethodResult] = field(default_factory=list)
    """Of the heads, in their order."""
    said: dict[str, Predicted] = field(default_factory=dict)
    """What the heads predicted, by the names of their results."""
    stale: list[str] = field(default_factory=list)
    """Why heads were left out."""

    @property
    def measured(self) -> list[MethodResult]:
        """All that was trained."""
        return [*self.results, *self.stacked]

    def costs(self) -> list[Cost]:
        """What each method costs beyond the frozen backbone, and what it reaches."""
        costs = []
        for run, r in zip(self.runs, self.results, strict=True):
            if r.srcc is not None:
                costs.append(Cost(name_method(r), run.backbone, run.n_trainable, run.seconds, r.srcc))
        for r in self.stacked:
            if r.srcc is not None:
                detail = r.detail
                costs.append(
                    Cost(name_method(r), r.backbone, detail["n_trainable"], detail["seconds"], r.srcc)
                )
        for r in self.probes:
            if r.srcc is not None:
                of = r.backbone, r.output
                n = len(self.fits[of].ridge.weights) + 1
                costs.append(Cost("linear probe, ridge", r.backbone, n, self.seconds[of], r.srcc))
        return costs


def evaluate(study: Study) -> Tuned:
    """The fine-tuned backbones and the trained heads on test, and ridge probes of what they started from.
    Raises NothingToShowError where nothing was trained or nothing can be measured."""
    need(study, "30_finetuning")
    stacks, stale = read_stacks(study.folder / "finetuned", study.features, study.targets)
    tuned = Tuned(study.runs, [], {}, [], {}, stacks, stale=stale)
    for run in study.runs:
        result = evaluate_finetuned(study.tuned[run.id], study.targets, study.n_boot, study.seed)
        tuned.results.append(result)
        if run.backbone not in {backbone for backbone, _ in tuned.fits}:
            _probe(study, tuned, run.backbone, result.output)
    for stack in stacks:
        backbone, output = stack.source
        features = study.features[backbone]
        result, said = evaluate_stack(stack, features, study.targets, study.n_boot, study.seed)
        tuned.stacked.append(result)
        tuned.said.setdefault(result_name(result), said)
        if (backbone, output) not in tuned.fits and not too_wide(features, output, study.n_train):
            _probe(study, tuned, backbone, output)
    return tuned


def _probe(study: Study, tuned: Tuned, backbone: str, output: str) -> None:
    """The ridge probe of an output, beside what was trained on it."""
    started = time.perf_counter()
    fit = fit_probes(
        study.features[backbone], study.targets, output, seed=study.seed, cache=study.folder / "derived"
    )
    tuned.fits[backbone, output] = fit
    tuned.seconds[backbone, output] = time.perf_counter() - started
    tuned.probes.extend(r for r in evaluate_probe(fit, study.n_boot) if r.key == "probe.ridge")


def settings(study: Study, tuned: Tuned) -> Iterator[Printed]:
    """What each run trained, with which settings, and how it ended; and the same of heads."""
    if study.runs:
        yield print_runs(study.runs)
    if tuned.stacks:
        yield print_stacks(tuned.stacks, tuned.stale)


def epochs(study: Study) -> Iterator[Drawn | Printed]:
    """How training went, for the runs that trained everything."""
    full = [run for run in study.runs if run.trains_all]
    if not full:
        return
    lines = [
        [run.id, int(e), float(a), float(b), float(c)]
        for run in full
        for e, a, b, c in zip(run.epoch, run.train_loss, run.held_out_loss, run.held_out_srcc, strict=True)
    ]
    yield Drawn(
        "epochs",
        plot_epochs(full),
        "Loss and SRCC on the held-out photographs by epoch: "
        + "; ".join(f"{name_backbone(r.backbone)}: best epoch {r.best_epoch}" for r in full),
        ("run", "epoch", "train_emd_r2", "held_out_emd_r2", "held_out_srcc"),
        lines,
    )
    yield print_epochs(full)


def scores(tuned: Tuned) -> Printed:
    """Accuracy, correlations and emd_r2 on test, with the frozen probe of the same output."""
    rows: list[list[Cell]] = []
    listed = sorted([*tuned.measured, *tuned.probes], key=lambda r: (r.backbone, name_method(r)))
    for r in listed:
        emd = r.detail.get("emd_r2")
        rows.append([name_method(r), r.accuracy, r.srcc, r.plcc, Metric(*emd) if emd else None])
    groups = [name_backbone(r.backbone) for r in listed]
    return Printed(
        "finetuned", ["method", "accuracy", "SRCC", "PLCC", "emd_r2"], rows, "On the test photographs", groups
    )


def differences(study: Study, tuned: Tuned) -> Printed:
    """Each fine-tuned backbone and each head against its frozen probe, and fully fine-tuned ones against each
    other."""
    started_from = {run.backbone for run in tuned.runs}
    frozen = [fit for (backbone, _), fit in tuned.fits.items() if backbone in started_from]
    files = [study.tuned[run.id] for run in tuned.runs]
    probes = {
        of: Predicted(fit.test_id, fit.y_test, fit.is_high_test, fit.prediction("ridge"))
        for of, fit in tuned.fits.items()
    }
    rows = []
    for metric in ("srcc", "accuracy"):
        family = []
        if files:
            family += compare_finetuned(frozen, files, study.targets, metric, seed=study.seed)
        for r in tuned.stacked:
            if (of := (r.backbone, r.output)) in probes:
                both = {name_result(r): tuned.said[result_name(r)], f"frozen {'/'.join(of)}": probes[of]}
                family += compare_methods(both, metric, seed=study.seed)
        corrected = holm(np.array([d.p_value for d in family]))
        rows += [replace(d, p_holm=p) for d, p in zip(family, corrected.tolist(), strict=True)]
    return print_differences(rows, "finetuned_differences", "", names_of(tuned))


def names_of(tuned: Tuned) -> Mapping[str, str]:
    """What the compared methods are called."""
    called = {
        f"frozen {fit.name}": f"{names_for_people(fit.name)}: frozen, ridge" for fit in tuned.fits.values()
    }
    found = zip(tuned.runs, tuned.results, strict=True)
    return called | {run.id: f"{name_backbone(run.backbone)}: {name_method(r)}" for run, r in found}


def cost(tuned: Tuned) -> Sequence[Drawn | Printed]:
    """Cost against score, as a figure and a table."""
    costs = sorted(tuned.costs(), key=lambda c: (c.backbone, c.n_trainable))
    rows: list[list[Cell]] = [
        [
            c.label,
            c.n_trainable,
            None
            if c.seconds is None
            else Number(c.seconds, shown=f"{c.seconds:,.2g}" if c.seconds < 10 else f"{c.seconds:,.0f}"),
            c.srcc,
        ]
        for c in costs
    ]
    table = Printed(
        "cost",
        ["method", "parameters fitted", "seconds", "SRCC"],
        rows,
        "Cost against score",
        [name_backbone(c.backbone) for c in costs],
    )
    figure = Drawn(
        "cost",
        plot_cost(costs),
        f"SRCC on test by number of parameters fitted and by seconds of fitting. {table.to_markdown()}",
        ("backbone", "method", "parameters", "seconds", "srcc"),
        [
            [c.backbone, c.label, c.n_trainable, "" if c.seconds is None else c.seconds, c.srcc.value]
            for c in costs
        ],
    )
    return [figure, table]


def predictions(study: Study, tuned: Tuned) -> dict[str, Predicted]:
    """What each run's result said of each test image; of equal names the first run's."""
    paired = reversed(list(zip(tuned.runs, tuned.results, strict=True)))
    found = {result_name(r): predict_finetuned(study.tuned[run.id], study.targets) for run, r in paired}
    return found | tuned.said
