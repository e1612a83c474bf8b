"""Moments and QR factors: equal to sums over rows, however the rows are cut."""

import numpy as np
import pytest

from analysis.evidence.folds import assign_folds
from analysis.evidence.roots import accumulate_roots, merge_roots, root_squared_error
from analysis.probing.gram import (
    Moments,
    accumulate,
    accumulate_parts,
    array_source,
    merge,
    select,
    squared_error,
)


def blocks(x: np.ndarray, y: np.ndarray, group: np.ndarray, size: int = 37):
    return ((x[i : i + size], y[i : i + size], group[i : i + size]) for i in range(0, len(x), size))


@pytest.fixture
def world(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x = (100 + rng.normal(size=(300, 6)) @ rng.normal(size=(6, 6))).astype(np.float32)
    return x, rng.normal(5, 1, size=(300, 2)), rng.integers(-1, 3, 300)


def assert_equal(a: Moments, b: Moments, rel: float = 1e-9) -> None:
    assert a.n == b.n
    for name in ("mean_x", "xx", "mean_y", "xy", "yy"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=rel, atol=1e-8, err_msg=name)


def test_moments_are_the_centred_sums_of_each_group(world) -> None:
    x, y, group = world
    for g, found in enumerate(accumulate(blocks(x, y, group), 3)):
        x_g, y_g = x[group == g].astype(float), y[group == g]
        x_c, y_c = x_g - x_g.mean(0), y_g - y_g.mean(0)
        expected = Moments(
            len(x_g), x_g.mean(0), x_c.T @ x_c, y_g.mean(0), x_c.T @ y_c, (y_c**2).sum(0), 1.2e-7
        )
        assert_equal(found, expected)
        assert found.precision == np.finfo(np.float32).eps


def test_groups_merge_to_the_moments_of_all_their_rows(world) -> None:
    x, y, group = world
    parts = accumulate(blocks(x, y, group), 3)
    (together,) = accumulate(blocks(x, y, np.where(group >= 0, 0, -1), size=300), 1)
    assert_equal(merge(parts), together)
    assert_equal(merge([merge(parts[:2]), parts[2]]), merge(parts))
    (empty,) = accumulate(blocks(x, y, np.full(300, -1)), 1)
    assert_equal(merge([empty, *parts]), merge(parts))


def test_features_far_from_zero_lose_no_digits(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(500, 3)), rng.normal(size=(500, 1))
    near, far = (next(iter(accumulate(blocks(v, y, np.zeros(500, int)), 1))) for v in (x, x + 1e7))
    np.testing.assert_allclose(far.xx, near.xx, rtol=1e-7)


def test_a_joint_pass_over_two_backbones_serves_each_of_them(world) -> None:
    x, y, group = world
    joint = accumulate(blocks(x, y, group), 3)[0]
    alone = accumulate(blocks(x[:, 2:5], y[:, 1:], group), 3)[0]
    assert_equal(select(joint, slice(2, 5), slice(1, 2)), alone)


def test_threads_share_a_pass_and_the_sums_stay_the_same(world, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, group = world
    alone = accumulate(blocks(x, y, group), 3)
    monkeypatch.setattr("analysis.probing.gram.n_workers", lambda *_: 3)
    for found, expected in zip(accumulate_parts(array_source(x, y, group, 20), 3), alone, strict=True):
        assert_equal(found, expected)


def test_a_new_target_needs_no_new_gram(world) -> None:
    x, y, group = world
    full = accumulate(blocks(x, y, group), 3)[1]
    cross = accumulate(blocks(x, y, group), 3, with_gram=False)[1]
    np.testing.assert_allclose(cross.xy, full.xy)
    assert not cross.xx.any()


def test_squared_error_from_sums_and_from_factors_is_that_of_the_rows(
    world, rng: np.random.Generator
) -> None:
    x, y, group = world
    weights, bias = rng.normal(size=(6, 4)), rng.normal(size=4)
    rows = group == 2
    expected = ((y[rows, 1][:, None] - bias - x[rows].astype(float) @ weights) ** 2).sum(0)
    moments = accumulate(blocks(x, y, group), 3)[2]
    np.testing.assert_allclose(squared_error(moments, weights, bias, 1), expected, rtol=1e-9)
    root = accumulate_roots(blocks(x, y, group), 3)[2]
    np.testing.assert_allclose(root_squared_error(root, weights, bias, 1), expected, rtol=1e-9)


def test_factors_carry_the_same_sums_and_merge(world) -> None:
    x, y, group = world
    root = merge_roots(accumulate_roots(blocks(x, y, group), 3))
    moments = merge(accumulate(blocks(x, y, group), 3))
    np.testing.assert_allclose(root.mean_x, moments.mean_x)
    np.testing.assert_allclose(root.mean_y, moments.mean_y)
    centred = root.factor[1:, 1:7]
    np.testing.assert_allclose(centred.T @ centred, moments.xx, rtol=1e-9, atol=1e-7)


def test_folds_follow_the_id_and_nothing_else() -> None:
    ids = np.array([f"image{i}" for i in range(500)])
    folds = assign_folds(ids, 5, seed=3)
    assert np.array_equal(assign_folds(ids[::-1], 5, seed=3)[::-1], folds)
    assert np.array_equal(assign_folds(ids[:100], 5, seed=3), folds[:100])
    assert not np.array_equal(assign_folds(ids, 5, seed=4), folds)
    assert np.bincount(folds).min() > 70
    # The width of the longest id has no say either.
    assert np.array_equal(assign_folds(np.append(ids, "a much longer id"), 5, seed=3)[:500], folds)
    with pytest.raises(ValueError, match="4 training images do not fill 5 folds"):
        assign_folds(ids[:4], 5)
