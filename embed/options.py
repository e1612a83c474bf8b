"""How a run of the pipeline goes, what it ended with, and how long its stages took."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embed.images.decode import DECODER, FAST_DECODER, MAX_PIXELS
from store.remote import Remote
from store.run import share_of
from store.shards import SHARD_ABOVE
from store.system import n_cores

if TYPE_CHECKING:
    from embed.images.geometry import Steps


@dataclass(frozen=True)
class Decoding:
    """How bytes become pixels, for one geometry or several."""

    steps: "Sequence[Steps]" = ()
    """Resizing and cropping, per geometry."""
    exif_rotate: bool = False
    """Turn the image as its camera noted."""
    max_pixels: int = MAX_PIXELS
    """A larger image is refused."""
    is_exact: bool = False
    """Decode and resize with Pillow, as the libraries do, and not with libjpeg-turbo."""


@dataclass(frozen=True)
class Options:
    """How to run; `batch_size`, `exif_rotate`, `max_pixels` and `is_exact` (decode and resize with Pillow, as
    the library does) shape the result and are recorded."""

    batch_size: int = 32
    exif_rotate: bool = False
    max_pixels: int = MAX_PIXELS
    n_threads: int = field(default_factory=lambda: min(32, n_cores()))
    max_failed_share: float = 0.05
    is_exact: bool = False
    overwrite: bool = False
    check_content: bool = False
    """Read every image of finished rows again and compare its hash with the stored one."""
    crash_folder: Path | None = None
    """Where a supervised run keeps notes of what it decodes (embed.crashes)."""
    looks: Path | None = None
    """Where thumbnails, made of the same pixels, and what is known of each image are kept (store.looks)."""
    shard_above: int = SHARD_ABOVE
    """A file of more rows stays in shards: its parts are not joined. Digest and rows are the same."""
    worker: tuple[int, int] | None = None
    """(number from 1, number of workers): make only this worker's share of the parts."""
    remote: Remote | None = None
    """Where parts go and are looked for, too, beside the folder: for workers that do not share it."""

    def decoding(self, steps: "Sequence[Steps]") -> Decoding:
        """How this run decodes for some geometries."""
        return Decoding(steps, self.exif_rotate, self.max_pixels, self.is_exact)

    def decoding_identity(self) -> dict[str, Any]:
        """What of decoding decides about the pixels, as it stands in identities."""
        return {"decoder": DECODER if self.is_exact else FAST_DECODER, "exif_rotate": self.exif_rotate}

    def share(self, n_parts: int) -> range:
        """Numbers of the parts that this run makes: all, or every n-th for one of n workers."""
        return share_of(n_parts, self.worker)


@dataclass(frozen=True)
class Outcome:
    """What one backbone's run ended with."""

    backbone: str
    path: Path
    digest: str
    """Content digest, or '' where other workers still have rows to make."""
    n_images: int
    n_failed: int
    n_new: int
    n_left: int = 0
    """Rows that are left to other workers; at 0 the file is finished."""


@dataclass
class Timings:
    """Seconds per stage. Read (with the SHA-256), decode and resize are summed over the decoding threads;
    `wait` is how long encoding waited for them; write goes on beside encoding."""

    read: float = 0.0
    decode: float = 0.0
    resize: float = 0.0
    wait: float = 0.0
    encode: float = 0.0
    write: float = 0.0
    wall: float = 0.0
