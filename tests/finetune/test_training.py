"""The loop on planted tasks: it learns, stops, keeps the best, resumes bit for bit, leaves frozen alone."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file

import finetune.training as training
from embed.backbones.loading import load_backbone
from embed.options import Options
from finetune.model import DistributionModel, build_model
from finetune.pixels import build_pixels, pixel_plan
from finetune.settings import Settings, make_settings
from finetune.sources import CachedPixels, StoredFeatures, StreamedPixels
from finetune.targets import FinetuneError, Lesson, build_lesson, gaussian_shares
from finetune.training import epoch_batches, predict, train
from tests.finetune.conftest import make_world, targets_of

OPTIONS = Options(n_threads=2, is_exact=True)
QUICK = Settings(batch_size=16, lr_head=0.1, lr_tower=0.02, max_epochs=4, held_out=0.25)


def source_of(table, tiny, folder):
    return CachedPixels(build_pixels(table, tiny, pixel_plan(table, tiny, folder, OPTIONS), OPTIONS), tiny)


def hashes(module):
    return {n: hashlib.sha256(t.numpy().tobytes()).hexdigest() for n, t in module.state_dict().items()}


def run(table, backbone, folder, settings, source=None, **more):
    lesson = build_lesson(targets_of(table), settings.held_out)
    model = build_model(backbone, "pre_logits", 5, settings)
    source = source or source_of(table, backbone, folder / "pixels")
    return model, train(model, source, lesson, settings, folder / "run", **more), lesson, source


def test_it_overfits_32_images(tmp_path, tiny):
    """Noise with distributions drawn at random, one per image: only memory brings the loss near zero."""
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(5, 0.5), 32).astype(np.float32)
    # Each image many times an epoch, so that few epochs are many steps.
    lesson = Lesson(np.arange(1.0, 6), shares, np.tile(np.arange(32), 40), np.arange(32), 32)
    settings = Settings(optimizer="adam", lr_head=0.002, lr_tower=0.0005, batch_size=32, max_epochs=10)
    model = build_model(tiny, "pre_logits", 5, settings)
    source = StoredFeatures(rng.normal(0, 1, (32, 3, 16, 16)).astype(np.float32), {})
    state = train(model, source, lesson, settings, tmp_path / "run")
    assert state.history[0]["train_loss"] > 0.05 and state.best_loss < 0.01


def test_it_learns_the_planted_taste_and_logs_every_epoch(tmp_path, tiny):
    table = make_world(tmp_path / "images", 150, bad=(0, 1, 2))
    settings = Settings(batch_size=16, lr_head=0.3, lr_tower=0.1, max_epochs=12, held_out=0.25)
    seen, entries = [], []
    model, state, lesson, source = run(
        table, tiny, tmp_path, settings, on_step=seen.append, on_epoch=entries.append
    )
    assert state.history[state.best_epoch - 1]["held_out_srcc"] > 0.9
    assert state.history == entries
    assert [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()] == entries
    n_bad = np.isin([0, 1], lesson.fitted).sum()  # image 2 is test
    assert entries[0]["n_fitted"] == len(lesson.fitted) - n_bad
    assert {p.epoch for p in seen} == set(range(1, state.epoch + 1)) and seen[-1].step == seen[-1].n_steps
    test = np.flatnonzero(table.split == "test")
    rows, predicted = predict(model, source, test, torch.device("cpu"), "float32")
    assert rows.tolist() == [r for r in test.tolist() if r != 2]
    votes = table.votes[rows] @ np.arange(1, 6) / table.votes[rows].sum(axis=1)
    assert np.corrcoef(predicted @ np.arange(1, 6), votes)[0, 1] > 0.9
    assert list((tmp_path / "run/events").iterdir())


def test_early_stopping_keeps_the_best_epoch(tmp_path, tiny, world, monkeypatch):
    """Held-out losses are planted: 5 4 3 3 4 5 6. With patience 3 it stops after epoch 6, best is 3."""
    planted = iter([5, 4, 3, 3, 4, 5, 6])
    weights = {}

    def end_epoch(model, source, lesson, settings, state):
        state.epoch += 1
        loss = float(next(planted))
        weights[state.epoch] = model.head.weight.detach().clone()
        if state.best_loss is None or loss < state.best_loss:
            state.best_epoch, state.best_loss = state.epoch, loss
        state.step, state.loss_sum, state.n_seen = 0, 0.0, 0
        state.history.append({"epoch": state.epoch, "held_out_loss": loss})
        return state.history[-1]

    monkeypatch.setattr(training, "_end_epoch", end_epoch)
    settings = Settings(batch_size=16, patience=3, max_epochs=50, held_out=0.25)
    model, state, *_ = run(world, tiny, tmp_path, settings)
    assert (state.epoch, state.best_epoch, state.best_loss) == (6, 3, 3.0)
    assert torch.equal(model.head.weight, weights[3]) and not torch.equal(weights[3], weights[6])
    assert torch.equal(load_file(tmp_path / "run/best.safetensors")["head.weight"], weights[3])
    assert torch.equal(load_file(tmp_path / "run/last.safetensors")["head.weight"], weights[6])


def test_the_held_out_loss_decides_not_the_training_loss(tmp_path, tiny, world):
    model, state, lesson, source = run(world, tiny, tmp_path, QUICK)
    best = min(state.history, key=lambda entry: entry["held_out_loss"])
    assert state.best_epoch == best["epoch"] and state.best_loss == best["held_out_loss"]
    rows, predicted = predict(model, source, lesson.held_out, torch.device("cpu"), "float32")
    cdf = np.cumsum(predicted.astype(float) - lesson.shares[rows], axis=1)
    assert np.sqrt((cdf**2).mean(axis=1)).mean() == pytest.approx(state.best_loss, abs=1e-6)


@pytest.mark.parametrize("what", ["votes shuffled", "votes turned round", "pixels"])
def test_test_images_choose_no_epoch_and_no_weight(tmp_path, tiny_spec, what):
    """Ratings and pixels of test images have no part in levels, history, best epoch or weights."""
    settings = replace(QUICK, patience=2, max_epochs=8)
    found = []
    for is_changed in (False, True):
        folder = tmp_path / str(is_changed)
        table = make_world(folder / "images")
        test = np.flatnonzero(table.split == "test")
        if is_changed and what == "pixels":
            for row in test:
                Image.new("RGB", (20, 20), (255, 0, row)).save(folder / "images" / table.path[row])
        elif is_changed:
            votes = table.votes.copy()
            votes[test] = votes[test][np.random.default_rng(0).permutation(len(test))]
            votes = votes if what == "votes shuffled" else np.where(
                (table.split == "test")[:, None], table.votes[:, ::-1] + 7, table.votes
            )
            assert not np.array_equal(votes, table.votes)
            table = replace(table, votes=votes)
        model, state, lesson, _ = run(table, load_backbone(tiny_spec), folder, settings)
        history = [{k: v for k, v in entry.items() if k != "seconds"} for entry in state.history]
        found.append((state.best_epoch, state.epoch, history, hashes(model), lesson.levels.tolist(),
                      lesson.fitted.tolist(), lesson.held_out.tolist()))  # fmt: skip
    assert found[0] == found[1]


def test_held_out_votes_do_choose_the_epoch(tmp_path, tiny_spec):
    """The control: turned round, they make another loss, and the first epochs the best ones."""
    found = []
    for is_changed in (False, True):
        table = make_world(tmp_path / str(is_changed) / "images")
        held_out = build_lesson(targets_of(table), QUICK.held_out).held_out
        if is_changed:
            table.votes[held_out] = table.votes[held_out, ::-1]
        _, state, *_ = run(table, load_backbone(tiny_spec), tmp_path / str(is_changed), QUICK)
        found.append((state.best_epoch, [entry["train_loss"] for entry in state.history]))
    assert found[0][0] != found[1][0] and found[0][1] == found[1][1]


def test_what_is_frozen_does_not_change(tmp_path, tiny, world):
    before = hashes(tiny.model)
    run(world, tiny, tmp_path, Settings(**{**QUICK.to_json(), "train": "last:1"}))
    after = hashes(tiny.model)
    changed = {name for name in before if before[name] != after[name]}
    assert changed and all(name.startswith(("blocks.2.", "norm.")) for name in changed)


def test_the_head_first_then_all(tmp_path, tiny, world):
    settings = Settings(
        batch_size=16, head_epochs=2, max_epochs=2, lr_head_first=0.1, lr_head=1e-9, lr_tower=0.1,
        held_out=0.25,
    )  # fmt: skip
    before = hashes(tiny.model)
    model, *_ = run(world, tiny, tmp_path / "a", settings)
    assert hashes(tiny.model) == before
    fresh = build_model(tiny, "pre_logits", 5, settings).head.weight
    assert (model.head.weight - fresh).abs().max() > 1e-3, "the first rate was used"
    run(world, tiny, tmp_path / "b", Settings(**{**settings.to_json(), "max_epochs": 3, "patience": 9}))
    assert hashes(tiny.model) != before


@pytest.mark.slow
def test_nima_trains_a_mobilenet_of_timm(tmp_path):
    """Random weights, colours that tell the votes: the head alone for the first epochs, then all of it."""
    rng = np.random.default_rng(0)
    colour = rng.uniform(-2, 2, 64).astype(np.float32)
    images = colour[:, None, None, None] + rng.normal(0, 0.1, (64, 3, 32, 32))
    levels = np.arange(1.0, 11)
    shares = gaussian_shares(5.5 + 2 * colour.astype(float), levels).astype(np.float32)
    lesson = Lesson(levels, shares, np.tile(np.arange(40), 6), np.arange(40, 64), 64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tower = timm.create_model("mobilenetv1_100", num_classes=0)
    model = DistributionModel(tower, "pooled", tower.num_features, 10, 0.75, 0).eval()
    source = StoredFeatures(images.astype(np.float32), {})
    before = hashes(tower)
    settings = make_settings("nima", {"max_epochs": 5, "batch_size": 24, "lr_tower": 0.001, "lr_head": 0.001})
    train(model, source, lesson, settings, tmp_path)
    assert hashes(tower) == before
    state = train(model, source, lesson, replace(settings, max_epochs=8), tmp_path)
    assert hashes(tower) != before
    losses = [entry["held_out_loss"] for entry in state.history]
    assert state.best_loss < 0.7 * min(losses[:5])


def test_order_is_a_matter_of_seed_and_epoch():
    rows = np.arange(100, 110)
    first = epoch_batches(rows, 4, seed=1, epoch=1)
    assert [len(b) for b in first] == [4, 4, 2]
    assert np.sort(np.concatenate(first)).tolist() == rows.tolist()
    assert np.concatenate(first).tolist() == np.concatenate(epoch_batches(rows, 4, 1, 1)).tolist()
    for other in (epoch_batches(rows, 4, 1, 2), epoch_batches(rows, 4, 2, 1)):
        assert np.concatenate(first).tolist() != np.concatenate(other).tolist()


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_cache_files_and_any_interruption_give_the_same_weights(tmp_path, tiny_spec, world, optimizer):
    """Stopped between any two steps, with dropout, training ends in the same bytes as undisturbed."""
    changes = {"optimizer": optimizer, "dropout": 0.3, "batch_size": 8, "max_epochs": 2}
    if optimizer == "adam":
        changes |= {"lr_head": 0.01, "lr_tower": 0.001}
    settings = Settings(**{**QUICK.to_json(), **changes})
    whole = load_backbone(tiny_spec)
    model, state, _, _ = run(world, whole, tmp_path / "whole", settings)
    streamed = load_backbone(tiny_spec)
    run(world, streamed, tmp_path / "files", settings, StreamedPixels(world, streamed, OPTIONS))
    assert hashes(streamed.model) == hashes(whole.model)

    class StoppedError(Exception):
        pass

    def stop_after(n):
        seen = iter(range(n))

        def on_step(progress):
            if next(seen, None) is None:
                raise StoppedError

        return on_step

    source = source_of(world, whole, tmp_path / "pixels")
    for n in (1, 3, 2):  # each time a fresh process' view: new backbone, new model
        backbone = load_backbone(tiny_spec)
        try:
            resumed, again, _, _ = run(
                world, backbone, tmp_path / "cut", settings, source, on_step=stop_after(n),
                checkpoint_seconds=-1,
            )  # fmt: skip
            break
        except StoppedError:
            continue
    else:
        backbone = load_backbone(tiny_spec)
        resumed, again, _, _ = run(world, backbone, tmp_path / "cut", settings, source)
    assert hashes(resumed) == hashes(model)
    timeless = [[{k: v for k, v in e.items() if k != "seconds"} for e in s.history] for s in (again, state)]
    assert timeless[0] == timeless[1]
    names = ("best.safetensors", "last.safetensors")
    tensors = [[load_file(tmp_path / f / "run" / n) for n in names] for f in ("whole", "cut")]
    for a, b in zip(*tensors, strict=True):
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


SLOWLY = """
import sys, time
from pathlib import Path
import torch
from tests.finetune.conftest import load_spec, make_world
from tests.finetune.test_training import KILLED, run
from embed.backbones.loading import load_backbone
torch.set_num_threads(1)
folder, config = Path(sys.argv[1]), Path(sys.argv[2])
pause = lambda progress: (print(progress.epoch, progress.step, flush=True), time.sleep(0.1))
run(make_world(folder.parent / "images", 60), load_backbone(load_spec(config)), folder, KILLED, on_step=pause,
    checkpoint_seconds=-1)
"""
KILLED = Settings(batch_size=4, lr_head=0.1, lr_tower=0.02, max_epochs=3, held_out=0.25, dropout=0.2)


def test_kill_9_and_the_same_command_again(tmp_path, tiny_spec):
    world = make_world(tmp_path / "images", 60)
    run(world, load_backbone(tiny_spec), tmp_path / "whole", KILLED)
    path = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    victim = subprocess.Popen(
        [sys.executable, "-c", SLOWLY, str(tmp_path / "cut"), str(tiny_spec.config)],
        env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    while victim.stdout.readline().split() != ["2", "3"]:
        assert victim.poll() is None
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    steps = []
    run(world, load_backbone(tiny_spec), tmp_path / "cut", KILLED, on_step=steps.append)
    assert (steps[0].epoch, steps[0].step) in [(2, 3), (2, 4), (2, 5)], "it goes on inside the epoch"
    for name in ("best.safetensors", "last.safetensors"):
        a, b = (load_file(tmp_path / f / "run" / name) for f in ("whole", "cut"))
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_death_between_the_two_checkpoints_is_mended(tmp_path, tiny_spec, world):
    one = Settings(**{**QUICK.to_json(), "max_epochs": 1})
    source = run(world, load_backbone(tiny_spec), tmp_path, one)[3]
    best = tmp_path / "run/best.safetensors"
    expected = load_file(best)
    best.unlink()
    run(world, load_backbone(tiny_spec), tmp_path, one, source)
    assert all(torch.equal(expected[k], v) for k, v in load_file(best).items())
    run(world, load_backbone(tiny_spec), tmp_path, Settings(**{**QUICK.to_json(), "max_epochs": 2}), source)
    (tmp_path / "run/best.safetensors").write_bytes(b"damaged")
    with pytest.raises(FinetuneError, match="no whole checkpoint"):
        run(world, load_backbone(tiny_spec), tmp_path, QUICK, source)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path, tiny, world):
    with torch.no_grad():
        next(tiny.model.parameters()).fill_(float("nan"))
    with pytest.raises(FinetuneError, match="the loss became nan in epoch 1, step 1"):
        run(world, tiny, tmp_path, QUICK)


def test_images_that_cannot_be_read_are_not_silently_all(tmp_path, tiny):
    table = make_world(tmp_path / "images", 60, bad=range(60))
    with pytest.raises(FinetuneError, match="0 could be read.*not an image"):
        run(table, tiny, tmp_path, QUICK)


def test_bfloat16_is_close(tmp_path, tiny_spec, world):
    losses = []
    for precision in ("float32", "bfloat16"):
        settings = Settings(**{**QUICK.to_json(), "precision": precision, "max_epochs": 2})
        _, state, *_ = run(world, load_backbone(tiny_spec), tmp_path / precision, settings)
        losses.append(state.history[-1]["train_loss"])
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.05)


@pytest.mark.gpu
def test_a_gpu_learns_the_same(tmp_path, tiny_spec, world):
    losses = []
    for device in ("cpu", "cuda"):
        backbone = load_backbone(tiny_spec, device=device)
        _, state, *_ = run(world, backbone, tmp_path / device, QUICK)
        losses.append([entry["held_out_loss"] for entry in state.history])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-2)
