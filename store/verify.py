"""Verification: read every byte of meaning in stored files and name what is damaged."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from store.errors import StoreError
from store.features import FEATURES_SCHEMA, Features
from store.sealed import SealedFile


@dataclass(frozen=True)
class Verdict:
    """What verification found about one file; no `problems` means it is intact."""

    path: Path
    schema: str
    n_bytes: int
    digest: str
    problems: tuple[str, ...]

    @property
    def is_intact(self) -> bool:
        """True if nothing is wrong."""
        return not self.problems


def stored_files(folder: Path) -> list[Path]:
    """All finished HDF5 files below a folder, in order; parts of unfinished runs are left out."""
    files = folder.rglob("*.h5")
    return sorted(f for f in files if not any(p.name.endswith(".parts") for p in f.parents))


def verify_file(path: Path) -> Verdict:
    """Check header, structure and every block of rows of one file."""
    try:
        file = SealedFile(path)
    except StoreError as error:
        n_bytes = path.stat().st_size if path.exists() else 0
        return Verdict(path, "unknown", n_bytes, "", (str(error),))
    with file:
        problems = [
            f"/{name} rows {start} to {stop - 1}: content is not what was written"
            for name, start, stop in file.damaged_blocks()
        ]
        if not problems and file.schema == FEATURES_SCHEMA:
            try:
                Features(file)
            except StoreError as error:
                problems.append(str(error))
        return Verdict(path, file.schema, path.stat().st_size, file.digest, tuple(problems))


def verify_folder(folder: Path) -> Iterator[Verdict]:
    """One verdict per stored file below a folder."""
    for path in stored_files(folder):
        yield verify_file(path)
