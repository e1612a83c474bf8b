"""Predictions that somebody brings: measured as scipy measures them, refused where they cannot be meant."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from analysis.results.own import OwnResultsError, evaluate_own, parse, read_own, write_own
from store import Targets

N = 40


@pytest.fixture(scope="module")
def targets() -> Targets:
    rng = np.random.default_rng(2)
    ids = np.array([f"i{i}" for i in range(N)])
    votes = rng.multinomial(30, np.ones(5) / 5, size=N)
    split = np.where(np.arange(N) < 20, "train", "test")
    paths = np.array([f"sub/{i}.jpg" for i in ids])
    return Targets(ids, paths, votes, None, np.arange(1, 6), 3.0, split, "toy", "planted")


def take(targets: Targets, **columns: list[str]):
    return parse(list(columns), columns, targets, "Mine", "toy", "mine.csv")


def test_scores_are_measured_on_the_test_images_that_have_one(targets: Targets) -> None:
    rng = np.random.default_rng(3)
    score = rng.normal(3, 1, N).clip(1, 5)
    kept = [i for i in range(N) if i != 25]
    own = take(targets, image_id=[f"i{i}" for i in kept], score=[repr(float(score[i])) for i in kept])
    result, said = evaluate_own(own, targets, n_boot=20)
    test = [i for i in kept if i >= 20]
    mean = targets.votes @ targets.levels / 30
    assert result.n_test == 19 and result.detail["n_missing_test"] == 1 and said is not None
    assert result.srcc.value == pytest.approx(spearmanr(score[test], mean[test]).statistic)
    high = mean > 3.0
    assert result.accuracy.value == pytest.approx(np.mean((score[test] > 3) == high[test]))


def test_another_splits_method_is_shown_and_never_compared(targets: Targets) -> None:
    own = replace(
        take(targets, image_id=[f"i{i}" for i in range(N)], score=[str(i) for i in range(N)]),
        split="official",
    )
    result, said = evaluate_own(own, targets, n_boot=20)
    assert said is None and result.split_name == "official" and result.n_test == N


def test_names_of_files_classes_and_distributions_are_understood(targets: Targets) -> None:
    files = [f"i{i}.jpg" for i in range(N)]
    own = take(targets, img_name=files, musiq=[str(i / 10) for i in range(N)])
    assert own.image_id.tolist() == targets.image_id.tolist() and own.score is not None
    classes = take(targets, file=[f"sub/{f}" for f in files], label=["high", "0"] * 20)
    assert classes.score is None and classes.high is not None and classes.high.sum() == 20
    shares = {f"p_{level}": ["0.5" if level in (2, 3) else "0"] * N for level in range(1, 6)}
    assert np.allclose(take(targets, id=[f"i{i}" for i in range(N)], **shares).score, 2.5)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image_id": ["i1", "x9"], "score": ["1", "2"]}, "1 of 2 ids are not of data set planted.*'x9'"),
        ({"image_id": ["i1", "i1"], "score": ["1", "2"]}, "more than once.*'i1'"),
        ({"image_id": ["i1", "i2"], "score": ["1", "nan"]}, "score of i2 is 'nan', expected a finite number"),
        ({"image_id": ["i1", "i2"], "score": ["1", ""]}, "score of i2 is ''"),
        ({"image_id": ["i1"], "class": ["maybe"]}, "class of i1 is 'maybe', expected high or low"),
        ({"score": ["1"], "other": ["2"]}, "no column of image ids"),
        ({"image_id": ["i1"], "a": ["1"], "b": ["1"]}, "neither score nor class"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    targets: Targets, columns: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(OwnResultsError, match=message):
        take(targets, **columns)


def test_kept_predictions_come_back_and_damage_is_seen(targets: Targets, tmp_path: Path) -> None:
    own = take(targets, image_id=[f"i{i}" for i in range(N)], score=[repr(i / 7) for i in range(N)])
    write_own(tmp_path / "results" / "Mine.json", own)
    again = read_own(tmp_path / "results" / "Mine.json")
    assert np.array_equal(again.score, own.score) and again.name == "Mine" and again.remarks == own.remarks
    text = (tmp_path / "results" / "Mine.json").read_text()
    (tmp_path / "results" / "Mine.json").write_text(
        text.replace("0.14285714285714285", "0.24285714285714285")
    )
    with pytest.raises(OwnResultsError, match=r"Mine.json is damaged"):
        read_own(tmp_path / "results" / "Mine.json")
