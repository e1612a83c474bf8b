"""Predictions as files: what is read is what was written, and methods of two pages meet on their images."""

import numpy as np
import pytest

from analysis.evidence.bootstrap import Prediction, paired_differences
from analysis.results.methods import MethodResult
from analysis.results.predictions import (
    Predicted,
    compare_methods,
    read_predictions,
    result_name,
    write_predictions,
)


def methods(rng: np.random.Generator) -> dict[str, Predicted]:
    ids = np.array([f"é{i:03d}" for i in range(200)])
    y = rng.normal(5, 1, 200)
    near, far = y + 0.3 * rng.normal(size=200), y + 3 * rng.normal(size=200)
    order = rng.permutation(200)[:150]
    return {
        "near a/b": Predicted(ids, y, y > 5, Prediction(near, near > 5)),
        "far c|d": Predicted(ids[order], y[order], y[order] > 5, Prediction(far[order], far[order] > 5)),
        "majority": Predicted(ids, y, y > 5, Prediction(None, np.ones(200, bool))),
    }


def test_predictions_survive_a_file(rng: np.random.Generator, tmp_path) -> None:
    written = methods(rng)
    names = list(written)
    write_predictions(tmp_path / "r" / "a.npz", {name: written[name] for name in names[:2]})
    write_predictions(tmp_path / "r" / "b.npz", {names[2]: written[names[2]]})
    found = read_predictions([tmp_path / "r" / "a.npz", tmp_path / "r" / "b.npz"])
    assert list(found) == names
    for name in names:
        for part in ("image_id", "y", "is_high"):
            assert np.array_equal(getattr(found[name], part), getattr(written[name], part))
        for part in ("score", "high"):
            a, b = getattr(found[name].prediction, part), getattr(written[name].prediction, part)
            assert (a is None) == (b is None) and (a is None or np.array_equal(a, b))


def test_methods_meet_on_the_images_they_share(rng: np.random.Generator) -> None:
    given = methods(rng)
    (found,) = compare_methods(given, "srcc", n_boot=300, seed=1)
    assert (found.first, found.second) == ("near a/b", "far c|d") and found.low > 0
    far = given["far c|d"]
    ids = np.array(sorted(far.image_id.tolist()))
    row = {name: i for i, name in enumerate(far.image_id.tolist())}
    at = [row[name] for name in ids]
    near_row = {name: i for i, name in enumerate(given["near a/b"].image_id.tolist())}
    near = given["near a/b"].prediction.score[[near_row[name] for name in ids]]
    by_hand = {"a": Prediction(near, None), "b": Prediction(far.prediction.score[at], None)}
    (expected,) = paired_differences(far.y[at], None, by_hand, "srcc", 300, np.random.default_rng(1))
    assert (found.value, found.low, found.high) == (expected.value, expected.low, expected.high)
    accuracy = compare_methods(given, "accuracy", n_boot=50, pairs=[("near a/b", "majority")])
    assert [(d.first, d.second) for d in accuracy] == [("near a/b", "majority")] and accuracy[0].low > 0
    assert compare_methods({"majority": given["majority"]}, "srcc") == []


def test_other_ratings_are_noticed(rng: np.random.Generator) -> None:
    given = methods(rng)
    far = given["far c|d"]
    given["far c|d"] = Predicted(far.image_id, far.y + 1, far.is_high, far.prediction)
    with pytest.raises(ValueError, match=r"near a/b and far c\|d were measured against different ratings"):
        compare_methods(given, "srcc")


def test_names_tell_treatments_apart() -> None:
    result = MethodResult("probe.ols", "m", "clip", "embedding", "d", "s", 1, 1, detail={"unit_norm": True})
    assert result_name(result) == "probe.ols clip/embedding, unit norm"
    assert result_name(MethodResult("majority", "m", "", "", "d", "s", 1, 1)) == "majority"
