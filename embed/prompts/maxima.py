"""Context maxima on an accelerator: the arrays of `analysis.prompting.maxima`, made by torch.

Analysis has no torch; this is the same reduction for who has a GPU. `iaa` puts the two together: it
computes here and keeps the result under the cache key that analysis reads.
"""

from collections.abc import Iterable

import numpy as np
import torch


def compute_maxima(
    blocks: Iterable[tuple[int, np.ndarray]],
    n_images: int,
    text: np.ndarray,
    label_of_prompt: np.ndarray,
    n_labels: int,
    device: str | torch.device = "cuda",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(maximum, winner, mean), each (n_images, n_labels): see `analysis.prompting.maxima.ContextMaxima`.

    Takes raw image rows in blocks and unit text rows. Products are full float32, not TF32; they are
    rounded in another order than on a CPU, so cosines differ in the last bits and two contents as
    close as that may swap.
    """
    device = torch.device(device)
    rows_of = [np.flatnonzero(label_of_prompt == column) for column in range(n_labels)]
    texts = [torch.from_numpy(np.array(text[rows])).to(device) for rows in rows_of]
    means = np.stack([text[rows].mean(axis=0, dtype=np.float64) for rows in rows_of])
    mean_text = torch.from_numpy(means.astype(np.float32)).to(device)
    maximum = np.full((n_images, n_labels), np.nan, dtype=np.float32)
    mean = np.full((n_images, n_labels), np.nan, dtype=np.float32)
    winner = np.full((n_images, n_labels), -1, dtype=np.int32)
    allowed_before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.inference_mode():
            for start, block in blocks:
                here = slice(start, start + len(block))
                images = torch.from_numpy(np.array(block)).to(device)
                norms = torch.from_numpy(_row_norms(block, start)).to(device)
                reduced = [(images @ vectors.T).max(dim=1) for vectors in texts]
                best = torch.stack([r.values for r in reduced], dim=1)
                maximum[here] = (best / norms).cpu().numpy()
                position = torch.stack([r.indices for r in reduced], dim=1).cpu().numpy()
                for column, rows in enumerate(rows_of):
                    winner[here, column] = rows[position[:, column]]
                mean[here] = (images @ mean_text.T / norms).cpu().numpy()
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed_before
    winner[np.isnan(maximum)] = -1
    return maximum, winner, mean


def _row_norms(block: np.ndarray, first_row: int) -> np.ndarray:
    """Lengths of the rows, float32 (n, 1), summed in float64: not every accelerator has that."""
    norms: np.ndarray = np.sqrt(np.einsum("ij,ij->i", block, block, dtype=np.float64))
    if (norms == 0).any():
        raise ValueError(f"row {first_row + int(np.argmax(norms == 0))} is all zeros and has no direction")
    return np.asarray(norms[:, None], dtype=np.float32)
