"""The levels of an Inception network, averaged over space or over cells (embed.backbones.families.mlsp)."""

from typing import Any

import torch
from torch import Tensor, nn

from store.shapes import Float

_ENDS = ("conv2d_7b", "global_pool")
"""What comes first after the last level."""
CELLS = 5
"""Cells of wide features, each way."""


class Levels(nn.Module):
    """A network of timm's, of which the levels are read."""

    def __init__(self, net: nn.Module, is_wide: bool = False) -> None:
        super().__init__()
        self.net = net
        self.is_wide = is_wide

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> dict[str, Float[Tensor, "b _"]]:
        """`narrow`, all levels averaged over space, one after the other; and where asked for `wide`, the same
        for each of 5 x 5 cells, row by row, so that `wide.view(b, 5, 5, -1)[:, i, j]` is what cell (i, j)
        has of all levels. The mean over the cells is `narrow`."""
        pooled: list[Tensor] = []
        in_cells: list[Tensor] = []

        def keep(level: Tensor) -> None:
            pooled.append(level.float().mean(dim=(2, 3)))
            if self.is_wide:
                in_cells.append(average_cells(level))

        def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            keep(inputs[0])

        def after(module: nn.Module, inputs: Any, output: Tensor) -> None:
            keep(output)

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
        found = {"narrow": torch.cat(pooled, dim=1)}
        if self.is_wide:
            found["wide"] = torch.cat(in_cells, dim=3).flatten(1)
        return found


def average_cells(level: Float[Tensor, "b c h w"], n: int = CELLS) -> Float[Tensor, "b n n c"]:
    """Means over the cells of a grid. A pixel that the border of a cell cuts counts to both by its area, as
    in the authors' code (TensorFlow's resize_area); torch's adaptive pooling counts it to both wholly."""
    rows, columns = (_shares(size, n).to(level.device) for size in level.shape[2:])
    with torch.autocast(level.device.type, enabled=False):  # which would multiply in half precision
        return (rows @ level.float() @ columns.T).permute(0, 2, 3, 1)


def _shares(size: int, n: int) -> Float[Tensor, "n size"]:
    """The share of each pixel in the mean of each cell along one edge. In units of an n-th of a pixel all
    borders are whole numbers."""
    pixel, cell = n * torch.arange(size), size * torch.arange(n)[:, None]
    common = torch.minimum(pixel + n, cell + size) - torch.maximum(pixel, cell)
    return common.clamp(min=0) / size


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
