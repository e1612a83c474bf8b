"""Cosines of a library with one vector, against answers known by construction."""

import numpy as np
import pytest

from analysis.prompting.scores import rank_images, row_blocks
from analysis.prompting.similarity import cosines_with


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
