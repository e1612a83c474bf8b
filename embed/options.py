"""How a run of the pipeline goes, what it ended with, and how long its stages took."""

from dataclasses import dataclass, field
from pathlib import Path

from embed.decode import MAX_PIXELS
from store.system import n_cores


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
    worker: tuple[int, int] | None = None
    """(number from 1, number of workers): make only this worker's share of the parts."""

    def share(self, n_parts: int) -> range:
        """Numbers of the parts that this run makes: all, or every n-th for one of n workers."""
        if self.worker is None:
            return range(n_parts)
        number, n_workers = self.worker
        return range(number - 1, n_parts, n_workers)


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
