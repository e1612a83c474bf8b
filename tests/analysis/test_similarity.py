"""Cosines of a library with one vector, against answers known by construction."""

import numpy as np
import pytest

from analysis.prompting.scores import rank_images, row_blocks
from analysis.prompting.similarity import Searcher, cosines_with


def test_planted_angles_come_back_whatever_the_lengths(rng: np.random.Generator) -> None:
    angles = np.array([0.0, 0.3, 1.2, np.pi / 2, 2.5, np.pi])
    one, other = np.linalg.qr(rng.normal(size=(20, 2)))[0].T
    lengths = rng.uniform(0.01, 100, size=(6, 1))
    images = (np.outer(np.cos(angles), one) + np.outer(np.sin(angles), other)) * lengths
    for n_rows in (2, 4096):
        found = cosines_with(row_blocks(images, n_rows), np.arange(6), 7 * one)
        np.testing.assert_allclose(found, np.cos(angles), atol=1e-6)
    order = rng.permutation(6)
    moved = cosines_with(row_blocks(images[order]), np.arange(6), one)
    np.testing.assert_array_equal(order[rank_images(moved).row], np.arange(6))


def test_rows_without_a_vector_and_the_one_left_out_have_no_cosine(rng: np.random.Generator) -> None:
    images = rng.normal(size=(9, 5)).astype(np.float32)
    images[4] = np.nan
    found = cosines_with(row_blocks(images, 3), np.arange(9), images[2], leave_out=2)
    assert np.flatnonzero(np.isnan(found)).tolist() == [2, 4]
    assert cosines_with(row_blocks(images), np.arange(9), images[2])[2] == pytest.approx(1)


def test_a_query_of_zeros_is_an_error(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="no direction"):
        cosines_with(row_blocks(rng.normal(size=(3, 4))), np.arange(3), np.zeros(4))


def test_the_nearest_rows_are_those_of_the_plain_way(rng: np.random.Generator) -> None:
    """Also where many are nearly equal, failed, zero or equal; and however the rows are stored."""
    rows = (rng.normal(size=(5000, 24)) * rng.uniform(0.01, 100, (5000, 1))).astype(np.float32)
    query = rng.normal(size=24)
    close = query + 1e-7 * rng.normal(size=(200, 24))
    rows[1000:1200] = close.astype(np.float32)
    rows[[3, 4000]] = np.nan
    rows[[5, 2048]] = 0
    rows[4500:4510] = rows[1100]
    wide = rows.astype(np.float64)
    with np.errstate(invalid="ignore"):
        cosine = (wide @ query) / np.linalg.norm(wide, axis=1) / np.linalg.norm(query)
    searcher = Searcher(rows.__getitem__, len(rows))
    for k in (1, 100, 205, 4000):
        found, exact = searcher.nearest(query, k)
        np.testing.assert_allclose(exact, np.sort(-cosine[np.isfinite(cosine)])[:k] * -1, rtol=0, atol=1e-14)
        np.testing.assert_allclose(exact, cosine[found], rtol=0, atol=1e-14)
        assert len(set(found.tolist())) == k
    order = rng.permutation(len(rows))
    _, again = Searcher(rows[order].__getitem__, len(rows)).nearest(query, 4000)
    assert again.tobytes() == exact.tobytes()
    ten = [1100, *range(4500, 4510)]
    np.testing.assert_array_equal(np.sort(found[np.isin(found, ten)]), found[np.isin(found, ten)])
    assert len(searcher.nearest(query, 10**6)[0]) == 4996


def test_a_query_without_direction_is_refused(rng: np.random.Generator) -> None:
    searcher = Searcher(rng.normal(size=(3, 4)).astype(np.float32).__getitem__, 3)
    for query in (np.zeros(4), np.ones(5), np.full(4, np.nan)):
        with pytest.raises(ValueError, match="a vector of 4 numbers that has a direction"):
            searcher.nearest(query, 1)
    empty = Searcher(np.zeros((2, 4), np.float32).__getitem__, 2)
    assert len(empty.nearest(np.ones(4), 5)[0]) == 0
