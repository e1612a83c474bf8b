"""Stored files: what each is, and whether it is still what was written."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from iaa.library.errors import UsageError
from iaa.library.progress import Progress, show_progress
from iaa.library.table import Table, facts
from store import MissingFileError
from store.errors import did_you_mean
from store.features import FEATURES_SCHEMA, Features
from store.shards import ShardedFile, n_bytes_of, open_arrays
from store.verify import Verdict, stored_files, verify_file

N_NAMED = 20


class Described(dict[str, Any]):
    """What a stored file is, as plain values; and as people read it."""

    def tables(self) -> list[Table]:
        """A row per fact, then a row per failed row."""
        told = {key: value for key, value in self.items() if not isinstance(value, dict)}
        for key in ("identity", "provenance"):
            told |= {f"{key}.{name}": value for name, value in self[key].items()}
        told |= {f"/{name}": f"{shape} {dtype}" for name, (shape, dtype) in self["arrays"].items()}
        failures = self.get("failures", {})
        columns = {"image": list(failures), "reason": list(failures.values())}
        failed = [Table(f"Failed rows: {len(failures)}", columns)] if failures else []
        return [facts(self["file"], told), *failed]

    def notes(self) -> list[str]:
        """That a feature file has no failed rows, where that is so."""
        return ["No failed rows."] if self.get("failures") == {} else []


class Verdicts(list[Verdict]):
    """A verdict per file, and how long it took to come to them."""

    def __init__(self, verdicts: Sequence[Verdict], seconds: float) -> None:
        super().__init__(verdicts)
        self.seconds = seconds

    @property
    def n_damaged(self) -> int:
        """Files that are not what was written."""
        return sum(not verdict.is_intact for verdict in self)

    def table(self) -> Table:
        """A row per file, with everything that is wrong with it."""
        columns: dict[str, list[Any]] = {
            "file": [v.path for v in self],
            "kind": [v.schema for v in self],
            "bytes": [v.n_bytes for v in self],
            "verdict": ["intact" if v.is_intact else v.problems for v in self],
        }
        return Table("Stored files", columns)

    def to_dict(self) -> dict[str, Any]:
        """Counts and verdicts as plain values."""
        files = [{"file": value.pop("path"), **value} for value in map(asdict, self)]
        return {"n_files": len(self), "n_damaged": self.n_damaged, "files": files}

    def notes(self) -> list[str]:
        """How much was read, and how many files are damaged."""
        gib = sum(v.n_bytes for v in self) / 2**30
        return [f"{len(self)} files, {gib:.2f} GiB in {self.seconds:.1f} s; {self.n_damaged} damaged"]


def describe_file(file: Path, root: Path | None = None) -> Described:
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
    with open_arrays(file) as sealed:
        described = Described(
            file=str(file),
            schema=sealed.schema,
            digest=sealed.digest,
            identity=sealed.identity,
            provenance=sealed.provenance,
            arrays={name: [list(shape), str(dtype)] for name, (shape, dtype) in sealed.arrays.items()},
        )
        if isinstance(sealed, ShardedFile):
            described["shards"] = len(sealed.shards)
        if sealed.schema == FEATURES_SCHEMA:
            features = Features(sealed)
            described["n_ok"] = int(features.ok.sum())
            described["failures"] = {
                str(features.image_id[row]): reason for row, reason in sorted(features.failures.items())
            }
    return described


def verify_files(paths: Sequence[Path], progress: Progress = show_progress) -> Verdicts:
    """Every stored byte of files, or of all files below folders, compared with its digest; a verdict each.

    Raises UsageError for a path that does not exist.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path} does not exist. Nothing made yet? Try: iaa embed")
        files += stored_files(path) if path.is_dir() else [path]
    started = time.perf_counter()
    verdicts: list[Verdict] = []
    with progress("verifying", sum(map(n_bytes_of, files)), "bytes") as bar:
        for file in files:
            verdicts.append(verify_file(file))
            bar.update(n_bytes_of(file))
            bar.set_postfix_str(f"{sum(not v.is_intact for v in verdicts)} damaged")
    return Verdicts(verdicts, time.perf_counter() - started)
