"""Images in a folder on a mounted file system, found in one pass."""

import logging
import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from embed.images.errors import DatasetError
from embed.images.files import NO_FILE, Sieve, listing_notes, without_raw_twins

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FolderSource:
    """A folder on a mounted file system."""

    root: Path
    files: list[str]
    notes: tuple[str, ...] = ()
    passed_over: Mapping[str, int] = field(default_factory=dict)

    @property
    def location(self) -> str:
        return str(self.root)

    def at(self, path: str) -> Path:
        return self.root / path


def open_folder(location: str, name: str, sieve: Sieve) -> FolderSource:
    """The images of a folder. Raises DatasetError, naming the data set, where it cannot be listed or
    holds tar files instead."""
    root = Path(location)
    if not root.is_dir():
        what = f"{root} is no folder" if root.exists() else f"{root} is no folder (it does not exist)"
        raise DatasetError(f"{what}; expected the images of {name!r} there")
    files, n_twins = without_raw_twins(list_image_files(root, sieve))
    if not files and (n_tars := len(list(root.glob("*.tar")))):
        raise DatasetError(f"{root} holds no images but {n_tars} tar files. Say so: --images '{root}/*.tar'")
    return FolderSource(root, files, listing_notes(files, sieve, n_twins), sieve.passed_over)


def list_image_files(root: Path, sieve: Sieve | None = None) -> list[str]:
    """Every image file below a folder, relative to it, with forward slashes, in no useful order.

    What the sieve leaves out is not looked into. Symbolic links are followed; a folder that
    can be reached in several ways is listed once, under its real place if that is below `root`,
    so loops end. A link to nothing is listed, for whoever reads it to fail on. A folder
    that cannot be read is an error.
    """
    if not root.is_dir():
        found = "it is a file" if root.exists() else "it does not exist"
        raise DatasetError(f"{root} is no folder ({found}); expected the images there")
    sieve = sieve or Sieve()
    files: list[str] = []
    visited: set[tuple[int, int]] = set()
    real_folders = deque([""])
    linked_folders: deque[str] = deque()
    while real_folders or linked_folders:
        is_real = bool(real_folders)
        prefix = real_folders.popleft() if is_real else linked_folders.popleft()
        try:
            status = os.stat(os.path.join(root, prefix))
            if (status.st_dev, status.st_ino) in visited:
                logger.info("%s: %s was listed under another name already", root, prefix)
                continue
            visited.add((status.st_dev, status.st_ino))
            folders, links = _list_folder(os.path.join(root, prefix), prefix, files, sieve)
        except OSError as error:
            raise DatasetError(
                f"{os.path.join(root, prefix)} cannot be read ({error.strerror}). Make the folder readable, "
                "hide it by a leading dot, or leave it out: -o exclude=NAME"
            ) from error
        real_folders.extend(sorted(folders))
        linked_folders.extend(sorted(links))
    return files


def _list_folder(folder: str, prefix: str, files: list[str], sieve: Sieve) -> tuple[list[str], list[str]]:
    """Append the image files of one folder; returns its real and its linked subfolders."""
    folders: list[str] = []
    links: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            path = prefix + entry.name
            if sieve.leaves_out(path):
                continue
            if _is_folder(entry):
                (links if entry.is_symlink() else folders).append(f"{path}/")
            elif not _is_file(entry):
                sieve.count(entry.name, NO_FILE)
            elif sieve.takes(entry.name):
                files.append(path)
    return folders, links


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    """True for files and for links to nothing; pipes and devices would hang their reader."""
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
    except OSError:
        return True
