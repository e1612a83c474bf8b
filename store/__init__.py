"""The embedding store: keeps rows in HDF5 and proves they are intact (numpy and h5py only).

The names below are loaded when they are first used: to read a name or raise an error needs no numpy.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from store.captions import Captions, open_captions, write_captions
    from store.derived import load_derived, save_derived
    from store.errors import (
        BusyError,
        IdentityError,
        IntegrityError,
        MissingFileError,
        SchemaError,
        SpaceError,
        StoreError,
        UnsafeNameError,
    )
    from store.features import Features, Status, open_features
    from store.prompts import Prompts, open_prompts
    from store.rows import align, unit_rows
    from store.targets import Targets, open_targets, write_targets
    from store.verify import verify_file, verify_folder

__all__ = [
    "BusyError", "Captions", "Features", "IdentityError", "IntegrityError", "MissingFileError", "Prompts",
    "SchemaError", "SpaceError", "Status", "StoreError", "Targets", "UnsafeNameError", "align",
    "load_derived", "open_captions", "open_features", "open_prompts", "open_targets", "save_derived",
    "unit_rows", "verify_file", "verify_folder", "write_captions", "write_targets",
]  # fmt: skip

_PLACES = {
    "captions": ("Captions", "open_captions", "write_captions"),
    "derived": ("load_derived", "save_derived"),
    "features": ("Features", "Status", "open_features"),
    "prompts": ("Prompts", "open_prompts"),
    "rows": ("align", "unit_rows"),
    "targets": ("Targets", "open_targets", "write_targets"),
    "verify": ("verify_file", "verify_folder"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'store' has no attribute {name!r}; it has {', '.join(__all__)}")
    place = next((place for place, names in _PLACES.items() if name in names), "errors")
    return getattr(importlib.import_module(f"store.{place}"), name)
