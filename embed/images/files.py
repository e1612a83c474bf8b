"""Which files are images by their names, which are left out, and the order people expect them in."""

import fnmatch
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.util import find_spec

JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".mpo")
HEIF_SUFFIXES = (".heic", ".heif", ".hif")
RAW_SUFFIXES = (".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2")
IMAGE_SUFFIXES = (
    *JPEG_SUFFIXES,
    ".png", ".apng", ".webp", ".tif", ".tiff", ".bmp", ".dib", ".gif",
    *HEIF_SUFFIXES, ".avif",
    ".jp2", ".j2k", ".j2c", ".jpc", ".jpx", ".jpf",
    ".ppm", ".pgm", ".pbm", ".pnm",
    *RAW_SUFFIXES,
)  # fmt: skip

#: Folders that hold previews and waste, by the programs and systems that make them; in upper or lower case.
EXCLUDED = (
    "@eaDir", "#recycle", "#snapshot", "@tmp",  # Synology
    "@Recycle", "@Recently-Snapshot", "@__thumb", ".@__thumb",  # QNAP
    ".thumbnails", "Thumbs", "__MACOSX",
    "$RECYCLE.BIN", "RECYCLER", "System Volume Information", "lost+found",
)  # fmt: skip

NO_ENDING, ODD_ENDING, NO_FILE = "no ending", "odd endings", "pipes and devices"
_DIGITS = re.compile(r"([0-9]+)")
_ENDING = re.compile(r"\.[a-z0-9_+-]{1,12}")
_MAGIC = re.compile(r"[*?\[]")


class Sieve:
    """Tells photographs from other files by their names, and counts what it lets pass.

    `exclude` are patterns besides EXCLUDED: of a name at any depth (`drafts`, `*_small.jpg`), or of a path
    from the top (`2019/raw/*`) where there is a slash. `!Thumbs` takes back what another one leaves out.
    Upper and lower case are the same.
    """

    def __init__(self, exclude: Iterable[str] = ()) -> None:
        patterns = [pattern.casefold().strip("/") for pattern in (*EXCLUDED, *exclude)]
        self._excluded = _Patterns([p for p in patterns if not p.startswith("!")])
        self._wanted = _Patterns([p[1:] for p in patterns if p.startswith("!")])
        self.passed_over: Counter[str] = Counter()
        """Files that are no images, by their ending in lower case."""
        self.left_out: Counter[str] = Counter()
        """Folders and files that a pattern leaves out, by name."""
        self._known: dict[str, bool] = {"": False}

    def leaves_out(self, path: str) -> bool:
        """True for a file or folder that is hidden (".name") or excluded by its own name or path."""
        name = path.rpartition("/")[2]
        in_one_case = name.casefold()
        if name.startswith(".") and in_one_case not in self._wanted.names:
            return True
        one_case = in_one_case, path
        if not self._excluded.match(*one_case) or self._wanted.match(*one_case):
            return False
        self.left_out[name] += 1
        return True

    def takes(self, name: str) -> bool:
        """True if a file, which is not left out, is an image by its name."""
        if is_image_name(name):
            return True
        self.count(name)
        return False

    def takes_path(self, path: str) -> bool:
        """The same for a path in a tar file or behind a URL, whose folders are looked at, too."""
        folder = path.rpartition("/")[0]
        return not (self._is_in_left_out(folder) or self.leaves_out(path)) and self.takes(path)

    def count(self, name: str, kind: str = "") -> None:
        """Note that a file is passed over."""
        ending = os.path.splitext(name.rpartition("/")[2])[1].lower()
        kind = kind or (NO_ENDING if not ending else ending if _ENDING.fullmatch(ending) else ODD_ENDING)
        self.passed_over[kind] += 1

    def _is_in_left_out(self, folder: str) -> bool:
        if folder not in self._known:
            parent = folder.rpartition("/")[0]
            self._known[folder] = self._is_in_left_out(parent) or self.leaves_out(folder)
        return self._known[folder]

    def notes(self) -> list[str]:
        """One sentence about what the patterns left out."""
        if not self.left_out:
            return []
        return [f"left out by name: {counted(self.left_out)}. To have one back: -o 'exclude=!NAME'"]


class _Patterns:
    """Patterns in lower case: most are plain names, which a set finds faster."""

    def __init__(self, patterns: Sequence[str]) -> None:
        magic = [p for p in patterns if _MAGIC.search(p)]
        self.names = {p for p in patterns if not _MAGIC.search(p)}
        self._has_paths = any("/" in p for p in patterns)
        self._by_name = _any_of([p for p in magic if "/" not in p])
        self._by_path = _any_of([p for p in magic if "/" in p])

    def match(self, name: str, path: str) -> bool:
        """True for a name in lower case, or a path in whatever case, that one of the patterns fits."""
        if name in self.names or (self._by_name is not None and self._by_name.match(name) is not None):
            return True
        if not self._has_paths:  # most have none, and millions of paths are asked about
            return False
        path = path.casefold()
        return path in self.names or (self._by_path is not None and self._by_path.match(path) is not None)


def _any_of(patterns: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(fnmatch.translate, patterns))) if patterns else None


def counted(counts: Counter[str], n_named: int = 8) -> str:
    """`.txt 12, .mov 3`: the most frequent first."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{name} {n:,}" for name, n in ranked[:n_named]]
    more = sum(n for _, n in ranked[n_named:])
    return ", ".join([*named, f"others {more:,}"] if more else named)


def is_image_name(name: str) -> bool:
    """True if the name ends like an image file, in upper or lower case."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def is_raw_name(name: str) -> bool:
    """True if the name ends like a camera's raw file, in upper or lower case."""
    return name.lower().endswith(RAW_SUFFIXES)


def without_raw_twins(files: Sequence[str]) -> tuple[list[str], int]:
    """The files but for raw ones beside a JPEG or HEIF of the same name, which cameras write together and
    which are one photograph; and how many those are."""
    raw = _raw_files(files)
    if not raw:
        return list(files), 0
    developed = {_stem(path) for path in files if path.lower().endswith((*JPEG_SUFFIXES, *HEIF_SUFFIXES))}
    twins = {path for path in raw if _stem(path) in developed}
    return [path for path in files if path not in twins], len(twins)


def _raw_files(files: Sequence[str]) -> list[str]:
    endings = {path.rpartition(".")[2] for path in files}  # few, of millions of files
    if not any(is_raw_name(f".{ending}") for ending in endings):
        return []
    return [path for path in files if is_raw_name(path)]


def _stem(path: str) -> str:
    return os.path.splitext(path)[0].casefold()


def colliding_names(files: Iterable[str]) -> list[list[str]]:
    """Groups of paths that are one file where case or the Unicode form of accents (NFC, NFD) does not count,
    as on most Macs and Windows disks."""
    files = list(files)
    if len(set(map(_one_form, files))) == len(files):  # a list for each of millions would take its time
        return []
    groups: dict[str, list[str]] = {}
    for path in files:
        groups.setdefault(_one_form(path), []).append(path)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)


def _one_form(path: str) -> str:
    if path.isascii():
        return path.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def listing_notes(files: Sequence[str], sieve: Sieve, n_twins: int) -> tuple[str, ...]:
    """What there is to say about a listing, one sentence each."""
    notes = sieve.notes()
    if n_twins:
        notes.append(
            f"{n_twins:,} raw files lie beside a JPEG or HEIF of the same name and are one image with it"
        )
    n_raw = len(_raw_files(files))
    if n_raw and find_spec("rawpy") is None:
        notes.append(
            f"{n_raw:,} raw files need rawpy, else they fail: pip install 'image-aesthetics-store[raw]'"
        )
    if groups := colliding_names(files):
        notes.append(
            f"{len(groups):,} names stand several times, different only in case or in the Unicode form of "
            f"accents, the first: {groups[0][0]!r} and {groups[0][1]!r}. Each is an image here; a Mac's or "
            "Windows disk would keep one of them"
        )
    return tuple(notes)


def natural_key(path: str) -> str:
    """A sorting key that puts img2 before img10 and keeps the files of a folder together.

    A number becomes a mark below all letters, its length and its digits. The path itself comes last, for
    those that are equal but for upper and lower case or for leading zeros. One string is compared, which is
    several times faster than pieces, and no collector of garbage looks at strings.
    """
    folder, slash, name = path.rpartition("/")
    return f"{_folder_key(folder + slash)}{_DIGITS.sub(_number_key, name.casefold())}\0{path}"


@lru_cache(maxsize=1024)
def _folder_key(folder: str) -> str:
    return _DIGITS.sub(_number_key, folder.casefold().replace("/", "\x01"))


def _number_key(digits: re.Match[str]) -> str:
    significant = digits[0].lstrip("0")
    return f"\x02{chr(len(significant) + 1)}{significant}"
