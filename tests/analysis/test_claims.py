"""The paper's statements follow the numbers: planted either way, the verdict flips."""

import numpy as np
import pytest

from analysis.evidence.bootstrap import Prediction
from analysis.results.claims import STATEMENTS, VERDICTS, check_statements, print_statements, sum_up
from analysis.results.methods import MethodResult, Metric
from analysis.results.predictions import Predicted, result_name
from analysis.results.published import TABLE_1, TABLE_2
from analysis.results.tables import compare

N = 300


def a_probe(backbone: str, output: str) -> MethodResult:
    return MethodResult(
        "probe.ols", "linear probe, OLS", backbone, output, "toy", "toy", 10, N, 0, Metric(0.5)
    )


def plant(clip_noise: float, vit_noise: float, seed: int = 1):
    """The statement about the two probes, with predictions that are the votes and so much noise."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=N)
    clip, vit = a_probe("vit_b32.openai", "pre_projection"), a_probe("vit_b32.in21k", "pre_logits")
    predicted = {}
    for result, noise in ((clip, clip_noise), (vit, vit_noise)):
        score = y + noise * rng.normal(size=N)
        ids = np.array([str(i) for i in range(N)])
        predicted[result_name(result)] = Predicted(ids, y, y > 0, Prediction(score, score > 0))
    rows = [*compare(TABLE_1, [clip, vit], False), *compare(TABLE_2, [clip, vit], False)]
    return check_statements(rows, predicted)


def test_the_verdict_flips_with_the_numbers() -> None:
    (found,) = plant(0.2, 2.0)
    assert found.statement.section == "4.2" and found.verdict == VERDICTS[0] and found.n_test == N
    assert "1 supported" in sum_up([found], "toy") and "contradicted" not in sum_up([found], "toy")
    (other,) = plant(2.0, 0.2)
    assert other.verdict == VERDICTS[3]
    assert "1 contradicted" in sum_up([other], "toy") and "supported" not in sum_up([other], "toy")
    for good, bad in zip(found.differences, other.differences, strict=True):
        assert good.low > 0 > bad.high and good.p_holm < 0.05 > bad.p_holm


def test_alike_is_not_settled_and_the_table_says_by_which_test() -> None:
    (found,) = plant(1.0, 1.0, seed=2)
    assert found.verdict == VERDICTS[2]
    table = print_statements([found], "toy")
    assert len(table) == 1 and table.texts()[0][1] == "not settled" and "*" not in "".join(table.texts()[0])
    assert "corrected (Holm) over all 3 comparisons together" in " ".join(table.notes)
    assert table.to_csv().count("\n") == 1 + 3


def test_without_both_rows_nothing_is_said() -> None:
    assert check_statements(compare(TABLE_1, [], False), {}) == []
    assert "None of the paper's statements can be tested on toy" in sum_up([], "toy")
    labels = {row.label for row in (*TABLE_1, *TABLE_2)}
    assert all(s.better in labels and s.worse in labels for s in STATEMENTS)


@pytest.mark.parametrize("verdict", VERDICTS)
def test_every_verdict_has_words(verdict: str) -> None:
    assert verdict.removesuffix(" in part").endswith("here")
