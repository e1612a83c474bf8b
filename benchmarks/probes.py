"""How fast the probes are, at the size of AVA: time and memory of each step, and the floor beside it.

    python benchmarks/probes.py make FOLDER [--n 255522] [--dim 768]    writes a store, correlated features
    python benchmarks/probes.py run FOLDER [--sklearn]                  each step in a process of its own
    python benchmarks/probes.py step FOLDER NAME                        one of them

Steps: `cold` (from file to answer: OLS, 25 alphas x 5 folds, test metrics; the caches are written),
`uncached` (no caches written), `cached` (the same in a new process with the caches there), `again` (the same
in a process that has the file open, checked and joined to the ratings), `target` (another target column),
`bootstrap` (1,000 paired resamples of SRCC for two methods on 25,551 images), `linear` (n/4, n/2, n). With
--sklearn: StandardScaler + LinearRegression + RidgeCV with 5 folds on float64 rows. The floor is n dim^2
multiply-adds at the rate of float64 products on all cores of this machine; beside it that of products of a
matrix with itself, of which only half has to be computed.
"""

import argparse
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_info

from analysis.evidence.bootstrap import Prediction, paired_differences
from analysis.parallel import map_threads, n_workers
from analysis.probing import probes
from store import Targets, open_features, open_targets, write_targets
from store.features import FEATURES_SCHEMA
from store.sealed import write_sealed


def make(folder: Path, n: int, dim: int) -> None:
    """Write targets.h5 and features/bench.h5: a tenth test images, features with a decaying spectrum."""
    rng = np.random.default_rng(0)
    spectrum = np.sqrt(1.0 / np.arange(1, dim + 1))
    mixing = (rng.normal(size=(dim, dim)) * spectrum[:, None]).astype(np.float32)
    features = np.empty((n, dim), np.float32)
    for start in range(0, n, 8192):
        rows = min(8192, n - start)
        features[start : start + rows] = rng.standard_normal((rows, dim), np.float32) @ mixing + 0.3
    quality = (features - 0.3) @ rng.normal(size=dim) * 0.02 + rng.normal(size=n)
    quality /= quality.std()
    levels = np.arange(1, 11)
    weight = np.exp(-0.5 * ((levels - (5.3 + 0.7 * quality[:, None])) / 1.4) ** 2)
    votes = rng.poisson(200 * weight / weight.sum(axis=1, keepdims=True)) + (levels == 5)
    image_id = np.array([f"{i:07d}" for i in range(n)])
    split = np.where(rng.permutation(n) < n // 10, "test", "train")
    shape = {"dataset": "bench", "split_name": "random", "threshold": 5.0, "levels": levels}
    targets = Targets(image_id=image_id, path=image_id, votes=votes, scores=None, split=split, **shape)
    write_targets(folder / "targets.h5", targets, {}, {})
    arrays = {
        "image_id": image_id,
        "status": np.ones(n, np.uint8),
        "failures/row": np.zeros(0, np.int64),
        "failures/reason": np.zeros(0, "S1"),
        "outputs/pooled": features,
    }
    write_sealed(folder / "features" / "bench.h5", FEATURES_SCHEMA, {"backbone": "bench"}, {}, arrays)


def floor_seconds(n: int, dim: int, symmetric: bool) -> float:
    """Seconds that the products alone must take: n dim^2 multiply-adds, threads as the probes use them.
    NumPy computes half of a symmetric product x'x and mirrors it."""
    threads = n_workers(4)
    rows = [np.random.default_rng(i).normal(size=(2048, dim)) for i in range(threads)]
    pairs = [(x, x if symmetric else x.copy()) for x in rows]
    repeats = 8
    best = np.inf
    for _ in range(3):
        started = time.perf_counter()
        map_threads(lambda pair: [pair[0].T @ pair[1] for _ in range(repeats)], pairs, threads)
        best = min(best, time.perf_counter() - started)
    return best * n / (2048 * repeats * threads)


def step_cold(folder: Path) -> dict[str, float]:
    """File to answer, nothing cached."""
    shutil.rmtree(folder / "derived", ignore_errors=True)
    return _fit(folder, folder / "derived")


def step_uncached(folder: Path) -> dict[str, float]:
    """File to answer, writing no caches."""
    return _fit(folder, None)


def step_cached(folder: Path) -> dict[str, float]:
    """The caches are there; a new process checks the digests of what it reads."""
    return _fit(folder, folder / "derived")


def step_again(folder: Path) -> dict[str, float]:
    """The same question again, the file open, its rows checked and joined to the ratings."""
    _fit(folder, folder / "derived", times := {})
    return {"seconds": times["again"], "srcc": times["srcc"]}


def step_target(folder: Path) -> dict[str, float]:
    """Another target column for the same rows: the Gram matrices are known, products with y are not."""
    targets = open_targets(folder / "targets.h5")
    shifted = replace(targets, votes=targets.votes[:, ::-1])
    with open_features(folder / "features" / "bench.h5") as features:
        started = time.perf_counter()
        fit = probes.fit_probes(features, shifted, "pooled", cache=folder / "derived")
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "alpha": fit.ridge.alpha}


def step_bootstrap(_: Path) -> dict[str, float]:
    """1,000 paired resamples of SRCC, two methods, 25,551 images."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=25_551).round(2)
    methods = {name: Prediction(y + rng.normal(size=len(y)), None) for name in "ab"}
    started = time.perf_counter()
    paired_differences(y, None, methods, "srcc", 1000, rng)
    return {"seconds": time.perf_counter() - started}


def step_linear(folder: Path) -> dict[str, float]:
    """Seconds of a pass and a fit on a quarter, half and all of the training images."""
    targets = open_targets(folder / "targets.h5")
    found = {}
    for name, share in (("n/4", 0.25), ("n/2", 0.5), ("n", 1.0)):
        kept = np.arange(targets.n_images) < share * targets.n_images
        part = replace(targets, split=np.where(kept, targets.split, ""))
        with open_features(folder / "features" / "bench.h5") as features:
            started = time.perf_counter()
            probes.fit_probes(features, part, "pooled")
            found[name] = time.perf_counter() - started
    return found


def step_sklearn(folder: Path) -> dict[str, float]:
    """The same question to scikit-learn, float64, all rows in memory."""
    from sklearn.linear_model import LinearRegression, RidgeCV
    from sklearn.preprocessing import StandardScaler

    from analysis.evidence.folds import assign_folds
    from analysis.evidence.labels import targets_mos

    started = time.perf_counter()
    targets = open_targets(folder / "targets.h5")
    y, train = targets_mos(targets), targets.split == "train"
    with open_features(folder / "features" / "bench.h5") as features:
        x, x_test = (features.read("pooled", rows).astype(np.float64) for rows in (train, ~train))
    scaler = StandardScaler(copy=False).fit(x)
    x, x_test = scaler.transform(x), scaler.transform(x_test)
    LinearRegression().fit(x, y[train]).predict(x_test)
    ols = time.perf_counter() - started
    from sklearn.model_selection import PredefinedSplit

    folds = PredefinedSplit(assign_folds(targets.image_id[train], 5))
    model = RidgeCV(probes.ALPHAS, cv=folds, scoring="neg_mean_squared_error").fit(x, y[train])
    model.predict(x_test)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "ols_seconds": ols, "alpha": float(model.alpha_)}


def _fit(folder: Path, cache: Path | None, times: dict[str, float] | None = None) -> dict[str, float]:
    started = time.perf_counter()
    targets = open_targets(folder / "targets.h5")
    with open_features(folder / "features" / "bench.h5") as features:
        opened = time.perf_counter() - started
        fit = probes.fit_probes(features, targets, "pooled", cache=cache)
        (result, _) = probes.evaluate_probe(fit, n_boot=1)
        seconds = time.perf_counter() - started
        if times is not None:
            rows = probes.join_rows(features, targets)
            again = time.perf_counter()
            fit = probes.fit_probes(features, targets, "pooled", cache=cache, rows=rows)
            probes.evaluate_probe(fit, n_boot=1)
            times |= {"again": time.perf_counter() - again, "srcc": result.srcc.value}
    return {"seconds": seconds, "opening": opened, "srcc": result.srcc.value, "alpha": fit.ridge.alpha}


STEPS: dict[str, Callable[[Path], dict[str, float]]] = {
    name.removeprefix("step_"): function for name, function in globals().items() if name.startswith("step_")
}


def measure(step: str, folder: Path) -> dict[str, float]:
    """One step with the peak of its own memory over what the interpreter had before, in GB. Pages of the
    mapped file are the kernel's cache and are not counted."""
    before, peak, done = _anonymous(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], _anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    cpu = time.process_time()
    found = STEPS[step](folder)
    found["cpu_seconds"] = time.process_time() - cpu
    done.set()
    watcher.join()
    return found | {"peak_GB": max(0, peak[0] - before) / 1e6}


def _anonymous() -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def main() -> None:
    """Parse arguments, make or measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["make", "run", "step"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("name", nargs="?")
    parser.add_argument("--n", type=int, default=255_522)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--sklearn", action="store_true")
    given = parser.parse_args()
    if given.action == "make":
        make(given.folder, given.n, given.dim)
    elif given.action == "step":
        print(json.dumps(measure(given.name, given.folder)))
    else:
        with open_features(given.folder / "features" / "bench.h5") as features:
            n, dim = features.n_images * 9 // 10, features.outputs["pooled"]
        floor, half = (floor_seconds(n, dim, symmetric) for symmetric in (False, True))
        print(f"floor for {n:,} x {dim}: {floor:.2f} s; symmetric products {half:.2f} s")
        blas = next((lib for lib in threadpool_info() if lib["user_api"] == "blas"), {})
        print("BLAS:", blas.get("internal_api"), blas.get("version"), blas.get("architecture"))
        steps = [name for name in STEPS if name != "sklearn" or given.sklearn]
        for name in steps:
            command = [sys.executable, __file__, "step", str(given.folder), name]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            numbers = json.loads(done.stdout.splitlines()[-1])
            print(f"{name:10}", ", ".join(f"{key} {value:.4g}" for key, value in numbers.items()), flush=True)


if __name__ == "__main__":
    main()
