"""The page about fine-tuning: section 4.3 of the paper."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from analysis.figures.drawn import Drawn
from analysis.figures.finetuning import plot_cost, plot_epochs
from analysis.figures.probing import names_for_people
from analysis.probing.probes import ProbeFit, evaluate_probe, fit_probes
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
from analysis.results.names import name_backbone, name_method
from analysis.results.predictions import Predicted, result_name
from analysis.results.printed import Cell, Number, Printed
from analysis.results.tables import print_differences


@dataclass(frozen=True)
class Tuned:
    """The runs with their results on test, and the frozen ridge probes beside them."""

    runs: list[TrainingRun]
    results: list[MethodResult]
    fits: dict[str, ProbeFit]
    probes: list[MethodResult]
    seconds: dict[str, float]

    def costs(self) -> list[Cost]:
        """What each method costs beyond the frozen backbone, and what it reaches."""
        costs = []
        for run, r in zip(self.runs, self.results, strict=True):
            if r.srcc is not None:
                costs.append(Cost(name_method(r), run.backbone, run.n_trainable, run.seconds, r.srcc))
        for r in self.probes:
            if r.srcc is not None:
                n = len(self.fits[r.backbone].ridge.weights) + 1
                costs.append(Cost("linear probe, ridge", r.backbone, n, self.seconds[r.backbone], r.srcc))
        return costs


def evaluate(study: Study) -> Tuned:
    """The fine-tuned backbones on test, and ridge probes of what they started from. Raises NothingToShowError
    where nothing was fine-tuned or nothing can be measured."""
    study.need(runs=True)
    study.need(ratings=True)
    fits: dict[str, ProbeFit] = {}
    results, probes, seconds = [], [], {}
    for run in study.runs:
        result = evaluate_finetuned(study.tuned[run.id], study.targets, study.n_boot, study.seed)
        results.append(result)
        if run.backbone not in fits:
            started = time.perf_counter()
            fits[run.backbone] = fit_probes(
                study.features[run.backbone], study.targets, result.output, seed=study.seed
            )
            seconds[run.backbone] = time.perf_counter() - started
            probes += [r for r in evaluate_probe(fits[run.backbone], study.n_boot) if r.key == "probe.ridge"]
    return Tuned(study.runs, results, fits, probes, seconds)


def settings(study: Study) -> Printed:
    """What each run trained, with which settings, and how it ended."""
    study.need(runs=True)
    return print_runs(study.runs)


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
    listed = sorted([*tuned.results, *tuned.probes], key=lambda r: (r.backbone, name_method(r)))
    for r in listed:
        emd = r.detail.get("emd_r2")
        rows.append([name_method(r), r.accuracy, r.srcc, r.plcc, Metric(*emd) if emd else None])
    groups = [name_backbone(r.backbone) for r in listed]
    return Printed(
        "finetuned", ["method", "accuracy", "SRCC", "PLCC", "emd_r2"], rows, "On the test photographs", groups
    )


def differences(study: Study, tuned: Tuned) -> Printed:
    """Each fine-tuned backbone against its frozen probe, and fully fine-tuned ones against each other."""
    files = [study.tuned[run.id] for run in tuned.runs if run.backbone in tuned.fits]
    rows = [
        d
        for metric in ("srcc", "accuracy")
        for d in compare_finetuned(list(tuned.fits.values()), files, study.targets, metric, seed=study.seed)
    ]
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
    return {result_name(r): predict_finetuned(study.tuned[run.id], study.targets) for run, r in paired}
