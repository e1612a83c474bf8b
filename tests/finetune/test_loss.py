"""emd_r2 against a literal loop, point masses by hand, and the analysis' own function."""

import numpy as np
import pytest
import torch

from analysis.evidence.metrics import emd_r2 as emd_of_arrays
from finetune.loss import emd_r2


def point(level, n_levels=10):
    return torch.eye(n_levels, dtype=torch.float64)[None, level]


def random_shares(n, k, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.softmax(2 * torch.randn(n, k, generator=generator, dtype=torch.float64), dim=1)


def test_it_is_the_definition_as_a_loop():
    a, b = random_shares(7, 10), random_shares(7, 10, seed=1)
    expected = []
    for p, q in zip(a.tolist(), b.tolist(), strict=True):
        total = 0.0
        for level in range(10):
            total += (sum(p[: level + 1]) - sum(q[: level + 1])) ** 2
        expected.append((total / 10) ** 0.5)
    np.testing.assert_allclose(emd_r2(a, b), expected, rtol=1e-12)
    np.testing.assert_allclose(emd_of_arrays(a.numpy(), b.numpy()), expected, rtol=1e-12)


@pytest.mark.parametrize(("i", "j"), [(0, 0), (0, 1), (0, 9), (3, 7), (7, 3)])
def test_point_masses_by_hand(i, j):
    """The cumulative distributions differ by 1 on |i - j| of ten levels."""
    assert emd_r2(point(i), point(j)).item() == pytest.approx((abs(i - j) / 10) ** 0.5, abs=1e-15)


def test_gradient_is_right_and_finite_everywhere():
    shares = random_shares(4, 6)
    logits = torch.randn(4, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    logits.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda z: emd_r2(shares, torch.softmax(z, dim=1)), [logits])
    for distance in (0.0, 1e-30, 1e-20, 1e-12):
        predicted = (shares.float() + distance * torch.tensor([1.0, -1, 0, 0, 0, 0])).requires_grad_(True)
        emd_r2(shares.float(), predicted).mean().backward()
        assert torch.isfinite(predicted.grad).all()
        assert predicted.grad.norm() < 2  # bounded, however close the two are
    exact = shares.clone().requires_grad_(True)
    emd_r2(shares, exact).sum().backward()
    assert (exact.grad == 0).all()
