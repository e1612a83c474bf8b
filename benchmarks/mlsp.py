"""MLSP at its full size on random weights and features: how fast photographs are embedded and heads learn.

    python benchmarks/mlsp.py [--images 48] [--rows 2560]

`embed`: Inception-ResNet-v2 with random weights on pictures of 640 x 427 in memory, images/s; `mlsp` and
`mlsp_wide`. `head`: both heads (16,928 numbers a row; 5 x 5 x 16,928) trained on random features, rows/s, and
what an epoch of AVA's 206,974 fitted photographs would take at that rate (extrapolated). Speed alone: random
features say nothing about quality.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

from benchmarks.embedding.models import load_random  # noqa: E402
from finetune.stacked import STACKS, train_stack  # noqa: E402

N_FITTED = 206_974
"""Training photographs of AVA's paper split, less the tenth that decides when to stop."""


def embed(id: str, n: int, scratch: Path) -> None:
    """Print the rate of the forward pass, decoding and transform left out."""
    backbone = load_random(id, scratch)
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (427, 640, 3), np.uint8)) for _ in range(4)]
    batch = torch.stack([backbone.transform(picture) for picture in pictures])
    backbone.encode_by_torch(batch)
    started, done = time.perf_counter(), 0
    while done < n:
        backbone.encode_by_torch(batch)
        done += len(batch)
    rate = done / (time.perf_counter() - started)
    print(f"| {id}: embed | {rate:.2f} images/s | {255_522 / rate / 3600:.0f} h for AVA |", flush=True)


def head(name: str, dim: int, n: int, scratch: Path) -> None:
    """Print how many rows a second are learned from; the second epoch, for the first one also warms up."""
    settings = replace(STACKS[name], rates=STACKS[name].rates[:1], epochs=2)
    rng = np.random.default_rng(0)
    rows = rng.random((n + 64, dim), np.float32)
    ended: list[float] = []
    train_stack(
        lambda asked: rows[asked], np.arange(n), np.arange(n, n + 64), rng.random(n + 64), dim, settings,
        scratch / name, on_epoch=lambda _: ended.append(time.perf_counter()),
    )  # fmt: skip
    rate = n / (ended[1] - ended[0])
    print(f"| {name} head | {rate:.0f} rows/s | {N_FITTED / rate / 60:.0f} min an epoch of AVA |", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--rows", type=int, default=2560)
    given = parser.parse_args()
    print("| what | rate | extrapolated, not measured |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for id in ("mlsp", "mlsp_wide"):
            embed(id, given.images, Path(folder))
        head("narrow", 16_928, given.rows, Path(folder))
        head("wide", 25 * 16_928, max(256, given.rows // 10), Path(folder))


if __name__ == "__main__":
    main()
