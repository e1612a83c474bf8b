"""Files of version 1 that were written once are read for ever, and today's writer gives the same content."""

from pathlib import Path

import numpy as np
import pytest

from store import load_derived, open_features, open_prompts, open_targets, verify_file
from store.sealed import SealedFile
from tests.archives import make

V1 = Path(make.__file__).parent / "v1"
DIGESTS = {
    "features.h5": "b7ed6f61a5362a2e4e1abd4042336ecc7bd10a6c8be1bfdfcf20b346da609667",
    "part.h5": "4682ee58b6f19941b5d63a6d0fa3a19a570981e82a58c3765b11079d00f0c742",
    "prompts.h5": "a901c59f2f2da8455be9c7723c1527db8fdb76f09b455e5b24598c0d055f6336",
    "targets.h5": "be8272540d0b6f359b522f686718533ecaed7bf1ed2824c2ec066d7330c9e759",
    "derived.h5": "98dd8bff1fc7eb6de29051f74c2cc97ef9217aa66f0b3143eef726cd6f7977e0",
}


def equal(found, expected):
    np.testing.assert_array_equal(found, expected, strict=found.dtype.kind != "U")


def test_features():
    expected = make.feature_arrays()
    with open_features(V1 / "features.h5", make.IDENTITY) as features:
        assert features.failures == make.FAILED
        assert features.image_id.tolist() == make.IDS.tolist()
        assert features.outputs == {"embedding": 3, "pre_projection": 5}
        assert features.provenance == {"torch": "2"}
        for name in features.outputs:
            equal(features.read(name), expected[f"outputs/{name}"])
            assert np.signbit(features.read(name)[0, 0])
        for name in ("status", "source_sha256", "source_size"):
            equal(features.file.view(name), expected[name])


def test_prompts():
    expected = make.prompt_arrays()
    with open_prompts(V1 / "prompts.h5", {"prompt_set": "s", "backbone": "b.1"}) as prompts:
        equal(prompts.read(), expected["outputs/embedding"])
        equal(prompts.polarity, expected["polarity"])
        for name in ("text", "label", "content", "template"):
            equal(getattr(prompts, name), expected[name])


def test_targets():
    targets = open_targets(V1 / "targets.h5")
    for name in ("image_id", "path", "votes", "levels", "split"):
        equal(getattr(targets, name), getattr(make.TARGETS, name))
    for name, column in make.TARGETS.columns.items():
        equal(targets.columns[name], column)
    assert (targets.threshold, targets.split_name, targets.dataset) == (5.0, "paper", "old")


def test_derived_and_part():
    arrays = load_derived(V1 / "derived.h5", make.DERIVED_KEY)
    assert arrays is not None
    equal(arrays["gram"], np.eye(4))
    equal(arrays["labels"], np.array(["x", "yy"]))
    with SealedFile(V1 / "part.h5", "iaa/part") as part:
        equal(part.view("outputs/embedding"), make.feature_arrays()["outputs/embedding"])


@pytest.mark.parametrize("name", DIGESTS)
def test_they_are_intact_and_have_their_digest(name):
    verdict = verify_file(V1 / name)
    assert verdict.digest == DIGESTS[name] and not [p for p in verdict.problems if "lies in" not in p]


def test_the_writer_of_today_gives_the_same_content(tmp_path):
    assert make.write_archive(tmp_path) == DIGESTS
    for name in DIGESTS:
        with SealedFile(tmp_path / name) as new, SealedFile(V1 / name) as old:
            assert new.arrays == old.arrays
            for array in new.arrays:
                equal(new.view(array), old.view(array))
