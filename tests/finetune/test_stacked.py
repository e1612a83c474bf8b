"""MLSP's head of three layers on stored features: what it learns, when it stops, and how it goes on."""

import numpy as np
import pytest
import torch

from finetune.errors import FinetuneError
from finetune.stacked import StackSettings, build_stack, predict_stack, stage_of, train_stack

SMALL = StackSettings(widths=(32, 16), dropouts=(0.1, 0.1), rates=(1e-2, 1e-3), epochs=4, batch_size=64)


@pytest.fixture
def world(rng):
    """Features, and scores that are the size of one of them: no linear probe can tell."""
    X = rng.normal(size=(900, 6)).astype(np.float32)
    return X, 5 + 2 * np.abs(X[:, 0].astype(np.float64))


def train(world, folder, settings=SMALL, **more):
    X, y = world
    return train_stack(
        lambda rows: X[rows], np.arange(600), np.arange(600, 700), y, 6, settings, folder, **more
    )


def test_it_learns_what_no_line_tells(world, tmp_path):
    X, y = world
    model, state = train(world, tmp_path)
    test = np.arange(700, 900)
    found = predict_stack(model, lambda rows: X[rows], test)
    linear = X[:600] - X[:600].mean(axis=0)
    weights = np.linalg.lstsq(linear, y[:600] - y[:600].mean(), rcond=None)[0]
    assert abs(np.corrcoef((X[test] - X[:600].mean(axis=0)) @ weights, y[test])[0, 1]) < 0.4
    assert np.corrcoef(found, y[test])[0, 1] > 0.8
    best = min(entry["held_out_loss"] for entry in state.history)
    held = np.arange(600, 700)
    assert np.mean((predict_stack(model, lambda rows: X[rows], held) - y[held]) ** 2) == pytest.approx(best)


def test_the_published_shape():
    kinds = [type(layer).__name__ for layer in build_stack(20, StackSettings())]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU", "Dropout"] * 3 + ["Linear"]
    widths = [
        layer.out_features for layer in build_stack(20, StackSettings()) if isinstance(layer, torch.nn.Linear)
    ]
    assert widths == [2048, 1024, 256, 1]
    rates = [layer.p for layer in build_stack(20, StackSettings()) if isinstance(layer, torch.nn.Dropout)]
    assert rates == [0.25, 0.25, 0.5]


def test_stages_end_by_number_or_without_gain():
    def after(*losses):
        return stage_of([{"held_out_loss": loss} for loss in losses], StackSettings(epochs=4, patience=2))

    assert after() == (0, 0)
    assert after(5, 4, 3) == (0, 3)
    assert after(5, 4, 3, 2) == (1, 0)
    assert after(5, 6, 7) == (1, 0)
    assert after(5, 6, 7, 4, 5, 6) == (2, 0)
    assert after(5, 6, 7, 8, 9) == (2, 0)  # the next stage has to beat the best of all


def test_a_killed_training_ends_in_the_same_weights(world, tmp_path):
    whole, _ = train(world, tmp_path / "whole")

    class KilledError(Exception):
        pass

    for at in (2, 5):  # within the first stage, and at the first epoch of the second

        def kill(epoch, step, n_steps, loss, at=at):
            if (epoch, step) == (at, 3):
                raise KilledError

        with pytest.raises(KilledError):
            train(world, tmp_path / "killed", on_step=kill)
    resumed, state = train(world, tmp_path / "killed")
    for name, value in whole.state_dict().items():
        if value.is_floating_point():  # counters of batches, which nothing reads, are not kept
            assert torch.equal(resumed.state_dict()[name], value), name
    _, same = train(world, tmp_path / "killed", on_step=lambda *_: pytest.fail("it is finished"))
    assert same.history == state.history


def test_too_few_images_and_features_that_are_no_numbers(world, tmp_path):
    X, y = world
    with pytest.raises(FinetuneError, match="1 images to learn from and 100 held out"):
        train_stack(lambda rows: X[rows], np.arange(1), np.arange(600, 700), y, 6, SMALL, tmp_path)
    bad = np.full_like(X, np.nan), y
    with pytest.raises(FinetuneError, match="the loss became nan in epoch 1"):
        train(bad, tmp_path)
