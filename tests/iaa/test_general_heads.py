"""The heads that come with the project: found by their names, described, never removed."""

import json
from dataclasses import replace

import numpy as np
import pytest

from analysis.probing.heads import SHIPPED, find_heads, head_files, load_head
from embed.backbones.published_heads import PUBLISHED
from iaa.library.gallery.questions import card_of
from iaa.library.heads import list_heads, remove_head
from iaa.library.opening import existing_head
from store import MissingFileError, Targets, open_features, write_targets
from tests.worlds import write_features

BACKBONE = "efficientnet_lite0.in1k"
NOWHERE = "http://127.0.0.1:9/sa_0_4_vit_b_32_linear.pth"


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
    assert [kind for kind, _ in head.agreements] == ["exteriors", "interiors"]
    assert sum(file.stat().st_size for file in path.parent.glob(f"{path.stem}.*")) < 20_000


def test_the_card_in_the_words_of_the_page_and_of_the_command_line(holiday, invoke):
    head = load_head(SHIPPED / "oasis-beauty")
    told = card_of(head)
    assert told.startswith("fitted on oasis, all 484 rated photographs. ")
    assert told.endswith("0.76 on photographs it had not seen, 0.06 on exteriors, 0.44 on interiors")
    measured = replace(head, about={"origin": "somebody", "held_back_srcc": [0.5, 0.4, 0.6]})
    assert card_of(measured).endswith("0.50 on photographs it had not seen")
    for elsewhere in (None, 3, {"lakes": 3}, {"lakes": {"srcc": []}}):
        other = replace(head, about={"origin": "somebody", "elsewhere": elsewhere})
        assert card_of(other) == "fitted on somebody"
    out = " ".join(invoke("head", "show", "oasis-beauty", "--data", holiday)[1].split())
    assert "0.761 [0.713, 0.803]" in out and "interiors (n 118, srcc 0.443 [0.280, 0.584])" in out


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
    assert list_heads(holiday).columns["head"] == ["oasis-beauty", *PUBLISHED]
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


def test_a_published_head_ranks_when_it_is_first_used(tmp_path, invoke, monkeypatch, shared_data):
    """LAION's own file, in the folder of caches, where somebody without a network has put it."""
    ids = np.array([f"{i}.jpg" for i in range(660)])
    rated = [np.load(shared_data / f"laion_heads/vit_b_32_embeddings/rating{i}.npy") for i in range(10)]
    vectors = np.tile(7 * np.stack(rated).reshape(10, 512), (66, 1))  # any length: a head sets its own
    write_features(
        tmp_path / "clip/features/vit_b32.openai.h5", "vit_b32.openai", ids, {"embedding": vectors}
    )
    unrated = Targets(
        image_id=ids, path=ids, votes=None, scores=None, levels=None, threshold=5.0,
        split=np.full(660, ""), split_name="none", dataset="clip",
    )  # fmt: skip
    write_targets(tmp_path / "clip/targets.h5", unrated, {}, {})
    monkeypatch.setenv("IAA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(PUBLISHED, "laion-b32", replace(PUBLISHED["laion-b32"], url=NOWHERE))
    at = ("--data", tmp_path)
    command = ("rank", "-d", "clip", "--head", "laion-b32", *at)
    code, _, err = invoke(*command)
    place = tmp_path / "cache/heads/sa_0_4_vit_b_32_linear.pth"
    assert code == 1 and "no connection to 127.0.0.1. On a machine" in err and f"put it to {place}" in err
    code, _, err = invoke("head", "remove", "laion-b32", *at)
    assert code == 1 and "there is no head" in err, "nothing is fetched to be removed"
    code, out, _ = invoke("head", "show", "laion-b32", *at, "--json")
    assert code == 0 and json.loads(out)["about"]["licence"] == "MIT" and not place.exists()
    place.write_bytes((shared_data / "laion_heads" / place.name).read_bytes())
    code, out, _ = invoke(*command, "--json")
    best = json.loads(out)["shown"][0]
    assert code == 0 and best["image_id"] == "9.jpg" and best["score"] == pytest.approx(11.0056, abs=1e-3)
    card = load_head(tmp_path / "heads/laion-b32").about
    assert (card["licence"], card["checked_against"]) == ("MIT", "SHA-256 known")
    assert list_heads(tmp_path).columns["head"][:2] == ["laion-b32", "oasis-beauty"]
    assert invoke("head", "remove", "laion-b32", *at)[0] == 0
    code, _, err = invoke("rank", "-d", "clip", "--head", "aesthetic-v2.5", *at)
    assert code == 1 and "AGPL-3.0" in err and "neither shipped nor fetched" in err
