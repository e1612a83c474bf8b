"""Torch beside ONNX Runtime, as ratios in one run: docs/benchmarks.md has what came out.

    python benchmarks/engines.py [--only SECTION ...] [--backbones ID ...] [--images DIR] [--oasis DIR]

Sections: `forward` (images/s of either engine on batches of 32 in memory, the share of the processor's
float32 products that they reach, and the largest difference), `end` (1,000 photographs, from the command to
the finished file, either engine in turn), `probe` (what a ridge probe on OASIS makes of either; needs
--oasis). Weights are random but for efficientnet_lite0.in1k, whose own are installed. Engines and products
take turns for --seconds; each figure is the best of its turns, for other programs can only slow one down. The
load of the machine stands beside each line, and in `end` the processor's seconds, which others disturb less.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from benchmarks.embedding.images import make_photographs, photograph_table  # noqa: E402
from benchmarks.embedding.models import load_random  # noqa: E402
from embed.backbones.loading import Backbone, load_backbone  # noqa: E402
from embed.backbones.spec import ENGINES, ONNXRUNTIME, TORCH  # noqa: E402
from embed.pipeline import Options, embed_images, feature_path  # noqa: E402
from store import open_features  # noqa: E402
from store.file_names import file_stem  # noqa: E402

SECTIONS = ("forward", "end", "probe")
OFFLINE = "efficientnet_lite0.in1k"
BACKBONES = (OFFLINE, "timm:resnet50.a1_in1k", "rn50.openai", "vit_b32.openai")
GOALS = {OFFLINE: 3.5, "timm:resnet50.a1_in1k": 1.35, "rn50.openai": 1.35, "vit_b32.openai": 1.0}


def load_of_machine() -> str:
    """The load averages, where the system tells them."""
    return "load {:.1f} {:.1f} {:.1f}".format(*os.getloadavg()) if hasattr(os, "getloadavg") else ""


def best_of_turns(ways: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Shortest time of each way, which take turns for about so long, twice at least."""
    best = dict.fromkeys(ways, float("inf"))
    end, n_turns = time.perf_counter() + seconds, 0
    while n_turns < 2 or time.perf_counter() < end:
        for name, act in ways.items():
            started = time.perf_counter()
            act()
            best[name] = min(best[name], time.perf_counter() - started)
        n_turns += 1
    return best


def load(id: str, scratch: Path) -> Backbone:
    """A backbone with its own weights where they are installed, else with random ones."""
    return load_backbone(id) if id == OFFLINE else load_random(id, scratch)


def forward(ids: list[str], scratch: Path, seconds: float, batch: int) -> None:
    """Bare forward passes, and the share of the products' rate."""
    matrix = torch.randn(1536, 1536)
    print(f"\n{'forward passes, images/s':<26}{'torch':>8}{'onnxrt':>8}{'ratio':>7}", end="")
    print(f"{'GFLOP':>7}{'share torch':>12}{'share onnxrt':>13}{'difference':>12}")
    for id in ids:
        backbone = load(id, scratch)
        images = torch.randn(batch, 3, *backbone.recipe.crop)
        with FlopCounterMode(display=False) as counted:
            backbone.encode_by_torch(images[:1])
        session = backbone.use_engine(ONNXRUNTIME, scratch)
        ways = {
            TORCH: lambda: backbone.encode_by_torch(images),  # noqa: B023
            ONNXRUNTIME: lambda: session.outputs(images),  # noqa: B023
            "products": lambda: matrix @ matrix,
        }
        best = best_of_turns(ways, seconds)
        gflop = counted.get_total_flops() / 1e9
        rate = 2 * len(matrix) ** 3 / best["products"] / 1e9
        share = {name: batch * gflop / best[name] / rate for name in ENGINES}
        torch_s, other_s = best[TORCH], best[ONNXRUNTIME]
        print(f"{id:<26}{batch / torch_s:>8.1f}{batch / other_s:>8.1f}{torch_s / other_s:>7.2f}", end="")
        print(f"{gflop:>7.2f}{share[TORCH]:>12.2f}{share[ONNXRUNTIME]:>13.2f}{session.difference:>12.1e}   "
              f"{rate:.0f} GFLOP/s, {load_of_machine()}", flush=True)  # fmt: skip


def end_to_end(ids: list[str], scratch: Path, source: Path | None, n: int, turns: int) -> None:
    """The command, a process of its own, to the finished file; exports are kept beforehand."""
    make_photographs(scratch / "photographs", n, source)
    photograph_table(scratch / "photographs", n)
    environment = {**os.environ, "IAA_CACHE": str(scratch / "cache"), "PYTHONPATH": sys.path[0]}
    data = ["--data", str(scratch / "data")]

    def iaa(*arguments: str) -> dict[str, object]:
        command = [sys.executable, "-m", "iaa", *arguments, *data, "--json"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        answer: dict[str, object] = json.loads(done.stdout)
        return answer

    folder = str(scratch / "photographs")
    iaa("dataset", "add", "bench", "--kind", "folder", "--images", folder, "--overwrite")
    print(f"\n{f'{n} photographs, seconds':<26}{'torch':>8}{'onnxrt':>8}{'ratio':>7}{'goal':>6}", end="")
    print(f"{'cpu torch':>11}{'cpu onnxrt':>11}{'ratio':>7}")
    for id in ids:
        load(id, scratch).use_engine(ONNXRUNTIME, scratch / "cache" / "engines")
        own = scratch / f"{file_stem(id)}.safetensors"
        weights = ["--weights", str(own)] if own.exists() else []

        def embed(engine: str) -> None:
            more = [*weights, "--engine", engine, "--overwrite"]  # noqa: B023
            iaa("embed", "--dataset", "bench", "--backbone", id, "--batch-size", "32", *more)  # noqa: B023
            feature_path(scratch / "data" / "bench" / "features", id).unlink()  # noqa: B023

        best, cpu = (dict.fromkeys(ENGINES, float("inf")) for _ in range(2))
        for _ in range(turns):
            for engine in ENGINES:
                started, before = time.perf_counter(), os.times()
                embed(engine)
                after = os.times()
                used = sum(after[2:4]) - sum(before[2:4])
                best[engine] = min(best[engine], time.perf_counter() - started)
                cpu[engine] = min(cpu[engine], used)
        for seconds in (best, cpu):
            a, b = seconds[TORCH], seconds[ONNXRUNTIME]
            wanted = f"{GOALS.get(id, 1.0):>6.2f}   " if seconds is best else ""
            name = f"{id:<26}" if seconds is best else ""
            print(f"{name}{a:>8.1f}{b:>8.1f}{a / b:>7.2f}{wanted}", end="")
        print(f"   {load_of_machine()}", flush=True)


def probe(oasis: Path, scratch: Path) -> None:
    """SRCC of a ridge probe on OASIS's test photographs by either engine, and where their ranks differ."""
    from benchmarks.embedding.precision import _srcc, rated_photographs

    table, mos, is_train = rated_photographs(oasis)
    rows, orders = {}, {}
    for engine in ENGINES:
        backbone = load_backbone(OFFLINE)
        backbone.use_engine(engine, scratch)
        embed_images(table, [backbone], scratch / engine, Options())
        with open_features(feature_path(scratch / engine, OFFLINE)) as features:
            rows[engine] = np.array(features.read("pooled"), np.float64)
        unit = rows[engine] / np.linalg.norm(rows[engine], axis=1, keepdims=True)
        orders[engine] = np.argsort(-(unit @ unit.T), axis=1, kind="stable")[:, :11]
        print(f"  {engine:<12} SRCC of a ridge probe, {len(table)} photographs: "
              f"{_srcc(rows[engine], mos, is_train):.6f}")  # fmt: skip
    apart = np.linalg.norm(rows[TORCH] - rows[ONNXRUNTIME], axis=1) / np.linalg.norm(rows[TORCH], axis=1)
    same = (orders[TORCH] == orders[ONNXRUNTIME]).all(axis=1)
    print(f"  largest difference {apart.max():.1e}; the ten most alike are the same, in the same order, for "
          f"{same.sum()} of {len(table)}   {load_of_machine()}")  # fmt: skip


def main() -> None:
    """The command line."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES))
    parser.add_argument("--images", type=Path, help="JPEGs to make photographs from (default: rendered)")
    parser.add_argument("--oasis", type=Path, help="folder with images/ and ratings.csv")
    parser.add_argument("--seconds", type=float, default=30.0, help="per backbone, section forward")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--n", type=int, default=1000, help="photographs, section end")
    parser.add_argument("--turns", type=int, default=2, help="of each engine, section end")
    parser.add_argument("--scratch", type=Path, help="where weights and photographs are kept")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as own:
        scratch = given.scratch or Path(own)
        scratch.mkdir(parents=True, exist_ok=True)
        if "forward" in given.only:
            forward(given.backbones, scratch, given.seconds, given.batch)
        if "end" in given.only:
            end_to_end(given.backbones, scratch, given.images, given.n, given.turns)
        if "probe" in given.only and given.oasis:
            probe(given.oasis, Path(own))


if __name__ == "__main__":
    main()
