"""Which image files a folder holds, found in one pass, and the order people expect them in."""

import logging
import os
import re
from collections import deque
from pathlib import Path

from embed.tables import DatasetError

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".heic", ".heif", ".avif",
)  # fmt: skip
_DIGITS = re.compile(r"([0-9]+)")


def list_image_files(root: Path) -> list[str]:
    """Every image file below a folder, relative to it, with forward slashes, in no useful order.

    Hidden files and folders (".name") are left out. Symbolic links are followed; a folder that
    can be reached in several ways is listed once, under its real place if that is below `root`,
    so loops end. A link to nothing is listed, for whoever reads it to fail on. A folder
    that cannot be read is an error.
    """
    if not root.is_dir():
        found = "it is a file" if root.exists() else "it does not exist"
        raise DatasetError(f"{root} is no folder ({found}); expected the images there")
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
            folders, links = _list_folder(os.path.join(root, prefix), prefix, files)
        except OSError as error:
            raise DatasetError(
                f"{os.path.join(root, prefix)} cannot be read ({error.strerror}). "
                "Make the folder readable, or hide it by a leading dot"
            ) from error
        real_folders.extend(sorted(folders))
        linked_folders.extend(sorted(links))
    return files


def _list_folder(folder: str, prefix: str, files: list[str]) -> tuple[list[str], list[str]]:
    """Append the image files of one folder; returns its real and its linked subfolders."""
    folders: list[str] = []
    links: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                (links if entry.is_symlink() else folders).append(f"{prefix}{entry.name}/")
            elif is_image_name(entry.name) and _is_file(entry):
                files.append(prefix + entry.name)
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


def is_image_name(name: str) -> bool:
    """True if the name ends like an image file, in upper or lower case."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def natural_key(path: str) -> tuple[str, str]:
    """A sorting key that puts img2 before img10 and keeps the files of a folder together.

    A number becomes a mark below all letters, its length and its digits; one string is compared, which is
    several times faster than lists of pieces.
    """
    return _DIGITS.sub(_number_key, path.casefold().replace("/", "\x01")), path


def _number_key(digits: re.Match[str]) -> str:
    significant = digits[0].lstrip("0")
    return f"\x02{chr(len(significant) + 1)}{significant}"
