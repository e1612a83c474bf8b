"""The photographs behind the rows: thumbnails for people to look at, and copies of chosen ones."""

import hashlib
import io
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iaa.library.errors import UsageError
from store import Features, open_features

if TYPE_CHECKING:
    from PIL.Image import Image

    from embed.images.datasets import ImageTable

LONG_EDGE = 240
_QUALITY = 82
#: Decoded photographs are large; more threads than this would cost gigabytes.
_MAX_THREADS = 4
_MAX_PROFILE = 16_384


@dataclass(frozen=True)
class Thumbnail:
    """A small JPEG, or None and why there is none; `remark` is what else should be known about it."""

    jpeg: bytes | None
    remark: str = ""


@dataclass(frozen=True)
class Photographs:
    """The files of a data set as it lists them now, and the feature file that says what was embedded."""

    table: "ImageTable"
    exif_rotate: bool
    features: Path

    def thumbnails(
        self,
        rows: Sequence[Mapping[str, Any]],
        on_done: Callable[[int], Any] | None = None,
        edge: int = LONG_EDGE,
    ) -> Iterator[Thumbnail]:
        """A thumbnail for each row (with `image_id` and `file`), in order, made by a few threads.

        The file is the one that the ratings name for the rows; the data set may list others by now.
        """
        from store.system import n_cores

        listed = set(self.table.path.tolist())
        with open_features(self.features) as features:
            sha256_of = content_hashes(features, [row["image_id"] for row in rows])

        def load(row: Mapping[str, Any]) -> Thumbnail:
            if row["file"] not in listed:
                return Thumbnail(None, "no longer in the data set")
            return load_thumbnail(
                self.at(row["file"]), self.exif_rotate, sha256_of.get(row["image_id"]), edge
            )

        pool = ThreadPoolExecutor(min(n_cores(), _MAX_THREADS))
        try:
            for thumbnail in pool.map(load, rows):
                if on_done is not None:
                    on_done(1)
                yield thumbnail
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def at(self, file: str) -> Any:
        """A file of the data set, as something that has `read_bytes`."""
        source = self.table.source
        return self.table.root / file if source is None else source.at(file)

    def copy(self, rows: Sequence[Mapping[str, Any]], folder: Path | str) -> list[Path]:
        """Copy the rows' files into a folder, named by rank and file name; originals stay as they are.

        Nothing there is replaced: a name that is taken by other bytes is a UsageError, before any copy is
        made. A copy that is there already is left alone. Each copy is complete or not there.
        """
        folder = Path(folder)
        digits = len(str(max((row["rank"] for row in rows), default=1)))
        targets = [folder / f"{row['rank']:0{digits}d}_{row['file'].rpartition('/')[2]}" for row in rows]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            contents = [None if not t.exists() else hashlib.sha256(t.read_bytes()).digest() for t in targets]
            for row, target, there in zip(rows, targets, contents, strict=True):
                if there is not None and hashlib.sha256(self._read(row)).digest() != there:
                    raise UsageError(
                        f"{target} exists and is another file: nothing was copied; empty {folder}"
                    )
            for row, target, there in zip(rows, targets, contents, strict=True):
                if there is None:
                    self._copy_one(row, target)
        except OSError as error:
            raise UsageError(f"cannot copy into {folder}: {error.strerror or error}") from error
        return targets

    def _read(self, row: Mapping[str, Any]) -> bytes:
        found: bytes = self.at(row["file"]).read_bytes()
        return found

    def _copy_one(self, row: Mapping[str, Any], target: Path) -> None:
        partial = target.with_name(target.name + ".partial")
        try:
            partial.write_bytes(self._read(row))
            if isinstance(original := self.at(row["file"]), Path):
                shutil.copystat(original, partial)
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)


def content_hashes(features: Features, ids: Sequence[str]) -> dict[str, bytes]:
    """SHA-256 of the bytes that were embedded, for those images whose file says so."""
    if "source_sha256" not in features.file.arrays:
        return {}
    wanted = set(ids)
    rows = [(name, row) for row, name in enumerate(features.image_id.tolist()) if name in wanted]
    stored = features.file.view("source_sha256")
    return {name: bytes(stored[row]) for name, row in rows if stored[row].any()}


def load_thumbnail(
    file: Any, exif_rotate: bool, sha256: bytes | None = None, edge: int = LONG_EDGE
) -> Thumbnail:
    """A thumbnail of an image that was embedded from bytes of this hash; never raises for a bad image."""
    from embed.images.decode import ImageError, decode_image, read_bytes

    try:
        data = read_bytes(file)
        remark = ""
        if sha256 is not None and hashlib.sha256(data).digest() != sha256:
            remark = "the file has changed since it was embedded"
        return Thumbnail(encode_thumbnail(decode_image(data, exif_rotate), edge), remark)
    except ImageError as error:
        return Thumbnail(None, str(error))
    except Exception as error:  # whatever it is, it costs this picture and not the page
        return Thumbnail(None, f"cannot be shown: {type(error).__name__} {error}".rstrip())


def encode_thumbnail(image: "Image", edge: int = LONG_EDGE) -> bytes:
    """A JPEG of at most `edge` pixels each way, never enlarged, with nothing of the file's metadata
    but its colour profile: without it, colours of wider spaces than sRGB come out dull."""
    from PIL.Image import Resampling

    image.thumbnail((edge, edge), Resampling.LANCZOS, reducing_gap=3.0)
    profile = image.info.get("icc_profile") or b""
    is_rgb = profile[16:20] == b"RGB " and len(profile) <= _MAX_PROFILE
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, optimize=True, icc_profile=profile if is_rgb else None)
    return buffer.getvalue()
