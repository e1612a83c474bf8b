"""What `--json` prints is JSON for every reader: RFC 8259 has no NaN."""

import json
from pathlib import Path

import numpy as np

from iaa.console import answer_json


def refuse(constant):
    raise ValueError(f"{constant} is not JSON")


def test_numbers_of_numpy_paths_and_undefined_values(capsys):
    values = {"a": np.float32(1.5), "b": np.array([1, np.nan]), "c": Path("x"), "d": (True, -np.inf)}
    answer_json(values)
    answer = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert answer == {"a": 1.5, "b": [1, None], "c": "x", "d": [True, None]}
