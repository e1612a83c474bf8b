"""Which fold an image belongs to: a matter of its id and the seed alone."""

import hashlib

import numpy as np
from jaxtyping import Int


def assign_folds(image_id: np.ndarray, n_folds: int, seed: int = 0) -> Int[np.ndarray, " n_images"]:
    """Fold of each image, 0 to n_folds - 1, by a hash of seed and image_id.

    Neither the order of the rows nor other images have a say, so folds survive shuffling, and adding
    photographs moves none of the old ones. Raises ValueError if a fold stays empty.
    """
    prefix = hashlib.blake2b(f"{seed}:".encode(), digest_size=8)
    fold = np.empty(len(image_id), dtype=np.int64)
    for row, name in enumerate(image_id.tolist()):
        hasher = prefix.copy()
        hasher.update(str(name).encode("utf-8", "surrogateescape"))
        fold[row] = int.from_bytes(hasher.digest(), "little") % n_folds
    if n_folds < 2 or len(np.unique(fold)) < n_folds:
        raise ValueError(
            f"{len(image_id)} training images do not fill {n_folds} folds: expected at least 2 folds and an "
            "image in each. Take fewer folds or more images."
        )
    return fold
