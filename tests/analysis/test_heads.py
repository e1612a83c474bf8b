"""Heads as files, and LAION's: expected scores, collapsed layers, refusals."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis import heads, probes
from embed.laion import LaionHeadError, convert_head
from store import open_features, open_targets

EXPECTED = [-1.4700, 0.2728, 1.9900, 3.6114, 5.0874, 6.3926, 7.6682, 8.9155, 9.9166, 11.0056]


@pytest.fixture
def fit(rated_world: Path) -> probes.ProbeFit:
    with open_features(rated_world / "features" / "sharp.h5") as features:
        return probes.fit_probes(features, open_targets(rated_world / "targets.h5"), "pooled", unit_norm=True)


def test_a_saved_probe_scores_as_it_did(fit: probes.ProbeFit, rated_world: Path, tmp_path: Path) -> None:
    result = probes.evaluate_probe(fit, n_boot=10)[1]
    heads.save_head(tmp_path / "sharp.v1", heads.head_of(fit, fit.ridge, result))
    head = heads.load_head(tmp_path / "sharp.v1.json")
    with open_features(rated_world / "features" / "sharp.h5") as features:
        scores = heads.score_features(head, features)
    np.testing.assert_allclose(scores[fit.rows.test], fit.predictions["ridge"], atol=1e-9)
    assert np.isnan(scores[3]) and np.isfinite(scores).sum() == len(scores) - 2
    assert head.about["alpha"] == fit.ridge.alpha and head.about["split"] == "random"
    assert head.about["metrics"]["srcc"][0] == result.srcc.value


def test_a_head_is_refused_on_other_features(fit: probes.ProbeFit, rated_world: Path, tmp_path: Path) -> None:
    head = heads.head_of(fit, fit.ridge)
    with (
        open_features(rated_world / "features" / "dull.h5") as other,
        pytest.raises(heads.HeadError, match=r"belongs to sharp/pooled .* holds dull .* iaa embed"),
    ):
        heads.score_features(head, other)
    narrow = heads.Head(head.layers, "sharp", "embedding", True)
    with (
        open_features(rated_world / "features" / "sharp.h5") as features,
        pytest.raises(heads.HeadError, match=r"24 features.*embedding \(16\)"),
    ):
        heads.score_features(narrow, features)


def test_a_head_is_measured_and_on_another_scale_only_by_correlation(
    fit: probes.ProbeFit, rated_world: Path
) -> None:
    targets, n_boot = open_targets(rated_world / "targets.h5"), 30
    own = heads.head_of(fit, fit.ridge)
    expected = probes.evaluate_probe(fit, n_boot)[1]
    with open_features(rated_world / "features" / "sharp.h5") as features:
        found = heads.evaluate_head(own, features, fit.rows, targets, n_boot, fit.seed)
        for name in ("accuracy", "recall_low", "recall_high", "srcc", "plcc"):
            a, b = getattr(found, name), getattr(expected, name)
            assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high), abs=1e-9)
        assert found.detail["rmse"] == pytest.approx(expected.detail["rmse"], abs=1e-9)
        foreign = replace(own, about={"origin": "LAION aesthetic predictor"})
        elsewhere = heads.evaluate_head(foreign, features, fit.rows, targets, n_boot, fit.seed)
        assert elsewhere.accuracy is None and elsewhere.recall_low is None and "rmse" not in elsewhere.detail
        assert elsewhere.srcc == found.srcc and elsewhere.detail["fitted_on"] == "LAION aesthetic predictor"
        leaked = replace(own, about=own.about | {"split": "another"})
        with pytest.raises(heads.HeadError, match="may have been among its training images"):
            heads.evaluate_head(leaked, features, fit.rows, targets)


def test_damaged_or_unpaired_files_are_refused(fit: probes.ProbeFit, tmp_path: Path) -> None:
    heads.save_head(tmp_path / "a", heads.head_of(fit, fit.ols))
    content = bytearray((tmp_path / "a.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(heads.HeadError, match="SHA-256 differs"):
        heads.load_head(tmp_path / "a")
    with pytest.raises(heads.HeadError, match="no readable head"):
        heads.load_head(tmp_path / "missing")


@pytest.mark.shared_data
def test_laions_linear_head_gives_its_ten_expected_scores(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "laion_heads"
    convert_head(folder / "sa_0_4_vit_b_32_linear.pth", tmp_path / "laion", "vit_b32.openai")
    head = heads.load_head(tmp_path / "laion")
    vectors = [np.load(folder / "vit_b_32_embeddings" / f"rating{i}.npy").ravel() for i in range(10)]
    np.testing.assert_allclose(head.score(np.stack(vectors)), EXPECTED, atol=1e-3)
    assert head.unit_norm and (head.backbone, head.output) == ("vit_b32.openai", "embedding")


def mlp_checkpoint(path: Path, prefix: str = "") -> torch.nn.Sequential:
    torch.manual_seed(0)
    widths = (768, 1024, 128, 64, 16, 1)
    layers = [torch.nn.Linear(a, b) for a, b in pairwise(widths)]
    names = (0, 2, 4, 6, 7)
    state = {
        f"{prefix}layers.{i}.{k}": v
        for i, layer in zip(names, layers, strict=True)
        for k, v in layer.state_dict().items()
    }
    torch.save(state, path)
    return torch.nn.Sequential(*layers)


def test_the_improved_predictors_layers_are_imported_and_collapse_to_one_vector(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    model = mlp_checkpoint(tmp_path / "sac.pth")
    convert_head(tmp_path / "sac.pth", tmp_path / "mlp", "vit_l14.openai")
    head = heads.load_head(tmp_path / "mlp")
    x = rng.normal(size=(6, 768))
    expected = model.double()(torch.from_numpy(x)).detach().numpy()[:, 0]
    np.testing.assert_allclose(head.score(x), expected, atol=1e-9)
    flat = heads.collapse(head)
    assert len(head.layers) == 5 and len(flat.layers) == 1
    np.testing.assert_allclose(flat.score(x), expected, atol=1e-9)
    importance = heads.head_importance(head, np.full(768, 2.0))
    np.testing.assert_allclose(importance, 2 * np.abs(flat.layers[0][0][0]))


def test_a_checkpoint_saved_on_a_gpu_loads_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlp_checkpoint(tmp_path / "cpu.pth")
    state = torch.load(tmp_path / "cpu.pth", weights_only=True)
    # What a GPU writes differs in the location tag of each storage.
    monkeypatch.setattr("torch.serialization.location_tag", lambda storage: "cuda:0")
    torch.save(state, tmp_path / "gpu.pth")
    monkeypatch.undo()
    assert b"cuda:0" in (tmp_path / "gpu.pth").read_bytes()
    convert_head(tmp_path / "gpu.pth", tmp_path / "gpu", "vit_l14.openai")
    convert_head(tmp_path / "cpu.pth", tmp_path / "cpu", "vit_l14.openai")
    assert (tmp_path / "gpu.safetensors").read_bytes() == (tmp_path / "cpu.safetensors").read_bytes()


def test_heads_of_another_width_and_other_files_are_refused(tmp_path: Path) -> None:
    mlp_checkpoint(tmp_path / "sac.pth")
    with pytest.raises(LaionHeadError, match=r"takes 768 features; backbone 'vit_b32.openai' has 512"):
        convert_head(tmp_path / "sac.pth", tmp_path / "x", "vit_b32.openai")
    with pytest.raises(LaionHeadError, match="'vit_l14_336.openai' has no published head"):
        convert_head(tmp_path / "sac.pth", tmp_path / "x", "vit_l14_336.openai")
    torch.save({"conv.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    with pytest.raises(LaionHeadError, match="expected weight and bias"):
        convert_head(tmp_path / "other.pth", tmp_path / "x", "vit_l14.openai")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(LaionHeadError, match="no PyTorch checkpoint"):
        convert_head(tmp_path / "text.pth", tmp_path / "x", "vit_l14.openai")
    assert not (tmp_path / "x.json").exists()


def test_the_two_files_describe_each_other(fit: probes.ProbeFit, tmp_path: Path) -> None:
    heads.save_head(tmp_path / "a", heads.head_of(fit, fit.ols))
    described = json.loads((tmp_path / "a.json").read_text())
    assert described["backbone"] == "sharp" and described["unit_norm"] is True
    assert described["about"]["digests"] == fit.digests
