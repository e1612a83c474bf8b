"""The heads that come with the project: found by their names, described, never removed."""

import json

import numpy as np
import pytest

from analysis.probing.heads import SHIPPED, find_heads, head_files, load_head
from iaa.library.heads import list_heads, remove_head
from iaa.library.opening import existing_head
from store import MissingFileError, Targets, open_features, write_targets
from tests.worlds import write_features

BACKBONE = "efficientnet_lite0.in1k"


@pytest.fixture
def holiday(tmp_path):
    """A data root with unrated photographs that went through the offline backbone."""
    ids = np.array([f"{i}.jpg" for i in range(660)])
    vectors = np.random.default_rng(0).random((660, 1280))
    write_features(tmp_path / f"holiday/features/{BACKBONE}.h5", BACKBONE, ids, {"pooled": vectors})
    unrated = Targets(
        image_id=ids, path=ids, votes=None, scores=None, levels=None, threshold=5.0,
        split=np.full(660, ""), split_name="none", dataset="holiday",
    )  # fmt: skip
    write_targets(tmp_path / "holiday/targets.h5", unrated, {}, {})
    return tmp_path


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.json")), ids=lambda path: path.stem)
def test_every_card_says_where_it_comes_from_and_what_it_reaches(path):
    head = load_head(path)
    assert head.about["title"] and "doi" in head.about["source"] and "Apache-2.0" in head.about["licence"]
    value, low, high = head.about["metrics"]["srcc"]
    assert 0.6 < low < value < high < 0.9
    assert {"exteriors", "interiors"} < set(head.about["elsewhere"])
    assert sum(file.stat().st_size for file in path.parent.glob(f"{path.stem}.*")) < 20_000


def test_there_is_one():
    assert "oasis-beauty" in [path.stem for path in SHIPPED.glob("*.json")]


def test_an_unrated_library_is_ranked(holiday, invoke):
    code, out, _ = invoke("rank", "--data", holiday, "-d", "holiday", "--head", "oasis-beauty", "--json")
    answer = json.loads(out)
    assert code == 0 and answer["n_ranked"] > 30 and answer["fitted_on"].startswith("oasis, all 484")


def test_found_after_those_of_the_data_root(holiday):
    assert existing_head(holiday, "oasis-beauty") == SHIPPED / "oasis-beauty"
    with open_features(holiday / f"holiday/features/{BACKBONE}.h5") as features:
        assert [head.name for head in find_heads(holiday / "heads", features)[0]] == ["oasis-beauty"]
    assert list_heads(holiday).columns["head"] == ["oasis-beauty"]
    (holiday / "heads").mkdir()
    for file in SHIPPED.glob("oasis-beauty.*"):
        (holiday / "heads" / file.name).write_bytes(file.read_bytes())
    assert existing_head(holiday, "oasis-beauty") == holiday / "heads" / "oasis-beauty"
    assert head_files(holiday / "heads") == [holiday / "heads" / "oasis-beauty.json"]
    assert len(remove_head(holiday, "oasis-beauty")) == 2, "one's own can be removed"


def test_what_comes_with_the_project_stays(holiday, invoke):
    code, _, err = invoke("head", "remove", "oasis-beauty", "--data", holiday)
    assert code == 2 and "comes with the project" in err
    assert (SHIPPED / "oasis-beauty.json").exists()


def test_other_names_are_unknown_and_the_known_are_listed(holiday):
    with pytest.raises(MissingFileError, match="oasis-beauty"):
        existing_head(holiday, "oasis")
    with pytest.raises(MissingFileError):
        existing_head(holiday, str(holiday / "oasis-beauty"))
