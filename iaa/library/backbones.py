"""Backbones, listed and loaded."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iaa.library.extras import naming_extras
from iaa.library.opening import is_tuned
from iaa.library.progress import Say, log
from iaa.library.table import Table

if TYPE_CHECKING:
    from embed.backbones.loading import Backbone


@naming_extras()
def list_backbones() -> Table:
    """The registered backbones: id, whether it can run here, outputs with their widths, whether it reads
    text, and where its weights are or how to get them. How any other is called: `any_other`."""
    from embed.backbones.registry import BACKBONES
    from embed.backbones.weights import backbone_availability

    found = [(spec, *backbone_availability(spec)) for spec in BACKBONES.values()]
    return Table(
        "Backbones",
        {
            "id": [spec.id for spec, _, _ in found],
            "library": [spec.library for spec, _, _ in found],
            "architecture": [spec.architecture for spec, _, _ in found],
            "outputs": [dict(spec.outputs) for spec, _, _ in found],
            "has_text": [spec.has_text for spec, _, _ in found],
            "can_run_here": [available for _, available, _ in found],
            "weights": [reason for _, _, reason in found],
        },
    )


def any_other() -> str:
    """How backbones that are not registered are called, family by family."""
    from embed.backbones.families import FAMILIES, family

    forms = " or ".join(family(name).form for name in FAMILIES)
    return f"Any other: {forms}, with --weights FILE if the hub is out of reach."


def describe_backbone(name: str) -> dict[str, Any]:
    """What is known about a backbone before it is loaded. Raises UnknownBackbone, with near names."""
    from embed.backbones.registry import resolve_backbone
    from embed.backbones.weights import backbone_availability

    spec = resolve_backbone(name)
    available, where = backbone_availability(spec)
    return {
        "id": spec.id,
        "library": spec.library,
        "architecture": spec.architecture,
        "pretrained": spec.pretrained,
        "outputs": dict(spec.outputs),
        "has_text": spec.has_text,
        "source": spec.source,
        "licence": spec.licence,
        "note": spec.note,
        "can_run_here": available,
        "weights": where,
    }


@naming_extras()
def load_backbone(
    name: str,
    weights: Path | str | None = None,
    device: str = "auto",
    precision: str = "float32",
    data: Path | None = None,
) -> "Backbone":
    """A backbone, loaded on the device and checked key by key; with a data root, a fine-tuned one, too.

    Raises UnknownBackbone, WeightsUnavailable (which names the file to fetch), DeviceError.
    """
    (loaded,) = load_backbones([name], {name: Path(weights)} if weights else {}, device, precision, data)
    return loaded


def load_backbones(
    names: Sequence[str],
    weights: Mapping[str, Path],
    device: str = "auto",
    precision: str = "float32",
    root: Path | None = None,
    say: Say = log,
) -> "list[Backbone]":
    """Several backbones on one device; with a data root, fine-tuned ones, too. `say` takes remarks."""
    from embed.backbones.device import describe_device, pick_device
    from embed.backbones.loading import load_backbone as load

    chosen = pick_device(device)
    say(f"device: {describe_device(chosen)}")
    loaded: list[Backbone] = []
    for name in names:
        if root is not None and is_tuned(name):
            from finetune.tuned import find_tuned, load_tuned

            loaded.append(load_tuned(find_tuned(root, name), chosen, precision))
        else:
            loaded.append(load(name, weights.get(name), chosen, precision))
            for remark in loaded[-1].remarks:
                say(remark)
    return loaded
