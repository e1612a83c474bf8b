"""Where one picture of a panorama goes on in the next: the shift at which two small pictures fit best."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import fft
from scipy.ndimage import gaussian_filter

from store.shapes import Float

EDGE = 96
"""Pixels of the long edge that pictures are compared at."""
_BLUR, _WIDE_BLUR = 1.0, 6.0
"""What is smaller than the first is noise and parallax; what is larger than the second, sky and ground, fits
at any shift."""
_MIN_OVERLAP = 0.15


@dataclass(frozen=True)
class Overlap:
    """How well two pictures fit (correlation, -1 to 1) where the second lies `right` and `down` of the first,
    in shares of width and height."""

    correlation: float
    right: float
    down: float


def find_overlap(
    first: Float[np.ndarray, "height width"], second: Float[np.ndarray, "height width"]
) -> Overlap:
    """The shift with the highest correlation of what the two pictures share, at least 15 % of their area.

    Both are small and grey (long edge EDGE), of one shape.
    """
    height, width = first.shape
    shape = (2 * height - 1, 2 * width - 1)
    a, b = _band(first), _band(second)
    of_a, of_b, of_ones = (fft.rfft2(x, shape) for x in (a, b, np.ones_like(a)))
    of_a2, of_b2 = fft.rfft2(a * a, shape), fft.rfft2(b * b, shape)

    def at_shifts(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Sum of x(p) y(p - shift) for every shift; shift 0 in the middle."""
        return np.asarray(fft.fftshift(fft.irfft2(x * y.conj(), shape)))

    n, enough = _n_shared(height, width)
    sum_a, sum_b = at_shifts(of_a, of_ones), at_shifts(of_ones, of_b)
    spread_a = at_shifts(of_a2, of_ones) - sum_a**2 / n
    spread_b = at_shifts(of_ones, of_b2) - sum_b**2 / n
    spread = np.sqrt(np.maximum(spread_a, 0) * np.maximum(spread_b, 0))
    floor = 1e-3 * np.sqrt((a * a).sum() * (b * b).sum()) + 1e-12
    fit = np.where(enough, (at_shifts(of_a, of_b) - sum_a * sum_b / n) / np.maximum(spread, floor), -1)
    down, right = np.unravel_index(int(fit.argmax()), fit.shape)
    return Overlap(float(fit.max()), (int(right) - (width - 1)) / width, (int(down) - (height - 1)) / height)


@cache
def _n_shared(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels that two pictures share at each shift, and whether they are enough."""
    rows = height - np.abs(np.arange(1 - height, height))
    columns = width - np.abs(np.arange(1 - width, width))
    shared = np.outer(rows, columns).astype(float)
    return shared, shared >= _MIN_OVERLAP * height * width


def _band(image: np.ndarray) -> np.ndarray:
    image = np.asarray(image, np.float64)
    band: np.ndarray = gaussian_filter(image, _BLUR) - gaussian_filter(image, _WIDE_BLUR)
    return band
