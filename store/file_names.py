"""Names that become files and folders: one rule for data sets, backbones, prompt sets, outputs and heads.

A name may come from a command line, a prompt file, an imported table or a feature file that somebody sent.
What it becomes must lie just where the program puts it, on every system, so every path that is built from a
name is built here.
"""

import hashlib
import os
import unicodedata
from pathlib import Path

from store.errors import UnsafeNameError

RATERS_FILE = "raters.h5"
"""In a data set's folder of derived files: scores of many people (store.raters)."""
MAX_BYTES = 120
"""Of a name in UTF-8: file systems take 255, of which endings and temporary names need some."""
_SIGNS = "_.-+"
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in "0123456789¹²³")}
_TAKEN = {"data set": {"heads"}}
"""Names that mean something else at that place."""


def check_name(name: str, what: str) -> str:
    """The name, if it can be a new file or folder on every system.

    Letters of any alphabet, digits, '_', '.', '-' and '+', the first a letter, a digit or '_', the last no
    '.'; no name that Windows keeps for devices; composed (NFC), because file systems disagree about the
    decomposed form; at most 120 bytes.

    Raises UnsafeNameError.
    """
    if problem := _problem(name) or ("it has a meaning of its own" if _is_taken(name, what) else ""):
        raise UnsafeNameError(
            f"{_shown(name)} cannot name a {what}: {problem}. Use letters, digits, '_', '.', '-' and '+'"
        )
    return name


def place(folder: Path, name: str, what: str, ending: str = "") -> Path:
    """Path of the file or folder of a name below `folder`, wherever a name becomes a path.

    What lies there under a plain name is found, although a new one could not be called so any more.

    Raises UnsafeNameError for a name that leads elsewhere, that cannot be a new one, or that differs from one
    there in case or Unicode form only, which other systems take for the same.
    """
    path = folder / f"{name}{ending}"
    if _leads_elsewhere(name):
        check_name(name, what)
    listed = _listed(folder)
    if path.name in listed:
        return path
    check_name(name, what)
    if alike := next((other for other in listed if _folded(other) == _folded(path.name)), None):
        if unicodedata.normalize("NFC", alike) == path.name and path.exists():
            return path  # the file system itself decomposes names
        there = alike.removesuffix(ending)
        raise UnsafeNameError(
            f"there is no {what} {_shown(name)} in {folder}, but {_shown(there)}: some systems take both for "
            "the same name. Use that one, or another name"
        )
    return path


def dataset_folder(root: Path, name: str) -> Path:
    """Folder of a data set below the data root, there already or to be made. Raises UnsafeNameError."""
    if _leads_elsewhere(name) or not any((root / name / f).is_file() for f in ("dataset.toml", "targets.h5")):
        check_name(name, "data set")
    return place(root, name, "data set")


def backbone_file(folder: Path, backbone_id: str) -> Path:
    """File of a backbone below a folder. Raises UnsafeNameError."""
    return place(folder, file_stem(backbone_id), "backbone", ".h5")


def file_stem(name: str) -> str:
    """A backbone's or prompt set's name as it stands in file names: `open_clip:ARCH/TAG` has characters that
    paths do not allow."""
    return name.replace(":", "_").replace("/", "_")


def cache_stem(*parts: str) -> str:
    """A file name for what was computed from things of these names; no name is refused, for a cache is known
    by its key: what cannot stand in a file name is replaced by a digest."""
    stem = "_".join(parts)
    if not _problem(stem):
        return stem
    return hashlib.sha256(stem.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _problem(name: str) -> str:
    """What is wrong with a new name; '' if nothing is."""
    if not name:
        return "it is empty"
    if _leads_elsewhere(name):
        return "it leads to another folder"
    wrong = next((c for c in name if not (unicodedata.category(c)[0] in "LMN" or c in _SIGNS)), None)
    if wrong is not None:
        return f"it has the character {wrong!a}"
    if name[0] in ".-+" or unicodedata.category(name[0])[0] == "M":
        return f"it begins with {name[0]!a}"
    if name[-1] == ".":
        return "it ends with '.'"
    if name.split(".")[0].casefold() in _DEVICES:
        return "Windows keeps it for a device"
    if unicodedata.normalize("NFC", name) != name:
        return "its letters are decomposed (not in Unicode form NFC)"
    if (n_bytes := len(name.encode())) > MAX_BYTES:
        return f"it has {n_bytes} bytes in UTF-8, more than {MAX_BYTES}"
    return ""


def _leads_elsewhere(name: str) -> bool:
    """True if a path of this last part does not lie in its folder under this very name, on any system."""
    return name in ("", ".", "..") or any(c in "/\\\0" for c in name) or name[1:2] == ":"


def _is_taken(name: str, what: str) -> bool:
    return name.casefold() in _TAKEN.get(what, set())


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # nothing there yet, or nothing that can be looked at: opening will say so
        return []


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _shown(name: str) -> str:
    """A name in an error message: one line, of bounded length, nothing invisible in it."""
    return ascii(name) if len(name) <= 80 else f"{name[:60]!a}... ({len(name):,} characters)"
