"""What is learned, and from which images."""

from dataclasses import replace

import numpy as np
import pytest

from embed.images.datasets import hash_split
from finetune.settings import PRESETS, Settings, make_settings
from finetune.targets import FinetuneError, build_lesson, gaussian_shares, score_levels
from tests.finetune.conftest import make_world, targets_of


def test_votes_become_shares_and_a_tenth_is_held_out(tmp_path):
    table = make_world(tmp_path, n=600)
    lesson = build_lesson(targets_of(table))
    np.testing.assert_allclose(lesson.shares[7], table.votes[7] / table.votes[7].sum(), rtol=1e-6)
    together = np.sort(np.concatenate([lesson.fitted, lesson.held_out]))
    np.testing.assert_array_equal(together, np.flatnonzero(table.split == "train"))
    assert 0.05 < len(lesson.held_out) / len(together) < 0.15


def test_who_is_held_out_is_a_matter_of_the_id_alone(tmp_path):
    targets = targets_of(make_world(tmp_path, n=300))
    order = np.random.default_rng(0).permutation(300)[:250]
    other = replace(
        targets, image_id=targets.image_id[order], votes=targets.votes[order], split=targets.split[order]
    )
    a, b = build_lesson(targets), build_lesson(other)
    held = set(targets.image_id[a.held_out]) & set(other.image_id)
    assert set(other.image_id[b.held_out]) == held


def test_a_random_split_by_hash_leaves_images_to_hold_out():
    """The split's hash must not be the one that holds out: all of train would lie on one side of it."""
    ids = np.array([str(i) for i in range(2000)])
    targets = targets_of(make_targets_table(ids, hash_split(ids, 0.2)))
    lesson = build_lesson(targets)
    assert 0.07 < len(lesson.held_out) / lesson.n_train < 0.13


def make_targets_table(ids, split):
    from embed.images.datasets import ImageTable

    return ImageTable("t", None, ids, ids, votes=np.tile([1, 2, 3, 2, 1], (len(ids), 1)), split=split)


def test_scores_become_gaussians_with_their_mean():
    scores = np.linspace(-2.0, 7.0, 50)
    levels = score_levels(scores)
    shares = gaussian_shares(scores, levels)
    step = levels[1] - levels[0]
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert levels[0] < -2 and levels[-1] > 7
    inner = (scores > 0) & (scores < 5)
    np.testing.assert_allclose((shares @ levels)[inner], scores[inner], atol=0.02 * step)
    np.testing.assert_allclose(shares @ levels, scores, atol=0.2 * step)
    assert (np.diff(shares @ levels) > 0).all()
    spread = np.sqrt(np.einsum("ij,ij->i", shares, (levels[None] - (shares @ levels)[:, None]) ** 2))
    np.testing.assert_allclose(spread[inner], step, rtol=0.05)
    far = gaussian_shares(np.array([1e6]), levels)
    assert np.isfinite(far).all() and far[0, -1] == pytest.approx(1)


def test_scores_of_test_images_move_no_level(tmp_path):
    table = make_world(tmp_path, n=90)
    scores = np.random.default_rng(1).normal(size=90)
    wild = np.where(table.split == "test", 1e9, scores)
    lessons = [build_lesson(targets_of(table, scores=s)) for s in (scores, wild)]
    np.testing.assert_array_equal(lessons[0].levels, lessons[1].levels)
    np.testing.assert_array_equal(lessons[0].shares, lessons[1].shares)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"votes": None}, "needs rated images"),
        ({"split": np.full(60, "test")}, "0 training images"),
        ({"votes": np.zeros((60, 5), int)}, "40 training images without votes .*'000'"),
        ({"votes": None, "scores": np.full(60, 3.0)}, "not all the same"),
    ],
)
def test_what_cannot_teach_is_refused(world, change, message):
    with pytest.raises(FinetuneError, match=message):
        build_lesson(replace(targets_of(world), **change))
    with pytest.raises(FinetuneError, match="2 are needed on either side"):
        build_lesson(targets_of(world), held_out_share=1e-9)


def test_the_default_preset_is_the_papers():
    paper = PRESETS["paper"]
    assert paper == Settings()
    assert (paper.optimizer, paper.momentum, paper.lr_head, paper.lr_tower) == ("sgd", 0.5, 0.01, 0.0001)
    assert (paper.batch_size, paper.patience, paper.held_out, paper.train) == (128, 10, 0.1, "all")
    nima = make_settings("nima", {"seed": 3, "batch_size": None})
    assert (nima.dropout, nima.optimizer, nima.seed, nima.batch_size) == (0.75, "adam", 3, 96)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": "last:0"}, "train is all, head or last:K; got .*'last:0'"),
        ({"optimizer": "lion"}, "optimizer is one of sgd, adam"),
        ({"lr_tower": 0.0}, "lr_head and lr_tower are above 0"),
        ({"held_out": 1.0}, "between 0 and 1"),
        ({"precision": "float16"}, "float32, bfloat16"),
        ({"patience": 0}, "at least 1"),
        ({"dropout": 1.0}, "momentum and dropout"),
        ({"batch_size": 0}, "batch_size is at least 1"),
    ],
)
def test_settings_out_of_range_are_named(changes, message):
    with pytest.raises(FinetuneError, match=message):
        make_settings("paper", changes)
    with pytest.raises(FinetuneError, match="there are paper, nima, demo"):
        make_settings("papr", {})
