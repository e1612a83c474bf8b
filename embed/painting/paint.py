"""Painting: a canvas moved, step by step, towards what a guide wants to see in random cut-outs of it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from embed.painting.canvas import Canvas, Frequencies, Latents
from embed.painting.cutouts import cut_out, draw_squares
from embed.painting.decoder import LATENT_EDGE, encode
from embed.painting.errors import PaintingError
from embed.painting.guide import Guide
from embed.painting.settings import Settings
from store.shapes import Float, UInt8


@dataclass(frozen=True)
class Painted:
    """A finished picture, and the mean loss of each step's cut-outs before the step."""

    pixels: UInt8[np.ndarray, "h w 3"]
    losses: Float[np.ndarray, " n_steps"]


OnStep = Callable[[int, float, Callable[[], np.ndarray]], None]
"""Takes the number of the step, its loss, and what gives the pixels after it."""


def paint(
    guide: Guide,
    settings: Settings,
    photograph: "UInt8[np.ndarray, 'h w 3'] | None" = None,
    decoder: nn.Module | None = None,
    encoder: nn.Module | None = None,
    on_step: OnStep | None = None,
) -> Painted:
    """Paint from noise, or from a photograph of the settings' size.

    The same seed, settings and weights give the same pixels on one processor with one number of threads.
    Raises PaintingError for a photograph of another size, a decoder's size that is no multiple of 8, a
    photograph for a decoder without its encoder, and where the loss is not finite.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    device = torch.device(guide.backbone.device)
    canvas = _begin(settings, generator, photograph, decoder, encoder).to(device)
    optimiser = torch.optim.Adam(canvas.parameters(), lr=settings.rate)
    size = guide.backbone.recipe.crop
    losses = np.zeros(settings.steps)

    def pixels() -> np.ndarray:
        with torch.no_grad():
            return _to_bytes(canvas())

    for step in range(settings.steps):
        squares = draw_squares(
            settings.height, settings.width, settings.cutouts, settings.smallest, generator
        )
        views = cut_out(canvas(), squares, size)
        noise = torch.randn(views.shape, generator=generator) * settings.noise
        loss = guide.loss(views + noise.to(device))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses[step] = loss.item()
        if not np.isfinite(losses[step]):
            raise PaintingError(f"the loss is not finite after {step} steps. Take smaller ones: a lower rate")
        if on_step is not None:
            on_step(step + 1, float(losses[step]), pixels)
    return Painted(pixels(), losses)


def _begin(
    settings: Settings,
    generator: torch.Generator,
    photograph: "np.ndarray | None",
    decoder: nn.Module | None,
    encoder: nn.Module | None,
) -> Canvas:
    height, width = settings.height, settings.width
    if decoder is not None and (height % LATENT_EDGE or width % LATENT_EDGE):
        raise PaintingError(
            f"a decoder paints sides that are multiples of {LATENT_EDGE}, not {width} x {height}"
        )
    if photograph is None:
        return (
            Latents(decoder, height, width, generator) if decoder else Frequencies(height, width, generator)
        )
    if photograph.shape != (height, width, 3):
        raise PaintingError(f"the photograph is {photograph.shape}, expected {(height, width, 3)}")
    picture = torch.from_numpy(photograph.copy()).permute(2, 0, 1).float() / 255
    if decoder is None:
        return Frequencies(height, width, picture)
    if encoder is None:
        raise PaintingError("to begin a decoder's picture with a photograph takes its encoder, too")
    return Latents(decoder, height, width, encode(encoder, picture))


def _to_bytes(picture: torch.Tensor) -> np.ndarray:
    pixels: np.ndarray = (picture.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(pixels)
