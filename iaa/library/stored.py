"""Stored files: what each is, and whether it is still what was written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from iaa.library.errors import UsageError
from iaa.library.progress import Progress, show_progress
from store import MissingFileError
from store.errors import did_you_mean
from store.features import FEATURES_SCHEMA, Features
from store.sealed import SealedFile
from store.verify import Verdict, stored_files, verify_file

N_NAMED = 20


def describe_file(file: Path, root: Path | None = None) -> dict[str, Any]:
    """What a stored file is: schema, digest, identity, provenance, arrays (shape, type); of a feature file
    also how many rows have a vector, and why the others failed.

    Raises MissingFileError with the files of the data root, SchemaError, IntegrityError.
    """
    if root is not None and not file.exists():
        there = stored_files(root) if root.is_dir() else []
        same = [str(path) for path in there if path.name == file.name][:3]
        near = did_you_mean(file.name, [path.name for path in there])
        named = f" Did you mean {' or '.join(same)}?" if same else near
        listed = "".join(f"\n  {path}" for path in there[:N_NAMED])
        more = f"\n  and {len(there) - N_NAMED:,} more" if len(there) > N_NAMED else ""
        raise MissingFileError(f"{file} does not exist.{named} In {root} there are: {listed or 'none'}{more}")
    with SealedFile(file) as sealed:
        described: dict[str, Any] = {
            "file": str(file),
            "schema": sealed.schema,
            "digest": sealed.digest,
            "identity": sealed.identity,
            "provenance": sealed.provenance,
            "arrays": {name: [list(shape), str(dtype)] for name, (shape, dtype) in sealed.arrays.items()},
        }
        if sealed.schema == FEATURES_SCHEMA:
            features = Features(sealed)
            described["n_ok"] = int(features.ok.sum())
            described["failures"] = {
                str(features.image_id[row]): reason for row, reason in sorted(features.failures.items())
            }
    return described


def verify_files(paths: Sequence[Path], progress: Progress = show_progress) -> list[Verdict]:
    """Every stored byte of files, or of all files below folders, compared with its digest; a verdict each.

    Raises UsageError for a path that does not exist.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path} does not exist. Nothing made yet? Try: iaa embed")
        files += stored_files(path) if path.is_dir() else [path]
    verdicts: list[Verdict] = []
    with progress("verifying", sum(file.stat().st_size for file in files), "bytes") as bar:
        for file in files:
            verdicts.append(verify_file(file))
            bar.update(file.stat().st_size)
            bar.set_postfix_str(f"{sum(not v.is_intact for v in verdicts)} damaged")
    return verdicts
