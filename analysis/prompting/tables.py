"""Tables of the prompting experiment as Markdown, the published values beside ours."""

from collections.abc import Mapping, Sequence

import numpy as np

from analysis.evidence.bootstrap import Difference
from analysis.prompting.groups import GroupResult
from analysis.prompting.pairs import PairMetric, PairTable
from analysis.results.markup import to_markdown
from analysis.results.methods import METRICS, MethodResult, Metric
from analysis.results.published import BEST_PAIRS, TABLE_1
from analysis.results.tables import HEADINGS, UNKNOWN


def table_of_results(results: Sequence[MethodResult], paper: bool = True) -> str:
    """One row per method with intervals; the published accuracy in the last column if asked for."""
    headings = ["method", *(HEADINGS[name] for name in METRICS)]
    if paper:
        headings.append("authors' notebook, AVA, split paper: accuracy (recall low, high)")
    rows = []
    for result in results:
        row = [result.method, *(_interval(getattr(result, name)) for name in METRICS)]
        if paper:
            row.append(_paper_accuracy(result.key))
        rows.append(row)
    return to_markdown(headings, rows)


def table_of_chosen_pairs(results: Sequence[MethodResult]) -> str:
    """The pairs each method chose on train, with the training value, beside those of the
    paper (section 4.1, AVA)."""
    headings = [
        "method",
        "binary pair (train accuracy)",
        "continuous pair (train SRCC)",
        "paper (4.1), AVA, binary",
        "paper (4.1), AVA, continuous",
    ]
    rows = []
    for result in results:
        detail = result.detail
        if "binary_pair" in detail:
            rows.append(
                [
                    result.method,
                    f"{' / '.join(detail['binary_pair'])} ({detail['binary_train_accuracy']:.4f})",
                    f"{' / '.join(detail['continuous_pair'])} ({detail['continuous_train_srcc']:.4f})",
                    *BEST_PAIRS.get(result.key, (UNKNOWN,) * 2),
                ]
            )
    return to_markdown(headings, rows)


def table_of_pair_spread(
    train: Mapping[str, PairTable],
    test: Mapping[str, PairTable],
    metric: PairMetric,
    chosen: Mapping[str, Metric] | None = None,
) -> str:
    """How much the choice of a pair matters: test values of all pairs, and of the one chosen on train, with
    its interval where `chosen` gives it."""
    headings = [
        "method",
        "pairs",
        "worst",
        "lower quartile",
        "median",
        "upper quartile",
        "best on test",
        "chosen on train",
        "its rank on test",
    ]
    rows = []
    for method, table in test.items():
        values = table.metric(metric)
        defined = values[np.isfinite(values)]
        best = train[method].best(metric)
        value = float(values[table.high.index(best.high), table.low.index(best.low)])
        quartiles = np.quantile(defined, [0, 0.25, 0.5, 0.75, 1])
        rank = 1 + int(np.count_nonzero(defined > value))
        measured = chosen[method] if chosen else Metric(value)
        shown = [f"{quartile:.3f}" for quartile in quartiles]
        rows.append([method, f"{len(defined)}", *shown, _interval(measured), f"{rank}"])
    return to_markdown(headings, rows)


def table_of_differences(differences: Sequence[Difference]) -> str:
    """Paired differences between methods, with intervals and p-values corrected over the family."""
    rows = [
        [
            d.first,
            d.second,
            f"{d.value:+.4f}",
            f"{d.low:+.4f} to {d.high:+.4f}",
            f"{d.p_value:.4f}",
            f"{d.p_holm:.4f}",
        ]
        for d in differences
    ]
    return to_markdown(["first", "second", "first - second", "95 % interval", "p", "p (Holm)"], rows)


def table_of_groups(groups: Sequence[GroupResult]) -> str:
    """One row per group of test images: size, votes, and metrics with intervals."""
    rows = [
        [
            group.name,
            f"{group.n_images:,}",
            f"{group.mean_mos:.2f}",
            f"{group.share_high:.1%}",
            _interval(group.metrics.get("accuracy")),
            _interval(group.metrics.get("srcc")),
        ]
        for group in groups
    ]
    return to_markdown(["group", "images", "mean vote", "share high", "accuracy", "SRCC"], rows)


def _interval(metric: Metric | None) -> str:
    if metric is None or np.isnan(metric.value):
        return "undefined"
    if np.isnan(metric.low):
        return f"{metric.value:.4f}"
    return f"{metric.value:.4f} ({metric.low:.3f} to {metric.high:.3f})"


def _paper_accuracy(key: str) -> str:
    published = next((row.values for row in TABLE_1 if row.key == key), {})
    if not published:
        return UNKNOWN
    return f"{published['accuracy']:.4f} ({published['recall_low']:.4f}, {published['recall_high']:.4f})"
