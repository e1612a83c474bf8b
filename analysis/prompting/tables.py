"""Tables of the prompting experiment, the published values beside ours."""

from collections.abc import Mapping, Sequence

import numpy as np

from analysis.prompting.groups import GroupResult
from analysis.prompting.pairs import PairMetric, PairTable
from analysis.results.methods import METRICS, MethodResult, Metric
from analysis.results.names import name_method
from analysis.results.printed import Cell, Number, Printed
from analysis.results.published import BEST_PAIRS, TABLE_1
from analysis.results.tables import HEADINGS, UNKNOWN


def print_results(results: Sequence[MethodResult], name: str, caption: str) -> Printed:
    """One row per method with intervals; last, the published accuracy of AVA's split `paper`."""
    rows: list[list[Cell]] = []
    for result in results:
        published = next((row.values for row in TABLE_1 if row.key == result.key), {})
        known = published.get("accuracy")
        accuracy = None if known is None else Number(known, shown=f"{known:.4g}")
        rows.append([name_method(result), *(getattr(result, name) for name in METRICS), accuracy])
    headings = ["method", *(HEADINGS[name] for name in METRICS), "accuracy, AVA, split paper"]
    note = (
        "Last column: the authors' saved notebook; of the other methods no number is known to "
        "us, and none is guessed."
    )
    return Printed(name, headings, rows, caption, notes=[note])


def print_chosen_pairs(results: Sequence[MethodResult], name: str, caption: str) -> Printed:
    """The pairs each method chose on train, with the training value, beside those of the paper (section 4.1,
    AVA)."""
    rows: list[list[Cell]] = []
    for result in results:
        detail = result.detail
        if "binary_pair" in detail:
            binary, continuous = " / ".join(detail["binary_pair"]), " / ".join(detail["continuous_pair"])
            rows.append(
                [
                    name_method(result),
                    binary,
                    detail["binary_train_accuracy"],
                    continuous,
                    detail["continuous_train_srcc"],
                    *BEST_PAIRS.get(result.key, (UNKNOWN,) * 2),
                ]
            )
    rows = [[Number(c) if isinstance(c, float) else c for c in row] for row in rows]
    headings = [
        "method",
        "binary pair",
        "accuracy on train",
        "continuous pair",
        "SRCC on train",
        "paper, binary",
    ]
    notes = [
        f"{'; '.join(r.detail['pairs'])}: the pairs of CLIP-IQA, the best on train that share no label."
        for r in results
        if "pairs" in r.detail
    ]
    return Printed(name, [*headings, "paper, continuous"], rows, caption, notes=notes)


def print_pair_spread(
    train: Mapping[str, PairTable],
    test: Mapping[str, PairTable],
    metric: PairMetric,
    chosen: Mapping[str, Metric] | None = None,
    name: str = "pair_spread",
    caption: str = "",
) -> Printed:
    """How much the choice of a pair matters: test values of all pairs, and of the one chosen on train, with
    its interval where `chosen` gives it."""
    headings = ["method", "pairs", "worst", "lower quartile", "median", "upper quartile", "best on test"]
    rows: list[list[Cell]] = []
    for method, table in test.items():
        values = table.metric(metric)
        defined = values[np.isfinite(values)]
        best = train[method].best(metric)
        value = float(values[table.high.index(best.high), table.low.index(best.low)])
        quartiles = [Number(float(q)) for q in np.quantile(defined, [0, 0.25, 0.5, 0.75, 1])]
        rank = 1 + int(np.count_nonzero(defined > value))
        rows.append([method, len(defined), *quartiles, chosen[method] if chosen else Metric(value), rank])
    title = f"{caption}: {HEADINGS.get(metric, metric)} of all pairs on test" if caption else ""
    return Printed(name, [*headings, "chosen on train", "its rank on test"], rows, title)


def print_groups(groups: Sequence[GroupResult], name: str, caption: str) -> Printed:
    """One row per group of test images: size, votes, and metrics with intervals."""
    rows: list[list[Cell]] = [
        [
            g.name,
            g.n_images,
            Number(g.mean_mos, shown=f"{g.mean_mos:.2f}"),
            Number(g.share_high, shown=f"{g.share_high:.1%}"),
            g.metrics.get("accuracy"),
            g.metrics.get("srcc"),
        ]
        for g in groups
    ]
    return Printed(name, ["group", "images", "mean vote", "share high", "accuracy", "SRCC"], rows, caption)
