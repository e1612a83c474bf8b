"""The loss: distance between predicted and real distributions of votes."""

import torch
from torch import Tensor

from store.shapes import Float


def emd_r2(
    shares: Float[Tensor, "b n_levels"], predicted: Float[Tensor, "b n_levels"]
) -> Float[Tensor, " b"]:
    """Earth mover's distance of NIMA per image, 0 to 1: the root of the mean, over the levels, of the squared
    difference of the two cumulative distributions (r = 2). Its mean is the loss (paper section 4.3).

    A root has no finite slope at 0. A norm does: its gradient d / |d| never exceeds length 1, and where the
    difference is 0 torch takes the subgradient 0.
    """
    difference = torch.cumsum(predicted - shares, dim=1)
    distance: Tensor = torch.linalg.vector_norm(difference, dim=1) / shares.shape[1] ** 0.5
    return distance
