"""What --json prints is JSON, whatever the numbers are."""

import json

import numpy as np
import pytest

from iaa.cli.console import answer_json


def test_undefined_numbers_are_null_at_any_depth(capsys):
    undefined = [1.5, (np.inf, np.float64("nan"))]
    answer_json({"a": float("nan"), "b": undefined, "c": {"d": np.array([np.nan, 2])}})
    found = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert found == {"a": None, "b": [1.5, [None, None]], "c": {"d": [None, 2.0]}}
