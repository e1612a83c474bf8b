"""SRCC by folds of people who answer at random: how far below 0 pooled predictions fall.

    python benchmarks/random_raters.py [--draws 20] [--dim 200] [--ratings 40 100]
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from analysis.evidence.metrics import srcc
from analysis.probing.crossing import fit_on_all
from store import Targets, open_features, open_targets, write_targets
from store.features import FEATURES_SCHEMA
from store.sealed import write_sealed


def reached(folder: Path, rng: np.random.Generator, n: int, dim: int, seed: int) -> float:
    """SRCC of random scores with their predictions from random features."""
    ids = np.array([f"{number:04d}.jpg" for number in range(n)])
    arrays = {
        "image_id": ids, "status": np.ones(n, np.uint8), "failures/row": np.zeros(0, np.int64),
        "failures/reason": np.zeros(0, "U1"), "outputs/pooled": rng.normal(size=(n, dim)).astype(np.float32),
    }  # fmt: skip
    write_sealed(folder / "f.h5", FEATURES_SCHEMA, {"backbone": "b"}, {}, arrays)
    split = np.where(np.arange(n) % 2, "train", "test")
    targets = Targets(ids, ids, None, rng.normal(size=n), None, 0.0, split, "random", "random")
    write_targets(folder / "t.h5", targets, {}, {})
    with open_features(folder / "f.h5") as features:
        fit = fit_on_all(features, open_targets(folder / "t.h5"), "pooled", seed=seed)
    return float(srcc(fit.y_test, fit.predictions["ridge"]))


def main() -> None:
    """Print the mean over the draws and its standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--dim", type=int, default=200)
    parser.add_argument("--ratings", type=int, nargs="+", default=[40, 100])
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    for n in asked.ratings:
        found = []
        for draw in range(asked.draws):
            with tempfile.TemporaryDirectory() as folder:
                found.append(reached(Path(folder), rng, n, asked.dim, draw))
        error = np.std(found) / np.sqrt(len(found))
        print(f"{n:,} ratings: mean SRCC {np.mean(found):.3f}, standard error {error:.3f}", flush=True)


if __name__ == "__main__":
    main()
