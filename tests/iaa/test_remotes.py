"""`iaa push` and `iaa pull`, as they are typed and as Python calls them."""

import json

import numpy as np
import pytest

from iaa.library.dataset import Dataset
from iaa.library.layout import Layout
from store import Status, Targets, open_features, write_targets
from store.features import FEATURES_SCHEMA
from store.sealed import write_sealed


def made(root, *backbones, seed=1):
    """A data set of five images with a file per backbone, as an import leaves it."""
    layout = Layout(root, "mine")
    ids = np.array([f"é{i}" for i in range(5)])
    for backbone in backbones:
        vectors = np.random.default_rng(seed).normal(size=(5, 3)).astype(np.float32)
        nothing = {"failures/row": np.array([], np.int64), "failures/reason": np.array([], dtype=str)}
        arrays = {"image_id": ids, "status": np.full(5, Status.OK, np.uint8), "outputs/embedding": vectors}
        identity = {"backbone": backbone, "images": "1"}
        write_sealed(layout.features_of(backbone), FEATURES_SCHEMA, identity, {}, {**arrays, **nothing})
    nowhere = {"votes": None, "levels": None, "threshold": 2.0, "split": np.full(5, ""), "split_name": ""}
    targets = Targets(image_id=ids, path=ids, scores=np.arange(5.0), dataset="mine", columns={}, **nowhere)
    write_targets(layout.targets, targets, {"images": "1"}, {})
    return layout


@pytest.fixture
def layout(tmp_path):
    return made(tmp_path / "data", "b", "c")


def test_files_go_and_come(layout, in_memory, invoke, tmp_path):
    here, there = ("--data", layout.root), ("--data", tmp_path / "there")
    code, out, err = invoke("push", in_memory, "-d", "mine", *here)
    assert code == 0 and out.count("sent") == 3 and "sent 3 of 3 files" in err
    code, out, err = invoke("push", in_memory, *here)  # the only data set
    assert code == 0 and out.count("there already") == 3 and "sent 0 of 3 files, 0 bytes" in err
    code, out, err = invoke("pull", in_memory, "-d", "mine", "-b", "b", *there, "--json")
    told = json.loads(out)
    assert code == 0 and [f["name"] for f in told["files"]] == ["features/b.h5", "targets.h5"]
    with open_features(Layout(tmp_path / "there", "mine").features_of("b")) as features:
        assert features.digest == told["files"][0]["digest"]
    code, out, err = invoke("verify", tmp_path / "there" / "mine", *there)
    assert code == 0 and "2 files" in err and "0 damaged" in err, out + err
    found = Dataset(Layout(tmp_path / "python", "mine")).pull(in_memory, "c")
    assert found.to_frame()["file"].tolist() == ["features/c.h5", "targets.h5"]
    assert [f.is_new for f in Dataset(layout).push(in_memory, ["b"])] == [False, False]


def test_another_file_is_replaced_when_that_is_said(layout, in_memory, invoke, tmp_path):
    other = made(tmp_path / "other", "b", seed=2)
    invoke("push", in_memory, "-d", "mine", "--data", layout.root)
    code, _, err = invoke("push", in_memory, "-d", "mine", "--data", other.root)
    assert code == 1 and "has another features/b.h5" in err and "--overwrite" in err
    code, _, err = invoke("pull", in_memory, "-d", "mine", "--data", other.root)
    assert code == 1 and "is another file" in err and "--overwrite" in err
    assert invoke("push", in_memory, "-d", "mine", "--data", other.root, "--overwrite")[0] == 0
    assert invoke("pull", in_memory, "-d", "mine", "--data", layout.root, "--overwrite")[0] == 0
    for path in (layout.features_of("b"), other.features_of("b")):
        with open_features(path) as features:
            assert np.array_equal(
                features.read("embedding")[0], np.random.default_rng(2).normal(size=3).astype(np.float32)
            )


def test_mistakes_are_told(layout, in_memory, invoke, tmp_path):
    data = ("--data", layout.root)
    code, _, err = invoke("pull", in_memory, "-d", "mine", *data)
    assert code == 2 and "has no finished file" in err
    code, _, err = invoke("push", tmp_path, "-d", "mine", *data)
    assert code == 1 and "is no place in an object store" in err and "--data" in err
    code, _, err = invoke("push", in_memory, "-d", "mine", "-b", "x", *data)
    assert code == 2 and "has no finished file of x to send" in err
    for wrong in (("--devices", "2"), ("-p", "paper_fixed"), ("--update",)):
        code, _, err = invoke("embed", "-d", "demo", "--remote", in_memory, *wrong, *data)
        assert code == 2 and "Traceback" not in err, wrong
