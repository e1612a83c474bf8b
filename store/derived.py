"""Derived files: caches computed from stored arrays, always rebuildable, bound to what they came from."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from store.errors import SpaceError, StoreError
from store.identity import differences
from store.sealed import SealedFile, write_sealed

logger = logging.getLogger(__name__)

DERIVED_SCHEMA = "iaa/derived"


def save_derived(path: Path | str, arrays: Mapping[str, np.ndarray], key: Mapping[str, Any]) -> str:
    """Keep arrays under a key (digests of the inputs, parameters); returns the content digest.

    Where they cannot be kept, a warning is logged and the digest is '': nothing depends on a cache.
    """
    try:
        return write_sealed(Path(path), DERIVED_SCHEMA, dict(key), {}, arrays)
    except SpaceError as error:
        logger.warning("a cache is not kept, so this will be computed again: %s", error)
        return ""


def load_derived(path: Path | str, key: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
    """The kept arrays (read-only), or None where there are none for exactly this key.

    A cache is never half-trusted: of a damaged file, or one that is no cache, there is a warning and None, so
    that it is computed and written anew.
    """
    if not Path(path).exists():
        return None
    try:
        with SealedFile(path, DERIVED_SCHEMA) as file:
            if set(file.identity) != set(key) or any(differences(file.identity, dict(key))):
                return None
            return {
                name: file.strings(name) if dtype.kind == "S" else file.view(name)
                for name, (_, dtype) in file.arrays.items()
            }
    except StoreError as error:
        logger.warning("a cache is left aside and computed again: %s", error)
        return None
