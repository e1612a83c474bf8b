"""transformers: tiny random models in folders as its users save them, held against calling it directly."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from embed.backbones.architectures import build_architecture
from embed.backbones.loading import PromptTooLong, WeightsUnavailable, backbone_availability, load_backbone
from embed.backbones.registry import BackboneError, UnknownBackbone, resolve_backbone
from embed.backbones.state_dicts import WeightsError
from embed.images.geometry import check_cut
from embed.prompts.text import measure_tokens
from store.file_names import check_name

transformers = pytest.importorskip("transformers")

SIZE = 32
TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
EYE = {**TOWER, "image_size": SIZE, "patch_size": 8}
WORDS = [*"abcdefghijklmnopqrstuvwxyz", *(f"{c}</w>" for c in "abcdefghijklmnopqrstuvwxyz")]
SPECIAL = ["<|startoftext|>", "<|endoftext|>"]
TEXTS = ["a b", "good photo of a dog", "z"]


def clip_config(**vision):
    n_words = len(WORDS) + len(SPECIAL)
    text = {**TOWER, "vocab_size": n_words, "max_position_embeddings": 24, "bos_token_id": n_words - 2,
            "eos_token_id": n_words - 1, "pad_token_id": n_words - 1}  # fmt: skip
    return transformers.CLIPConfig(text_config=text, vision_config=EYE | vision, projection_dim=16)


def siglip_config():
    text = {**TOWER, "vocab_size": 64, "max_position_embeddings": 12, "projection_size": 32}
    return transformers.SiglipConfig(text_config=text, vision_config=EYE)


CONFIGS = {
    "clip": clip_config,
    "siglip": siglip_config,
    "vit": lambda: transformers.ViTConfig(**EYE),
    "deit": lambda: transformers.DeiTConfig(**EYE),
    "dinov2": lambda: transformers.Dinov2Config(**EYE),
    "convnext": lambda: transformers.ConvNextConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 24, 32]),
    "resnet": lambda: transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
    ),
    "swin": lambda: transformers.SwinConfig(
        image_size=SIZE, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4
    ),
    "clip_vision_model": lambda: transformers.CLIPVisionConfig(**EYE),
    "siglip_vision_model": lambda: transformers.SiglipVisionConfig(**EYE),
}


def save_processor(folder, kind):
    squared, edge = {"height": SIZE, "width": SIZE}, {"shortest_edge": SIZE}
    if kind.startswith("clip"):
        made = transformers.CLIPImageProcessor(size=edge, crop_size=squared)
    elif kind == "dinov2":
        made = transformers.BitImageProcessor(size={"shortest_edge": 36}, crop_size=squared)
    elif kind == "convnext":
        made = transformers.ConvNextImageProcessor(size=edge, crop_pct=0.875)
    elif kind.startswith("siglip"):
        made = transformers.SiglipImageProcessor(size=squared)
    else:
        made = transformers.ViTImageProcessor(size=squared)
    made.save_pretrained(folder)


def randomise(model, seed=0):
    """No tensor at zero or one: what is left out would show."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            tensor.add_(torch.randn(tensor.shape, generator=generator) * (0.02 if "norm" in name else 0.1))
    return model.eval()


def save_tokenizer(folder, kind):
    if kind == "clip":
        names = [*WORDS, *SPECIAL]
        vocabulary = {name: i for i, name in enumerate(names)}
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
        (folder / "merges.txt").write_text("#version: 0.2\n")
        made = transformers.CLIPTokenizer(vocab=vocabulary, merges=[])
    else:
        from tokenizers import Tokenizer, models, pre_tokenizers, processors

        names = ["<unk>", "</s>", "good", "photo", "of", "a", "dog", "b"]
        vocabulary = {name: i for i, name in enumerate(names)}
        inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        inner.pre_tokenizer = pre_tokenizers.Whitespace()
        inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
        made = transformers.PreTrainedTokenizerFast(
            tokenizer_object=inner, unk_token="<unk>", eos_token="</s>", pad_token="</s>"
        )
    made.save_pretrained(folder)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folder and model of each kind."""
    made = {}

    def save(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            torch.manual_seed(0)
            model = randomise(transformers.AutoModel.from_config(CONFIGS[kind]()))
            model.save_pretrained(folder)
            save_processor(folder, kind)
            if kind in ("clip", "siglip"):
                save_tokenizer(folder, kind)
            made[kind] = folder, model
        return made[kind]

    return save


@pytest.fixture
def copied(saved, tmp_path):
    def copy(kind):
        return shutil.copytree(saved(kind)[0], tmp_path / kind)

    return copy


def photographs():
    rng = np.random.default_rng(1)
    sizes = [(80, 60), (44, 64), (200, 160)]
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


def images():
    return torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def direct(kind, model, pixels):
    with torch.inference_mode():
        if kind == "clip":
            return {
                "pre_projection": model.vision_model(pixels).pooler_output,
                "embedding": model.get_image_features(pixel_values=pixels).pooler_output,
            }
        if kind == "siglip":
            return {"embedding": model.get_image_features(pixel_values=pixels).pooler_output}
        found = model(pixel_values=pixels)
    if kind in ("vit", "deit", "dinov2"):
        return {"pre_logits": found.last_hidden_state[:, 0]}
    name = {"clip_vision_model": "pre_projection", "siglip_vision_model": "embedding"}.get(kind, "pooled")
    return {name: found.pooler_output.reshape(len(pixels), -1)}


def distance(a, b):
    assert a.shape == b.shape
    return float((a - b).abs().max() / b.abs().max().clamp(min=1))


def different(vectors):
    return min(distance(vectors[i], vectors[j]) for i in range(len(vectors)) for j in range(i))


@pytest.mark.parametrize("kind", CONFIGS)
def test_image_vectors_are_those_of_the_library(saved, kind):
    folder, model = saved(kind)
    backbone = load_backbone(f"transformers:{folder}")
    found, expected = backbone.encode_images(images()), direct(kind, model, images())
    assert found.keys() == expected.keys()
    for name in expected:
        assert distance(found[name], expected[name]) < 1e-6
        assert different(found[name]) > 1e-3
    assert dict(backbone.outputs) == {name: vectors.shape[1] for name, vectors in expected.items()}
    said = backbone.provenance()
    assert said["library"] == "transformers" and said["architecture"] == type(model).__name__
    assert said["versions"]["transformers"] == transformers.__version__ and "timm" not in said["versions"]
    assert said["weights"]["file"] == "model.safetensors" and said["pretrained"] == folder.name


@pytest.mark.parametrize("kind", CONFIGS)
def test_pixels_are_those_of_the_image_processor(saved, kind):
    folder, _ = saved(kind)
    _, transform = build_architecture(resolve_backbone(f"transformers:{folder}"), device="meta")
    backbone = load_backbone(f"transformers:{folder}")
    check_cut(transform, backbone.recipe.mean, backbone.recipe.std)
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    for image in photographs():
        expected = processor(image, return_tensors="pt")["pixel_values"][0]
        assert distance(transform(image), expected) < 1e-6


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_text_vectors_are_those_of_the_library(saved, kind):
    folder, model = saved(kind)
    backbone = load_backbone(f"transformers:{folder}")
    assert backbone.spec.has_text
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    length = backbone.context_length
    given = tokenizer(TEXTS, padding="max_length", max_length=length, return_tensors="pt")
    with torch.inference_mode():
        expected = model.get_text_features(input_ids=given["input_ids"]).pooler_output
    assert distance(backbone.encode_texts(TEXTS), expected) < 1e-6
    assert different(expected) > 1e-3
    needed = backbone.context_needed(TEXTS)
    if kind == "siglip":
        assert needed == length == 12
        with pytest.raises(ValueError, match="this text tower looks at all 12 positions"):
            backbone.encode_texts(TEXTS, context_length=11)
    else:
        assert needed == int(given["attention_mask"].sum(dim=1).max()) < length == 24
        assert distance(backbone.encode_texts(TEXTS, context_length=needed), expected) < 1e-5
    fits, too_long = " ".join(["a"] * (length - 2)), " ".join(["a"] * length)
    backbone.tokenize([fits])
    with pytest.raises(PromptTooLong, match="1 of 2 texts have more than"):
        backbone.tokenize([fits, too_long])
    measured = measure_tokens([*TEXTS, too_long, "good  photo of a dog"], backbone.id)
    assert measured.too_long == [too_long] and measured.same == [(1, 4)]


def test_the_activation_is_recorded(saved, tmp_path):
    assert load_backbone(f"transformers:{saved('clip')[0]}").activation == {
        "image": "quickgelu", "text": "quickgelu"
    }  # fmt: skip
    assert load_backbone(f"transformers:{saved('siglip')[0]}").activation == {
        "image": "gelu_tanh", "text": "gelu_tanh"
    }  # fmt: skip
    assert load_backbone(f"transformers:{saved('vit')[0]}").activation == {"image": "gelu"}
    other = transformers.CLIPModel(clip_config(hidden_act="gelu"))
    other.save_pretrained(tmp_path)
    save_processor(tmp_path, "clip")
    assert load_backbone(f"transformers:{tmp_path}").activation == {"image": "gelu", "text": "quickgelu"}


def test_a_classifier_gives_the_vectors_of_its_tower(saved, tmp_path):
    torch.manual_seed(3)
    model = randomise(transformers.ViTForImageClassification(CONFIGS["vit"]()))
    model.save_pretrained(tmp_path)
    save_processor(tmp_path, "vit")
    found = load_backbone(f"transformers:{tmp_path}").encode_images(images())["pre_logits"]
    with torch.inference_mode():
        assert distance(model.classifier(found), model(images()).logits) < 1e-6


def test_weights_by_torch_are_read_as_all_others_are(copied):
    folder = copied("vit")
    expected = load_backbone(f"transformers:{folder}").encode_images(images())["pre_logits"]
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    backbone = load_backbone(f"transformers:{folder}")
    assert backbone.weights_file == "pytorch_model.bin"
    assert torch.equal(backbone.encode_images(images())["pre_logits"], expected)
    torch.save({"state_dict": shutil.rmtree}, folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="objects besides tensors"):
        load_backbone(f"transformers:{folder}")


def test_every_tensor_is_accounted_for(copied):
    from safetensors.torch import load_file, save_file

    folder = copied("vit")
    state = load_file(folder / "model.safetensors")
    (first, *_), file = [n for n in state if n.endswith("layernorm.bias")], folder / "model.safetensors"
    for spoilt, message in {
        "missing": "1 keys missing",
        "shape": "1 shapes differ",
        "stranger": "1 keys unexpected: stranger",
        "nan": "1 tensors hold NaN",
        "whole": "1 tensors are no real numbers",
    }.items():
        changed = {k: v for k, v in state.items() if spoilt != "missing" or k != first}
        if spoilt != "missing":
            value = {
                "shape": torch.zeros(7), "nan": state[first] * torch.nan, "whole": state[first].int(),
            }.get(spoilt, torch.ones(2))  # fmt: skip
            changed["stranger" if spoilt == "stranger" else first] = value
        save_file(changed, file)
        with pytest.raises(WeightsError, match=message):
            load_backbone(f"transformers:{folder}")


def test_what_is_missing_from_a_folder_is_named(copied, tmp_path):
    with pytest.raises(WeightsUnavailable, match="there is no folder"):
        load_backbone(f"transformers:{tmp_path}/nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsUnavailable, match="has no config.json"):
        load_backbone(f"transformers:{tmp_path}/empty")
    folder = copied("clip")
    id = f"transformers:{folder}"
    for file in ("tokenizer.json", "vocab.json"):
        (folder / file).unlink(missing_ok=True)
    backbone = load_backbone(id)
    with pytest.raises(BackboneError, match="prompts need the tokenizer's files"):
        backbone.encode_texts(TEXTS)
    assert backbone_availability(resolve_backbone(id)) == (True, "folder")
    (folder / "model.safetensors").rename(tmp_path / "w.safetensors")
    with pytest.raises(WeightsUnavailable, match="model.safetensors is missing from"):
        load_backbone(id)
    assert not backbone_availability(resolve_backbone(id))[0]
    assert load_backbone(id, weights=tmp_path / "w.safetensors").weights_file == "w.safetensors"
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(WeightsUnavailable, match="has no preprocessor_config.json"):
        load_backbone(id, weights=tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, "from the architecture 'bert'. Known: clip, siglip, vit"),
        ({"auto_map": {"AutoModel": "mine.Model"}}, "asks to run code"),
        ({"hidden_size": 36}, "shapes differ"),
        ({"patch_size": 0}, "cannot be (built|read)"),
    ],
)
def test_architectures_that_cannot_be_used_are_told(copied, changes, message):
    folder = copied("vit")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(BackboneError, match=message):
        load_backbone(f"transformers:{folder}")
    (folder / "config.json").write_text("[]")
    with pytest.raises(BackboneError, match="is no configuration"):
        load_backbone(f"transformers:{folder}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"do_resize": False}, "does not resize"),
        ({"do_rescale": False}, "does not scale to 0 to 1"),
        ({"rescale_factor": 1 / 127.5}, "its pixels differ by up to"),
        ({"size": {"longest_edge": 32}}, "it resizes to"),
        (
            {"do_center_crop": True, "crop_size": {"height": 24, "width": 24}},
            r"its images are \(3, 24, 24\), not \(3, 32, 32\)",
        ),
    ],
)
def test_an_image_processor_that_is_no_recipe_is_refused(copied, changes, message):
    folder = copied("vit")
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(BackboneError, match=message):
        load_backbone(f"transformers:{folder}")


def test_a_repository_that_is_not_here_is_told_with_what_to_fetch(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(WeightsUnavailable) as raised:
        load_backbone("transformers:openai/clip-vit-base-patch32")
    for part in ("hf download openai/clip-vit-base-patch32", "config.json", "model.safetensors"):
        assert part in str(raised.value)
    assert not backbone_availability(resolve_backbone("transformers:openai/clip-vit-base-patch32"))[0]


def test_a_repository_in_the_hubs_cache_is_loaded(saved, monkeypatch, tmp_path):
    from huggingface_hub import constants

    folder, model = saved("dinov2")
    repo = tmp_path / "hub" / "models--someone--tiny-dino"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("abc")
    shutil.copytree(folder, repo / "snapshots" / "abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    backbone = load_backbone("transformers:someone/tiny-dino")
    assert backbone.weights_source == "hub: someone/tiny-dino/model.safetensors"
    found, expected = backbone.encode_images(images()), direct("dinov2", model, images())
    assert distance(found["pre_logits"], expected["pre_logits"]) < 1e-6


def test_ids():
    spec = resolve_backbone("transformers:openai/clip-vit-base-patch32")
    assert check_name(spec.file_stem, "backbone") == "transformers_openai_clip-vit-base-patch32"
    assert check_name(resolve_backbone("transformers:./models/mine").file_stem, "backbone")
    for id in ("transformers:", "transformers:a/b/c", "transformers:~/x", "transformers:a b"):
        with pytest.raises(UnknownBackbone, match="transformers:PUBLISHER/NAME"):
            resolve_backbone(id)


def test_a_folder_whose_path_cannot_name_a_file_is_told(copied, tmp_path):
    folder = copied("vit").rename(tmp_path / "my model")
    with pytest.raises(BackboneError, match="cannot name a backbone"):
        load_backbone(f"transformers:{folder}")
