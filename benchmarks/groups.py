"""How long groups of photographs take to find, against the bare matrix product of all with all.

    python benchmarks/groups.py [--rows 1000 10000 100000] [--dim 512] [--kind ...]

The floor is numpy's float32 product of all rows with all rows by blocks, nothing compared and nothing kept
(above 20,000 rows it is timed on 20,000 and scaled by the square). Seconds are of the wall and, in brackets,
of all cores together, which a busy machine changes less; the ratio is of the latter. Peak memory is that of a
process of its own, vectors included. Kinds of libraries: `photographs` has the spread of directions that
CLIP's vectors have, one photograph in five beside another of its burst; `random` has no directions at all;
`one burst` is a single scene within seconds.
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np  # noqa: E402

from analysis.grouping.groups import Shots, Thresholds, group_photographs  # noqa: E402
from store.rows import unit_rows  # noqa: E402

KINDS = ("photographs", "random", "one burst")
THRESHOLDS = Thresholds(near=0.9, burst=0.85, bracket=0.6, later=0.95, unknown=0.95)
BLOCK, FLOOR_ROWS = 2048, 20_000


def make_library(kind: str, n: int, dim: int) -> tuple[np.ndarray, Shots]:
    """Unit vectors and capture times."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((n, dim), dtype=np.float32)
    taken = np.sort(rng.uniform(0, n * 60, n))
    if kind == "photographs":
        vectors *= np.arange(1, dim + 1, dtype=np.float32) ** -0.5
        vectors[:, 0] += 2  # vectors of networks lie in a cone
        later = np.flatnonzero(rng.random(n - 1) < 0.2) + 1
        noise = rng.standard_normal((len(later), dim), dtype=np.float32)
        vectors[later] = vectors[later - 1] + 0.3 * noise * np.arange(1, dim + 1, dtype=np.float32) ** -0.5
        taken[later] = taken[later - 1] + 0.3
    elif kind == "one burst":
        vectors = vectors[:1] + 0.3 * vectors
        taken = np.floor(rng.uniform(0, 9, n))
    return unit_rows(vectors), Shots(taken=taken)


def floor_seconds(vectors: np.ndarray) -> np.ndarray:
    """Seconds of the bare product of all with all: wall, all cores."""
    n = len(vectors)
    some = vectors[:FLOOR_ROWS]
    out = np.empty((BLOCK, len(some)), np.float32)
    start = clocks()
    for a in range(0, len(some), BLOCK):
        rows = some[a : a + BLOCK]
        np.matmul(rows, some.T, out=out[: len(rows)])
    return (clocks() - start) * (n / len(some)) ** 2


def clocks() -> np.ndarray:
    """Seconds of the wall and of all cores."""
    return np.array([time.perf_counter(), time.process_time()])


def measure(kind: str, n: int, dim: int) -> None:
    """Print one row of the table."""
    vectors, shots = make_library(kind, n, dim)
    floor = floor_seconds(vectors)
    start = clocks()
    groups = group_photographs(vectors, shots, THRESHOLDS)
    seconds = clocks() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform != "darwin" else 1e9)
    members = sum(len(group.rows) for group in groups)
    times = [f"{wall:.2f} ({cores:.2f})" for wall, cores in (seconds, floor)]
    cells = [kind, f"{n:,}", times[0], f"{peak:.2f}", times[1], f"{seconds[1] / floor[1]:.2f}"]
    print("| " + " | ".join([*cells, f"{len(groups):,} of {members:,}"]) + " |", flush=True)


def main() -> None:
    """Print the table, a process per row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--kind", choices=KINDS, nargs="+", default=list(KINDS))
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        measure(arguments.kind[0], arguments.rows[0], arguments.dim)
        return
    print("| library | rows | seconds | peak GB | floor, seconds | ratio | groups |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for kind in arguments.kind:
        for n in arguments.rows:
            command = [sys.executable, __file__, "--one", "--rows", str(n), "--dim", str(arguments.dim)]
            subprocess.run([*command, "--kind", kind], check=True)


if __name__ == "__main__":
    main()
