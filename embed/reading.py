"""Reading ahead: a pool of threads turns files into resized pixels, batch by batch, in order."""

import hashlib
import time
from collections import deque
from collections.abc import Container, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL.Image import Image

from embed.backbones.device import use_one_core
from embed.crashes import CrashNotes
from embed.images import thumbnails, turbo
from embed.images.datasets import ImageTable
from embed.images.decode import DECODED_BY, ImageError, check_pixels, decode_image, read_bytes
from embed.images.geometry import Steps, apply_steps, resized_size
from embed.images.sources import ImageFile
from embed.options import Decoding
from store.looks import Look

BATCHES_AHEAD = 3
DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Row:
    """One image: its pixels per geometry, or the reason why there are none."""

    pixels: list[np.ndarray] | None
    reason: str
    sha256: bytes
    size: int
    seconds: tuple[float, float, float]
    """Spent on reading, decoding and resizing."""
    decoder: str = ""
    """What made the pixels, where that is neither Pillow nor libjpeg-turbo."""
    look: Look | None = None
    """Its thumbnail and what is known of it, if that was asked for and is not known yet."""


@dataclass(frozen=True)
class Batch:
    """Rows [start, stop) of the table, all in one part."""

    part: int
    start: int
    stop: int


def load_batches(
    table: ImageTable,
    batches: Sequence[Batch],
    decoding: Decoding,
    n_threads: int,
    crashes: CrashNotes | None = None,
    known_looks: Container[bytes] | None = None,
) -> Iterator[tuple[Batch, list[Row]]]:
    """Batches in order, their images read and decoded ahead by a pool of threads; rows that are known to
    crash their decoder are not decoded. With `known_looks` (SHA-256 of bytes that have one) each gets a look.
    """

    def load(index: int) -> Row:
        path = table.absolute(index)
        if crashes is None:
            return load_row(path, decoding, known_looks)
        if index in crashes.culprits:
            return unusable_row(path, crashes.culprits[index])
        with crashes.watch(index):
            return load_row(path, decoding, known_looks)

    waiting: deque[tuple[Batch, list[Future[Row]]]] = deque()
    pool = ThreadPoolExecutor(n_threads, thread_name_prefix="decode", initializer=use_one_core)
    try:
        for batch in batches:
            waiting.append((batch, [pool.submit(load, row) for row in range(batch.start, batch.stop)]))
            if len(waiting) > BATCHES_AHEAD:
                first, futures = waiting.popleft()
                yield first, [future.result() for future in futures]
        while waiting:
            first, futures = waiting.popleft()
            yield first, [future.result() for future in futures]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def unusable_row(path: ImageFile, reason: str) -> Row:
    """A failed row for an image that is read and hashed, and not decoded."""
    try:
        data = read_bytes(path)
    except ImageError as error:
        return Row(None, str(error), bytes(DIGEST_BYTES), -1, (0.0, 0.0, 0.0))
    return Row(None, reason, hashlib.sha256(data).digest(), len(data), (0.0, 0.0, 0.0))


def load_row(path: ImageFile, decoding: Decoding, known_looks: Container[bytes] | None = None) -> Row:
    """One image read, hashed, decoded and resized for every geometry; never raises for a bad image. With
    `known_looks` its thumbnail is made of the same pixels, unless its bytes are among them."""
    steps, max_pixels = decoding.steps, decoding.max_pixels
    start = time.perf_counter()
    try:
        data = read_bytes(path)
    except ImageError as error:
        return Row(None, str(error), bytes(DIGEST_BYTES), -1, (time.perf_counter() - start, 0.0, 0.0))
    sha256 = hashlib.sha256(data).digest()
    was_read = time.perf_counter()
    pixels: list[np.ndarray] | None = None
    reason = decoder = ""
    decoded = was_read
    picture: np.ndarray | Image | None = None
    try:
        rgb = None if decoding.is_exact else turbo.decode_jpeg(data, decoding.exif_rotate, max_pixels)
        if rgb is not None:
            decoded = time.perf_counter()
            _check_resized(steps, rgb.shape[1], rgb.shape[0], max_pixels)
            pixels = [turbo.apply_steps(s, rgb) for s in steps]
            picture = rgb
        else:
            image = decode_image(data, decoding.exif_rotate, max_pixels)
            decoder = str(image.info.get(DECODED_BY, ""))
            decoded = time.perf_counter()
            _check_resized(steps, *image.size, max_pixels)
            pixels = [apply_steps(s, image) for s in steps]
            picture = image
    except ImageError as error:
        reason = str(error)
    except Exception as error:  # whatever it is, it costs this row and not the run
        reason = f"cannot be used: {type(error).__name__} {error}".rstrip()
    look = None
    if known_looks is not None and sha256 not in known_looks:
        look = _look_at(picture, sha256, data, decoding.exif_rotate, reason)
    end = time.perf_counter()
    seconds = (was_read - start, decoded - was_read, end - decoded)
    return Row(pixels, reason, sha256, len(data), seconds, decoder, look)


def _look_at(
    picture: np.ndarray | Image | None, sha256: bytes, data: bytes, is_upright: bool, reason: str
) -> Look:
    """The look of what was decoded; of what was not, the reason."""
    if picture is None:
        return thumbnails.unseen(sha256, data, reason)
    try:
        return thumbnails.look_at(picture, sha256, data, is_upright, resize=turbo.resize)
    except Exception as error:  # whatever it is, it costs this thumbnail and not the row
        return thumbnails.unseen(sha256, data, f"cannot be shown: {type(error).__name__} {error}".rstrip())


def _check_resized(steps: Sequence[Steps], width: int, height: int, max_pixels: int) -> None:
    """A strip of 1 x 5000 pixels would be resized to a quarter of a billion."""
    for geometry in steps:
        check_pixels(*resized_size(geometry, width, height), max_pixels, " when resized")
