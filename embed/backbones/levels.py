"""The levels of an Inception network, averaged over space (embed.backbones.families.mlsp)."""

from typing import Any

import torch
from torch import Tensor, nn

from store.shapes import Float

_ENDS = ("conv2d_7b", "global_pool")
"""What comes first after the last level."""


class Levels(nn.Module):
    """A network of timm's, of which the levels are read."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b dim"]:
        """All levels averaged over space, one after the other."""
        pooled: list[Tensor] = []

        def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            pooled.append(inputs[0].float().mean(dim=(2, 3)))

        def after(module: nn.Module, inputs: Any, output: Tensor) -> None:
            pooled.append(output.float().mean(dim=(2, 3)))

        hooks = [
            module.register_forward_pre_hook(before) if is_inside else module.register_forward_hook(after)
            for module, is_inside in levels(self.net)
        ]
        try:
            for name, child in self.net.named_children():
                if name in _ENDS:
                    break
                images = child(images)
        finally:
            for hook in hooks:
                hook.remove()
        return torch.cat(pooled, dim=1)


def levels(net: nn.Module) -> list[tuple[nn.Module, bool]]:
    """The modules whose output is a level or, where True, whose input is: the 1x1 convolution that ends a
    residual block takes what the block's branches give together."""
    found: list[tuple[nn.Module, bool]] = []
    for name, child in net.named_children():
        if name.lower().startswith("mixed_"):
            found.append((child, False))
        elif name.startswith("repeat") or name == "block8":
            blocks = list(child) if isinstance(child, nn.Sequential) else [child]
            found += [(block.get_submodule("conv2d"), True) for block in blocks]
    return found
