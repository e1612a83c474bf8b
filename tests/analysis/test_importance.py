"""Importance and its concentration, against shuffling by hand and planted sparse weights."""

import numpy as np
import pytest

from analysis.evidence.bootstrap import Prediction, bootstrap_metrics
from analysis.probing import importance
from analysis.probing.gram import accumulate
from analysis.probing.probes import Probe, probe_of
from analysis.probing.spectrum import gram_basis, gram_path
from analysis.results.methods import Metric


def a_fit(rng: np.random.Generator, truth: np.ndarray, n: int = 500, alpha: float = 0.0):
    x = rng.normal(size=(n, len(truth))) * rng.uniform(0.5, 3, len(truth))
    y = x @ truth + rng.normal(size=n)
    (moments,) = accumulate([(x, y[:, None], np.zeros(n, int))], 1)
    path = gram_path(gram_basis(moments), moments)
    return x, y, path, probe_of(path, alpha, unit_norm=False)


def test_importance_does_not_depend_on_the_units_of_a_feature() -> None:
    a = Probe(np.array([2.0, -1.0]), 0.0, np.array([1.0, 3.0]), 0.0, False)
    b = Probe(np.array([0.02, -1.0]), 0.0, np.array([100.0, 3.0]), 0.0, False)
    assert importance.feature_importance(a).tolist() == [2.0, 3.0]
    np.testing.assert_allclose(importance.feature_importance(b), [2.0, 3.0])


def test_concentration_at_its_extremes() -> None:
    alike, alone = np.ones(50), np.eye(50)[3]
    assert importance.effective_dimensions(alike) == pytest.approx(50)
    assert importance.effective_dimensions(alone) == pytest.approx(1)
    assert importance.gini(alike) == pytest.approx(0)
    assert importance.gini(alone) == pytest.approx(1 - 1 / 50)
    assert importance.top_share(alike) == pytest.approx(0.1)
    assert importance.top_share(alone) == importance.largest_share(alone) == 1.0
    assert importance.largest_share(alike) == pytest.approx(1 / 50)
    both = importance.gini(np.stack([alike, alone]))
    np.testing.assert_allclose(both, [0, 0.98])


def planted(rng: np.random.Generator, n_used: int, strength: float = 2.0) -> dict[str, Metric]:
    """Measures of a probe that was fitted to a truth in which n_used of 60 dimensions count."""
    truth = np.zeros(60)
    truth[:n_used] = strength
    x = rng.normal(size=(20_000, 60))
    y = x @ truth + rng.normal(size=len(x))
    (moments,) = accumulate([(x, y[:, None], np.zeros(len(x), int))], 1)
    path = gram_path(gram_basis(moments), moments)
    return importance.concentration(path, probe_of(path, 0.0, unit_norm=False), 200, rng)


@pytest.mark.parametrize(
    ("n_used", "verdict", "words"),
    [
        (1, "one", "leans mainly on one dimension"),
        (3, "few", "leans on few dimensions"),
        (12, "between", "leans on neither few nor many"),
        (50, "many", "leans on many dimensions"),
    ],
)
def test_the_sentence_about_breadth_follows_from_what_was_planted(
    rng: np.random.Generator, n_used: int, verdict: str, words: str
) -> None:
    measured = planted(rng, n_used)
    assert importance.breadth(measured, 60) == verdict
    sentence = importance.describe_breadth("b/o", measured, 60)
    assert sentence.startswith(f"b/o {words}")
    assert f"{measured['effective_dimensions'].value:.1f} of 60 as if alike" in sentence


def test_a_verdict_needs_its_whole_interval() -> None:
    def measured(low: float, value: float, high: float) -> dict[str, Metric]:
        return {"effective_dimensions": Metric(value, low, high), "largest_share": Metric(0.1, 0.05, 0.2)}

    assert importance.breadth(measured(3, 5, 9), 100) == "few"
    assert importance.breadth(measured(3, 5, 11), 100) == "between"
    assert importance.breadth(measured(30, 40, 50), 100) == "between"
    assert importance.breadth(measured(34, 40, 50), 100) == "many"


def test_figure_3_is_as_in_the_paper_or_the_other_way_round_as_was_planted(rng: np.random.Generator) -> None:
    few, many, as_many = planted(rng, 2), planted(rng, 40), planted(rng, 40)
    clip, vit = "vit_b32.openai/pre_projection", "vit_b32.in21k/pre_logits"
    compare = importance.compare_with_figure_3
    assert compare({clip: many, vit: few}).endswith("CLIP's is the broader set, as in the paper.")
    assert compare({clip: few, vit: many}).endswith("the other way round, the ViT's is the broader set.")
    assert "intervals overlap, so no order" in compare({clip: many, vit: as_many})
    without = {name: Metric(metric.value) for name, metric in few.items()}
    assert "no intervals, so no order" in compare({clip: many, vit: without})
    assert "demo ViT, last layer" in compare({"demo_clip/pre_projection": many, "demo_vit/pre_logits": few})
    assert compare({clip: many}) == compare({clip: many, "demo_vit/embedding": few}) == ""
    # The paper's own sentence, in every verdict: the ViT on one dimension, CLIP on a broader set.
    said = compare({clip: few, vit: many})
    assert "mainly on one dimension of the ImageNet ViT's features, and on a broader set of CLIP's" in said


@pytest.mark.parametrize("alpha", [0.0, 5.0])
def test_intervals_contain_the_truth_and_shrink_with_more_images(
    rng: np.random.Generator, alpha: float
) -> None:
    truth = np.zeros(40)
    truth[:4] = 2.0
    widths = []
    for n in (200, 20_000):
        x, _, path, probe = a_fit(rng, truth, n, alpha)
        found = importance.concentration(path, probe, 300, rng)
        actual = importance.effective_dimensions(np.abs(truth * x.std(axis=0)))
        interval = found["effective_dimensions"]
        widths.append(interval.high - interval.low)
        if n == 20_000:
            assert interval.low - 0.1 < actual < interval.high + 0.1
    assert widths[1] < widths[0] / 4


def test_without_degrees_of_freedom_there_is_no_interval(rng: np.random.Generator) -> None:
    _, _, path, probe = a_fit(rng, np.ones(30), n=31)
    found = importance.concentration(path, probe, 20, rng)
    assert np.isnan(found["gini"].low) and found["gini"].value > 0


def test_permutation_importance_is_the_growth_of_the_error(rng: np.random.Generator) -> None:
    x, y, _, probe = a_fit(rng, np.array([1.0, 0.0, -3.0]))
    found = importance.permutation_importance(x.astype(np.float32), y, probe, 2, np.random.default_rng(5))
    assert found.shape == (2, 3) and not np.array_equal(found[0], found[1])
    order = np.random.default_rng(5).permutation(len(y))
    for j in range(3):
        shuffled = x.copy()
        shuffled[:, j] = x[order, j]
        expected = np.mean((y - probe.predict(shuffled)) ** 2) - np.mean((y - probe.predict(x)) ** 2)
        assert found[0, j] == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert np.argmax(found[0]) == 2 and abs(found[0, 1]) < 0.1


def test_keeping_all_dimensions_is_the_probe_and_the_first_one_the_strongest(
    rng: np.random.Generator,
) -> None:
    x, y, path, probe = a_fit(rng, np.array([0.1, 5.0, 0.2, 0.0, 1.0]))
    curve = importance.keep_top(x, y, y > 0, 0.0, probe, path.basis.mean, 200, np.random.default_rng(0))
    assert curve.k.tolist() == [1, 2, 4, 5]
    assert curve.accuracy[-1].value == np.mean((probe.predict(x) > 0) == (y > 0))
    assert curve.srcc[0].value > 0.85 and curve.srcc[-1].value >= curve.srcc[0].value
    # By hand: only dimension 1 speaks, the others stay at their mean.
    alone = (x[:, 1] - path.basis.mean[1]) * probe.weights[1]
    prediction = Prediction(alone, None)
    expected = bootstrap_metrics(y, None, prediction, 200, np.random.default_rng(0), ("srcc",))["srcc"]
    assert (curve.srcc[0].low, curve.srcc[0].high) == pytest.approx((expected.low, expected.high))
