"""What a picture is painted towards: a text's vector, a head's score, or both."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from embed.backbones.loading import Backbone
from embed.backbones.towers import image_outputs
from embed.images.geometry import OWN_SIZE
from embed.painting.errors import PaintingError
from store.shapes import Float

TEXT_OUTPUT = "embedding"
"""The output that lies in one space with texts."""


@dataclass(frozen=True)
class HeadAim:
    """A linear head, of any number of layers, to be raised or (`sign` -1) lowered."""

    layers: Sequence[tuple[np.ndarray, np.ndarray]]
    output: str
    unit_norm: bool
    sign: int = 1
    weight: float = 0.05
    """Of one point of the score, beside the distance to the text."""


@dataclass
class Guide:
    """The loss of cut-outs: mean squared angle to the text, less the head's weighted score."""

    backbone: Backbone
    text: str = ""
    head: HeadAim | None = None
    _goal: Tensor | None = field(default=None, init=False, repr=False)
    _layers: list[tuple[Tensor, Tensor]] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.text and self.head is None:
            raise PaintingError("neither a text nor a head says where to: give one of them")
        if self.backbone.recipe.crop_mode == OWN_SIZE:
            raise PaintingError(f"{self.backbone.id} reads images at their own size, cut-outs are of one")
        device = self.backbone.device
        if self.text:
            vector = self.backbone.encode_texts([self.text]).clone()[0]
            self._goal = vector / vector.norm()
        if self.head is not None:
            width = self.backbone.outputs.get(self.head.output)
            expected = self.head.layers[0][0].shape[1]
            if width != expected:
                raise PaintingError(
                    f"the head takes {expected} numbers of {self.head.output}; {self.backbone.id} has "
                    f"{', '.join(f'{name} {n}' for name, n in self.backbone.outputs.items())}"
                )
            self._layers = [
                (torch.as_tensor(weight).float().to(device), torch.as_tensor(bias).float().to(device))
                for weight, bias in self.head.layers
            ]

    def loss(self, cutouts: Float[Tensor, "n 3 h w"]) -> Float[Tensor, ""]:
        """2 arcsin(|u - v| / 2)^2 of unit vectors, averaged over the cut-outs, less weight x score x sign."""
        outputs = image_outputs(self.backbone.model, self._normalised(cutouts))
        total = cutouts.new_zeros(())
        if self._goal is not None:
            total = total + spherical(outputs[TEXT_OUTPUT].float(), self._goal).mean()
        if self.head is not None:
            total = total - self.head.sign * self.head.weight * self._score(outputs).mean()
        return total

    def _score(self, outputs: dict[str, Tensor]) -> Float[Tensor, " n"]:
        assert self.head is not None
        values = outputs[self.head.output].float()
        if self.head.unit_norm:
            values = values / values.norm(dim=1, keepdim=True)
        for weight, bias in self._layers:
            values = values @ weight.T + bias
        return values[:, 0]

    def _normalised(self, cutouts: Tensor) -> Tensor:
        recipe = self.backbone.recipe
        mean, std = (cutouts.new_tensor(values).view(1, 3, 1, 1) for values in (recipe.mean, recipe.std))
        return ((cutouts - mean) / std).contiguous(memory_format=self.backbone.memory_format)


def spherical(vectors: Float[Tensor, "n dim"], goal: Float[Tensor, " dim"]) -> Float[Tensor, " n"]:
    """Half the squared angle between vectors and a unit vector: 2 arcsin(|u - v| / 2)^2, 0 to pi^2 / 2."""
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    return 2 * torch.arcsin((unit - goal).norm(dim=1).div(2).clamp(max=1 - 1e-6)) ** 2
