"""Heads as files, and LAION's: expected scores, collapsed layers, refusals."""

import hashlib
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from analysis.probing import heads, probes
from embed.backbones.laion import LaionHeadError, convert_head
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
    with pytest.raises(LaionHeadError, match="text.pth is of an unknown kind"):
        convert_head(tmp_path / "text.pth", tmp_path / "x", "vit_l14.openai")
    assert not (tmp_path / "x.json").exists()


def test_the_two_files_describe_each_other(fit: probes.ProbeFit, tmp_path: Path) -> None:
    heads.save_head(tmp_path / "a", heads.head_of(fit, fit.ols))
    described = json.loads((tmp_path / "a.json").read_text())
    assert described["backbone"] == "sharp" and described["unit_norm"] is True
    assert described["about"]["digests"] == fit.digests


# ---- checkpoints that are no linear heads


def head_state(
    numbers: tuple[int, ...], widths: tuple[int, ...] = (768, 16, 8, 8, 4, 1)
) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    layers = [torch.nn.Linear(a, b) for a, b in pairwise(widths)]
    return {
        f"layers.{i}.{k}": v
        for i, layer in zip(numbers, layers, strict=True)
        for k, v in layer.state_dict().items()
    }


LINEAR = (0, 2, 4, 6, 7)


@pytest.mark.parametrize(
    "numbers", [(0, 3, 6, 9, 11), (0, 1, 2, 3, 4), (0, 2, 4, 6, 8), (0, 2, 4, 7, 8), (1, 3, 5, 7, 8)]
)
def test_layers_at_other_numbers_may_have_activations_between(
    tmp_path: Path, numbers: tuple[int, ...]
) -> None:
    """LAION's ReLU head has its layers at 0, 3, 6, 9, 11; taken for linear it ranks at random."""
    torch.save(head_state(numbers), tmp_path / "relu.pth")
    with pytest.raises(LaionHeadError, match="Here one may lie between") as raised:
        convert_head(tmp_path / "relu.pth", tmp_path / "x", "vit_l14.openai")
    assert "0, 2, 4, 6, 7" in str(raised.value)
    assert ("ReLU" in str(raised.value)) == (numbers == (0, 3, 6, 9, 11))
    assert not list(tmp_path.glob("x.*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers.0.weight": torch.full((16, 768), torch.nan)}, r"layers\.0\.weight holds NaN, infinity"),
        ({"layers.7.bias": torch.tensor([torch.inf])}, r"layers\.7\.bias holds NaN, infinity"),
        ({"layers.7.bias": torch.zeros(2)}, "do not lead to one score"),
        ({"layers.7.bias": torch.zeros(1, 1)}, "do not lead to one score"),
        ({"layers.7.bias": torch.tensor(1.0)}, "do not lead to one score"),
        ({"layers.0.bias": torch.zeros(1)}, "do not lead to one score"),
        ({"layers.0.weight": torch.zeros(768)}, "do not lead to one score"),
        ({"layers.4.weight": torch.ones(8, 9)}, "do not lead to one score"),
        ({"layers.7.weight": torch.ones(2, 4), "layers.7.bias": torch.ones(2)}, "do not lead to one score"),
        ({"layers.0.weight": torch.ones(16, 768, dtype=torch.int64)}, "no real numbers"),
        ({"layers.6.weight": torch.zeros(4, 8)}, "every image would get the same score"),
        ({"layers.8.running_mean": torch.ones(1)}, "has the tensors"),
    ],
)
def test_heads_that_would_score_nothing_are_refused_at_import(
    tmp_path: Path, change: dict[str, torch.Tensor], message: str
) -> None:
    torch.save(head_state(LINEAR) | change, tmp_path / "h.pth")
    with pytest.raises(LaionHeadError, match=message):
        convert_head(tmp_path / "h.pth", tmp_path / "x", "vit_l14.openai")
    assert not list(tmp_path.glob("x.*"))


@pytest.mark.parametrize(
    "weight", [torch.full((1, 512), torch.nan), torch.zeros(1, 512), torch.ones(1, 512, 1)]
)
def test_a_linear_head_that_would_score_nothing_is_refused_at_import(
    tmp_path: Path, weight: torch.Tensor
) -> None:
    torch.save({"weight": weight, "bias": torch.zeros(1)}, tmp_path / "h.pth")
    with pytest.raises(LaionHeadError, match=r"h\.pth"):
        convert_head(tmp_path / "h.pth", tmp_path / "x", "vit_b32.openai")


# ---- head files that are not what they should be


def write_pair(base: Path, tensors: dict[str, np.ndarray], **changes: object) -> Path:
    """A head's two files, whatever they hold, with a right SHA-256. A change to None takes the key out."""
    content = save(tensors)
    base.with_name(base.name + ".safetensors").write_bytes(content)
    described = {
        "schema": "iaa/head", "schema_version": 1, "backbone": "sharp", "output": "pooled", "unit_norm": True,
        "sha256": hashlib.sha256(content).hexdigest(), "about": {},
    }  # fmt: skip
    described = {key: value for key, value in (described | changes).items() if value is not None}
    path = base.with_name(base.name + ".json")
    path.write_text(json.dumps(described))
    return path


def one_layer(weight: np.ndarray, bias: np.ndarray | None = None) -> dict[str, np.ndarray]:
    return {"layers.0.weight": weight, "layers.0.bias": np.zeros(1) if bias is None else bias}


GOOD = one_layer(np.ones((1, 24)))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (one_layer(np.full((1, 24), np.nan)), "layer 0 holds NaN or infinity"),
        (one_layer(np.ones((1, 24)), np.array([np.inf])), "layer 0 holds NaN or infinity"),
        (one_layer(np.ones((1, 24)), np.zeros(2)), r"a bias of \(2,\), expected"),
        (one_layer(np.ones((1, 24)), np.zeros((1, 1))), r"a bias of \(1, 1\), expected"),
        (one_layer(np.ones((1, 24)), np.array(0.0)), r"a bias of \(\), expected"),
        (one_layer(np.ones(24)), r"a weight of shape \(24,\)"),
        (one_layer(np.ones((1, 24, 1))), r"a weight of shape \(1, 24, 1\)"),
        (one_layer(np.ones((1, 0))), r"a weight of shape \(1, 0\)"),
        (one_layer(np.ones((2, 24)), np.zeros(2)), "do not lead from features to one score"),
        (one_layer(np.ones((1, 24), dtype=np.int64)), "layer 0 is of int64"),
        ({"weight": np.ones((1, 24)), "bias": np.zeros(1)}, "expected layers.0.weight"),
        ({"layers.0.weight": np.ones((1, 24))}, "expected layers.0.weight"),
        (GOOD | {"layers.x.weight": np.ones(1)}, "expected layers.0.weight"),
        ({"layers.1.weight": np.ones((1, 24)), "layers.1.bias": np.zeros(1)}, "expected layers.0.weight"),
        ({}, "expected layers.0.weight"),
    ],
)
def test_tensors_that_are_no_head_are_refused_on_reading(
    tmp_path: Path, tensors: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(heads.HeadError, match=message):
        heads.load_head(write_pair(tmp_path / "h", tensors))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": None}, "it lacks 'backbone'"),
        ({"backbone": 3}, "its backbone is 3, expected str"),
        ({"output": ["pooled"]}, "its output is"),
        ({"unit_norm": "false"}, "its unit_norm is 'false', expected bool"),
        ({"unit_norm": 1}, "its unit_norm is 1, expected bool"),
        ({"about": [1]}, "its about is"),
        ({"about": {"n_train": "many"}}, "its about.n_train is 'many', expected int"),
        ({"about": {"dataset": {}}}, "its about.dataset is"),
        ({"about": {"checkpoint": "ava+logos-l14-reluMSE.pth"}}, "activations between its layers"),
        ({"schema_version": 99}, "expected .*iaa/head"),
        ({"sha256": "0" * 64}, "SHA-256 differs"),
        ({"sha256": None}, "it lacks 'sha256'"),
    ],
)
def test_descriptions_that_contradict_their_tensors_or_make_no_sense_are_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(heads.HeadError, match=message):
        heads.load_head(write_pair(tmp_path / "h", GOOD, **changes))


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"schema": NaN}', '{"a":' * 99_999])
def test_descriptions_that_are_no_json_objects_are_refused(tmp_path: Path, text: str) -> None:
    path = write_pair(tmp_path / "h", GOOD)
    path.write_text(text)
    with pytest.raises(heads.HeadError, match=r"no readable head"):
        heads.load_head(path)


def test_one_bad_head_does_not_hide_the_others(
    fit: probes.ProbeFit, rated_world: Path, tmp_path: Path
) -> None:
    for name in ("a", "z"):
        heads.save_head(tmp_path / name, heads.head_of(fit, fit.ridge))
    write_pair(tmp_path / "b", one_layer(np.full((1, 24), np.nan)))
    (tmp_path / "c.json").write_text("{")
    (tmp_path / "d.json").mkdir()
    write_pair(tmp_path / "other", GOOD, backbone="another")
    with open_features(rated_world / "features" / "sharp.h5") as features:
        found, problems = heads.find_heads(tmp_path, features)
    assert [head.name for head in found] == ["a", "z"]
    assert [any(f"{name}: no readable head" in problem for problem in problems) for name in "bcd"] == [
        True
    ] * 3
    assert len(problems) == 3


def test_scores_beyond_all_numbers_are_an_error_and_no_accuracy(
    fit: probes.ProbeFit, rated_world: Path, tmp_path: Path
) -> None:
    """Finite weights whose products are not: compared with a threshold, NaN would count as low."""
    good = heads.head_of(fit, fit.ridge)
    targets = open_targets(rated_world / "targets.h5")
    (weight, bias), *_ = good.layers
    huge = replace(good, layers=((np.full_like(weight, 1e308), bias),))
    with open_features(rated_world / "features" / "sharp.h5") as features, np.errstate(all="ignore"):
        with pytest.raises(heads.HeadError, match="score that is not finite"):
            heads.score_features(huge, features)
        with pytest.raises(heads.HeadError, match="score that is not finite"):
            heads.evaluate_head(huge, features, fit.rows, targets, 10)
        constant = replace(good, layers=((np.zeros_like(weight), bias),))
        result = heads.evaluate_head(constant, features, fit.rows, targets, 10)
        assert result.srcc is not None and np.isnan(result.srcc.value), "no order, so no correlation"
    with pytest.raises(heads.HeadError, match="layer 0 holds NaN"):
        replace(good, layers=((np.full_like(weight, np.nan), bias),))
