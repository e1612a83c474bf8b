"""Names of images as different programs write them: matched where only one thing can be meant.

The same image is `a/IMG_1.JPG` in a folder, `img_1.jpg` in a table, `IMG_1` in another and `12.0` where
a number was made of it. Exact names always win; other forms count only where exactly one name on either
side has them."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from store.csv_files import unsafe_cell
from store.shapes import Int

_ENDING = re.compile(r"(?<=[^/])\.[A-Za-z]{2,4}[23]?$")
_NUMBER = re.compile(r"([0-9]+)\.0+")


def without_ending(name: str) -> str:
    """The name without an ending such as .jpg, .JPEG or .cr2; a number after a point (1.10) is no ending."""
    return _ENDING.sub("", name)


def _folded(name: str) -> str:
    return name.casefold() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


def _composed(name: str) -> str:
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _last(name: str) -> str:
    return _folded(name.rpartition("/")[2])


def _last_of_any(name: str) -> str:
    """The same of a path as Windows writes it, too, which those that are there never are."""
    return _last(name.replace("\\", "/"))


def _bare_of_any(name: str) -> str:
    return without_ending(_last_of_any(name))


def _bare(name: str) -> str:
    return without_ending(_last(name))


def _stem(name: str) -> str:
    return without_ending(_folded(name))


def _number(name: str) -> str:
    found = _NUMBER.fullmatch(name)
    return found[1] if found else ""


def _unguarded(name: str) -> str:
    bare = unsafe_cell(name)
    return _folded(bare) if bare != name else ""


def _are_of_one_path(one: str, other: str) -> bool:
    """True if the folders of the one are the last folders of the other: a/b and x/a/b, but not x/b. The one
    may be written with backslashes."""
    one = one.replace("\\", "/")
    if "/" not in one or "/" not in other:
        return True
    folders = [_folded(name).strip("/").split("/")[:-1] for name in (one, other)]
    n_common = min(map(len, folders))
    return n_common == 0 or folders[0][-n_common:] == folders[1][-n_common:]


Key = Callable[[str], str]
Form = tuple[str, Key, Key]
#: What a name may look like otherwise: in words, of the wanted one, of those that are there.
CLOSE: tuple[Form, ...] = (
    ("", str, str),
    ("with accents encoded in another way", _composed, _composed),
    ("with upper and lower case as one", _folded, _folded),
)
WIDE: tuple[Form, ...] = (
    ("without ending", _folded, _stem),
    ("without ending", _stem, _folded),
    ("by the last part of the path", _last_of_any, _last),
    ("by the last part of the path, without ending", _last_of_any, _bare),
    ("by the last part of the path, without ending", _bare_of_any, _last),
    ("as a number without its .0", _number, _bare),
    ("without the apostrophe that guards a spreadsheet's cell", _unguarded, _folded),
)


@dataclass(frozen=True)
class Matched:
    """Which of the names that are there each wanted one means."""

    row: Int[np.ndarray, " n_wanted"]
    """Position among those there, -1 for none."""
    forms: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    """For each form other than the exact one: how often, and the first wanted name and what it was
    matched to."""
    n_ambiguous: int = 0
    """Wanted names without a row that more than one could be meant by, or that share one with another."""

    @property
    def notes(self) -> list[str]:
        """How names were matched, one sentence for each form but the exact one."""
        return [
            f"matched {form}: {count:,}, the first: {wanted!r} is {there!r}"
            for form, (count, wanted, there) in self.forms.items()
        ]


def match_names(
    wanted: Sequence[str],
    there: Sequence[str],
    forms: Sequence[Form] = (*CLOSE, *WIDE),
    taken: Sequence[int] = (),
) -> Matched:
    """Which name of `there` each wanted one means; none is meant twice, and what is unclear stays unmatched.

    Forms are tried in their order; where folders are named on both sides, they must agree. `taken` are
    positions in `there` that are given away already.
    """
    rows = np.full(len(wanted), -1, np.int64)
    exact = {name: i for i, name in enumerate(there)}
    if forms[0][1] is str and len(exact) == len(there) and not taken and len(set(wanted)) == len(wanted):
        rows[:] = [exact.get(name, -1) if name else -1 for name in wanted]  # nearly always all there is to do
    used = {*taken, *rows[rows >= 0].tolist()}
    found: dict[str, tuple[int, str, str]] = {}
    ambiguous: set[int] = set()
    left = np.flatnonzero(rows < 0).tolist()
    for form, key_wanted, key_there in forms:
        if not left:
            break
        position: dict[str, int] = {}
        unclear: set[str] = set()
        for i, name in enumerate(there):
            key = key_there(name)
            if key in position:
                unclear.add(key)
            position[key] = i
        keys = {i: key for i in left if (key := key_wanted(wanted[i]))}
        n_asking = Counter(keys.values())
        for i, key in keys.items():
            at = position.get(key)
            if at is None or not _are_of_one_path(wanted[i], there[at]):
                continue
            if n_asking[key] > 1 or key in unclear or at in used:
                ambiguous.add(i)
                continue
            rows[i] = at
            used.add(at)
            if form:
                count, first, other = found.get(form, (0, wanted[i], there[at]))
                found[form] = (count + 1, first, other)
        left = [i for i in left if rows[i] < 0]
    return Matched(rows, found, len(ambiguous.intersection(left)))
