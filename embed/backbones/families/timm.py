"""timm: image towers of all kinds, `timm:NAME`."""

from glob import escape
from typing import TYPE_CHECKING, Any

from embed.backbones.families import Family, Model, Transform, unknown_name, unknown_weights
from embed.backbones.spec import BackboneError, BackboneSpec, UnknownBackbone, read_config
from embed.uncompiled import library

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

_HUB_FILE = "model.safetensors"


def _parse(name: str) -> BackboneSpec | None:
    """`NAME` or `NAME.TAG`; `ARCHITECTURE/NAME` for weights of one's own."""
    if not name or name.count("/") > 1 or not all(name.split("/")):
        return None
    if "/" in name:
        architecture, tag = name.split("/")
        source = f"weights of one's own, {tag!r}"
    else:
        architecture, _, tag = name.partition(".")
        source = f"timm's weights {tag!r}" if tag else "timm's default weights"
    return BackboneSpec(
        f"timm:{name}", "timm", architecture, tag, {}, has_text=False, registered=False, source=source
    )


def _named_by_user(spec: BackboneSpec) -> bool:
    return _built_name(spec) == spec.architecture


def _hub_location(spec: BackboneSpec) -> tuple[str, tuple[str, ...], str]:
    timm = library("timm")

    if "/" in spec.id:  # weights of one's own
        return "", (), ""
    entry = timm.get_pretrained_cfg(".".join(filter(None, [spec.architecture, spec.pretrained])))
    if entry is None:
        return "", (), ""
    files = (entry.hf_hub_filename,) if entry.hf_hub_filename else (_HUB_FILE,)
    return entry.hf_hub_id or "", files, str(entry.url or "")


def _build(spec: BackboneSpec, device: "torch.device") -> "tuple[nn.Module, Transform]":
    timm = library("timm")

    data: Any = timm.data  # timm does not type its exports
    arguments: dict[str, Any] = {"pretrained": False}
    if spec.config is not None:
        config: dict[str, Any] = read_config(spec)
        name = config["architecture"]
        arguments |= config["model_args"] | {"pretrained_cfg": config["pretrained_cfg"]}
    else:
        name = _built_name(spec)
        arguments |= {} if spec.num_classes is None else {"num_classes": spec.num_classes}
    with device:
        model = timm.create_model(name, **arguments)
    if spec.preprocessing:
        weights: Any = timm.get_pretrained_cfg(spec.preprocessing)
        settings = data.resolve_data_config(pretrained_cfg=weights.to_dict())
    else:
        settings = data.resolve_model_data_config(model)
    return model, data.create_transform(**settings, is_training=False)


def _built_name(spec: BackboneSpec) -> str:
    """The name by which timm builds the model: with the tag, where that is one of timm's."""
    named = f"{spec.architecture}.{spec.pretrained}"
    is_known = spec.pretrained and not spec.preprocessing and named in _tags(spec.architecture)
    return named if is_known else spec.architecture


def _tags(architecture: str) -> list[str]:
    timm = library("timm")

    return list(timm.list_pretrained(f"{escape(architecture)}.*"))


def _check(spec: BackboneSpec, has_file: bool) -> None:
    timm = library("timm")

    architecture, _, transform_tag = spec.architecture.partition(".")
    if not timm.is_model(architecture):
        raise UnknownBackbone(unknown_name(spec, "model", architecture, timm.list_models()))
    name = _built_name(spec)
    is_own = has_file and "/" in spec.id
    tags = [tag.partition(".")[2] for tag in _tags(architecture)]
    wrong = transform_tag or (spec.pretrained if name == spec.architecture and not spec.preprocessing else "")
    if wrong and wrong not in tags and not (is_own and wrong == spec.pretrained):
        raise UnknownBackbone(unknown_weights(spec, wrong, tags))
    if is_own:
        return
    # timm lists OpenAI's weights under both activations; only one gives the published vectors.
    other = name.replace("_clip_", "_clip_quickgelu_")
    if "_clip_" in name and "quickgelu" not in name and timm.is_model_pretrained(other):
        raise BackboneError(
            f"backbone {spec.id!r}: the weights {spec.pretrained!r} were trained with QuickGELU, "
            f"the architecture {spec.architecture} has GELU: its vectors would be plausible and "
            f"wrong. Use timm:{other}"
        )


def _image_outputs(model: Model, images: "Tensor") -> "dict[str, Tensor]":
    """`pre_logits` (one token or a mean of tokens) or `pooled` (a feature map pooled over space) is what the
    classifier would be applied to."""
    features = model.forward_features(images)
    name = "pooled" if features.ndim == 4 else "pre_logits"
    return {name: model.forward_head(features, pre_logits=True)}


def _to_layout(state: "dict[str, Tensor]", model: Model) -> "dict[str, Tensor]":
    timm = library("timm")
    from timm.models.vision_transformer import checkpoint_filter_fn

    if isinstance(model, timm.models.VisionTransformer) and "mask_token" in state:
        return checkpoint_filter_fn(state, model)  # DINOv2 as its authors published it
    return state


def _fit_classifier(model: Model, state: "dict[str, Tensor]") -> None:
    import torch

    name = model.pretrained_cfg.get("classifier")
    rows = state.get(f"{name}.weight")
    n_classes = 0 if rows is None or rows.ndim == 0 else len(rows)
    if isinstance(name, str) and n_classes != model.num_classes:
        with torch.random.fork_rng(devices=[]):
            model.reset_classifier(n_classes)


def _default_weights(model: Model) -> str:
    return str(getattr(model, "pretrained_cfg", {}).get("tag", ""))


FAMILY = Family(
    # Both libraries' versions are recorded for both: files of either have had them from the start.
    packages={"open_clip": "open-clip-torch", "timm": "timm"},
    published="timm:{architecture}.{pretrained}",
    form="timm:NAME (timm:convnext_tiny.fb_in22k)",
    own_form="timm:ARCHITECTURE/NAME",
    parse=_parse,
    check=_check,
    named_by_user=_named_by_user,
    build=_build,
    image_outputs=_image_outputs,
    hub_location=_hub_location,
    activations=("timm.layers.activations",),
    to_layout=_to_layout,
    fit_classifier=_fit_classifier,
    default_weights=_default_weights,
)
