"""A fine-tuned tower with its head as a frozen backbone: its features and the distribution it predicts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from embed.backbones.architectures import build_architecture
from embed.backbones.loading import Backbone
from embed.backbones.registry import resolve_backbone
from embed.backbones.state_dicts import fit_classifier
from embed.backbones.weights import file_sha256
from finetune.checkpoint import read_tensors, save_tensors
from finetune.errors import FinetuneError
from finetune.model import DistributionModel, head_distribution
from store.durable import write_json
from store.errors import StoreError
from store.json_files import read_note
from store.shapes import Float
from store.tensor_files import TensorFileError

MARK = "+finetuned."
"""Between the id of the backbone and the digest of the run: `demo_clip+finetuned.0123456789`."""
TUNED, RECORD = "tuned.safetensors", "run.json"
DISTRIBUTION = "distribution"
"""Name of the output that holds the predicted share of each level."""


_RECORDED = {"id": str, "sha256": str, "identity": dict, "levels": list}
_IDENTIFIED = ("backbone", "dataset", "output")
"""What of a record is needed to load its run."""


class TunedBackbone(Backbone):
    """A backbone whose `distribution` output is what fine-tuning taught it to predict."""

    def __init__(self, head: nn.Linear, head_output: str, record: dict[str, Any], **loaded: Any) -> None:
        self.head = head.eval().requires_grad_(False).to(loaded["device"])
        self.head_output, self.record = head_output, record
        super().__init__(**loaded)

    def encode_images(self, batch: Float[Tensor, "b 3 h w"]) -> dict[str, Float[Tensor, "b _"]]:
        """Every output of the tower, and the predicted distribution, from one forward pass."""
        outputs = super().encode_images(batch)
        with torch.inference_mode():
            return {**outputs, DISTRIBUTION: head_distribution(self.head, outputs[self.head_output])}

    def provenance(self) -> dict[str, Any]:
        """What was loaded, and how it was trained."""
        return {**super().provenance(), "finetune": self.record}


def save_tuned(folder: Path, backbone: Backbone, model: DistributionModel, record: dict[str, Any]) -> None:
    """Keep the whole backbone and the head, then the record of the run, which says that it is done."""
    tensors = {f"model.{name}": tensor for name, tensor in backbone.model.state_dict().items()}
    tensors |= {f"head.{name}": tensor for name, tensor in model.head.state_dict().items()}
    save_tensors(folder / TUNED, tensors, {"backbone": backbone.id})
    write_json(folder / RECORD, {**record, "sha256": file_sha256(folder / TUNED)})


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a finished run, None where it is not finished."""
    path = folder / RECORD
    if not path.exists():
        return None
    try:
        record = read_note(path)
        lacking = [key for key, kind in _RECORDED.items() if not isinstance(record.get(key), kind)]
        if not lacking:
            lacking = [
                f"identity.{key}" for key in _IDENTIFIED if not isinstance(record["identity"].get(key), str)
            ]
        if lacking:
            raise TensorFileError(f"{path} has no usable {', '.join(lacking)}")
    except (StoreError, OSError) as error:
        raise FinetuneError(f"{error}. Delete {folder} and fine-tune again") from error
    return record


def find_tuned(data_root: Path, backbone_id: str) -> Path:
    """Folder of the finished run of this id, of whichever data set.

    Raises FinetuneError that names what there is.
    """
    folders, damaged = {}, []
    for record in sorted(data_root.glob(f"*/finetuned/*/{RECORD}")):
        try:
            folders[tuned_id(record.parent)] = record.parent
        except FinetuneError as error:
            damaged.append(str(error))
    if backbone_id not in folders:
        raise FinetuneError(
            f"no finished fine-tuning {backbone_id!r} in {data_root}; there are: "
            f"{', '.join(folders) or 'none'}. Make one: iaa finetune --dataset NAME --backbone "
            + backbone_id.partition(MARK)[0]
            + "".join(f". Damaged: {problem}" for problem in damaged)
        )
    return folders[backbone_id]


def tuned_id(folder: Path) -> str:
    """Backbone id of a finished run."""
    record = read_record(folder)
    assert record is not None
    return str(record["id"])


def load_tuned(folder: Path, device: str | torch.device = "cpu", precision: str = "float32") -> TunedBackbone:
    """The tuned backbone of a finished run. Raises FinetuneError for files that are not those of the run."""
    record = read_record(folder)
    if record is None:
        raise FinetuneError(f"the fine-tuning in {folder} is not finished; run its iaa finetune again")
    path = folder / TUNED
    sha256 = file_sha256(path) if path.exists() else "no file"
    if sha256 != record["sha256"]:
        raise FinetuneError(
            f"{path} has SHA-256 {sha256}, its run recorded {record['sha256']}: damaged or replaced. "
            f"Delete {folder} and fine-tune again"
        )
    identity = record["identity"]
    # Outputs are measured: the head's is new. The tower is no longer what prompts were trained with.
    spec = replace(
        resolve_backbone(identity["backbone"]), id=record["id"], outputs={}, has_text=False,
        source=f"fine-tuned on {identity['dataset']}",
    )  # fmt: skip
    model, transform = build_architecture(spec)
    tensors, _ = read_tensors(path)
    state = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
    if not spec.registered:
        fit_classifier(model, state)
    model.load_state_dict(state)
    weight, bias = tensors["head.weight"], tensors["head.bias"]
    head = nn.Linear(weight.shape[1], weight.shape[0])
    head.load_state_dict({"weight": weight, "bias": bias})
    kept = {key: record.get(key) for key in ("identity", "levels", "best_epoch", "n_trainable")}
    return TunedBackbone(
        head, identity["output"], kept, spec=spec, model=model, transform=transform, weights_sha256=sha256,
        weights_file=path.name, weights_source=spec.source, device=torch.device(device), precision=precision,
    )  # fmt: skip
