"""Results of methods as a table: metrics with the bounds of their intervals."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from iaa.library.table import Table

if TYPE_CHECKING:
    from analysis.results.methods import MethodResult, Metric

_METRICS = ("accuracy", "srcc", "plcc")


@dataclass(frozen=True)
class Results:
    """What methods reach on the test images of a data set."""

    dataset: str
    results: "list[MethodResult]"

    def table(self) -> Table:
        """A row per method, for people."""
        return shown_results(self.results)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {"dataset": self.dataset, "results": [asdict(result) for result in self.results]}


def results_table(results: "Sequence[MethodResult]") -> Table:
    """A row per method: what it is, alpha, each metric with `_low` and `_high` (95 %), sizes and split.

    None where a method has no such metric.
    """
    columns: dict[str, list[Any]] = {
        "method": [r.method for r in results],
        "backbone": [r.backbone for r in results],
        "output": [r.output for r in results],
        "alpha": [r.detail.get("alpha") for r in results],
    }
    for name in _METRICS:
        measured = [getattr(r, name) for r in results]
        for suffix, part in (("", "value"), ("_low", "low"), ("_high", "high")):
            columns[name + suffix] = [None if m is None else getattr(m, part) for m in measured]
    columns["n_train"] = [r.n_train for r in results]
    columns["n_test"] = [r.n_test for r in results]
    columns["split"] = [r.split_name for r in results]
    first = results[0]
    return Table(f"{first.dataset}, split {first.split_name}", columns)


def shown_results(results: "Sequence[MethodResult]") -> Table:
    """The same for people: each metric with its interval in one cell, and no column that says nothing."""
    first, details = results[0], [r.detail for r in results]
    shown = {
        "method": [r.method for r in results],
        "backbone": [r.backbone for r in results],
        "output": [r.output for r in results],
        "pairs (binary; continuous)": [_pairs(detail) for detail in details],
        "alpha": [_alpha(detail) for detail in details],
        **{name: [metric_text(getattr(r, name)) for r in results] for name in _METRICS},
        "rmse": ["{:.4f} [{:.4f}, {:.4f}]".format(*d["rmse"]) if "rmse" in d else "" for d in details],
    }
    sizes = f"{first.n_train:,} train, {first.n_test:,} test"
    title = f"{first.dataset}, split {first.split_name}: {sizes}"
    if n_folds := first.detail.get("n_folds"):
        title = f"{first.dataset}: all {first.n_test:,} rated, each predicted from other folds ({n_folds})"
    return Table(title, {name: cells for name, cells in shown.items() if any(cells)})


def metric_text(metric: "Metric | None") -> str:
    """0.7121 [0.6403, 0.7805]; without an interval the value alone, nothing where it was not measured."""
    if metric is None:
        return ""
    if math.isnan(metric.value):
        return "not defined"
    interval = "" if math.isnan(metric.low) else f" [{metric.low:.4f}, {metric.high:.4f}]"
    return f"{metric.value:.4f}{interval}"


def edge_note(results: "Sequence[MethodResult]") -> list[str]:
    """What (edge) behind an alpha means, where one of these results has it."""
    edges = [r.detail["alpha"] for r in results if r.detail.get("alpha_is_at_edge")]
    if not edges:
        return []
    meanings = []
    if min(edges) <= 1:
        meanings.append("at the smallest nothing has to be held back, and OLS is as good")
    if max(edges) > 1:
        meanings.append(
            "at the largest the features say little about these ratings, and their mean is as good"
        )
    return [f"(edge): the best alpha is the first or last of those tried (1 to 1e6); {'; '.join(meanings)}"]


def folds_note(results: "Sequence[MethodResult]") -> list[str]:
    """What an SRCC about or below 0 means, where one of these results has it by folds."""
    if not any(r.detail.get("n_folds") and r.srcc is not None and r.srcc.low <= 0 for r in results):
        return []
    return [
        "srcc about or below 0: nothing was found in these ratings. Put together from folds, ratings at "
        "random come out below 0, and not at it (docs/probing.md)"
    ]


def _alpha(detail: Mapping[str, Any]) -> str:
    alpha = detail.get("alpha")
    return f"{alpha:.4g}{' (edge)' if detail.get('alpha_is_at_edge') else ''}" if alpha else ""


def _pairs(detail: Mapping[str, Any]) -> str:
    pairs = [detail.get(name) for name in ("binary_pair", "continuous_pair")]
    return "; ".join(" / ".join(pair) for pair in pairs if pair)
