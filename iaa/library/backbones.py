"""Backbones, listed and loaded."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iaa.library.errors import UsageError
from iaa.library.extras import naming_extras
from iaa.library.progress import Say, log
from iaa.library.table import Table

if TYPE_CHECKING:
    from embed.backbones.loading import Backbone


def is_tuned(backbone_id: str) -> bool:
    """True for ids of fine-tuned backbones, `<backbone>+finetuned.<digest>`."""
    return "+finetuned." in backbone_id


def check_ids(backbones: Sequence[str]) -> None:
    """Raises UnknownBackbone, with near names, before anything heavy is imported or listed."""
    for name in backbones:
        has_text(name)


def is_known(backbone_id: str) -> bool:
    """True for what can be loaded by its id; imported vectors may be of anything."""
    from embed.backbones.registry import UnknownBackbone, resolve_backbone

    try:
        return is_tuned(backbone_id) or bool(resolve_backbone(backbone_id))
    except UnknownBackbone:
        return False


def has_text(backbone_id: str) -> bool:
    """True if prompts can be encoded; a fine-tuned image tower is no longer what its text tower goes with."""
    from embed.backbones.registry import resolve_backbone

    return not is_tuned(backbone_id) and resolve_backbone(backbone_id).has_text


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


def shown(backbones: Table) -> tuple[Table, Table]:
    """The list for people: what can run here, and what is missing for the others."""
    names = {"id": "id", "can_run_here": "runs here", "outputs": "outputs", "has_text": "prompts"}
    columns = {heading: backbones.columns[name] for name, heading in names.items()}
    missing = {row["id"]: row["weights"] for row in backbones.rows() if not row["can_run_here"]}
    lacking = Table("What is missing", {"id": list(missing), "weights": list(missing.values())})
    return Table(backbones.title, columns), lacking


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
    from embed.backbones.kept_images import load_kept
    from embed.backbones.loading import load_backbone as load
    from iaa.library.engines import engine_folder

    chosen = pick_device(device)
    say(f"device: {describe_device(chosen)}")
    loaded: list[Backbone] = []
    for name in names:
        if root is not None and is_tuned(name):
            from finetune.tuned import find_tuned, load_tuned

            loaded.append(load_tuned(find_tuned(root, name), chosen, precision))
        else:
            is_exported = chosen.type == "cpu" and precision == "float32"
            kept = load_kept(name, weights.get(name), engine_folder()) if is_exported else None
            loaded.append(kept or load(name, weights.get(name), chosen, precision))
            for remark in loaded[-1].remarks:
                say(remark)
    return loaded


def one_weights_file(backbone: str | None, given: list[str] | None) -> Path | None:
    """The file of `--weights` for a command that takes one backbone; wrong usage is a UsageError."""
    if not given:
        return None
    name = backbone or given[0].partition("=")[0]
    return weight_files([name], given).get(name)


def weight_files(backbones: list[str], given: list[str] | None) -> dict[str, Path]:
    """Weights file per backbone id from `--weights`; wrong usage is a UsageError."""
    files: dict[str, Path] = {}
    for entry in given or []:
        name, separator, file = entry.partition("=")
        if not separator or (len(backbones) == 1 and name not in backbones and Path(entry).is_file()):
            if len(backbones) != 1:
                raise UsageError("--weights FILE needs exactly one --backbone; else BACKBONE=FILE")
            name, file = backbones[0], entry
        if name not in backbones:
            raise UsageError(f"--weights names {name}, but the backbones are {', '.join(backbones)}")
        files[name] = Path(file)
    return files
