"""MLSP's head of three layers on stored features: what it learns, when it stops, and how it goes on."""

import numpy as np
import pytest
import torch

from finetune.errors import FinetuneError
from finetune.stacked import STACKS, Block, StackSettings, build_stack, predict_stack, stage_of, train_stack

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
    assert kinds == ["Linear", "ReLU", "BatchNorm1d", "Dropout"] * 3 + ["Linear"]
    widths = [
        layer.out_features for layer in build_stack(20, StackSettings()) if isinstance(layer, torch.nn.Linear)
    ]
    assert widths == [2048, 1024, 256, 1]
    rates = [layer.p for layer in build_stack(20, StackSettings()) if isinstance(layer, torch.nn.Dropout)]
    assert rates == [0.25, 0.25, 0.5]


def test_the_wide_head_has_the_published_branches():
    """The block on a grid, branch by branch by hand; 3,072 numbers go into the layers at full size."""
    block = Block(6, 4).eval()
    cells = torch.randn(2, 5 * 5 * 6, generator=torch.Generator().manual_seed(0))
    grid = cells.view(2, 5, 5, 6).permute(0, 3, 1, 2)
    with torch.no_grad():
        for module in block.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.bias.uniform_(-0.1, 0.5)
        found = block(cells)

        def convolve(x, layers):
            kernel = layers[0].weight
            padding = (kernel.shape[2] // 2, kernel.shape[3] // 2)
            y = torch.nn.functional.conv2d(x, kernel, padding=padding) / (1 + 1e-3) ** 0.5
            return (y + layers[1].bias[:, None, None]).clamp(min=0)

        around = torch.nn.functional.pad(grid, (1, 1, 1, 1)).unfold(2, 3, 1).unfold(3, 3, 1).sum((4, 5))
        there = torch.nn.functional.pad(torch.ones(5, 5), (1, 1, 1, 1)).unfold(0, 3, 1).unfold(1, 3, 1)
        reduced = convolve(grid, block.reduce)
        branches = [
            convolve(grid, block.point),
            convolve(reduced, block.across),
            convolve(reduced, block.down),
            convolve(around / there.sum((2, 3)), block.smooth[1]),
        ]
        by_hand = torch.cat([each.mean(dim=(2, 3)) for each in branches], dim=1)
    assert [each.shape[1] for each in branches] == [4, 2, 2, 4]
    torch.testing.assert_close(found, by_hand, rtol=1e-4, atol=1e-5)
    wide = STACKS["wide"]
    assert (wide.block, wide.rates, wide.decides) == (1024, (1e-4, 1e-5, 1e-6), "plcc")
    assert build_stack(25, wide)[1].in_features == 3072
    with pytest.raises(FinetuneError, match="26 numbers are no grid of 5 x 5"):
        build_stack(26, wide)


def test_the_wide_head_reads_where(rng, tmp_path):
    """The score follows from neighbours in the grid: the mean over the cells says little of it."""
    grid = rng.normal(size=(500, 5, 5, 2)).astype(np.float32)
    y = 5 + (np.maximum(grid[:, :, :, 0], 0) * np.sign(np.roll(grid[:, :, :, 0], 1, axis=2))).mean((1, 2)) * 9
    settings = StackSettings(
        block=16, widths=(16,), dropouts=(0.0,), rates=(1e-2, 1e-3), epochs=12, batch_size=50, decides="plcc"
    )
    X = grid.reshape(500, -1)
    model, state = train_stack(
        lambda rows: X[rows], np.arange(350), np.arange(350, 420), y, 50, settings, tmp_path
    )
    test = np.arange(420, 500)
    found = predict_stack(model, lambda rows: X[rows], test)
    assert np.corrcoef(found, y[test])[0, 1] > 0.6
    best = max(state.history, key=lambda entry: entry["held_out_plcc"])
    assert state.best_epoch == best["epoch"]


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
