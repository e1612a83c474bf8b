"""Another engine than torch: its vectors are torch's within rounding, its files say so, and none is mixed."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from embed.backbones import engines, exports
from embed.backbones.engines import fastest_exact
from embed.backbones.exports import EngineUnavailable
from embed.backbones.loading import load_backbone
from embed.batching import Encoder
from embed.pipeline import Options, embed_images, feature_path, feature_plan
from embed.update import update_images
from iaa.library.engines import choose_engine, engine_folder
from store import IdentityError, open_features
from store.parts import begin
from tests.engines import CONVOLUTIONAL, load_on, write_photographs, write_weights

OPTIONS = Options(batch_size=4, n_threads=2)
EXPORTED = {}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def backbone(weights):
    return load_backbone(CONVOLUTIONAL, weights)


@pytest.fixture
def quick(monkeypatch):
    """Exports the second time from memory: what is tested is what becomes of them."""
    export = engines._export

    def export_once(backbone, names):
        key = backbone.weights_sha256
        return EXPORTED[key] if key in EXPORTED else EXPORTED.setdefault(key, export(backbone, names))

    monkeypatch.setattr(engines, "_export", export_once)


@pytest.fixture
def table(tmp_path):
    return write_photographs(tmp_path / "i", 11)


def furthest(found, expected):
    return float(((found - expected).norm(dim=1) / expected.norm(dim=1)).max())


@pytest.mark.parametrize("id", [CONVOLUTIONAL, "demo_clip", "demo_vit"])
def test_vectors_are_torchs_in_batches_of_any_size(id, weights):
    backbone = load_backbone(id, weights if id == CONVOLUTIONAL else None)
    session = backbone.use_engine("onnxruntime", engine_folder())
    assert session.difference <= engines.TOLERANCE
    for n in (1, 3, 32):
        images = torch.randn(n, 3, *backbone.recipe.crop, generator=torch.Generator().manual_seed(n))
        found, expected = backbone.encode_images(images), backbone.encode_by_torch(images)
        assert list(found) == list(expected) == list(backbone.outputs)
        assert not all(torch.equal(found[name], expected[name]) for name in found), "it is another engine"
        for name in found:
            assert furthest(found[name], expected[name]) < engines.TOLERANCE
    assert backbone.use_engine("torch") is None
    assert torch.equal(backbone.encode_images(images)[name], expected[name])


def test_the_rule(backbone):
    assert fastest_exact(backbone) == "onnxruntime"
    assert fastest_exact(load_backbone("demo_vit")) == fastest_exact(load_backbone("demo_clip")) == "torch"
    backbone.precision = "bfloat16"
    assert fastest_exact(backbone) == "torch"
    backbone.precision, backbone.device = "float32", torch.device("cuda")
    assert fastest_exact(backbone) == "torch"
    with pytest.raises(EngineUnavailable, match="float32 on the CPU, not float32 on cuda"):
        backbone.use_engine("onnxruntime")


def test_torch_is_told_by_leaving_it_out_and_asked_for_all_the_same(tmp_path, table, backbone):
    """A file of torch has the bytes it always had; either is refused, by name, for the other."""
    embed_images(table, [backbone], tmp_path / "torch", OPTIONS)
    with open_features(feature_path(tmp_path / "torch", backbone.id)) as features:
        assert "engine" not in features.identity and "engine" not in features.provenance
    backbone.use_engine("onnxruntime", engine_folder())
    embed_images(table, [backbone], tmp_path / "other", OPTIONS)
    with open_features(feature_path(tmp_path / "other", backbone.id)) as features:
        assert features.identity["engine"] == features.provenance["engine"] == "onnxruntime"
        versions = features.provenance["versions"]
        assert versions["onnxruntime"] and versions["onnx"] and "timm" in versions
    with pytest.raises(IdentityError, match="engine: the file has 'torch', asked for 'onnxruntime'"):
        embed_images(table, [backbone], tmp_path / "torch", OPTIONS)
    backbone.use_engine("torch")
    for act in (embed_images, update_images):
        with pytest.raises(IdentityError, match="engine: the file has 'onnxruntime', asked for 'torch'"):
            act(table, [backbone], tmp_path / "other", OPTIONS)
    assert embed_images(table, [backbone], tmp_path / "torch", OPTIONS)[0].n_new == 0


@pytest.mark.parametrize("begun, asked", [("torch", "onnxruntime"), ("onnxruntime", "torch")])
def test_a_begun_run_is_not_gone_on_with_by_another_engine(tmp_path, table, backbone, begun, asked):
    backbone.use_engine(begun, engine_folder())
    plan = feature_plan(table, backbone, feature_path(tmp_path, backbone.id), OPTIONS)
    begin(plan)
    backbone.use_engine(asked, engine_folder())
    with pytest.raises(IdentityError, match=f"identity.engine: the file has '{begun}', asked for '{asked}'"):
        embed_images(table, [backbone], tmp_path, OPTIONS)
    assert choose_engine(backbone, "auto", begun)["name"] == begun
    assert embed_images(table, [backbone], tmp_path, OPTIONS)[0].n_new == len(table)


def kept(folder):
    (path,) = folder.glob("*.onnx")
    return path


def test_an_export_is_kept_and_served(tmp_path, quick, backbone, monkeypatch):
    assert backbone.use_engine("onnxruntime", tmp_path).is_new
    path = kept(tmp_path)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(engines, "_export", lambda *_: pytest.fail("exported again"))
        session = backbone.use_engine("onnxruntime", tmp_path)
    assert not session.is_new and session.difference <= engines.TOLERANCE
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "foreign", "header", "model", "key"])
def test_a_kept_export_that_is_not_right_is_made_anew(tmp_path, quick, backbone, damage, caplog):
    backbone.use_engine("onnxruntime", tmp_path)
    path = kept(tmp_path)
    whole = path.read_bytes()
    magic, header, model = whole.split(b"\n", 2)
    other = json.loads(header)
    del other["line_sha256"]
    if damage == "key":
        other["key"]["versions"]["torch"] = "1.0"
    if damage == "model":  # as whole as its digest says, and still no model
        model = b"no model"
        other["sha256"] = engines.hashlib.sha256(model).hexdigest()
    path.write_bytes(
        {
            "flip": whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:],
            "cut": whole[: len(whole) // 2],
            "empty": b"",
            "foreign": b"\x89HDF" + whole,
            "header": magic + b"\n{[\n" + model,
        }.get(damage, exports.header_line(other, magic + b"\n") + model)
    )
    assert backbone.use_engine("onnxruntime", tmp_path).is_new
    assert ("made anew" in caplog.text) == (damage != "key"), "another version is nothing to warn of"
    assert not backbone.use_engine("onnxruntime", tmp_path).is_new


def test_an_export_of_other_weights_is_not_served(tmp_path, quick, backbone):
    """Under the very name of the right one."""
    backbone.use_engine("onnxruntime", tmp_path)
    path = kept(tmp_path)
    other = load_backbone(CONVOLUTIONAL, write_weights(tmp_path, 1))
    other.use_engine("onnxruntime", tmp_path / "other")
    kept(tmp_path / "other").replace(path)
    assert backbone.use_engine("onnxruntime", tmp_path).is_new
    images = torch.rand(2, 3, *backbone.recipe.crop)
    expected = backbone.encode_by_torch(images)["pooled"]
    assert furthest(backbone.encode_images(images)["pooled"], expected) < engines.TOLERANCE
    assert furthest(other.encode_images(images)["pooled"], expected) > 1e-3


def test_a_folder_that_cannot_be_written_costs_time_alone(tmp_path, quick, backbone, caplog):
    (tmp_path / "file").write_text("in the way")
    for folder in (None, tmp_path / "file" / "engines"):
        assert backbone.use_engine("onnxruntime", folder).is_new
    assert "the next run exports again" in caplog.text


def no_version(package):
    raise exports.importlib.metadata.PackageNotFoundError(package)


def refuse(*_):
    raise RuntimeError("Unsupported operator aten::strange\nand a long explanation")


TROUBLES = {
    "missing": (exports.importlib.metadata, "version", no_version, "onnxruntime is not installed: pip"),
    "old": (exports.importlib.metadata, "version", lambda _: "1.9.1", r"onnxruntime 1.9.1 is too old: pip"),
    "export": (engines, "_export", refuse, "cannot be exported: RuntimeError: Unsupported operator aten::s"),
    "run": (engines, "_runner", refuse, "ONNX Runtime cannot run timm:test_efficientnet"),
    "inexact": (engines, "TOLERANCE", 1e-12, "of their length from torch's, more than 1e-12"),
    "large": (engines, "_MAX_MODEL", 1000, "is too large for one file"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_where_it_cannot_compute_torch_is_taken(tmp_path, quick, backbone, monkeypatch, trouble):
    monkeypatch.setenv("IAA_CACHE", str(tmp_path))
    module, name, stand_in, message = TROUBLES[trouble]
    with monkeypatch.context() as patch:
        patch.setattr(module, name, stand_in)
        said = []
        chosen = choose_engine(backbone, "auto", say=said.append)
        assert chosen["name"] == backbone.engine == "torch"
        assert len(said) == 1 and "torch computes" in said[0]
        with pytest.raises(EngineUnavailable, match=message):
            choose_engine(backbone, "onnxruntime")
        with pytest.raises(EngineUnavailable, match=message) as caught:
            choose_engine(backbone, "auto", made="onnxruntime")
        assert "engines are not mixed" in caught.value.__notes__[0]
        assert backbone.engine == "torch" and not backbone.engine_identity
    if trouble in ("missing", "old", "run"):  # of the machine, not of the model: tried again next time
        assert choose_engine(backbone, "auto", say=said.append)["name"] == "onnxruntime"


def test_the_verdict_on_a_model_is_kept(tmp_path, backbone, monkeypatch):
    monkeypatch.setattr(engines, "_export", refuse)
    with pytest.raises(EngineUnavailable, match="cannot be exported"):
        backbone.use_engine("onnxruntime", tmp_path)
    monkeypatch.setattr(engines, "_export", lambda *_: pytest.fail("tried again"))
    with pytest.raises(EngineUnavailable, match="cannot be exported: RuntimeError: Unsupported operator"):
        backbone.use_engine("onnxruntime", tmp_path)


@pytest.mark.parametrize("values", [float("nan"), float("inf"), 2.0])
def test_vectors_that_are_no_numbers_or_others_are_found(tmp_path, quick, backbone, monkeypatch, values):
    run = engines._runner

    def wrong(model):
        return lambda images: [np.full_like(v, values) if len(v) == 3 else v for v in run(model)(images)]

    monkeypatch.setattr(engines, "_runner", wrong)
    with pytest.raises(EngineUnavailable, match="differ by"):
        backbone.use_engine("onnxruntime", tmp_path)


def test_a_lack_of_memory_halves_the_batch(backbone):
    backbone.use_engine("onnxruntime", engine_folder())
    run, sizes = backbone._session._run, []

    def small(images):
        sizes.append(len(images))
        if len(images) > 2:
            raise Exception("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory")
        return run(images)

    backbone._session._run = small
    pixels = torch.zeros(8, *backbone.recipe.crop, 3, dtype=torch.uint8)
    assert Encoder(backbone, 8).encode(pixels)["pooled"].shape[0] == 8
    assert sizes == [8, 4, 2, 2, 2, 2]


def test_other_errors_are_not_taken_for_a_lack_of_memory(backbone):
    backbone.use_engine("onnxruntime", engine_folder())
    backbone._session._run = refuse
    with pytest.raises(RuntimeError, match="^ONNX Runtime: Unsupported"):
        Encoder(backbone, 8).encode(torch.zeros(8, *backbone.recipe.crop, 3, dtype=torch.uint8))


def test_runs_repeat_to_the_bit(backbone, weights):
    """Also in another session: parts of a killed run fit to those that follow."""
    images = torch.rand(32, 3, *backbone.recipe.crop, generator=torch.Generator().manual_seed(0))
    found = []
    for _ in range(2):
        again = load_backbone(CONVOLUTIONAL, weights)
        again.use_engine("onnxruntime", engine_folder())
        found += [again.encode_images(images)["pooled"] for _ in range(5)]
    assert all(torch.equal(each, found[0]) for each in found)


def test_a_fine_tuned_backbone_keeps_its_distribution(tmp_path):
    from finetune.tuned import DISTRIBUTION, TunedBackbone

    (plain,) = load_on("torch", "demo_vit")
    torch.manual_seed(0)
    tuned = TunedBackbone(
        torch.nn.Linear(128, 10), "pre_logits", {}, spec=dataclasses.replace(plain.spec, outputs={}),
        model=plain.model, transform=plain.transform, weights_sha256="1" * 64, weights_file="f",
        weights_source="s", device=torch.device("cpu"), precision="float32",
    )  # fmt: skip
    images = torch.rand(3, 3, *tuned.recipe.crop)
    expected = tuned.encode_images(images)
    tuned.use_engine("onnxruntime", tmp_path)
    found = tuned.encode_images(images)
    assert list(found) == list(expected) == ["pre_logits", DISTRIBUTION]
    for name in found:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)
