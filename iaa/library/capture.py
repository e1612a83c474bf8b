"""What groups need to know of photographs besides vectors: from the store of looks, else from the files."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from iaa.library.gallery.viewing import look_at_file
from iaa.library.layout import Layout
from iaa.library.photographs import Photographs
from iaa.library.progress import Progress
from store.looks import Look, Looks

if TYPE_CHECKING:
    from analysis.grouping.groups import Group, Shots

_MAX_THREADS = 8
"""Files are waited for more than worked on."""
_AT_ONCE = 64


class Capture:
    """The photographs of a data set, row by row; a file is opened for what the store of looks lacks."""

    def __init__(
        self, layout: Layout, photographs: Photographs | None, files: Sequence[str], sha256: np.ndarray | None
    ) -> None:
        self._files = files
        self._photographs = photographs
        self._sha256 = sha256
        self._store = Looks(layout.looks) if photographs is not None and layout.folder.is_dir() else None
        keys = [] if sha256 is None else [row.tobytes() for row in sha256]
        known = {} if self._store is None else self._store.of([key for key in keys if any(key)])
        self._looks = {row: known[key] for row, key in enumerate(keys) if key in known}

    def __enter__(self) -> "Capture":
        return self

    def __exit__(self, *_: object) -> None:
        if self._store is not None:
            self._store.close()

    def shots(self, show: Progress) -> "Shots":
        """Size, time, compensation and sharpness as far as they are known; headers are read for the rest."""
        from analysis.grouping.groups import Shots

        unknown = [row for row, file in enumerate(self._files) if row not in self._looks and file]
        if self._photographs is not None and unknown:
            with (
                show("capture times", len(unknown), "photographs") as bar,
                ThreadPoolExecutor(_MAX_THREADS) as pool,
            ):
                for row, look in zip(unknown, pool.map(self._header, unknown), strict=True):
                    self._looks[row] = look
                    bar.update(1)
        looks = [self._looks.get(row, _NOTHING) for row in range(len(self._files))]
        return Shots(
            sha256=self._sha256,
            taken=_numbers(look.taken for look in looks),
            bias=_numbers(look.facts.get("bias") for look in looks),
            sharpness=_numbers(look.sharpness for look in looks),
            width=np.array([look.width for look in looks]),
            height=np.array([look.height for look in looks]),
        )

    def with_sharpness(self, groups: "Sequence[Group]", shots: "Shots", show: Progress) -> "Shots":
        """The same with the sharpness of all that are in a group that is ranked."""
        assert shots.sharpness is not None
        rows = [int(row) for group in groups if group.is_ranked for row in group.rows]
        rows = [row for row in rows if np.isnan(shots.sharpness[row]) and self._files[row]]
        if self._photographs is None or not rows:
            return shots
        sharpness = shots.sharpness.copy()
        with (
            show("sharpness", len(rows), "photographs") as bar,
            ThreadPoolExecutor(_MAX_THREADS // 2) as pool,
        ):
            for start in range(0, len(rows), _AT_ONCE):
                some = rows[start : start + _AT_ONCE]
                looks = list(pool.map(lambda row: look_at_file(self._at(row), is_quick=False), some))
                sharpness[some] = _numbers(look.sharpness for look in looks)
                self._keep(some, looks)
                bar.update(len(some))
        return replace(shots, sharpness=sharpness)

    def small(self, row: int) -> np.ndarray | None:
        """A picture as panoramas are told by; None where the file cannot be read."""
        from PIL import Image

        from analysis.grouping.overlap import EDGE

        if self._photographs is None or not self._files[row]:
            return None
        sha256 = self._looks[row].sha256 if row in self._looks else b""
        jpeg = self._store.jpeg(sha256) if self._store is not None and sha256 else None
        if jpeg is None:
            look = look_at_file(self._at(row))
            self._keep([row], [look])
            jpeg = look.jpeg
        if not jpeg:
            return None
        with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as image:
            scale = EDGE / max(image.size)
            size = [max(round(side * scale), 1) for side in image.size]
            return np.asarray(image.convert("L").resize((size[0], size[1]), Image.Resampling.BOX), np.float32)

    def _keep(self, rows: Sequence[int], looks: Sequence[Look]) -> None:
        """Keep the looks that are of the bytes that were embedded."""
        if self._store is not None and self._sha256 is not None:
            known = zip(looks, self._sha256[np.asarray(rows, np.int64)], strict=True)
            self._store.put([look for look, sha256 in known if look.sha256 == sha256.tobytes()])

    def _header(self, row: int) -> Look:
        from embed.images.decode import ImageError
        from embed.images.facts import read_file_facts

        try:
            facts = read_file_facts(self._at(row))
        except ImageError:
            return _NOTHING
        more = {} if facts.bias is None else {"bias": facts.bias}
        return Look(b"", facts.width, facts.height, taken=facts.taken, facts=more)

    def _at(self, row: int) -> Any:
        assert self._photographs is not None
        return self._photographs.at(self._files[row])


_NOTHING = Look(b"")


def _numbers(values: Any) -> np.ndarray:
    """Floats, NaN for None and for what is no number."""
    return np.array([v if isinstance(v, int | float) else np.nan for v in values], np.float64)
