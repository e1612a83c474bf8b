"""Results of methods as a table: metrics with the bounds of their intervals."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from iaa.library.table import Table

if TYPE_CHECKING:
    from analysis.results.methods import MethodResult

_METRICS = ("accuracy", "srcc", "plcc")


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
    """The same for people: each metric with its interval in one cell."""
    first, table = results[0], results_table(results).columns
    shown = {name: table[name] for name in ("method", "backbone", "output", "alpha")}
    for name in _METRICS:
        bounds = zip(table[name], table[f"{name}_low"], table[f"{name}_high"], strict=True)
        shown[name] = [_cell(*each) for each in bounds]
    sizes = f"{first.n_train:,} train, {first.n_test:,} test"
    return Table(f"{first.dataset}, split {first.split_name}: {sizes}", shown)


def _cell(value: float | None, low: float | None, high: float | None) -> str:
    """0.712 [0.640, 0.780]; without an interval the value alone, nothing where it was not measured."""
    if value is None:
        return ""
    is_known = low is not None and high is not None and not math.isnan(low)
    return f"{value:.3f}" + (f" [{low:.3f}, {high:.3f}]" if is_known else "")
