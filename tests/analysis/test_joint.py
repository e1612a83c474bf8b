"""Outputs side by side: the same as one file with all the columns; blocks of the joint Gram matrix."""

from pathlib import Path

import numpy as np
import pytest

from analysis.probing import probes
from analysis.probing.gram import accumulate_parts, merge, select
from analysis.probing.joint import Joint
from analysis.probing.spectrum import gram_basis, gram_path
from store import SchemaError, StoreError, open_features, open_targets
from tests.worlds import write_features


@pytest.fixture
def both(rated_world: Path):
    """Two files whose rows are in different orders."""
    with (
        open_features(rated_world / "features" / "sharp.h5") as sharp,
        open_features(rated_world / "features" / "dull.h5") as dull,
    ):
        yield sharp, dull


def test_the_joint_fit_is_that_of_one_file_with_all_columns(both, rated_world: Path, tmp_path: Path) -> None:
    sharp, dull = both
    joint = Joint([(sharp, "pooled"), (dull, "embedding")])
    assert (joint.backbone, joint.output) == ("sharp + dull", "pooled + embedding")
    # Side by side by hand, in an order of its own; a row failed in either file is failed.
    dull_row = {name: row for row, name in enumerate(dull.image_id.tolist())}
    at = [dull_row[name] for name in sharp.image_id.tolist()]
    columns = np.concatenate([sharp.read("pooled"), dull.read("embedding")[at]], axis=1)
    usable = sharp.ok & dull.ok[at]
    assert np.array_equal(joint.ok, usable) and usable.sum() < sharp.ok.sum()
    targets = open_targets(rated_world / "targets.h5")
    fit = probes.fit_probes(joint, targets, joint.output)
    train, test = ((targets.split == name) & usable for name in ("train", "test"))
    assert np.array_equal(fit.test_id, sharp.image_id[test])
    x, y = columns[train].astype(float), fit.rows.y[train, 0]
    design = np.concatenate([np.ones((len(x), 1)), x], axis=1)
    solution = np.linalg.lstsq(design, y, rcond=None)[0]
    expected = columns[test].astype(float) @ solution[1:] + solution[0]
    np.testing.assert_allclose(fit.predictions["ols"], expected, atol=1e-6)


def test_one_joint_pass_gives_the_fits_of_its_parts(both, rated_world: Path) -> None:
    sharp, dull = both
    joint = Joint([(sharp, "pooled"), (dull, "pooled")])
    targets = open_targets(rated_world / "targets.h5")
    rows = probes.join_rows(joint, targets)
    group = np.where(rows.split == "train", np.arange(joint.n_images) % 4, -1)
    source = probes.row_source(joint, joint.output, rows, group, False)
    folds = accumulate_parts(source, 4)
    for columns, file in ((slice(0, 24), sharp), (slice(24, 48), dull)):
        part = merge([select(fold, columns) for fold in folds])
        (weights, _) = gram_path(gram_basis(part), part).solve(np.array([3.0]))
        alone = Joint([(file, "pooled"), (sharp, "embedding"), (dull, "embedding")])  # the same usable rows
        own = probes.join_rows(alone, targets)
        own_group = np.where(own.split == "train", 0, -1)
        x = file.read("pooled", own_group >= 0).astype(float)
        y = own.y[own_group >= 0, 0]
        z = (x - x.mean(0)) / x.std(0)
        expected = np.linalg.solve(z.T @ z + 3.0 * np.eye(24), z.T @ (y - y.mean())) / x.std(0)
        np.testing.assert_allclose(weights[:, 0], expected, rtol=1e-6, atol=1e-8)


def test_unit_length_is_that_of_each_part(both) -> None:
    joint = Joint([(both[0], "pooled"), (both[1], "embedding")])
    rows = joint.read(joint.output, np.array([10, 11]), unit_norm=True)
    np.testing.assert_allclose(np.linalg.norm(rows[:, :24], axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(rows[:, 24:], axis=1), 1, rtol=1e-6)


def test_missing_images_and_outputs_are_errors(both, tmp_path: Path) -> None:
    ids = np.array([f"photo{i:04d}" for i in range(699)])
    write_features(tmp_path / "few.h5", "few", ids, {"pooled": np.zeros((699, 3))})
    with open_features(tmp_path / "few.h5") as few, pytest.raises(StoreError, match="'photo0699'"):
        Joint([(both[0], "pooled"), (few, "pooled")])
    with pytest.raises(SchemaError, match="no output 'logits'"):
        Joint([(both[0], "logits")])
