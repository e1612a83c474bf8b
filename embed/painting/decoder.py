"""The image decoder and encoder `taef2`: 32 latent channels at an eighth of the picture's edges.

The layout as facts (docs/paint.md says where the files come from): each is one sequence of layers, and names
in a file are places in it. A block is three 3x3 convolutions with ReLU between, plus what came in, ReLU.
"""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from embed.backbones.checkpoints import read_checkpoint
from embed.backbones.state_dicts import find_misfits, find_unusable
from embed.painting.errors import PaintingError
from store.shapes import Float

N_LATENTS = 32
LATENT_EDGE = 8
"""Pixels of the picture per latent, along each edge."""
_WIDTH, _POOLED, _N_GROUPS = 64, 256, 4
_LIMIT = 3.0
"""Latents beyond it have no meaning."""


class Limit(nn.Module):
    """Latents brought softly into their range."""

    def forward(self, x: Tensor) -> Tensor:
        """3 tanh(x / 3)."""
        return _LIMIT * torch.tanh(x / _LIMIT)


class Block(nn.Module):
    """Three convolutions around an identity; with `pooled`, a wide branch of 1x1 convolutions before."""

    def __init__(self, pooled: bool = False) -> None:
        super().__init__()
        three: list[nn.Module] = []
        for _ in range(3):
            three += [nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1), nn.ReLU()]
        self.conv = nn.Sequential(*three[:-1])
        if pooled:
            self.pool = nn.Sequential(
                nn.Conv2d(_WIDTH, _POOLED, 1, bias=False), nn.GroupNorm(_N_GROUPS, _POOLED), nn.ReLU(),
                nn.Conv2d(_POOLED, _WIDTH, 1, bias=False),
            )  # fmt: skip
        self.is_pooled = pooled

    def forward(self, x: Tensor) -> Tensor:
        """As many channels and pixels as came in."""
        x = x + self.pool(x) if self.is_pooled else x
        return torch.relu(self.conv(x) + x)


def _plain(stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(_WIDTH, _WIDTH, 3, stride, padding=1, bias=False)


def _blocks(n: int, pooled: bool = False) -> list[nn.Module]:
    return [Block(pooled) for _ in range(n)]


def build_decoder() -> nn.Sequential:
    """Latents (b, 32, h, w) to pictures (b, 3, 8h, 8w), RGB in about 0 to 1. Weights not yet set."""
    layers: list[nn.Module] = [Limit(), nn.Conv2d(N_LATENTS, _WIDTH, 3, padding=1), nn.ReLU()]
    for n, pooled in ((3, True), (3, False), (3, False)):
        layers += [*_blocks(n, pooled), nn.Upsample(scale_factor=2), _plain()]
    return nn.Sequential(*layers, Block(), nn.Conv2d(_WIDTH, 3, 3, padding=1))


def build_encoder() -> nn.Sequential:
    """Pictures (b, 3, 8h, 8w), RGB in 0 to 1, to latents (b, 32, h, w). Weights not yet set."""
    layers: list[nn.Module] = [nn.Conv2d(3, _WIDTH, 3, padding=1), Block()]
    for pooled in (False, False, True):
        layers += [_plain(stride=2), *_blocks(3, pooled)]
    return nn.Sequential(*layers, nn.Conv2d(_WIDTH, N_LATENTS, 3, padding=1))


def load_coder(path: Path, kind: str) -> tuple[nn.Sequential, str]:
    """The decoder or encoder (`kind`) of a file, float32 in evaluation mode, and the file's SHA-256.

    Raises TensorFileError for what is no file of tensors, PaintingError for one of another layout.
    """
    state = {name: values.float() for name, values in read_checkpoint(path).tensors.items()}
    model, other = (
        (build_decoder(), build_encoder()) if kind == "decoder" else (build_encoder(), build_decoder())
    )
    expected = model.state_dict()
    if problems := find_misfits(state, expected):
        is_other = not find_misfits(state, other.state_dict())
        advice = (
            f"It is taef2's {'encoder' if kind == 'decoder' else 'decoder'}"
            if is_other
            else f"Only taef2's layout is known ({N_LATENTS} latents at 1/{LATENT_EDGE}; taef2_{kind}.pth)"
        )
        raise PaintingError(f"{path}: this is no taef2 {kind}: {'; '.join(problems)}. {advice}")
    if unusable := find_unusable(state, expected):
        raise PaintingError(f"{path}: {'; '.join(unusable)}. A damaged file?")
    model.load_state_dict(state)
    return model.eval().requires_grad_(False), hashlib.sha256(path.read_bytes()).hexdigest()


def encode(encoder: Any, picture: Float[Tensor, "3 h w"]) -> Float[Tensor, "1 c h w"]:
    """Latents of a picture whose edges are multiples of 8."""
    with torch.no_grad():
        latents: Tensor = encoder(picture[None])
    return latents
