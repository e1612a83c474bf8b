"""Backbones known from a kept export: their model is built when more than its vectors is asked of it.

Importing a library and building its model takes longer than computing the first batch. All that a backbone
says of itself is kept with its export, under a key of all it follows from (`embed.backbones.engines`).
"""

import logging
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from embed.backbones.engines import Kept, Session, find_kept, kept_exports
from embed.backbones.loading import Backbone, load_backbone, take_weights
from embed.backbones.registry import resolve_backbone
from embed.backbones.spec import ONNXRUNTIME, TORCH, BackboneError, BackboneSpec
from embed.backbones.transforms import recipe_from_json, transform_of
from embed.backbones.weights import WeightsFile

logger = logging.getLogger(__name__)


class KeptBackbone(Backbone):
    """A backbone in float32 on the CPU, from its kept export and weights file.

    By that engine it computes from the export; all that needs the model loads it first.
    """

    def __init__(self, spec: BackboneSpec, kept: Kept, file: WeightsFile, sha256: str) -> None:
        facts = kept.facts
        self.spec, self.id = spec, spec.id
        self._kept, self._file = kept, file
        self.recipe = recipe_from_json(facts["recipe"])
        self.transform = transform_of(self.recipe)
        self.memory_format = getattr(torch, facts["memory_format"])
        self.weights_sha256, self.weights_file = sha256, file.path.name
        self.weights_source = file.source
        self.weights_entry, self.weights_are_averaged = facts["weights_entry"], facts["weights_are_averaged"]
        self.remarks = tuple(facts["remarks"])
        self.device, self.precision = torch.device("cpu"), "float32"
        self.activation, self.pretrained = dict(facts["activation"]), facts["pretrained"]
        self.outputs = dict(facts["outputs"])
        self.engine = TORCH
        self._session = None
        self._tokenizer = None

    @property
    def model(self) -> nn.Module:
        """The torch module, loaded when it is first asked for."""
        return self._whole.model

    @property
    def fastest_engine(self) -> str:
        """As the model's modules told when it was exported."""
        return str(self._kept.facts["fastest_engine"])

    def use_engine(self, engine: str, folder: Path | None = None) -> Session | None:
        """As of any backbone; the kept export is used as it is."""
        session = self._kept.open() if engine == ONNXRUNTIME else None
        if session is None:
            return super().use_engine(engine, folder)
        self._session, self.engine = session, engine
        return session

    @cached_property
    def _whole(self) -> Backbone:
        whole = load_backbone(self.spec, self._file.path if self._file.source == "file" else None)
        if whole.weights_identity != self.weights_identity:
            raise BackboneError(f"{self.id}: {self._file.path} has changed meanwhile. Start anew")
        return whole


def load_kept(backbone_id: str, weights: Path | None, folder: Path) -> KeptBackbone | None:
    """A backbone from its kept export; None where there is none for these weights, versions and processor.

    Raises WeightsUnavailable, BackboneError as `load_backbone`.
    """
    spec = resolve_backbone(backbone_id)
    if not kept_exports(folder, spec):
        return None
    file, sha256 = take_weights(spec, weights)
    kept = find_kept(folder, spec, sha256, file.path.name)
    return None if kept is None else KeptBackbone(spec, kept, file, sha256)
