"""What millions of photographs take: synthetic stores in shards, each step in a process of its own.

    python benchmarks/scale.py --rows 100000 200000           how it grows, in a few minutes
    python benchmarks/scale.py --rows 1000000 2000000         2.2 GB of disk per million, and again for export
    python benchmarks/scale.py --rows 1000000 --only search
    python benchmarks/scale.py --files 1000000 --only listing  a folder of files: listed, planned, resumed

Of each step: wall time, processor time, and the largest memory of its own (RssAnon: mapped rows are the page
cache's, not ours). `fixed` is what importing and opening takes on a store of 4,096 rows, so the exponents are
of what is above it. Rates of `search` are set beside that of reading memory on the same threads. With two
sizes or more there are growth exponents, and 10 and 100 million rows by them: extrapolated, not measured.
What was written is removed at the end, also on Ctrl-C or a signal.
"""

import argparse
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from store import Status, Targets, open_features, open_targets, verify_file, write_targets
from store.digests import BLOCK_ROWS
from store.features import FEATURES_SCHEMA
from store.parts import MAX_PART_ROWS, Plan, begin, write_part
from store.sharding import keep_parts
from store.system import free_bytes, n_cores

N_COPIES = 100
"""One photograph in so many is a copy of the one before it."""
FREE_GB = 12
"""What is left of the disk at least."""


def plan_of(folder: Path, n: int, dim: int) -> Plan:
    """The run that would have made the store."""
    ids = {"image_id": np.array([f"folder/{i // 1000:05d}/{i:09d}.jpg" for i in range(n)])}
    identity = {"backbone": "scale", "images": "scale", "n_images": n, "outputs": {"embedding": dim}}
    path = folder / "features" / "scale.h5"
    return Plan(path, FEATURES_SCHEMA, identity, {}, n, ids, part_rows=MAX_PART_ROWS, is_sharded=True)


def write_parts(plan: Plan, dim: int, wanted: range | None = None) -> np.ndarray:
    """All parts, or some: features with a decaying spectrum; returns a score of each image."""
    rng = np.random.default_rng(0)
    mixing = (rng.normal(size=(dim, dim)) / np.sqrt(np.arange(1, dim + 1))[:, None]).astype(np.float32)
    direction = rng.normal(size=dim) / np.sqrt(dim)
    score = np.zeros(plan.n_rows)
    for index in wanted or range(len(plan.parts)):
        start, stop = plan.parts[index]
        rng = np.random.default_rng([1, index])
        rows = rng.standard_normal((stop - start, dim), np.float32) @ mixing + np.float32(0.1)
        sha256 = rng.integers(0, 256, (stop - start, 32), dtype=np.uint8)
        copies = np.arange(1, stop - start, N_COPIES)
        rows[copies], sha256[copies] = rows[copies - 1], sha256[copies - 1]
        score[start:stop] = rows @ direction + rng.normal(size=stop - start)
        arrays = {
            "status": np.full(stop - start, Status.OK, np.uint8),
            "source_sha256": sha256,
            "source_size": np.zeros(stop - start, np.int64),
            "failures/row": np.zeros(0, np.int64),
            "failures/reason": np.zeros(0, "S1"),
            "outputs/embedding": rows,
        }
        write_part(plan, index, arrays)
    return score


def make(folder: Path, n: int, dim: int) -> dict[str, float]:
    """The store and its ratings; the seconds of sealing are those of the manifest and the links."""
    plan = plan_of(folder, n, dim)
    begin(plan)
    score = write_parts(plan, dim)
    ids = plan.ids["image_id"]
    split = np.where(np.arange(n) % 10 == 0, "test", "train")
    levels = {"votes": None, "scores": score, "levels": None, "threshold": 0.0, "split": split}
    targets = Targets(image_id=ids, path=ids, split_name="tenth", dataset="scale", **levels)
    write_targets(folder / "targets.h5", targets, {}, {})
    started, cpu = time.perf_counter(), time.process_time()
    keep_parts(plan, "source_sha256")
    return {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}


def step_open(folder: Path) -> dict[str, Any]:
    """Opened, which looks at each shard's header and at the status of each row."""
    with open_features(folder / "features" / "scale.h5") as features:
        return {"found": features.n_images}


def step_verify(folder: Path) -> dict[str, Any]:
    """`iaa verify`: every byte."""
    return {"found": len(verify_file(folder / "features" / "scale.h5").problems)}


def step_probe(folder: Path) -> dict[str, Any]:
    """Gram matrices of five folds, 25 alphas, least squares, predictions of the test images; no cache."""
    from analysis.probing import probes

    targets = open_targets(folder / "targets.h5")
    with open_features(folder / "features" / "scale.h5") as features:
        fit = probes.fit_probes(features, targets, "embedding", alphas=np.logspace(-4, 8, 25))
        return {"found": round(float(np.corrcoef(fit.predictions["ridge"], fit.y_test)[0, 1]), 3)}


def step_prompts(folder: Path) -> dict[str, Any]:
    """Cosines with 39 texts, and accuracy, SRCC and PLCC of the 27 x 12 = 324 pairs on all images."""
    from analysis.prompting.pairs import search_pairs
    from analysis.prompting.scores import cosines, index_labels, one_prompt_per_label, unit_directions
    from analysis.twins import first_equal_rows

    mos = open_targets(folder / "targets.h5").scores
    assert mos is not None
    with open_features(folder / "features" / "scale.h5") as features:
        dim = features.outputs["embedding"]
        texts = unit_directions(np.random.default_rng(2).normal(size=(39, dim)))
        first = first_equal_rows(partial(features.read, "embedding"), features.n_images)
        similarity = cosines(features.blocks("embedding"), first, texts)
    index = index_labels([f"label {i}" for i in range(39)], [1] * 27 + [-1] * 12)
    table = search_pairs(one_prompt_per_label("fixed", similarity, index), mos, mos > 0)
    return {"found": round(float(table.srcc.max()), 3)}


def step_search(folder: Path) -> dict[str, Any]:
    """The 100 nearest to a vector: after the first pass, warm; beside the rate of reading memory."""
    from analysis.prompting.similarity import Searcher

    with open_features(folder / "features" / "scale.h5") as features:
        started = time.perf_counter()
        searcher = Searcher(partial(features.read, "embedding"), features.n_images)
        first = time.perf_counter() - started
        queries = np.random.default_rng(3).normal(size=(15, features.outputs["embedding"]))
        taken, cpu = [], time.process_time()
        for query in queries:
            started = time.perf_counter()
            rows, _ = searcher.nearest(query, 100)
            taken.append(time.perf_counter() - started)
        cpu = (time.process_time() - cpu) / len(queries)
        n_bytes = 4 * features.n_images * features.outputs["embedding"]
    rate = n_bytes / statistics.median(taken) / 1e9
    command = [sys.executable, __file__, "--step", "memory", "--folder", str(folder)]
    memory = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["rate"]
    return {
        "found": len(rows),
        "first_pass": first,
        "warm_ms": 1000 * statistics.median(taken),
        "best_ms": 1000 * min(taken),
        "warm_cpu_ms": 1000 * cpu,
        "gb_per_s": rate,
        "memory_gb_per_s": memory,
        "ratio": rate / memory,
    }


def step_memory(_: Path) -> dict[str, Any]:
    """The rate of reading memory, in a process of its own for its gigabyte."""
    return {"rate": memory_rate()}


def memory_rate(n_bytes: int = 2**30) -> float:
    """GB per second at which our threads read memory that is in no cache: the best of several sums."""
    from analysis.parallel import map_threads, n_workers

    n = n_workers(4)
    rows = np.ones(n_bytes // 8, np.float64).reshape(n, -1)
    best = math.inf
    for reduce in (np.sum, np.max, lambda row: row @ row):
        for _ in range(3):
            started = time.perf_counter()
            map_threads(reduce, list(rows), n)
            best = min(best, time.perf_counter() - started)
    return n_bytes / best / 1e9


def step_copies(folder: Path) -> dict[str, Any]:
    """`iaa groups --kind copies`: files of the same bytes."""
    from analysis.grouping.groups import Shots, Thresholds, group_photographs

    with open_features(folder / "features" / "scale.h5") as features:
        shots = Shots(features.file.view("source_sha256"))
        return {"found": len(group_photographs(None, shots, Thresholds(1, 1, 1, 1, 1), kinds=("copies",)))}


def step_near(folder: Path) -> dict[str, Any]:
    """`iaa groups --kind near`: leaders among all photographs, times not known; grows as the square."""
    from analysis.grouping.groups import Shots, Thresholds, group_photographs
    from store.rows import unit_rows

    with open_features(folder / "features" / "scale.h5") as features:
        vectors = np.empty((features.n_images, features.outputs["embedding"]), np.float32)
        for start, rows in features.blocks("embedding"):
            vectors[start : start + len(rows)] = unit_rows(rows)
        shots = Shots(features.file.view("source_sha256"))
        limits = Thresholds(0.9, 0.9, 0.9, 0.95, 0.95)
        return {"found": len(group_photographs(vectors, shots, limits, kinds=("near", "copies")))}


def step_export(folder: Path) -> dict[str, Any]:
    """`iaa export`: one Parquet file, removed again."""
    from iaa.exchange import parquet

    out = folder / "export.parquet"
    try:
        with open_features(folder / "features" / "scale.h5") as features:
            return {"found": parquet.write(features, out, ["embedding"])}
    finally:
        out.unlink(missing_ok=True)


def step_merge(folder: Path) -> dict[str, Any]:
    """`iaa embed --merge`: one file of the same digest, of a second name of the store."""
    from store.shards import merge_shards, shard_folder

    path = folder / "features" / "scale.h5"
    other = folder / "merged" / "scale.h5"
    try:
        other.parent.mkdir()
        os.link(path, other)
        shutil.copytree(shard_folder(path), shard_folder(other), copy_function=os.link)
        with open_features(path) as features:
            return {"found": merge_shards(other) == features.digest}
    finally:
        shutil.rmtree(other.parent, ignore_errors=True)


def listing(folder: Path, n: int, n_done: int) -> dict[str, Any]:
    """A folder of n files: listed and planned; then resumed with all parts but the last there."""
    from embed.images.changes import Changes
    from embed.images.config import DatasetConfig
    from embed.images.datasets import build_table
    from embed.pipeline import _note_parts_to_make

    started, cpu = time.perf_counter(), time.process_time()  # after the imports, torch's among them
    images = str(folder / "images")
    table = build_table(DatasetConfig("scale", "folder", {"images": images}, folder))
    assert len(table) == n
    plan = replace(plan_of(folder, 1, 8), n_rows=n, ids={"image_id": table.image_id})
    changes = Changes(table)
    begin(plan)
    todo = _note_parts_to_make(plan, changes, range(len(plan.parts)))
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    if not n_done:
        write_parts(plan, 8, range(len(plan.parts) - 1))
    return {"found": len(todo), "listing_s": seconds, "listing_cpu_s": cpu}


def step_listed(folder: Path) -> dict[str, Any]:
    """Listed and planned, nothing made."""
    return listing(folder, _n_files(folder), 0)


def step_resumed(folder: Path) -> dict[str, Any]:
    """Listed and planned, one part left."""
    return listing(folder, _n_files(folder), 1)


def _n_files(folder: Path) -> int:
    return int((folder / "n").read_text())


STEPS: dict[str, Callable[[Path], dict[str, Any]]] = {
    name.removeprefix("step_"): step for name, step in list(globals().items()) if name.startswith("step_")
}
ON_STORE = [name for name in STEPS if name not in ("listed", "resumed", "memory")]


def measured(step: str, folder: Path) -> dict[str, Any]:
    """A step in a process of its own: what it returned, seconds, processor seconds, MB of its own memory."""
    command = [sys.executable, __file__, "--step", step, "--folder", str(folder)]
    started = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = 0

    def watch() -> None:
        nonlocal peak
        status = Path(f"/proc/{child.pid}/status")
        while child.poll() is None:
            try:
                found = status.read_text(encoding="utf-8").partition("RssAnon:")[2].split()
            except OSError:
                return
            peak = max(peak, int(found[0]) if found else 0)
            time.sleep(0.02)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        said, _ = child.communicate()
    except BaseException:
        child.kill()
        raise
    if child.returncode:
        raise SystemExit(f"step {step} failed")
    wall = time.perf_counter() - started
    watcher.join()
    return {"wall": wall, "mb": peak / 1024, **json.loads(said)}


def growth(sizes: list[int], values: list[float], fixed: float) -> float | None:
    """The exponent of values above what is fixed, by least squares of logarithms; None where they are within
    a tenth of it."""
    above = [value - fixed for value in values]
    if min(above) <= 0.1 * fixed:
        return None
    return float(np.polyfit(np.log(sizes), np.log(above), 1)[0])


def grown(exponent: float | None, what: str, fixed: float, last: float, ratio: float) -> float:
    """A value at `ratio` times the largest size."""
    if exponent is None:
        return last if what == "mb" else last * ratio
    return fixed + (last - fixed) * ratio**exponent


def table_of(found: dict[int, dict[str, Any]], fixed: dict[str, Any]) -> None:
    """What was measured, and what follows from it for sizes that were not."""
    sizes = sorted(found)
    print("\n| step | " + " | ".join(f"{n:,} rows: s, CPU s, MB" for n in sizes) + " | found |")
    print("| --- |" + " --- |" * (len(sizes) + 1))
    for step in found[sizes[0]]:
        cells = [found[n].get(step) for n in sizes]
        shown = [f"{c['wall']:.1f}, {c['cpu']:.1f}, {c['mb']:,.0f}" if c else "" for c in cells]
        print(f"| {step} | " + " | ".join(shown) + f" | {cells[0].get('found', '')} |")
    for n in sizes:
        if "search" in found[n]:
            told = {k: round(v, 2) for k, v in found[n]["search"].items() if k not in ("wall", "cpu", "mb")}
            print(f"search, {n:,} rows: {told}")
    if len(sizes) < 2:
        return
    print("\nEXTRAPOLATED, not measured: fixed + what is above it at the largest size x ratio^exponent")
    print("-: no more than noise above what is fixed; then taken as linear (CPU) or as it is (MB).")
    print("| step | exponent of CPU, of MB | 10,000,000: CPU s, MB | 100,000,000: CPU s, MB |")
    print("| --- | --- | --- | --- |")
    for step in found[sizes[0]]:
        here = [n for n in sizes if step in found[n]]
        if step not in fixed or len(here) < 2:
            continue
        bases = {what: fixed[step][what] for what in ("cpu", "mb")}
        last = found[here[-1]][step]
        powers = {w: growth(here, [found[n][step][w] for n in here], base) for w, base in bases.items()}
        cells = [", ".join("-" if power is None else f"{power:.2f}" for power in powers.values())]
        for n in (10**7, 10**8):
            ratio = n / here[-1]
            cells.append(", ".join(f"{grown(powers[w], w, bases[w], last[w], ratio):,.0f}" for w in bases))
        print(f"| {step} | {' | '.join(cells)} |")


def run_store(scratch: Path, n: int, given: argparse.Namespace, steps: list[str]) -> dict[str, Any]:
    """One store, its steps, and its end."""
    folder = scratch / f"{n}"
    is_exported = bool({"export", "merge"} & set(steps))
    needed = n * (given.dim * 4 + 200) * (2 if is_exported else 1) / 1e9 + FREE_GB
    free = free_bytes(scratch) / 1e9
    if free < needed:
        raise SystemExit(f"{n:,} rows need {needed:.0f} GB, {FREE_GB} to spare; {scratch} has {free:.0f}")
    try:
        made = make(folder, n, given.dim)
        found: dict[str, Any] = {"seal": {"wall": made["seconds"], "cpu": made["cpu"], "mb": 0.0}}
        for step in steps:
            if step == "near" and n > given.near_up_to:
                continue
            found[step] = measured(step, folder)
            print(f"{n:,} rows: {step}: {found[step]}", flush=True)
        return found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_listing(scratch: Path, n: int) -> None:
    """A folder of n empty files, a thousand in each of its folders."""
    folder = scratch / "listing"
    for start in range(0, n, 1000):
        inside = folder / "images" / f"{start // 1000:05d}"
        inside.mkdir(parents=True)
        for i in range(start, min(start + 1000, n)):
            (inside / f"{i:09d}.jpg").touch()
    (folder / "n").write_text(str(n))
    for step in ("listed", "resumed"):
        print(f"{n:,} files: {step}: {measured(step, folder)}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 200_000])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--files", type=int, default=100_000, help="of the step listing")
    parser.add_argument("--only", nargs="+", choices=[*ON_STORE, "listing"])
    parser.add_argument("--near-up-to", type=int, default=200_000, help="rows; near-duplicates grow as n^2")
    parser.add_argument("--folder", type=Path, help="where to write; default: the system's temporary folder")
    parser.add_argument("--step", choices=list(STEPS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        sys.path[0] = str(Path(__file__).parents[1])  # else `embed` is the benchmark of that name
        started, cpu = time.perf_counter(), time.process_time()
        found = STEPS[given.step](given.folder)
        own = {"inside": time.perf_counter() - started, "cpu": time.process_time() - cpu}
        print(json.dumps(own | found))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    steps = [name for name in ON_STORE if given.only is None or name in given.only]
    print(f"{n_cores()} cores, load {os.getloadavg()[0]:.1f}: wall times are of the machine as it was")
    with tempfile.TemporaryDirectory(prefix="iaa-scale-", dir=given.folder) as scratch:
        if steps:
            fixed = run_store(Path(scratch), 2 * BLOCK_ROWS, given, steps)
            table_of({n: run_store(Path(scratch), n, given, steps) for n in given.rows}, fixed)
        if given.only is None or "listing" in given.only:
            run_listing(Path(scratch), given.files)


if __name__ == "__main__":
    main()
