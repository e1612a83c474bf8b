"""The demo world: a pure table, votes as in AVA, looks apart from the subject, rendering that resumes."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from embed.demo.captions import TONELESS, TONES, draw_adjective, draw_caption
from embed.demo.scenes import SHORT_EDGE, SUBJECTS, draw_palette
from embed.demo.world import (
    DEMO_SEED,
    LEVELS,
    LOOKS,
    MARKER,
    TRAINING_SEED,
    World,
    WorldError,
    render_image,
    render_world,
    taste,
    vote_probabilities,
    world_table,
)
from embed.prompts.sets import PAPER_HIGH, PAPER_LOW


@pytest.fixture(scope="module")
def world() -> World:
    return world_table()


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world") / "images"
    return folder, render_world(folder, n_train=24, n_test=6, n_workers=1)


def mean_votes(world: World) -> np.ndarray:
    return world.votes @ LEVELS / world.votes.sum(axis=1)


def test_table_has_the_promised_rows(world):
    assert len(world) == 2500
    assert world.votes.shape == (2500, 10)
    assert world.votes.dtype == np.int64
    assert (world.split == "train").sum() == 2000
    assert (world.split == "test").sum() == 500
    assert len(set(world.image_id.tolist())) == len(set(world.path.tolist())) == 2500
    assert set(world.columns["subject"]) == set(SUBJECTS)
    assert len(SUBJECTS) == 12


def test_an_image_depends_on_seed_split_and_index_alone(world):
    small = world_table(n_train=7, n_test=3)
    rows = [*range(7), *range(2000, 2003)]
    np.testing.assert_array_equal(small.image_id, world.image_id[rows])
    np.testing.assert_array_equal(small.votes, world.votes[rows])
    np.testing.assert_array_equal(small.columns["true_taste"], world.columns["true_taste"][rows])


def test_the_backbones_learned_from_another_world(world):
    other = world_table(n_train=2000, n_test=0, seed=TRAINING_SEED)
    assert TRAINING_SEED != DEMO_SEED
    for name in LOOKS:
        assert not np.isin(other.columns[f"look_{name}"], world.columns[f"look_{name}"]).any()


def test_an_empty_world_is_refused():
    with pytest.raises(WorldError, match="at least one image"):
        world_table(0, 0)


def test_votes_are_spread_and_skewed_as_in_ava(world):
    n = world.votes.sum(axis=1)
    mean = mean_votes(world)
    deviation = LEVELS - mean[:, None]
    std = np.sqrt((world.votes * deviation**2).sum(axis=1) / n)
    skew = (world.votes * deviation**3).sum(axis=1) / n / std**3
    high = (world.votes @ LEVELS > 5 * n).mean()
    assert 195 < np.median(n) < 225
    assert 5.3 < mean.mean() < 5.6
    assert 0.70 < mean.std() < 0.76
    assert 1.35 < std.mean() < 1.50
    assert 0.68 < high < 0.73
    assert 0.1 < skew.mean() < 0.3
    assert -0.3 < ((mean - mean.mean()) ** 3).mean() / mean.std() ** 3 < 0


@pytest.mark.shared_data
def test_votes_match_the_real_ones(world, shared_data):
    real = np.loadtxt(shared_data / "ava" / "test_votes.csv", delimiter=",", skiprows=1)[:, -10:]
    shares = [(v / v.sum(axis=1, keepdims=True)).mean(axis=0) for v in (real, world.votes)]
    # Mean share of each vote 1..10 over images: 4.3 % of votes lie elsewhere (AVA has more fives).
    assert 0.5 * np.abs(shares[0] - shares[1]).sum() < 0.05


def test_vote_probabilities_have_the_asked_mean():
    mean = np.array([2.0, 3.3, 5.0, 6.4, 8.0, 9.0])
    probabilities = vote_probabilities(mean, np.full(6, 0.8))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    np.testing.assert_allclose(probabilities @ LEVELS, mean, atol=0.02)


def test_taste_is_standardised_and_highest_where_each_look_is_liked_best(world):
    values = world_table(20_000, 0, seed=5).columns["true_taste"]
    assert abs(values.mean()) < 0.03
    assert abs(values.std() - 1) < 0.03
    best = {name: np.array([look.best]) for name, look in LOOKS.items()}
    top = taste(best)[0]
    assert top > world.columns["true_taste"].max()
    for name, look in LOOKS.items():
        for end in (look.low, look.high):
            if end != look.best:
                assert taste({**best, name: np.array([end])})[0] < top


def test_looks_say_nothing_about_the_subject():
    world = world_table(12_000, 0, seed=8)
    for name in [f"look_{look}" for look in LOOKS] + ["true_taste"]:
        values = world.columns[name]
        standardised = (values - values.mean()) / values.std()
        means = [standardised[world.columns["subject"] == s].mean() for s in SUBJECTS]
        # About 1,000 images per subject: a mean of 0.13 would be four standard errors away.
        assert np.abs(means).max() < 0.13, name


def test_looks_are_visible(world):
    """Each camera look changes its own measure of the same scene in the right direction."""

    def measure(**changed: float) -> np.ndarray:
        columns = dict(world.columns)
        for name, value in changed.items():
            columns[f"look_{name}"] = np.full(len(world), value)
        altered = World(world.image_id, world.path, world.votes, world.split, columns, world.seed)
        return np.asarray(render_image(altered, 3), dtype=float) / 255

    plain = {"exposure": 0.0, "contrast": 1.0, "saturation": 1.0, "blur": 0.0, "grain": 0.0}
    base = measure(**plain)
    assert measure(**{**plain, "exposure": -1.5}).mean() < 0.6 * base.mean()
    assert measure(**{**plain, "contrast": 0.4}).std() < 0.8 * base.std()
    assert measure(**{**plain, "saturation": 0.1}).std(axis=2).mean() < 0.3 * base.std(axis=2).mean()
    edges = [np.abs(np.diff(measure(**{**plain, **c}), axis=1)).mean() for c in
             ({"grain": 0.1}, {}, {"blur": 5.0})]  # fmt: skip
    assert edges[0] > 2 * edges[1]
    # Blur spreads an edge without removing its step, so the largest step shrinks.
    steps = [np.abs(np.diff(measure(**{**plain, "blur": b}), axis=1)).max() for b in (0.0, 5.0)]
    assert steps[1] < 0.5 * steps[0]
    assert not np.array_equal(measure(**plain, tilt=10.0), measure(**plain, tilt=-10.0))


def test_harmony_decides_how_far_hues_stray():
    moods = [draw_palette(np.random.default_rng(i), 1.0)["sky_top"] for i in range(60)]
    strays = [draw_palette(np.random.default_rng(i), 0.0)["sky_top"] for i in range(60)]
    # Four moods with a little play fill fewer cells of the colour cube than free hues do.
    assert len({tuple(c // 32 for c in m) for m in moods}) < 0.6 * len(
        {tuple(c // 32 for c in s) for s in strays}
    )


def test_images_are_small_photographs(rendered):
    folder, world = rendered
    for path in world.path:
        with Image.open(folder / str(path)) as image:
            assert image.format == "JPEG"
            assert image.mode == "RGB"
            assert min(image.size) == SHORT_EDGE
            assert max(image.size) <= 1.5 * SHORT_EDGE


def test_every_subject_is_drawn_differently(world):
    columns = dict(world.columns)
    images = set()
    for subject in SUBJECTS:
        columns["subject"] = np.full(len(world), subject)
        same = World(world.image_id, world.path, world.votes, world.split, columns, world.seed)
        images.add(render_image(same, 11).tobytes())
    assert len(images) == 12


def test_subsets_and_workers_give_equal_bytes(rendered, tmp_path):
    folder, _ = rendered
    subset = render_world(tmp_path / "images", n_train=20, n_test=2, n_workers=2)
    for path in subset.path:
        assert (tmp_path / "images" / str(path)).read_bytes() == (folder / str(path)).read_bytes()


def test_an_interrupted_rendering_is_completed(tmp_path):
    folder = tmp_path / "images"
    world = render_world(folder, n_train=5, n_test=2, n_workers=1)
    whole = {str(p): (folder / str(p)).read_bytes() for p in world.path}
    marker = json.loads((folder / MARKER).read_text())
    (folder / MARKER).write_text(json.dumps({**marker, "complete": False}))
    (folder / str(world.path[4])).unlink()
    (folder / "train" / "train-00004.123.partial").write_bytes(b"half")
    os.utime(folder / str(world.path[0]), ns=(10**18, 10**18))
    render_world(folder, n_train=5, n_test=2, n_workers=1)
    assert {str(p): (folder / str(p)).read_bytes() for p in world.path} == whole
    assert (folder / str(world.path[0])).stat().st_mtime_ns == 10**18
    assert not list(folder.glob("**/*.partial"))
    assert json.loads((folder / MARKER).read_text())["complete"] is True


def test_a_deleted_image_of_a_complete_world_comes_back(tmp_path):
    world = render_world(tmp_path / "w", n_train=2, n_test=1, n_workers=1)
    (tmp_path / "w" / str(world.path[1])).unlink()
    render_world(tmp_path / "w", n_train=2, n_test=1, n_workers=1)
    assert (tmp_path / "w" / str(world.path[1])).exists()


def test_another_world_in_the_folder_is_refused(rendered):
    folder, _ = rendered
    with pytest.raises(WorldError, match=r"holds the demo world .*'seed': 20220.*expected.*'seed': 4"):
        render_world(folder, n_train=24, n_test=6, seed=4)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(WorldError, match=r"holds files but no world\.json"):
        render_world(tmp_path, n_train=2, n_test=1)
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.jpg"]


def test_captions_use_the_papers_words(rng):
    assert set(TONES) | set(TONELESS) == set(PAPER_HIGH) | set(PAPER_LOW)
    assert not set(TONES) & set(TONELESS)
    for word, tone in TONES.items():
        assert (tone > 0) == (word in PAPER_HIGH), word
    captions = {draw_caption(rng, "castle", 1.0) for _ in range(400)}
    assert "a beautiful picture" in captions
    assert "a great picture, of a #castle" in captions


def test_adjectives_follow_taste_and_toneless_ones_do_not(rng):
    words = {t: [draw_adjective(rng, t) for _ in range(3000)] for t in (-1.5, 1.5)}
    praise = {t: np.mean([w in PAPER_HIGH and w in TONES for w in ws]) for t, ws in words.items()}
    toneless = {t: np.mean([w in TONELESS for w in ws]) for t, ws in words.items()}
    assert praise[1.5] > 0.8
    assert praise[-1.5] < 0.1
    assert abs(toneless[1.5] - toneless[-1.5]) < 0.04
    assert toneless[1.5] > 0.05
