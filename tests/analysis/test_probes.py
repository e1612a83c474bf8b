"""Probes against constructed solutions, scikit-learn, symmetries, and a planted world in a store."""

import logging
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge, RidgeCV
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from analysis.evidence import labels
from analysis.evidence.metrics import srcc
from analysis.probing import probes
from analysis.probing.evidence import cross_validated_srcc
from analysis.probing.gram import array_source
from analysis.probing.spectrum import RidgePath
from store import open_features, open_targets

ALPHAS = np.array([0.0, 0.1, 1.0, 30.0, 1e3, 1e5])


def solve(
    x: np.ndarray, y: np.ndarray, n_folds: int | None = None, alphas: np.ndarray = ALPHAS, size: int = 64
) -> tuple[RidgePath, np.ndarray]:
    group = np.zeros(len(x), int) if n_folds is None else np.arange(len(x)) % n_folds
    targets = y if y.ndim == 2 else y[:, None]
    is_wide = x.shape[1] >= 0.8 * len(x)
    return probes.solve(array_source(x, targets, group, size), n_folds, alphas, is_wide, "x")


def problem(rng: np.random.Generator, n: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    x = rng.normal(size=(n, dim)) @ rng.normal(size=(dim, dim)) / np.sqrt(dim) + rng.normal(size=dim)
    return x, x @ rng.normal(size=dim) + rng.normal(size=n) + 5


def with_condition(rng: np.random.Generator, n: int, dim: int, condition: float) -> np.ndarray:
    """Standardised columns would not keep a condition number, so pairs of columns differ by very little."""
    base = rng.normal(size=(n, dim // 2))
    return np.concatenate([base, base + rng.normal(size=base.shape) / condition], axis=1)


@pytest.mark.parametrize("shape", [(400, 12), (30, 80), (81, 80)])
def test_ridge_path_equals_scikit_learn(rng: np.random.Generator, shape: tuple[int, int]) -> None:
    x, y = problem(rng, *shape)
    path, _ = solve(x, y)
    weights, bias = path.solve(ALPHAS)
    for column, alpha in enumerate(ALPHAS):
        model = make_pipeline(StandardScaler(), Ridge(alpha) if alpha else LinearRegression()).fit(x, y)
        standard = weights[:, column] * path.basis.scale
        np.testing.assert_allclose(standard, model[-1].coef_, rtol=1e-6, atol=1e-6 * np.abs(standard).max())
        predicted = x @ weights[:, column] + bias[column]
        np.testing.assert_allclose(predicted, model.predict(x), atol=1e-8)


def test_exact_linear_target_is_recovered(rng: np.random.Generator) -> None:
    x = rng.normal(3, 2, size=(200, 7))
    truth = np.array([1.0, -2, 0, 0.5, 3, 0, 1])
    path, _ = solve(x, x @ truth + 4)
    weights, bias = path.solve(np.zeros(1))
    np.testing.assert_allclose(weights[:, 0], truth, atol=1e-10)
    assert bias[0] == pytest.approx(4)


def test_orthonormal_features_shrink_by_the_textbook_factor(rng: np.random.Generator) -> None:
    # Centred orthogonal columns of variance 1 have S'S = n, so w(alpha) = n / (n + alpha) w(0).
    n = 128
    q = np.linalg.qr(np.concatenate([np.ones((n, 1)), rng.normal(size=(n, 5))], axis=1))[0][:, 1:]
    x = q * np.sqrt(n)
    path, _ = solve(x, x @ np.arange(1.0, 6.0))
    weights, _ = path.solve(np.array([0.0, 32.0]))
    np.testing.assert_allclose(weights[:, 1], weights[:, 0] * n / (n + 32))


def test_duplicated_columns_share_their_weight_and_rank_is_reported(
    rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    x, y = problem(rng, 200, 6)
    with caplog.at_level(logging.WARNING):
        path, _ = solve(np.concatenate([x, x[:, :2]], axis=1), y)
    assert "going on with QR" in caplog.text
    assert (path.basis.rank, path.basis.solver) == (6, "qr")
    weights, _ = path.solve(np.zeros(1))
    single, _ = solve(x, y)[0].solve(np.zeros(1))
    np.testing.assert_allclose(weights[:2, 0], single[:2, 0] / 2, rtol=1e-8)
    np.testing.assert_allclose(weights[6:, 0], weights[:2, 0], rtol=1e-8)


def test_constant_features_get_no_weight_and_change_nothing(rng: np.random.Generator) -> None:
    x, y = problem(rng, 100, 5)
    dead = np.concatenate([x, np.full((100, 1), 0.1), np.zeros((100, 1))], axis=1)
    path, _ = solve(dead.astype(np.float32), y)
    weights, bias = path.solve(ALPHAS)
    assert not weights[5:].any() and np.isfinite(weights).all() and np.isfinite(bias).all()
    assert path.basis.rank == 5 and path.basis.solver == "gram"


def test_condition_of_1e9_is_noticed_and_solved_by_qr(
    rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    x = with_condition(rng, 400, 8, 1e9)
    truth = rng.normal(size=8)
    with caplog.at_level(logging.WARNING):
        path, _ = solve(x, x @ truth)
    assert "above 1e+06" in caplog.text
    assert path.basis.solver == "qr" and path.basis.rank == 8
    assert 1e8 < path.basis.condition < 1e11
    weights, _ = path.solve(np.zeros(1))
    # QR loses condition * 2.2e-16, a Gram matrix would lose all digits (condition^2 * 2.2e-16 > 1).
    np.testing.assert_allclose(weights[:, 0], truth, atol=2e-5)


def test_below_1e6_the_gram_matrix_is_used_and_right(rng: np.random.Generator) -> None:
    x = with_condition(rng, 400, 8, 1e4)
    truth = rng.normal(size=8)
    path, _ = solve(x, x @ truth)
    assert path.basis.solver == "gram" and path.basis.condition > 1e4
    np.testing.assert_allclose(path.solve(np.zeros(1))[0][:, 0], truth, rtol=1e-6, atol=1e-6)


def test_a_layer_norms_lost_direction_in_float32_is_dropped_not_amplified(rng: np.random.Generator) -> None:
    z = rng.normal(size=(500, 10))
    z -= z.mean(axis=1, keepdims=True)
    x = (z * rng.uniform(0.5, 2, 10) + rng.normal(size=10)).astype(np.float32)
    y = z[:, 0] + rng.normal(size=500)
    path, _ = solve(x, y)
    assert path.basis.rank == 9 and path.basis.condition < 100
    assert np.abs(path.solve(np.zeros(1))[0]).max() < 10


def test_cross_validation_equals_grid_search_over_the_same_folds(rng: np.random.Generator) -> None:
    x, y = problem(rng, 300, 20)
    _, errors = solve(x, y, n_folds=4)
    folds = PredefinedSplit(np.arange(300) % 4)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), Ridge()),
        {"ridge__alpha": ALPHAS[1:]},
        cv=folds,
        scoring="neg_mean_squared_error",
    ).fit(x, y)
    for fold in range(4):
        expected = -search.cv_results_[f"split{fold}_test_score"]
        np.testing.assert_allclose(errors[fold, 1:], expected, rtol=1e-8)
    x_standard = StandardScaler().fit_transform(x)
    ridge_cv = RidgeCV(ALPHAS[1:], cv=folds, scoring="neg_mean_squared_error").fit(x_standard, y)
    assert ALPHAS[np.argmin(errors.mean(0))] == ridge_cv.alpha_


@pytest.mark.parametrize("shape", [(200, 20), (40, 90)])
def test_leave_one_out_equals_ridge_cv(rng: np.random.Generator, shape: tuple[int, int]) -> None:
    x, y = problem(rng, *shape)
    _, errors = solve(x, y)
    assert errors.shape == (1, len(ALPHAS))
    model = RidgeCV(ALPHAS[1:], store_cv_results=True).fit(StandardScaler().fit_transform(x), y)
    np.testing.assert_allclose(errors[0, 1:], model.cv_results_.mean(axis=0), rtol=1e-8)


def test_folds_of_wide_problems_go_the_same_way_by_qr(rng: np.random.Generator) -> None:
    x, y = problem(rng, 60, 100)
    _, errors = solve(x, y, n_folds=3)
    train, left_out = np.arange(60) % 3 != 1, np.arange(60) % 3 == 1
    model = make_pipeline(StandardScaler(), Ridge(30.0)).fit(x[train], y[train])
    expected = np.mean((model.predict(x[left_out]) - y[left_out]) ** 2)
    assert errors[1, 3] == pytest.approx(expected, rel=1e-8)


def test_several_targets_at_once_equal_one_at_a_time(rng: np.random.Generator) -> None:
    x, y = problem(rng, 150, 9)
    both = np.stack([y, rng.normal(size=150)], axis=1)
    path, _ = solve(x, both)
    alone, _ = solve(x, both[:, 1])
    np.testing.assert_allclose(path.solve(ALPHAS, 1)[0], alone.solve(ALPHAS)[0], atol=1e-12)


class TestSymmetries:
    """What must not change the fit does not."""

    @pytest.fixture
    def data(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        x, y = problem(rng, 160, 10)
        weights, bias = solve(x, y)[0].solve(ALPHAS)
        return x, y, x @ weights + bias

    def predict(self, x: np.ndarray, y: np.ndarray, alphas: np.ndarray = ALPHAS, **how: int) -> np.ndarray:
        weights, bias = solve(x, y, **how)[0].solve(alphas)
        return x @ weights + bias

    def test_rows_twice_with_twice_the_penalty(self, data) -> None:
        x, y, expected = data
        twice = self.predict(np.concatenate([x, x]), np.concatenate([y, y]), 2 * ALPHAS)
        np.testing.assert_allclose(twice[:160], expected, atol=1e-9)

    def test_permuted_rows_and_columns_and_other_blocks(self, data, rng: np.random.Generator) -> None:
        x, y, expected = data
        rows, columns = rng.permutation(160), rng.permutation(10)
        found = self.predict(x[rows][:, columns], y[rows], size=23)
        np.testing.assert_allclose(found, expected[rows], atol=1e-9)

    def test_shifted_and_scaled_features(self, data, rng: np.random.Generator) -> None:
        x, y, expected = data
        found = self.predict(x * rng.uniform(0.01, 100, 10) + rng.normal(0, 50, 10), y)
        np.testing.assert_allclose(found, expected, atol=1e-7)

    def test_shifted_and_scaled_target(self, data) -> None:
        x, y, expected = data
        np.testing.assert_allclose(self.predict(x, 3 * y - 7), 3 * expected - 7, atol=1e-9)


def test_probes_of_a_planted_world(rated_world: Path) -> None:
    targets = open_targets(rated_world / "targets.h5")
    found = {}
    for backbone in ("sharp", "dull"):
        with open_features(rated_world / "features" / f"{backbone}.h5") as features:
            fit = probes.fit_probes(features, targets, "pooled")
            ols, ridge = probes.evaluate_probe(fit, n_boot=50)
            found[backbone] = ridge
            assert (ols.key, ridge.key) == ("probe.ols", "probe.ridge")
            assert ols.n_train + ols.n_test == 698
            assert ols.detail["n_failed_train"] == 1 and ols.detail["n_failed_test"] == 1
            # Joined on image_id: the dull file has its rows in another order.
            test = fit.rows.test
            rows = features.read("pooled", test).astype(float)
            np.testing.assert_allclose(fit.ols.predict(rows), fit.predictions["ols"], atol=1e-9)
            x = features.read("pooled", fit.rows.train).astype(float)
            model = make_pipeline(StandardScaler(), LinearRegression()).fit(x, fit.rows.y[fit.rows.train, 0])
            np.testing.assert_allclose(model.predict(rows), fit.predictions["ols"], atol=1e-8)
            assert ols.srcc is not None and ols.srcc.value == srcc(fit.y_test, fit.predictions["ols"])
            assert ols.srcc.low < ols.srcc.value < ols.srcc.high
            assert ols.detail["prints"] == pytest.approx(
                {
                    "intercept": model[-1].intercept_,
                    "lowest prediction": fit.predictions["ols"].min(),
                    "highest prediction": fit.predictions["ols"].max(),
                    "mean prediction": fit.predictions["ols"].mean(),
                }
            )
    assert found["sharp"].srcc.value > 0.7 > found["dull"].srcc.value + 0.1
    assert found["dull"].srcc.value > 0.3
    assert found["sharp"].accuracy.value > probes.evaluate_majority(fit, 20).accuracy.value + 0.05


def test_ratings_of_test_images_have_no_influence_on_the_fit(rated_world: Path) -> None:
    from dataclasses import replace

    targets = open_targets(rated_world / "targets.h5")
    votes = targets.votes.copy()
    votes[targets.split == "test"] = votes[targets.split == "test"][::-1]
    with open_features(rated_world / "features" / "sharp.h5") as features:
        for n_folds in (None, 5):
            fit = probes.fit_probes(features, targets, "pooled", n_folds=n_folds)
            other = probes.fit_probes(features, replace(targets, votes=votes), "pooled", n_folds=n_folds)
            assert np.array_equal(fit.ridge.weights, other.ridge.weights)
            assert np.array_equal(fit.cv_mse, other.cv_mse)


def test_unit_norm_features_are_another_probe_and_every_output_is_fitted(rated_world: Path) -> None:
    targets = open_targets(rated_world / "targets.h5")
    with open_features(rated_world / "features" / "sharp.h5") as features:
        fits = probes.fit_all([features], targets)
    assert [fit.name for fit in fits] == [
        "sharp/embedding",
        "sharp/embedding, unit norm",
        "sharp/pooled",
        "sharp/pooled, unit norm",
    ]
    assert not np.allclose(fits[0].predictions["ols"], fits[1].predictions["ols"])


def test_predictions_come_in_the_order_of_the_rows_whatever_the_pieces(
    rated_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = open_targets(rated_world / "targets.h5")
    with open_features(rated_world / "features" / "dull.h5") as features:
        fit = probes.fit_probes(features, targets, "pooled", rows=probes.join_rows(features, targets))
        both = {"ols": fit.ols, "ridge": fit.ridge}
        monkeypatch.setattr(probes, "_ROWS_PREDICTED_AT_ONCE", 7)
        found = probes.predict_rows(features, "pooled", fit.rows.test, both)
        assert len(fit.rows.test) > 14
        for name in both:
            np.testing.assert_allclose(found[name], fit.predictions[name], atol=1e-12)
        assert len(probes.predict_rows(features, "pooled", np.zeros(0, int), both)["ols"]) == 0


def test_a_data_set_without_a_split_is_refused_with_advice(rated_world: Path) -> None:
    from dataclasses import replace

    targets = open_targets(rated_world / "targets.h5")
    unsplit = replace(targets, split=np.full(targets.n_images, ""), split_name="none")
    with (
        open_features(rated_world / "features" / "sharp.h5") as features,
        pytest.raises(ValueError, match="0 training and 0 test images .* add the data set with a split"),
    ):
        probes.fit_probes(features, unsplit, "pooled")


def test_caches_give_the_same_answer_and_serve_a_new_target(rated_world: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    targets = open_targets(rated_world / "targets.h5")
    other = replace(targets, votes=targets.votes[:, ::-1])
    with open_features(rated_world / "features" / "sharp.h5") as features:
        for rated in (targets, other):
            plain = probes.fit_probes(features, rated, "pooled", n_folds=5)
            first = probes.fit_probes(features, rated, "pooled", n_folds=5, cache=tmp_path)
            again = probes.fit_probes(features, rated, "pooled", n_folds=5, cache=tmp_path)
            for found in (first, again):
                np.testing.assert_allclose(found.ridge.weights, plain.ridge.weights, rtol=1e-9)
                np.testing.assert_allclose(found.cv_mse, plain.cv_mse, rtol=1e-9)
        assert len(list(tmp_path.glob("gram_*"))) == 1 and len(list(tmp_path.glob("cross_*"))) == 2


def test_with_caches_no_training_row_is_read_again(
    rated_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = open_targets(rated_world / "targets.h5")
    read: list[int] = []

    def counting(self, output, rows=None, unit_norm=False):
        found = original(self, output, rows, unit_norm)
        read.append(len(found))
        return found

    with open_features(rated_world / "features" / "sharp.h5") as features:
        original = type(features).read
        monkeypatch.setattr(type(features), "read", counting)
        # All blocks and the test images, then these alone; they are read twice, to find equal ones.
        for expected in (700 + 2 * 139, 2 * 139):
            read.clear()
            fit = probes.fit_probes(features, targets, "pooled", n_folds=5, cache=tmp_path)
            assert sum(read) == expected and len(fit.rows.test) == 139


def test_a_cache_of_other_folds_or_features_is_not_used(rated_world: Path, tmp_path: Path) -> None:
    targets = open_targets(rated_world / "targets.h5")
    with open_features(rated_world / "features" / "sharp.h5") as features:
        probes.fit_probes(features, targets, "pooled", n_folds=5, cache=tmp_path)
        cached = probes.fit_probes(features, targets, "pooled", n_folds=4, seed=1, cache=tmp_path)
        plain = probes.fit_probes(features, targets, "pooled", n_folds=4, seed=1)
        np.testing.assert_allclose(cached.cv_mse, plain.cv_mse, rtol=1e-9)


def test_repeated_cross_validation_equals_scikit_learns_on_the_same_folds(rated_world: Path) -> None:
    from dataclasses import replace

    targets = open_targets(rated_world / "targets.h5")
    with open_features(rated_world / "features" / "sharp.h5") as features:
        unsplit = replace(targets, split=np.full(targets.n_images, ""))
        found = cross_validated_srcc(features, unsplit, "pooled", n_folds=4, n_repeats=2, seed=3)
        x, y = features.read("pooled", features.ok).astype(float), labels.targets_mos(targets)[features.ok]
    for repeat in range(2):
        fold = np.random.default_rng([3, repeat]).permutation(len(y)) % 4
        for left_out in range(4):
            train, test = fold != left_out, fold == left_out
            model = make_pipeline(StandardScaler(), RidgeCV(probes.ALPHAS)).fit(x[train], y[train])
            assert found[repeat, left_out] == pytest.approx(srcc(y[test], model.predict(x[test])), abs=1e-3)


@pytest.mark.shared_data
@pytest.mark.slow
def test_oasis_reaches_the_reference(shared_data: Path, tmp_path: Path) -> None:
    """Real ImageNet features and real votes, against an independent scikit-learn run: alpha by exact
    leave-one-out, as there. `iaa dataset add` and `iaa embed` make the data set."""
    from iaa.cli.app import main

    oasis, data = shared_data / "oasis", ["--data", str(tmp_path)]
    source = ["--kind", "table", "--images", str(oasis / "images"), "--ratings", str(oasis / "ratings.csv")]
    embed = ["embed", "--dataset", "oasis", "--backbone", "efficientnet_lite0.in1k"]
    for command in (["dataset", "add", "oasis", *source], embed):
        with pytest.raises(SystemExit) as stop:
            main([*command, *data])
        assert stop.value.code == 0
    targets = open_targets(tmp_path / "oasis" / "targets.h5")
    with open_features(tmp_path / "oasis" / "features" / "efficientnet_lite0.in1k.h5") as features:
        fit = probes.fit_probes(features, targets, "pooled")
        ridge = probes.evaluate_probe(fit, n_boot=10)[1]
        assert ridge.srcc.value == pytest.approx(0.706, abs=0.01)
        assert ridge.plcc.value == pytest.approx(0.722, abs=0.01)
        assert ridge.accuracy.value == pytest.approx(0.826, abs=0.01)
        repeated = cross_validated_srcc(features, targets, "pooled", n_folds=10, n_repeats=10)
        assert repeated.shape == (10, 10) and repeated.std() > 0.01
        assert repeated.mean() == pytest.approx(0.749, abs=0.015)


def test_a_block_without_training_rows_leaves_no_thread_idle():
    """Blocks of 2,048 rows of which the second is all test images, as in the demo."""
    from types import SimpleNamespace

    from analysis.probing.gram import accumulate_parts
    from analysis.probing.probes import row_source

    x = np.random.default_rng(0).standard_normal((2500, 3)).astype(np.float32)
    group = np.where(np.arange(2500) < 2000, 0, -1)
    features = SimpleNamespace(n_images=2500, outputs={"o": 3}, read=lambda name, block, unit_norm: x[block])
    source = row_source(features, "o", SimpleNamespace(y=x[:, :1].astype(float)), group, False)
    assert source.n_blocks == 1
    (moments,) = accumulate_parts(source, 1)
    assert moments.n == 2000
    np.testing.assert_allclose(moments.mean_x, x[:2000].astype(float).mean(axis=0), atol=1e-12)
