"""Probes on other data sets: worlds in which it is known whose taste travels."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from analysis.evidence.labels import RatingsError
from analysis.probing.transfer import Rated, both_ways, find_partners, has_partner, transfer, transfer_all
from analysis.report import transfer as page
from analysis.report.study import NothingToShowError, open_study
from analysis.results.methods import Metric
from store import Targets, open_features, open_targets, write_targets
from store.features import FEATURES_SCHEMA
from store.sealed import write_sealed

N, DIM = 90, 8
TASTE = np.zeros((3, DIM))
TASTE[0, 0], TASTE[1, 0], TASTE[2, 1] = 1, -1, 1


def make(root, name, taste, seed, shared=0, rated=True, **identity):
    """A data set with 5 votes per photograph whose ratings follow a direction of its features; the first
    `shared` photographs have the bytes of every other data set's first ones."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, DIM))
    drawn = np.clip(np.rint(4 + 1.5 * (x @ taste)[:, None] + rng.normal(size=(N, 5))), 1, 7).astype(int)
    votes = np.stack([np.bincount(row, minlength=8)[1:] for row in drawn])
    ids = np.array([f"{name}{i:02d}" for i in range(N)])
    targets = Targets(
        ids, ids, votes if rated else None, None, np.arange(1, 8) if rated else None, 4.0,
        np.repeat("train", N), "own", name,
    )  # fmt: skip
    write_targets(root / name / "targets.h5", targets, {}, {})
    content = rng.integers(0, 256, (N, 32)).astype(np.uint8)
    content[:shared] = np.arange(shared)[:, None] + 1
    write_sealed(
        root / name / "features" / "planted.h5",
        FEATURES_SCHEMA,
        {"backbone": "planted", "weights_sha256": "w", "outputs": {"out": DIM}, **identity},
        {},
        {
            "image_id": ids, "status": np.ones(N, np.uint8), "failures/row": np.zeros(0, np.int64),
            "failures/reason": np.zeros(0, "S1"), "source_sha256": content,
            "outputs/out": x.astype(np.float32),
        },
    )  # fmt: skip
    return opened(root, name)


def opened(root, name):
    return Rated(
        open_features(root / name / "features" / "planted.h5"), open_targets(root / name / "targets.h5")
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("tastes")
    for seed, (name, taste) in enumerate((("same", 0), ("alike", 0), ("opposite", 1), ("other", 2))):
        make(root, name, TASTE[taste], seed, shared=3)
    make(root, "silent", TASTE[0], 9, rated=False)
    make(root, "elsewhere", TASTE[0], 8, weights_sha256="another")
    return root


def test_one_taste_travels_an_opposite_one_turns_round_another_says_nothing(root):
    here = opened(root, "same")
    found = {name: transfer(here, opened(root, name), "out", 200) for name in ("alike", "opposite", "other")}
    assert found["alike"].srcc.low > 0.7 and found["opposite"].srcc.high < -0.7
    assert found["other"].srcc.low < 0 < found["other"].srcc.high or abs(found["other"].srcc.value) < 0.3
    for each in found.values():
        assert each.own.value > 0.7 and each.ceiling.value > each.own.value
        assert each.difference.value == pytest.approx(each.srcc.value - each.own.value)
        assert (each.n_source, each.n_target, each.n_shared) == (N, N - 3, 3)
    assert found["opposite"].difference.high < -1 and abs(found["alike"].difference.value) < 0.1


def test_it_is_what_scikit_learn_gives(root):
    from scipy.stats import spearmanr
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from analysis.probing.probes import ALPHAS

    here, there = opened(root, "same"), opened(root, "alike")
    y = [rated.targets.votes @ np.arange(1, 8) / 5 for rated in (here, there)]
    x = [rated.features.read("out").astype(float) for rated in (here, there)]
    model = make_pipeline(StandardScaler(), RidgeCV(ALPHAS)).fit(x[0], y[0])
    expected = spearmanr(model.predict(x[1])[3:], y[1][3:]).statistic
    assert transfer(here, there, "out", 50).srcc.value == pytest.approx(expected, abs=1e-12)


def test_partners_are_rated_and_of_the_same_weights(root):
    here = opened(root, "same")
    assert [each.name for each in find_partners(root / "same", here.features)] == [
        "alike",
        "opposite",
        "other",
    ]
    assert has_partner(root / "same", ["planted"]) and not has_partner(root / "same", ["another"])
    assert not has_partner(root / "silent", ["planted"]) and not has_partner(root / "elsewhere", ["planted"])
    assert transfer_all(root / "silent", []) == []
    (there, back) = both_ways(here, [opened(root, "other")], ["out"], 20)
    assert (there.source, there.target, back.source) == ("same", "other", "other")


def test_other_weights_and_missing_ratings_are_refused(root):
    with pytest.raises(ValueError, match="differ in weights_sha256"):
        transfer(opened(root, "same"), opened(root, "elsewhere"), "out")
    with pytest.raises(RatingsError, match="neither votes nor scores"):
        transfer(opened(root, "silent"), opened(root, "same"), "out")


def test_all_photographs_in_common_leave_nothing_to_measure(root, tmp_path):
    here, there = make(tmp_path, "a", TASTE[0], 1, shared=N), make(tmp_path, "b", TASTE[0], 2, shared=N)
    with pytest.raises(RatingsError, match="at least 10 are needed"):
        transfer(here, there, "out")


def test_the_page_says_what_the_numbers_say(root):
    here = opened(root, "same")
    found = {name: transfer(here, opened(root, name), "out", 200) for name in ("alike", "opposite")}
    assert "the taste turns round" in page.tell(found["opposite"])
    assert "travels" in page.tell(found["alike"]) and "turns" not in page.tell(found["alike"])
    apart, ahead, level = Metric(-0.2, -0.3, -0.1), Metric(0.2, 0.1, 0.3), Metric(0.0, -0.1, 0.1)
    known, unknown = Metric(0.3, 0.1, 0.5), Metric(0.1, -0.1, 0.3)

    def told(srcc, difference):
        return page.tell(replace(found["alike"], srcc=srcc, difference=difference))

    assert "cannot be told from a probe that knows nothing" in told(unknown, apart)
    assert "some of the taste travels" in told(known, apart)
    assert "better than its own" in told(known, ahead)
    assert "cannot be told from what its own probe knows" in told(known, level)


def test_the_page_has_a_number_per_cell_and_says_when_it_has_nothing(root):
    found = page.evaluate(open_study("same", str(root / "same"), ".", ".", n_boot=50))
    assert {(t.source, t.target) for t in found} >= {("same", "alike"), ("alike", "same")}
    lines = list(csv.DictReader(page.table(found).to_csv().splitlines()))
    assert len(lines) == len(found) and float(lines[0]["SRCC"]) == found[0].srcc.value
    assert float(lines[0]["difference, low"]) == found[0].difference.low
    assert "3 photographs of same are in alike, too" in " ".join(page.table(found).notes)
    drawn = page.figure(found)
    assert len(drawn.lines) == len(found) and page.tell(found[0]) in drawn.alt
    with pytest.raises(NothingToShowError, match="no other rated data set"):
        page.evaluate(open_study("silent", str(root / "silent"), ".", ".", n_boot=50))
