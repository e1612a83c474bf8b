"""Names for people: methods, backbones and outputs as a reader would call them."""

from analysis.results.methods import MethodResult

BACKBONES = {
    "vit_b32.openai": "CLIP ViT-B/32",
    "vit_b16.openai": "CLIP ViT-B/16",
    "vit_l14.openai": "CLIP ViT-L/14",
    "rn50.openai": "CLIP RN50",
    "vit_b32.in21k": "ViT-B/32 (ImageNet-21k)",
    "rn50.in21k_miil": "RN50 (ImageNet-21k)",
    "rn50.cc12m": "CLIP RN50 (CC12M)",
    "rn50.yfcc15m": "CLIP RN50 (YFCC15M)",
    "efficientnet_lite0.in1k": "EfficientNet-Lite0 (ImageNet)",
    "mlsp": "Inception-ResNet-v2 (ImageNet)",
    "mlsp_v3": "Inception-v3 (ImageNet)",
    "mlsp_wide": "Inception-ResNet-v2 (ImageNet), wide",
    "mlsp_v3_wide": "Inception-v3 (ImageNet), wide",
    "demo_clip": "demo CLIP",
    "demo_vit": "demo ViT",
}
OUTPUTS = {
    "pre_projection": "before projection",
    "embedding": "joint space",
    "pre_logits": "last layer",
    "pooled": "pooled",
    "narrow": "all levels",
    "wide": "all levels, 5 x 5 cells",
}
METHODS = {
    "majority": "always the commoner class",
    "prompting.fixed": "fixed prompts",
    "prompting.context": "context-aware prompts",
    "prompting.context_max": "context-aware, largest cosine",
    "prompting.ensemble_mean_of_raw": "prompt ensemble",
    "prompting.ensemble_mean_of_unit": "prompt ensemble, of unit vectors",
    "prompting.clip_iqa": "CLIP-IQA, mean of pairs",
    "prompting.greedy": "labels added greedily",
    "prompting.bottleneck": "ridge on label similarities",
    "probe.ols": "linear probe, least squares",
    "probe.ridge": "linear probe, ridge",
    "probe.distribution": "vote distribution, ridge",
    "finetune": "fine-tuned, all layers",
    "tuned.head": "a new last layer trained",
    "tuned.last:1": "last block trained",
    "nima": "NIMA's recipe",
    "stacked.narrow": "MLSP's head of three layers",
    "stacked.wide": "MLSP's wide head, a block and three layers",
    "stacked.other": "head of several layers",
}


def name_backbone(backbone: str) -> str:
    """A backbone's name; its id where it has none."""
    base, tuned, _ = backbone.partition("+finetuned.")
    return BACKBONES.get(base, base) + (", fine-tuned" if tuned else "")


def name_output(backbone: str, output: str) -> str:
    """A backbone and one of its outputs."""
    parts = (name_backbone(backbone), OUTPUTS.get(output, output))
    return ", ".join(part for part in parts if part)


def name_method(result: MethodResult) -> str:
    """What was done, without the backbone."""
    key = result.key
    if key.startswith("tuned.last:") and key not in METHODS:
        name = f"last {key.removeprefix('tuned.last:')} blocks trained"
    else:
        name = METHODS.get(key, result.method)
    return name + (", unit length" if result.detail.get("unit_norm") is True else "")


def name_result(result: MethodResult) -> str:
    """What was done on which backbone."""
    return ": ".join(p for p in (name_output(result.backbone, result.output), name_method(result)) if p)


def short_method(result: MethodResult) -> str:
    """What was done, where a heading says that it is a probe."""
    return name_method(result).removeprefix("linear probe, ")
