"""Which parameters train, which do not, and that accumulated gradients are those of one batch."""

from contextlib import nullcontext

import numpy as np
import pytest
import timm
import torch

from embed.backbones.loading import load_backbone
from finetune.model import (
    DistributionModel,
    build_model,
    choose_parameters,
    set_training,
    tower_blocks,
    trained_tensors,
)
from finetune.settings import Settings
from finetune.targets import FinetuneError
from finetune.training import gradient_step


def images(n, size=16, seed=0):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def shares_of(n, k=5, seed=1):
    return torch.softmax(torch.randn(n, k, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_it_predicts_distributions_with_a_head_of_its_own_seed(tiny):
    model = build_model(tiny, "pre_logits", 5, Settings(seed=4))
    out = model(images(3))
    assert out.shape == (3, 5) and torch.allclose(out.sum(dim=1), torch.ones(3)) and (out > 0).all()
    with torch.no_grad():
        expected = torch.softmax(model.head(tiny.encode_images(images(3))["pre_logits"]), dim=1)
    assert torch.allclose(out, expected, atol=1e-6)
    again = build_model(tiny, "pre_logits", 5, Settings(seed=4)).head.weight
    other = build_model(tiny, "pre_logits", 5, Settings(seed=5)).head.weight
    assert torch.equal(model.head.weight, again) and not torch.equal(model.head.weight, other)


def test_all_means_what_the_output_depends_on():
    clip = load_backbone("demo_clip")
    model = build_model(clip, "pre_projection", 10, Settings())
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {"head.weight", "head.bias", "tower.visual.conv1.weight", "tower.visual.ln_post.weight"} <= names
    assert "tower.visual.proj" not in names, "the projection comes after"
    assert not any(name.startswith("tower.") and not name.startswith("tower.visual.") for name in names)
    joint = build_model(clip, "embedding", 10, Settings())
    assert "tower.visual.proj" in {name for name, p in joint.named_parameters() if p.requires_grad}


def test_the_last_blocks_and_what_follows(tiny):
    model = build_model(tiny, "pre_logits", 5, Settings(train="last:2"))
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    starts = {".".join(name.split(".")[:3]) for name in names if "blocks" in name}
    assert starts == {"tower.blocks.1", "tower.blocks.2"}
    assert "tower.norm.weight" in names and "tower.patch_embed.proj.weight" not in names
    assert "tower.head.weight" not in names, "the old classifier has no part"
    with pytest.raises(FinetuneError, match="has 3 blocks"):
        build_model(tiny, "pre_logits", 5, Settings(train="last:4"))


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0", "convnext_atto", "test_vit"])
def test_blocks_of_the_libraries_towers_run_in_the_order_of_their_parameters(name):
    """'last:K' takes parameters by their order; a gradient through the frozen part would show a mistake."""
    tower = timm.create_model(name, num_classes=0)
    model = DistributionModel(tower, "pooled", tower.num_features, 5, 0.0, 0)
    if name == "test_vit":
        model.output = "pre_logits"
    size = tower.pretrained_cfg["input_size"][1]
    chosen = choose_parameters(model, "last:1", torch.zeros(1, 3, size, size))
    blocks = tower_blocks(tower)
    inside = {id(p) for block in blocks[:-1] for p in block.parameters()}
    last = {id(p) for p in blocks[-1].parameters()}
    by_name = dict(model.named_parameters())
    assert not any(id(by_name[n]) in inside for n in chosen)
    assert last <= {id(by_name[n]) for n in chosen}
    seen = []
    blocks[-1].register_forward_pre_hook(lambda module, args: seen.append(args[0].requires_grad))
    for n, p in model.named_parameters():
        p.requires_grad_(n in chosen)
    model(images(1, size))
    assert seen == [False], "what comes before the last block is frozen"


@pytest.mark.parametrize("micro", [1, 3, 5, 8])
def test_accumulated_gradients_are_those_of_one_batch(tiny, micro):
    model = build_model(tiny, "pre_logits", 5, Settings())
    found = {}
    for size in (0, micro):
        model.zero_grad()
        loss = gradient_step(model, images(8), shares_of(8), lambda x: x, size, nullcontext()).item()
        found[size] = (loss, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    assert found[0][0] == pytest.approx(found[micro][0], abs=1e-6)
    for name, gradient in found[0][1].items():
        scale = gradient.abs().max().item()
        other = found[micro][1][name]
        np.testing.assert_allclose(other, gradient, atol=1e-5 * max(scale, 1e-3), err_msg=name)


def test_batch_norm_keeps_its_statistics_unless_asked():
    tower = timm.create_model("resnet18", num_classes=0)
    model = DistributionModel(tower, "pooled", 512, 5, 0.5, 0)
    before = {n: b.clone() for n, b in tower.named_buffers()}
    set_training(model, False)
    assert model.dropout.training
    model(images(4, 32))
    assert all(torch.equal(b, before[n]) for n, b in tower.named_buffers())
    chosen = choose_parameters(model, "last:1", torch.zeros(1, 3, 32, 32))
    for n, p in model.named_parameters():
        p.requires_grad_(n in chosen)
    set_training(model, True)
    model(images(4, 32))
    moved = {n for n, b in tower.named_buffers() if not torch.equal(b, before[n])}
    assert moved and all(n.startswith("layer4.") for n in moved)
    names = set(trained_tensors(model))
    assert {f"tower.{n}" for n in moved} <= names and not any(".layer3." in n for n in names)
