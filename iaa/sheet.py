"""Contact sheets: ranked photographs as one HTML file that needs no network, no script and no other file."""

import base64
import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from iaa.console import note, progress
from iaa.paths import Layout
from iaa.work import check_file_place, check_known
from store import Features

if TYPE_CHECKING:
    from PIL.Image import Image

    from embed.datasets import ImageTable

LONG_EDGE = 240
_QUALITY = 82
#: Decoded photographs are large; more threads than this would cost gigabytes.
_MAX_THREADS = 4
_MAX_PROFILE = 16_384

Section = tuple[str, Sequence[Mapping[str, Any]]]
"""A heading, and the rows below it: image_id, file and, where they are ranked, rank, score and percentile."""


@dataclass(frozen=True)
class Thumbnail:
    """A small JPEG, or None and why there is none; `remark` is what else should be known about it."""

    jpeg: bytes | None
    remark: str = ""


@dataclass(frozen=True)
class Sheet:
    """Where a contact sheet goes, and the photographs that it shows."""

    path: Path
    table: "ImageTable"
    exif_rotate: bool

    def write(
        self, title: str, facts: Sequence[str], sections: Sequence[Section], features: Features, score: str
    ) -> None:
        """Write the page, complete or not at all; `score` is the rows' key of what they are ranked by.

        An image that cannot be read is shown as a placeholder with the reason.
        """
        rows = [row for _, each in sections for row in each]
        partial = self.path.with_name(self.path.name + ".partial")
        try:
            partial.unlink(missing_ok=True)
            with (
                partial.open("x", encoding="utf-8", errors="backslashreplace") as handle,
                progress("thumbnails", len(rows), "images") as bar,
            ):
                thumbnails = self._thumbnails(rows, features, bar)
                handle.writelines(page(title, facts, sections, thumbnails, score))
            os.replace(partial, self.path)
        except OSError as error:
            raise typer.BadParameter(f"--sheet {self.path} cannot be written: {error.strerror}") from error
        finally:
            partial.unlink(missing_ok=True)
        note(f"wrote a contact sheet of {len(rows):,} images: {self.path}")

    def _at(self, path: str) -> Any:
        source = self.table.source
        return self.table.root / path if source is None else source.at(path)

    def _thumbnails(
        self, rows: Sequence[Mapping[str, Any]], features: Features, bar: Any
    ) -> Iterator[Thumbnail]:
        """A thumbnail for each row, in order, made by a few threads.

        The file is the one that the ratings name for the rows; the data set may list others by now.
        """
        from store.system import n_cores

        listed = set(self.table.path.tolist())
        sha256_of = content_hashes(features, [row["image_id"] for row in rows])

        def load(row: Mapping[str, Any]) -> Thumbnail:
            if row["file"] not in listed:
                return Thumbnail(None, "no longer in the data set")
            return load_thumbnail(self._at(row["file"]), self.exif_rotate, sha256_of.get(row["image_id"]))

        pool = ThreadPoolExecutor(min(n_cores(), _MAX_THREADS))
        try:
            for thumbnail in pool.map(load, rows):
                bar.update()
                yield thumbnail
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def open_sheet(path: Path | None, layout: Layout) -> Sheet | None:
    """What `--sheet` needs, found before the work; None without `--sheet`.

    Raises typer.BadParameter for a place that cannot be written and for vectors without photographs,
    DatasetError where the photographs are not to be found.
    """
    if path is None:
        return None
    from embed.datasets import build_table, load_config

    check_file_place(path, "--sheet")
    if path.suffix.lower() not in (".html", ".htm"):
        raise typer.BadParameter(f"--sheet {path}: the page is HTML, so call it {path.stem or 'sheet'}.html")
    check_known(layout)
    if not has_photographs(layout):
        raise typer.BadParameter(
            f"--sheet: {layout.dataset} has no photographs, its vectors were imported by their ids alone. "
            "Import them into a data set that has: iaa dataset add NAME --kind folder --images DIR, "
            "then iaa import FILES --dataset NAME"
        )
    config = load_config(layout.root, layout.dataset)
    return Sheet(path, build_table(config, layout.root, progress=True), config.exif_rotate)


def has_photographs(layout: Layout) -> bool:
    """False for a data set of imported vectors, which knows its images by their ids alone."""
    return layout.dataset == "demo" or (layout.folder / "dataset.toml").exists()


def content_hashes(features: Features, ids: Sequence[str]) -> dict[str, bytes]:
    """SHA-256 of the bytes that were embedded, for those images whose file says so."""
    if "source_sha256" not in features.file.arrays:
        return {}
    wanted = set(ids)
    rows = [(name, row) for row, name in enumerate(features.image_id.tolist()) if name in wanted]
    stored = features.file.view("source_sha256")
    return {name: bytes(stored[row]) for name, row in rows if stored[row].any()}


def load_thumbnail(file: Any, exif_rotate: bool, sha256: bytes | None = None) -> Thumbnail:
    """A thumbnail of an image that was embedded from bytes of this hash; never raises for a bad image."""
    from embed.decode import ImageError, decode_image, read_bytes

    try:
        data = read_bytes(file)
        remark = ""
        if sha256 is not None and hashlib.sha256(data).digest() != sha256:
            remark = "the file has changed since it was embedded"
        return Thumbnail(encode_thumbnail(decode_image(data, exif_rotate)), remark)
    except ImageError as error:
        return Thumbnail(None, str(error))
    except Exception as error:  # whatever it is, it costs this picture and not the page
        return Thumbnail(None, f"cannot be shown: {type(error).__name__} {error}".rstrip())


def encode_thumbnail(image: "Image") -> bytes:
    """A JPEG of at most LONG_EDGE pixels each way, never enlarged, with nothing of the file's metadata
    but its colour profile: without it, colours of wider spaces than sRGB come out dull."""
    from PIL.Image import Resampling

    image.thumbnail((LONG_EDGE, LONG_EDGE), Resampling.LANCZOS, reducing_gap=3.0)
    profile = image.info.get("icc_profile") or b""
    is_rgb = profile[16:20] == b"RGB " and len(profile) <= _MAX_PROFILE
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, optimize=True, icc_profile=profile if is_rgb else None)
    return buffer.getvalue()


def page(
    title: str, facts: Sequence[str], sections: Sequence[Section], thumbnails: Iterable[Thumbnail], score: str
) -> Iterator[str]:
    """The page in pieces; `thumbnails` are those of all the sections' rows, in order."""
    thumbnails = iter(thumbnails)
    yield _HEAD.replace("{title}", escape(title))
    yield f"<header><h1>{escape(title)}</h1>\n"
    yield "".join(f"<p>{escape(fact)}</p>\n" for fact in facts) + "</header>\n"
    for heading, rows in sections:
        yield f'<section><h2>{escape(heading)}</h2>\n<ol class="sheet">\n'
        for row in rows:
            yield _card(row, next(thumbnails), score)
        yield "</ol></section>\n"
    yield (
        f"<footer>Below each picture: rank, {escape(score)}, and percentile, the share of the other ranked "
        "images that lie lower (ties half).</footer>\n</body></html>\n"
    )


def _card(row: Mapping[str, Any], thumbnail: Thumbnail, score: str) -> str:
    """One picture with its caption."""
    name = str(row["file"] or row["image_id"])
    if thumbnail.jpeg is None:
        picture = f'<span class="missing">{escape(thumbnail.remark)}</span>'
    else:
        encoded = base64.b64encode(thumbnail.jpeg).decode("ascii")
        picture = f'<img src="data:image/jpeg;base64,{encoded}" alt="{escape(name)}">'
    lines = [f'<div class="frame">{picture}</div>']
    if "rank" in row:
        lines.append(
            f'<p class="place"><b>{row["rank"]:,}</b> <span title="{escape(score)}">{row[score]:.4f}</span>'
            f'<span class="percentile">{row["percentile"]:.1f} %</span></p>'
            f'<div class="bar"><i style="width:{row["percentile"]:.1f}%"></i></div>'
        )
    folder, slash, file = name.rpartition("/")
    above = f"<span>{escape(folder + slash)}</span>" if slash else ""
    lines.append(f'<p class="file" title="{escape(name)}">{above}{escape(file)}</p>')
    if thumbnail.jpeg is not None and thumbnail.remark:
        lines.append(f'<p class="remark">{escape(thumbnail.remark)}</p>')
    return f"<li>{''.join(lines)}</li>\n"


# Neutral greys, so that no colour leans on the photographs.
_HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root { color-scheme: light dark; --page: #f6f6f6; --card: #fff; --frame: #ececec; --text: #1c1c1c;
  --faint: #666; --line: #dcdcdc; --bar: #777; --warn: #8a4b00 }
@media (prefers-color-scheme: dark) {
  :root { --page: #161616; --card: #202020; --frame: #2a2a2a; --text: #ececec; --faint: #a0a0a0;
    --line: #333; --bar: #999; --warn: #e0a458 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 1500px; padding: 28px 24px 40px; background: var(--page);
  color: var(--text); font: 14px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
h1 { margin: 0 0 4px; font-size: 24px; line-height: 1.25; font-weight: 650; overflow-wrap: anywhere }
h2 { margin: 28px 0 12px; padding-bottom: 6px; border-bottom: 1px solid var(--line);
  font-size: 16px; font-weight: 600; overflow-wrap: anywhere }
header p { margin: 0; color: var(--faint) }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 16px;
  margin: 0; padding: 0; list-style: none }
.sheet li { min-width: 0; padding-bottom: 10px; border: 1px solid var(--line); border-radius: 8px;
  background: var(--card); overflow: hidden; break-inside: avoid }
.frame { display: grid; place-items: center; aspect-ratio: 1; padding: 10px; background: var(--frame) }
.frame img { display: block; max-width: 100%; max-height: 100%; min-height: 0 }
.missing { padding: 0 8px; color: var(--faint); font-style: italic; text-align: center;
  overflow-wrap: anywhere }
.sheet p { margin: 8px 12px 0 }
.place { display: flex; gap: 10px; align-items: baseline; font-variant-numeric: tabular-nums }
.place b { font-size: 18px; line-height: 1.2; font-weight: 650 }
.percentile { margin-left: auto; color: var(--faint) }
.bar { height: 3px; margin: 5px 12px 0; border-radius: 2px; background: var(--line); overflow: hidden }
.bar i { display: block; height: 100%; background: var(--bar) }
.file { font-size: 12px; overflow-wrap: anywhere }
.file span { display: block; color: var(--faint); white-space: nowrap; overflow: hidden;
  text-overflow: ellipsis }
.remark { font-size: 12px; color: var(--warn) }
footer { margin-top: 28px; color: var(--faint); font-size: 12px }
</style></head><body>
"""
