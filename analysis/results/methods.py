"""Results of methods as data: a metric with its interval, a method with its metrics, and their file."""

import dataclasses
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from store.json_files import parse_json
from store.sealed import write_json

RESULTS_SCHEMA = "iaa/results"
RESULTS_VERSION = 1
REPORT_VARIABLE = "IAA_REPORT_RUN"
"""Environment variable that holds the folder of the report that is being made."""
NOT_KEPT = (
    "Executed by hand, so nothing was written: the report's own results stay as they are (`iaa report` makes "
    "them anew)."
)
METRICS = ("accuracy", "recall_low", "recall_high", "srcc", "plcc")


@dataclass(frozen=True)
class Metric:
    """A measured value and the bounds of its interval; NaN where a bound was not computed."""

    value: float
    low: float = math.nan
    high: float = math.nan

    def covers(self, other: float) -> bool | None:
        """Whether the interval contains a value; None if there is no interval."""
        if math.isnan(self.low) or math.isnan(self.high):
            return None
        return self.low <= other <= self.high


@dataclass(frozen=True)
class MethodResult:
    """What one method reaches on the test images of one data set and split."""

    key: str
    """Which method, for machines: 'majority', 'prompting.fixed', 'probe.ols', 'probe.ridge' ..."""
    method: str
    backbone: str
    output: str
    dataset: str
    split_name: str
    n_train: int
    n_test: int
    seed: int | None = None
    accuracy: Metric | None = None
    recall_low: Metric | None = None
    recall_high: Metric | None = None
    srcc: Metric | None = None
    plcc: Metric | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)


def is_report_run(report_dir: Path | str) -> bool:
    """True while the report's runner makes the report of this folder, which it names in the environment.

    A notebook keeps its results only then: a copy of it that somebody executes elsewhere still has the
    parameters of the report it comes from, and must not write over its results.
    """
    return os.environ.get(REPORT_VARIABLE, "") == str(report_dir)


def is_any_report_run() -> bool:
    """True in a kernel that the report's runner started."""
    return bool(os.environ.get(REPORT_VARIABLE))


def write_results(path: Path | str, results: Iterable[MethodResult]) -> None:
    """Write results as one JSON file, complete or not at all; an undefined number becomes null."""
    rows = [_plain(dataclasses.asdict(result)) for result in results]
    write_json(
        Path(path),
        {"schema": RESULTS_SCHEMA, "schema_version": RESULTS_VERSION, "results": rows},
    )


def read_results(paths: Iterable[Path | str]) -> list[MethodResult]:
    """The results of all files, in order. Raises ValueError for a file that holds something else."""
    found: list[MethodResult] = []
    for path in paths:
        try:
            content = parse_json(Path(path).read_text(encoding="utf-8"))
            kind = (content["schema"], content["schema_version"])
            if kind != (RESULTS_SCHEMA, RESULTS_VERSION):
                raise ValueError(f"schema and version are {kind}")
            found += [_result(row) for row in content["results"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} is not a results file of schema {RESULTS_SCHEMA}, version {RESULTS_VERSION} "
                f"({error}). Run its notebook again: iaa report"
            ) from error
    return found


def _result(row: Mapping[str, Any]) -> MethodResult:
    values = dict(row)
    for name in METRICS:
        if values.get(name) is not None:
            numbers = {k: math.nan if v is None else float(v) for k, v in values[name].items()}
            values[name] = Metric(**numbers)
    return MethodResult(**values)


def _plain(value: Any) -> Any:
    """The value with numpy types turned into Python's, NaN and infinities into None."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
