"""Rows so long that a block of them is not held at once, and rows kept as float16."""

import numpy as np
import pytest

import store.digests
from store import open_features
from store.digests import BLOCK_ROWS, digest_blocks, digest_pieces, piece_bounds
from store.features import FEATURES_SCHEMA
from store.parts import Plan, begin, merge_parts, write_part


@pytest.mark.parametrize("cuts", [[], [1], [2047, 2048], [700, 3000, 4100], list(range(0, 5000, 37))])
def test_digests_of_pieces_are_those_of_blocks(rng, cuts):
    array = rng.normal(size=(5000, 3)).astype(np.float16)
    pieces = np.split(array, cuts)
    np.testing.assert_array_equal(digest_pieces(pieces), digest_blocks(array))
    np.testing.assert_array_equal(
        digest_pieces(iter(pieces[::-1])), digest_blocks(np.concatenate(pieces[::-1]))
    )
    assert digest_pieces([]).shape == (0, 32)


def test_pieces_are_blocks_until_rows_are_long():
    assert list(piece_bounds(5000, 5_120)) == [(0, 2048), (2048, 4096), (4096, 5000)]
    bounds = list(piece_bounds(2100, 846_400))
    assert bounds[0] == (0, 317) and max(b - a for a, b in bounds) * 846_400 <= 2**28
    assert [a for a, _ in bounds] == [0, *[b for _, b in bounds[:-1]]] and bounds[-1][1] == 2100
    assert BLOCK_ROWS in [a for a, _ in bounds]  # none crosses a block's border
    assert list(piece_bounds(3, 2**40)) == [(0, 1), (1, 2), (2, 3)]


def test_float16_rows_of_small_parts_come_back_as_float32(tmp_path, rng, monkeypatch):
    """Parts of 100 rows, equal photographs in other blocks, and pieces of few rows when they are read."""
    n = 2300
    matrix = rng.normal(size=(n, 40)).astype(np.float16)
    sha = np.arange(n).astype("<u8").repeat(4).view(np.uint8).reshape(n, 32).copy()
    sha[[900, 2200]] = sha[5]
    identity = {"images": "a", "n_images": n, "backbone": "b"}
    ids = {"image_id": np.array([f"i{i}" for i in range(n)])}
    plan = Plan(tmp_path / "features" / "b.h5", FEATURES_SCHEMA, identity, {}, n, ids, part_rows=100)
    begin(plan)
    for index, (start, stop) in enumerate(plan.parts):
        rows = slice(start, stop)
        arrays = {
            "status": np.ones(stop - start, np.uint8),
            "source_sha256": sha[rows],
            "source_size": np.ones(stop - start, np.int64),
            "failures/row": np.zeros(0, np.int64),
            "failures/reason": np.zeros(0, dtype="U1"),
            "outputs/wide": matrix[rows],
        }
        write_part(plan, index, arrays)
    merge_parts(plan, "source_sha256")
    expected = matrix.astype(np.float32)
    expected[[900, 2200]] = expected[5]
    monkeypatch.setattr(store.digests, "PIECE_BYTES", 4 * 40 * 500)
    with open_features(plan.path) as features:
        assert features.file.arrays["outputs/wide"] == ((n, 40), np.float16)
        for rows in (None, slice(3, 9), slice(0, n, 7), np.array([2200, 4, 900])):
            found = features.read("wide", rows)
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, expected[slice(None) if rows is None else rows])
        blocks = list(features.blocks("wide"))
        assert [start for start, _ in blocks] == [0, 500, 1000, 1500, 2000, 2048]
        np.testing.assert_array_equal(np.concatenate([rows for _, rows in blocks]), expected)
        unit = features.read("wide", unit_norm=True)
        assert unit.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-6)
