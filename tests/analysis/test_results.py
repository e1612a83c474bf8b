"""Results survive their file unchanged."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from analysis.results.methods import MethodResult, Metric, read_results, write_results


def a_result(**changes: object) -> MethodResult:
    values: dict[str, object] = {
        "key": "probe.ols",
        "method": "linear probe, OLS",
        "backbone": "demo_clip",
        "output": "embedding",
        "dataset": "demo",
        "split_name": "demo",
        "n_train": 10,
        "n_test": 5,
        "seed": 0,
        "accuracy": Metric(0.75, 0.5, 1.0),
        "detail": {"alphas": [1.0, 2.0], "n_failed": 3},
        "digests": {"features": "ab"},
    }
    return MethodResult(**(values | changes))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    first, second = a_result(), a_result(key="probe.ridge", srcc=Metric(0.5))
    write_results(tmp_path / "results" / "a.json", [first])
    write_results(tmp_path / "results" / "b.json", [second])
    read = read_results([tmp_path / "results" / "a.json", tmp_path / "results" / "b.json"])
    assert read[0] == first
    assert read[1].srcc is not None and math.isnan(read[1].srcc.low) and read[1].srcc.value == 0.5


def test_numbers_of_numpy_and_undefined_ones_become_valid_json(tmp_path: Path) -> None:
    detail = {"n": np.int64(3), "x": np.float32(0.5), "ok": np.bool_(True), "all": np.array([1.0, np.inf])}
    write_results(tmp_path / "a.json", [a_result(srcc=Metric(math.nan), detail=detail)])
    text = (tmp_path / "a.json").read_text()
    assert "NaN" not in text and "Infinity" not in text
    read = read_results([tmp_path / "a.json"])[0]
    assert read.detail == {"n": 3, "x": 0.5, "ok": True, "all": [1.0, None]}
    assert read.srcc is not None and math.isnan(read.srcc.value)


def test_equal_results_give_equal_bytes(tmp_path: Path) -> None:
    write_results(tmp_path / "a.json", [a_result()])
    write_results(tmp_path / "b.json", [a_result()])
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


@pytest.mark.parametrize(
    "content", ["{}", "[1]", "no json", json.dumps({"schema": "x", "schema_version": 1})]
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=r"a\.json is not a results file"):
        read_results([tmp_path / "a.json"])


def test_an_interval_covers_or_does_not_or_is_missing() -> None:
    assert Metric(0.5, 0.4, 0.6).covers(0.45) is True
    assert Metric(0.5, 0.4, 0.6).covers(0.65) is False
    assert Metric(0.5).covers(0.5) is None


def test_results_nested_beyond_reason_are_no_results(tmp_path):
    path = tmp_path / "deep.json"
    path.write_text('{"results": ' + "[" * 100_000 + "]" * 100_000 + "}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"deep\.json is not a results file"):
        read_results([path])
