"""How fast `iaa verify` reads, against plain sequential reading plus hashing of the same bytes.

    python benchmarks/verify.py [--rows 255522] [--dim 768] [--repeats 3] [--folder DIR]

The file lies in the page cache. Medians of the repeats, taken in turns.
"""

import argparse
import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from store import Status
from store.features import FEATURES_SCHEMA
from store.sealed import write_sealed
from store.verify import verify_file


def read_and_hash(path: Path) -> str:
    """The plain way: one thread, large reads, one SHA-256."""
    hasher = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while data := file.read(2**22):
            hasher.update(data)
    return hasher.hexdigest()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=255_522)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write the file; default: a temporary folder")
    arguments = parser.parse_args()
    n = arguments.rows
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        path = Path(scratch) / "features.h5"
        rng = np.random.default_rng(0)
        arrays = {
            "image_id": np.arange(n).astype("U7"),
            "status": np.full(n, Status.OK, np.uint8),
            "source_sha256": rng.integers(0, 256, (n, 32), dtype=np.uint8),
            "failures/row": np.zeros(0, np.int64),
            "failures/reason": np.array([], dtype=str),
            "outputs/embedding": rng.standard_normal((n, arguments.dim), dtype=np.float32),
        }
        write_sealed(path, FEATURES_SCHEMA, {"backbone": "b"}, {}, arrays)
        del arrays
        gigabytes = path.stat().st_size / 1e9
        ways: dict[str, Callable[[], object]] = {
            "plain reading and hashing, 1 thread": lambda: read_and_hash(path),
            "verify, 1 thread": lambda: verify_file(path, 1),
            "verify": lambda: verify_file(path),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(arguments.repeats):
            for name, way in ways.items():
                started = time.perf_counter()
                way()
                seconds[name].append(time.perf_counter() - started)
        plain = statistics.median(seconds["plain reading and hashing, 1 thread"])
        print(f"{n} rows of {arguments.dim}, {gigabytes:.2f} GB")
        for name, values in seconds.items():
            median = statistics.median(values)
            print(f"{name:<40}{median:>8.2f} s{gigabytes / median:>8.2f} GB/s{plain / median:>8.2f}x")


if __name__ == "__main__":
    main()
