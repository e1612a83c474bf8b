"""What can be read off pixels without any network: how bright, how contrasted, how colourful, how noisy.

The paper says of its Figure 4 that positive adjectives give more vividly colored images with more contrast
(section 5); these are the measures by which that can be asked of pictures painted here.
"""

import numpy as np

from store.shapes import UInt8

_LUMA = np.array([0.299, 0.587, 0.114])


def measure(pixels: UInt8[np.ndarray, "h w 3"]) -> dict[str, float]:
    """The measures of an RGB picture by name, each 0 to about 1; white is 1.

    `brightness` is the mean luma, `contrast` its standard deviation, `colour` the mean of largest less
    smallest channel, `grain` the standard deviation of noise, from the mean response to a kernel that ignores
    edges and slopes (Immerkaer 1996). A picture below 3 x 3 pixels is a ValueError.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or min(pixels.shape[:2]) < 3:
        raise ValueError(f"expected an RGB picture of at least 3 x 3 pixels, got {pixels.shape}")
    values = pixels.astype(np.float64) / 255
    luma = values @ _LUMA
    second = luma[:, :-2] - 2 * luma[:, 1:-1] + luma[:, 2:]
    noise = second[:-2] - 2 * second[1:-1] + second[2:]
    return {
        "brightness": float(luma.mean()),
        "contrast": float(luma.std()),
        "colour": float((values.max(axis=2) - values.min(axis=2)).mean()),
        "grain": float(np.abs(noise).mean() * np.sqrt(np.pi / 2) / 6),
    }
