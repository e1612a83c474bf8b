"""What a run through Ray costs beside one process with as many threads: docs/benchmarks.md has what came out.

    python benchmarks/ray_overhead.py [--images 20000] [--backbone ID] [--threads 2] [--turns 3]

The same photographs by one process and by one actor of a cluster on this machine, in turns, each from nothing
to the finished file; the ratio is of the best of each, for other programs can only slow one down. Starting
Ray (once per run, however long that is) stands apart, and the ratio is given with and without it. The digests
must be equal, else the program fails. For the figure of a quiet machine: --images 20000 --turns 3.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.embedding.images import make_photographs  # noqa: E402
from embed.images.datasets import add_dataset  # noqa: E402

RUN = """
import json, sys, time
from pathlib import Path
began = time.perf_counter()
from iaa.library.clusters import cluster
from iaa.library.embedding import How, embed
from iaa.library.layout import Layout
root, backbone, threads, way = sys.argv[1:]
quiet = {"say": lambda text: None, "on_rows": lambda *rows: None}
more = {"ray": "local", "actors": 1} if way == "ray" else {}
how = How(device="cpu", threads=int(threads), **more)
def run():
    started = time.perf_counter()
    done = embed(Layout(Path(root), "photographs"), [backbone], how, **quiet)
    return {"run": time.perf_counter() - started, "digest": done.outcomes[0].digest, "stages": done.seconds}
if way == "ray":
    with cluster("local"):
        started = time.perf_counter() - began
        told = run()
else:
    started, told = time.perf_counter() - began, run()
print("TOLD", json.dumps(told | {"start": started}))
"""


def measured(root: Path, backbone: str, threads: int, way: str) -> dict[str, object]:
    """Seconds of one run in a process of its own, and the digest of its file."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": sys.path[0]}
    words = [sys.executable, "-c", RUN, str(root), backbone, str(threads), way]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return dict(json.loads(done.stdout.rpartition("TOLD ")[2]))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--backbone", default="efficientnet_lite0.in1k")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--photographs", type=Path, help="keep them here: 20,000 take a quarter of an hour")
    given = parser.parse_args()
    best: dict[str, dict[str, float]] = {}
    digests = set()
    with tempfile.TemporaryDirectory(prefix="iaa-ray-") as scratch:
        photographs = given.photographs or Path(scratch) / "photographs"
        make_photographs(photographs, given.images, None)
        for turn in range(given.turns):
            for way in ("one process", "ray"):
                root = Path(scratch) / f"{turn}-{way[:3]}"
                add_dataset(root, "photographs", "folder", images=str(photographs))
                told = measured(root, given.backbone, given.threads, way)
                digests.add(told.pop("digest"))
                load = "load {:.1f} {:.1f} {:.1f}".format(*os.getloadavg())
                print(f"{way}: run {told['run']:.1f} s, start {told['start']:.1f} s, {load}", flush=True)
                seconds = {name: float(told[name]) for name in ("run", "start")}  # type: ignore[arg-type]
                known = best.setdefault(way, seconds)
                best[way] = {name: min(known[name], seconds[name]) for name in seconds}
    if len(digests) != 1:
        sys.exit(f"the files differ: {sorted(map(str, digests))}")
    one, ray = best["one process"], best["ray"]
    whole = sum(ray.values()) / sum(one.values())
    print(
        f"{given.images:,} photographs, {given.backbone}, {given.threads} threads: Ray takes "
        f"{ray['run'] / one['run']:.2f} of the time of one process, {whole:.2f} with starting; "
        "digests are equal"
    )


if __name__ == "__main__":
    main()
