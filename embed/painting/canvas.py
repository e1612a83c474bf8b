"""What is moved while a picture is painted: Fourier coefficients of its pixels, or latents of a decoder."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from embed.painting.decoder import LATENT_EDGE, N_LATENTS
from store.shapes import Float

#: Standard deviation of the noise that a canvas begins with, before colours and sigmoid.
START = 0.3
#: How natural pictures' red, green and blue go together: brightness, blue against yellow, green against
#: magenta, with what each has of the spread. An orthogonal basis with made-up round spreads: it only decides
#: how far a step of the optimiser goes in which direction.
_SPREAD = torch.tensor([1.0, 0.35, 0.2])
_AXES = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]])
_COLOURS = (_AXES / _AXES.norm(dim=1, keepdim=True) * _SPREAD[:, None]).T * 3**0.5
_EDGE_OF_RANGE = 1e-3


class Canvas(nn.Module):
    """Parameters of a picture."""

    @abstractmethod
    def forward(self) -> Float[Tensor, "3 h w"]:
        """The picture, RGB in 0 to 1."""


class Frequencies(Canvas):
    """Fourier coefficients of three decorrelated colours, scaled by 1/frequency; sigmoid.

    A step then moves coarse forms as readily as fine ones; steps on pixels give noise.
    """

    scale: Tensor
    colours: Tensor

    def __init__(self, height: int, width: int, start: "Float[Tensor, '3 h w'] | torch.Generator") -> None:
        super().__init__()
        self.size = height, width
        fy, fx = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
        scale = 1 / torch.sqrt(fy**2 + fx**2).clamp(min=1 / max(height, width))
        self.register_buffer("scale", scale * (scale.numel() / (scale**2).sum()).sqrt())
        self.register_buffer("colours", _COLOURS)
        if isinstance(start, torch.Generator):
            spectrum = torch.randn(3, *scale.shape, 2, generator=start) * START
        else:
            values = torch.logit(start.clamp(_EDGE_OF_RANGE, 1 - _EDGE_OF_RANGE))
            plain = torch.einsum("cd,dhw->chw", torch.linalg.inv(_COLOURS), values)
            spectrum = torch.view_as_real(torch.fft.rfft2(plain, norm="ortho") / self.scale)
        self.spectrum = nn.Parameter(spectrum)

    def forward(self) -> Float[Tensor, "3 h w"]:
        """The picture, RGB in 0 to 1."""
        coefficients = torch.view_as_complex(self.spectrum.contiguous()) * self.scale
        plain = torch.fft.irfft2(coefficients, s=self.size, norm="ortho")
        return torch.sigmoid(torch.einsum("cd,dhw->chw", self.colours, plain))


class Latents(Canvas):
    """Latents of a trained decoder, which knows what photographs are made of."""

    def __init__(
        self, decoder: nn.Module, height: int, width: int, start: "Float[Tensor, '1 c h w'] | torch.Generator"
    ) -> None:
        super().__init__()
        self._decode = (decoder.requires_grad_(False).eval(),)  # in a tuple: not this module's own
        shape = (1, N_LATENTS, height // LATENT_EDGE, width // LATENT_EDGE)
        if isinstance(start, torch.Generator):
            start = torch.randn(shape, generator=start)
        self.latents = nn.Parameter(start.clone())

    def forward(self) -> Float[Tensor, "3 h w"]:
        """The picture, RGB in 0 to 1."""
        picture: Tensor = self._decode[0](self.latents)[0].clamp(0, 1)
        return picture
