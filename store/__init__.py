"""The embedding store: keeps rows in HDF5 and proves they are intact (numpy and h5py only)."""

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
    "BusyError",
    "Features",
    "IdentityError",
    "IntegrityError",
    "MissingFileError",
    "Prompts",
    "SchemaError",
    "SpaceError",
    "Status",
    "StoreError",
    "Targets",
    "UnsafeNameError",
    "align",
    "load_derived",
    "open_features",
    "open_prompts",
    "open_targets",
    "save_derived",
    "unit_rows",
    "verify_file",
    "verify_folder",
    "write_targets",
]
