"""Derived files: caches computed from stored arrays, always rebuildable, bound to what they came from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from store.identity import differences
from store.sealed import SealedFile, write_sealed

DERIVED_SCHEMA = "iaa/derived"


def save_derived(path: Path | str, arrays: Mapping[str, np.ndarray], key: Mapping[str, Any]) -> str:
    """Keep arrays under a key (digests of the inputs, parameters); returns the content digest."""
    return write_sealed(Path(path), DERIVED_SCHEMA, dict(key), {}, arrays)


def load_derived(path: Path | str, key: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
    """The kept arrays (read-only), or None where there are none for exactly this key.

    Raises IntegrityError for a damaged file: a cache is never half-trusted.
    """
    if not Path(path).exists():
        return None
    with SealedFile(path, DERIVED_SCHEMA) as file:
        if set(file.identity) != set(key) or any(differences(file.identity, dict(key))):
            return None
        return {
            name: file.strings(name) if dtype.kind == "S" else file.view(name)
            for name, (_, dtype) in file.arrays.items()
        }
