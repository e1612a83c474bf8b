"""A tower with a new last layer, and which of its parameters are trained."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from embed.backbones.loading import Backbone
from embed.backbones.towers import image_outputs
from embed.images.geometry import OWN_SIZE
from finetune.errors import FinetuneError
from finetune.settings import Settings
from store.shapes import Float


class DistributionModel(nn.Module):
    """Inputs to a distribution over levels: tower, dropout, linear(n_levels), softmax. The paper's
    (section 4.3) without dropout.

    Without a tower the inputs are its features (of the frozen backbone, from the store).
    """

    def __init__(
        self, tower: nn.Module | None, output: str, dim: int, n_levels: int, dropout: float, seed: int
    ) -> None:
        super().__init__()
        self.tower, self.output = tower, output
        self.dropout = nn.Dropout(dropout)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = nn.Linear(dim, n_levels)

    def forward(self, inputs: Float[Tensor, "b ..."]) -> Float[Tensor, "b n_levels"]:
        """Predicted share of each level, float32; rows sum to 1."""
        features = inputs if self.tower is None else image_outputs(self.tower, inputs)[self.output]
        return head_distribution(self.head, self.dropout(features))


def head_distribution(head: nn.Linear, features: Tensor) -> Tensor:
    """Softmax of the new last layer, always in float32."""
    with torch.autocast(features.device.type, enabled=False):
        return torch.softmax(head(features.float()), dim=1)


def build_model(backbone: Backbone, output: str, n_levels: int, settings: Settings) -> DistributionModel:
    """The model to train, on the backbone's device, in evaluation mode, gradients where they are wanted.

    With `train="head"` it has no tower: the frozen tower's features are its inputs.
    """
    tower = None if settings.train == "head" else backbone.model
    model = DistributionModel(
        tower, output, backbone.outputs[output], n_levels, settings.dropout, settings.seed
    ).to(backbone.device)
    model.eval()
    if tower is not None:
        if backbone.recipe.crop_mode == OWN_SIZE:
            raise FinetuneError(
                f"{backbone.id} reads images at their own size, of which no batch can be made to train it. "
                f"Train a head on its features: --from-features {backbone.id}.{output}, or --train head"
            )
        size = backbone.recipe.crop
        names = choose_parameters(model, settings.train, torch.zeros(1, 3, *size, device=backbone.device))
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in names or name.startswith("head."))
    return model


def choose_parameters(model: DistributionModel, train: str, probe: Tensor) -> set[str]:
    """Names of the tower's parameters to train: those that the output depends on, from the last K blocks on.

    A text tower, a projection or a classifier that the chosen output does not pass through has no part.
    """
    assert model.tower is not None
    tower = [(name, p) for name, p in model.named_parameters() if name.startswith("tower.")]
    for _, parameter in tower:
        parameter.requires_grad_(True)
    found = torch.autograd.grad(model(probe).sum(), [p for _, p in tower], allow_unused=True)
    used = [name for (name, _), gradient in zip(tower, found, strict=True) if gradient is not None]
    if train == "all":
        return set(used)
    blocks = tower_blocks(model.tower)
    n_blocks = int(train.removeprefix("last:"))
    if n_blocks > len(blocks):
        known = f"last:1 to last:{len(blocks)}"
        raise FinetuneError(f"train {train}: the tower has {len(blocks)} blocks. Say {known}, or all")
    first = next(iter(blocks[-n_blocks].parameters()))
    # Parameters are listed in the order in which the libraries' towers apply their modules.
    start = next(i for i, (_, parameter) in enumerate(tower) if parameter is first)
    return {name for name, _ in tower[start:]}.intersection(used)


def tower_blocks(tower: Any) -> list[nn.Module]:
    """The blocks of an image tower in order: transformer blocks, or stages of a convolutional network."""
    visual = getattr(tower, "visual", tower)
    visual = getattr(visual, "trunk", visual)
    for found in (
        getattr(getattr(visual, "transformer", None), "resblocks", None),
        getattr(visual, "blocks", None),
        getattr(visual, "stages", None),
    ):
        if found is not None:
            return list(found)
    layers = [getattr(visual, f"layer{i}") for i in range(1, 5) if hasattr(visual, f"layer{i}")]
    if not layers:
        raise FinetuneError(
            f"{type(visual).__name__}: its blocks are not known, so 'last:K' cannot be told. Say --train all"
        )
    return layers


def trained_tensors(model: DistributionModel) -> dict[str, Tensor]:
    """What training may change, by name: parameters with a gradient, statistics of their batch norms."""
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    folders = {name.rpartition(".")[0] for name in parameters}
    buffers = {
        f"{name}.{key}": value
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and name in folders
        for key, value in module.named_buffers(recurse=False)
    }
    return {**{name: p.detach() for name, p in parameters.items()}, **buffers}


def set_training(model: DistributionModel, update_batch_norm: bool) -> None:
    """Dropout on, and trained batch norms if asked for; everything else stays in evaluation mode."""
    model.eval()
    model.dropout.train()
    for module in model.modules() if update_batch_norm else ():
        if isinstance(module, _BatchNorm) and any(p.requires_grad for p in module.parameters()):
            module.train()


def parameter_groups(model: DistributionModel, settings: Settings) -> list[dict[str, Any]]:
    """Parameter groups of the optimiser: the head and the tower, each with its rate and decay."""
    tower = [p for name, p in model.named_parameters() if p.requires_grad and name.startswith("tower.")]
    groups: list[dict[str, Any]] = [
        {
            "params": list(model.head.parameters()),
            "lr": settings.lr_head,
            "weight_decay": settings.weight_decay_head,
        }
    ]
    if tower:
        groups.append({"params": tower, "lr": settings.lr_tower, "weight_decay": settings.weight_decay_tower})
    return groups


def tower_parameters(model: DistributionModel) -> Iterator[nn.Parameter]:
    """The tower's parameters that are trained."""
    return (p for name, p in model.named_parameters() if p.requires_grad and name.startswith("tower."))
