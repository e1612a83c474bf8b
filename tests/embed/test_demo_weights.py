"""The shipped demo weights: the files, and what the demo is there to show with them."""

import zlib
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from scipy.stats import spearmanr

from embed.backbones.loading import Backbone, load_backbone
from embed.demo.captions import TONELESS
from embed.demo.scenes import SUBJECTS
from embed.demo.training import N_TOKENS, CompactTokens, caption_vocabulary, read_config
from embed.demo.world import LEVELS, World, render_world
from embed.prompts.sets import FIXED_TEMPLATE, PAPER_HIGH, PAPER_LOW

WEIGHTS = Path(__file__).resolve().parents[2] / "embed" / "demo" / "weights"
NAMES = ("demo_clip", "demo_vit")


@dataclass
class Shown:
    """A rendered world and what a backbone makes of it."""

    world: World
    outputs: dict[str, dict[str, np.ndarray]]
    mean_vote: np.ndarray

    @property
    def test(self) -> np.ndarray:
        return self.world.split == "test"


def show(folder: Path, backbones: dict[str, Backbone], n_train: int, n_test: int) -> Shown:
    world = render_world(folder, n_train, n_test)
    outputs: dict[str, dict[str, np.ndarray]] = {}
    for name, backbone in backbones.items():
        parts = []
        for start in range(0, len(world), 250):
            paths = world.path[start : start + 250]
            images = [backbone.transform(Image.open(folder / str(p))) for p in paths]
            parts.append(backbone.encode_images(torch.stack(images)))
        outputs[name] = {key: torch.cat([p[key] for p in parts]).numpy() for key in parts[0]}
    return Shown(world, outputs, world.votes @ LEVELS / world.votes.sum(axis=1))


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def pair_scores(shown: Shown, clip: Backbone) -> np.ndarray:
    """cos(image, high) - cos(image, low) for every fixed pair, (n_images, 27, 12)."""
    images = unit(shown.outputs["demo_clip"]["embedding"].astype(float))

    def similarity(labels: tuple[str, ...]) -> np.ndarray:
        texts = clip.encode_texts([FIXED_TEMPLATE.format(label=x) for x in labels])
        return images @ unit(texts.numpy().astype(float)).T

    return similarity(PAPER_HIGH)[:, :, None] - similarity(PAPER_LOW)[:, None, :]


def rank_correlations(scores: np.ndarray, mean_vote: np.ndarray) -> np.ndarray:
    flat = scores.reshape(len(scores), -1)
    return np.array([spearmanr(s, mean_vote)[0] for s in flat.T]).reshape(scores.shape[1:])


def probe_srcc(shown: Shown, features: np.ndarray) -> float:
    """SRCC on test of OLS on features standardised on train."""
    test = shown.test
    X = features.astype(float)
    X = (X - X[~test].mean(axis=0)) / X[~test].std(axis=0)
    X = np.c_[np.ones(len(X)), X]
    weights = np.linalg.lstsq(X[~test], shown.mean_vote[~test], rcond=None)[0]
    return float(spearmanr(X[test] @ weights, shown.mean_vote[test])[0])


@pytest.fixture(scope="module")
def backbones() -> dict[str, Backbone]:
    return {name: load_backbone(name) for name in NAMES}


@pytest.fixture(scope="module")
def glimpse(backbones, tmp_path_factory) -> Shown:
    """The first 160 test images of the demo world."""
    return show(tmp_path_factory.mktemp("glimpse") / "images", backbones, 0, 160)


@pytest.mark.parametrize("name", NAMES)
def test_configs_name_the_weights_that_are_there(name):
    config = read_config(name)
    data = (WEIGHTS / config["weights"]).read_bytes()
    assert sha256(data).hexdigest() == config["sha256"]
    assert config["backbone"] == name


def test_weights_are_small():
    """As git keeps them: zlib, in which rows of zeros cost nothing."""
    files = {name: (WEIGHTS / f"{name}.safetensors").read_bytes() for name in NAMES}
    packed = sum(len(zlib.compress(data)) for data in files.values())
    assert packed < 5_000_000
    assert all(len(data) < 12_000_000 for data in files.values())


def test_rows_that_training_never_touched_are_zero():
    state = load_file(WEIGHTS / "demo_clip.safetensors")
    vocabulary = caption_vocabulary()
    touched = state["token_embedding.weight"].float().abs().sum(dim=1) > 0
    assert touched.nonzero().flatten().tolist() == vocabulary
    assert len(vocabulary) < 150
    assert state["token_embedding.weight"].shape[0] == 49408
    used = state["positional_embedding"].float().abs().sum(dim=1) > 0
    assert used.nonzero().flatten().tolist() == list(range(N_TOKENS))


def test_the_two_image_towers_have_one_shape(backbones):
    clip = [p.shape for p in backbones["demo_clip"].model.visual.transformer.parameters()]
    vit = [p.shape for p in backbones["demo_vit"].model.blocks.parameters()]
    assert sorted(map(tuple, clip)) == sorted(map(tuple, vit))
    assert backbones["demo_clip"].outputs == {"pre_projection": 128, "embedding": 64}
    assert backbones["demo_vit"].outputs == {"pre_logits": 128}
    assert read_config("demo_vit")["label_names"] == list(SUBJECTS)


def test_compact_tokens_keep_order_and_send_unknown_words_to_row_zero():
    compact = CompactTokens([5, 9, 49406, 49407])
    tokens = torch.tensor([[49406, 9, 7, 5, 49407, 0]])
    assert compact(tokens).tolist() == [[3, 2, 0, 1, 4, 0]]
    assert compact(tokens).argmax() == tokens.argmax()
    state = {"token_embedding.weight": torch.arange(10.0).reshape(5, 2)}
    state["positional_embedding"] = torch.ones(N_TOKENS, 2)
    full = compact.expand(state, 49408, 77)
    table = full["token_embedding.weight"]
    assert table[[5, 9, 49406, 49407]].tolist() == [[2, 3], [4, 5], [6, 7], [8, 9]]
    assert table.abs().sum() == sum(range(2, 10))
    assert full["positional_embedding"].sum() == 2 * N_TOKENS


def test_subjects_are_named_well_above_chance(glimpse, backbones):
    clip = backbones["demo_clip"]
    texts = clip.encode_texts([f"a picture of a {s}" for s in SUBJECTS]).numpy()
    images = unit(glimpse.outputs["demo_clip"]["embedding"])
    by_clip = np.array(SUBJECTS)[(images @ unit(texts).T).argmax(axis=1)]
    with torch.inference_mode():
        logits = backbones["demo_vit"].model.head(
            torch.from_numpy(glimpse.outputs["demo_vit"]["pre_logits"])
        )
    by_vit = np.array(SUBJECTS)[logits.argmax(dim=1).numpy()]
    subject = glimpse.world.columns["subject"]
    assert (by_clip == subject).mean() > 0.6
    assert (by_vit == subject).mean() > 0.8


def test_a_common_pair_of_words_ranks_images(glimpse, backbones):
    """No pair is chosen here, so no search on train is needed."""
    scores = pair_scores(glimpse, backbones["demo_clip"])
    great_horrible = scores[:, PAPER_HIGH.index("great"), PAPER_LOW.index("horrible")]
    assert spearmanr(great_horrible, glimpse.mean_vote)[0] > 0.5


def test_words_that_praise_nobody_rank_worse(glimpse, backbones):
    srcc = rank_correlations(pair_scores(glimpse, backbones["demo_clip"]), glimpse.mean_vote)
    toneless = np.array([label in TONELESS for label in PAPER_HIGH])
    assert srcc[~toneless].mean() > srcc[toneless].mean() + 0.05
    assert srcc.max() > srcc.min() + 0.2


@pytest.mark.slow
def test_the_demo_shows_what_it_is_for(backbones, tmp_path, capsys):
    """The demo's three promises, on its test split: best fixed pair, probe, and their distance."""
    shown = show(tmp_path / "images", backbones, 2000, 500)
    scores, test = pair_scores(shown, backbones["demo_clip"]), shown.test
    on_train = rank_correlations(scores[~test], shown.mean_vote[~test])
    high, low = np.unravel_index(on_train.argmax(), on_train.shape)
    best_pair = spearmanr(scores[test, high, low], shown.mean_vote[test])[0]
    clip = probe_srcc(shown, shown.outputs["demo_clip"]["pre_projection"])
    vit = probe_srcc(shown, shown.outputs["demo_vit"]["pre_logits"])
    with capsys.disabled():
        print(f"\n{PAPER_HIGH[high]}/{PAPER_LOW[low]} {best_pair:.3f}, OLS {clip:.3f}, {vit:.3f}")
    assert best_pair >= 0.5
    assert clip >= 0.8
    assert clip >= vit + 0.05
