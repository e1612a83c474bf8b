"""Rows are joined to ratings only where both are of one list of images."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.probing.probes import join_rows
from analysis.prompting.evaluation import join_ratings
from store import IdentityError, open_features, open_targets, write_targets
from store.features import FEATURES_SCHEMA
from store.sealed import write_sealed
from store.targets import images_of_targets
from tests.archives import make


@pytest.fixture
def files(tmp_path):
    """A feature file and targets of one list of images, and a way to write targets of another."""
    n = 6
    ids = np.array([f"n{i}" for i in range(n)])
    arrays = {
        "image_id": ids,
        "status": np.ones(n, np.uint8),
        "failures/row": np.zeros(0, np.int64),
        "failures/reason": np.array([], dtype=str),
        "outputs/embedding": np.eye(n, 4, dtype=np.float32),
    }
    write_sealed(tmp_path / "b.h5", FEATURES_SCHEMA, {"backbone": "b", "images": "one"}, {}, arrays)
    split = np.array(["train", "test"] * 3)
    votes = np.arange(n * 10).reshape(n, 10)
    targets = replace(
        make.TARGETS, image_id=ids, path=ids, votes=votes, scores=None, split=split, columns={},
        levels=np.arange(1, 11),
    )  # fmt: skip

    def with_list(images):
        identity = {"images": images} if images else {}
        write_targets(tmp_path / "targets.h5", targets, identity, {})
        return open_targets(tmp_path / "targets.h5")

    return open_features(tmp_path / "b.h5"), with_list


@pytest.mark.parametrize("join", [join_rows, join_ratings])
def test_equal_ids_of_other_files_are_not_joined(files, join):
    features, with_list = files
    join(features, with_list("one"))
    join(features, with_list(""))
    with pytest.raises(IdentityError, match=r"(?s)another list of images .6 rows.*update=True"):
        join(features, with_list("another"))


def test_imported_vectors_are_imported_again(files, tmp_path):
    features, with_list = files
    identity = {**features.identity, "weights_sha256": "imported"}
    arrays = {name: features.file.view(name) for name in features.file.arrays}
    write_sealed(tmp_path / "i.h5", FEATURES_SCHEMA, identity, {}, arrays)
    with pytest.raises(IdentityError, match="Import the vectors again$"):
        join_rows(open_features(tmp_path / "i.h5"), with_list("another"))


def test_the_list_is_known_by_the_header(files, tmp_path):
    _, with_list = files
    assert with_list("one").images == images_of_targets(tmp_path / "targets.h5") == "one"
    assert with_list("").images == images_of_targets(tmp_path / "targets.h5") == ""
