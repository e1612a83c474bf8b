"""MLSP: multi-level pooled features of an Inception network, of images at their own size (Hosu et al. 2019).

Of Inception-ResNet-v2 43 layers are averaged over space: the three reductions and, of each of its 40 residual
blocks, what its branches give together, before the 1x1 convolution that the block ends with. Of Inception-v3
the outputs of its 11 mixed blocks. Wide features have a mean for each of 5 x 5 cells of the image beside.
The networks and their weights are timm's.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from embed.backbones.families import Family, Model, Transform
from embed.backbones.families.timm import FAMILY as TIMM
from embed.backbones.spec import BackboneSpec
from embed.uncompiled import library

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

OUTPUT = "narrow"
WIDTHS = {"inception_resnet_v2": 16_928, "inception_v3": 10_048}
"""Numbers of all levels by architecture."""


def _parse(name: str) -> BackboneSpec | None:
    """`ARCHITECTURE.TAG`; `ARCHITECTURE/NAME` for weights of one's own."""
    spec = TIMM.parse(name)
    if spec is None or spec.architecture not in WIDTHS:
        return None
    return replace(spec, id=f"mlsp:{name}", library="mlsp", outputs={OUTPUT: WIDTHS[spec.architecture]})


def _as_timm(spec: BackboneSpec) -> BackboneSpec:
    """The spec as timm's family reads it, by whose id it tells published weights from one's own."""
    return replace(spec, id=spec.id.replace("mlsp:", "timm:", 1), library="timm")


def _build(spec: BackboneSpec, device: "torch.device") -> "tuple[nn.Module, Transform]":
    from embed.backbones.levels import Levels
    from embed.images.geometry import OwnSize

    net, built = TIMM.build(_as_timm(spec), device)
    transform: Any = built
    tv = library("torchvision.transforms")
    (normalise,) = [step for step in transform.transforms if isinstance(step, tv.Normalize)]
    return Levels(net, is_wide=bool(spec.cells)), tv.Compose([OwnSize(), tv.ToTensor(), normalise])


def _image_outputs(model: Model, images: "Tensor") -> "dict[str, Tensor]":
    found: dict[str, Tensor] = model(images)
    return found


def _to_layout(state: "dict[str, Tensor]", model: Model) -> "dict[str, Tensor]":
    return {name if name.startswith("net.") else f"net.{name}": tensor for name, tensor in state.items()}


def _fit_classifier(model: Model, state: "dict[str, Tensor]") -> None:
    TIMM.fit_classifier(model.net, {name.removeprefix("net."): tensor for name, tensor in state.items()})


def _default_weights(model: Any) -> str:
    return TIMM.default_weights(model.net)


FAMILY = Family(
    packages=TIMM.packages,
    published="mlsp:{architecture}.{pretrained}",
    form="mlsp:NAME (mlsp:inception_v3.tf_in1k)",
    own_form="mlsp:ARCHITECTURE/NAME",
    parse=_parse,
    check=lambda spec, has_file: TIMM.check(_as_timm(spec), has_file),
    named_by_user=lambda spec: TIMM.named_by_user(_as_timm(spec)),
    build=_build,
    image_outputs=_image_outputs,
    hub_location=lambda spec: TIMM.hub_location(_as_timm(spec)),
    activations=TIMM.activations,
    to_layout=_to_layout,
    fit_classifier=_fit_classifier,
    default_weights=_default_weights,
)
