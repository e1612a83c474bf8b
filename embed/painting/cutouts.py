"""Square cut-outs of a picture at the size a backbone reads, differentiable.

One fixed view would let the optimiser write what only that view shows; each step looks at other squares. A
square is cut out and resized by two matrices, one for the rows and one for the columns, so that gradients are
matrix products, which add up in one order on every device.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from store.shapes import Float


class Squares(NamedTuple):
    """Cut-outs: upper edge, left edge and side, in pixels of the picture."""

    top: Float[Tensor, " n"]
    left: Float[Tensor, " n"]
    side: Float[Tensor, " n"]


def draw_squares(height: int, width: int, n: int, smallest: float, generator: torch.Generator) -> Squares:
    """`n` random squares inside the picture, sides uniform between `smallest` and 1 of its shorter edge.

    The first is the largest in the middle: what the backbone sees of a finished picture.
    """
    edge = min(height, width)
    random = torch.rand(3, n, generator=generator)
    side = edge * (smallest + (1 - smallest) * random[0])
    side[0] = edge
    top, left = (height - side) * random[1], (width - side) * random[2]
    top[0], left[0] = (height - edge) / 2, (width - edge) / 2
    return Squares(top, left, side)


def cut_out(
    picture: Float[Tensor, "3 h w"], squares: Squares, size: tuple[int, int]
) -> Float[Tensor, "n 3 _ _"]:
    """The squares resized to `size` (height, width): triangle filter, widened where the square is shrunk."""
    rows = _resampling(squares.top, squares.side, picture.shape[1], size[0]).to(picture)
    columns = _resampling(squares.left, squares.side, picture.shape[2], size[1]).to(picture)
    return rows[:, None] @ picture[None] @ columns[:, None].transpose(2, 3)


def _resampling(
    start: Float[Tensor, " n"], side: Float[Tensor, " n"], n_in: int, n_out: int
) -> Float[Tensor, "n n_out n_in"]:
    """Weights of the input's pixels in each output pixel; rows sum to 1."""
    step = side / n_out
    centres = start[:, None] + (torch.arange(n_out) + 0.5) * step[:, None]
    pixels = torch.arange(n_in) + 0.5
    distance = (centres[:, :, None] - pixels).abs() / step.clamp(min=1)[:, None, None]
    weights = (1 - distance).clamp(min=0)
    return weights / weights.sum(dim=2, keepdim=True)
