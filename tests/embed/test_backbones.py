"""The registry: ids, prefixed ids, and what the specs claim about the libraries' own tables."""

import subprocess
import sys
from pathlib import Path

import pytest

from embed.backbones.registry import BACKBONES, BackboneError, UnknownBackbone, registry, resolve_backbone

REPOSITORY = Path(__file__).parents[2]
ON_HUB = [spec for spec in BACKBONES.values() if spec.hub_repo]


def test_the_registry_imports_nothing_heavy():
    code = (
        "import sys, embed.backbones.registry\n"
        "heavy = {'torch', 'open_clip', 'timm', 'huggingface_hub', 'numpy'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_an_id_registered_twice_is_an_error():
    spec = BACKBONES["demo_clip"]
    with pytest.raises(BackboneError, match="two backbones are registered as 'demo_clip'"):
        registry([spec, BACKBONES["demo_vit"], spec])


def test_an_unknown_id_lists_the_known_ones_and_the_closest():
    with pytest.raises(UnknownBackbone, match=r"Did you mean vit_b32\.openai") as raised:
        resolve_backbone("vit_b32.openia")
    for id in BACKBONES:
        assert id in str(raised.value)


@pytest.mark.parametrize("id", ["open_clip:ViT-B-16", "open_clip:a/b/c", "timm:", "hub:x/y", ""])
def test_a_malformed_id_is_unknown(id):
    with pytest.raises(UnknownBackbone, match="open_clip:ARCHITECTURE/TAG"):
        resolve_backbone(id)


def test_a_prefixed_id_names_library_architecture_and_weights():
    clip = resolve_backbone("open_clip:ViT-B-16/laion2b_s34b_b88k")
    assert (clip.library, clip.architecture, clip.pretrained) == (
        "open_clip", "ViT-B-16", "laion2b_s34b_b88k",
    )  # fmt: skip
    assert clip.has_text and not clip.outputs
    timm = resolve_backbone("timm:convnext_tiny.fb_in22k")
    assert (timm.architecture, timm.pretrained, timm.has_text) == ("convnext_tiny", "fb_in22k", False)
    assert resolve_backbone("timm:resnet50").id == "timm:resnet50"


def test_the_same_weights_do_not_get_two_names():
    assert resolve_backbone("open_clip:ViT-B-32-quickgelu/openai").id == "vit_b32.openai"
    assert resolve_backbone("timm:vit_base_patch32_224.augreg_in21k").id == "vit_b32.in21k"


def test_file_stems_are_safe_and_distinct():
    specs = [*BACKBONES.values(), resolve_backbone("open_clip:ViT-B-16/openai")]
    stems = [spec.file_stem for spec in specs]
    assert len(set(stems)) == len(stems)
    assert not any(set(stem) & set('/\\:*?"<>| ') for stem in stems)


def test_a_spec_cannot_be_changed():
    with pytest.raises(TypeError):
        BACKBONES["demo_clip"].outputs["embedding"] = 1


@pytest.mark.parametrize("spec", ON_HUB, ids=lambda spec: spec.id)
def test_the_hub_location_is_the_one_the_library_uses(spec):
    if spec.library == "open_clip":
        open_clip = pytest.importorskip("open_clip")
        entry = open_clip.get_pretrained_cfg(spec.architecture, spec.pretrained)
        assert entry["hf_hub"] == f"{spec.hub_repo}/"
    else:
        timm = pytest.importorskip("timm")
        entry = timm.get_pretrained_cfg(f"{spec.architecture}.{spec.pretrained}")
        assert entry.hf_hub_id == spec.hub_repo
        assert entry.license == spec.licence.lower()


@pytest.mark.parametrize(
    "spec", [s for s in ON_HUB if s.library == "open_clip"], ids=lambda spec: spec.id
)
def test_the_activation_is_the_one_the_weights_were_trained_with(spec):
    import open_clip

    entry = open_clip.get_pretrained_cfg(spec.architecture, spec.pretrained)
    config = open_clip.get_model_config(spec.architecture)
    assert bool(entry.get("quick_gelu")) == bool(config.get("quick_gelu"))
    assert bool(entry.get("quick_gelu")) == (spec.activation == "quickgelu")
