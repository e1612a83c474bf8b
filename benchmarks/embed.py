"""How fast images become rows, as ratios in one run: docs/benchmarks.md has what came out.

    python benchmarks/embed.py [--images DIR] [--only SECTION ...] [--thingsvision PYTHON]

Photographs of AVA's size and byte count are made from the JPEGs below DIR (or rendered) and read from
the page cache. Sections: `decode` (reading to pixels, against a DataLoader on Pillow), `share` (several
backbones in one run), `compute` (ViT-B/32 on the CPU against its bare forward pass), `alternatives` (the
paper authors' way, and thingsvision where PYTHON is an interpreter that has it), `memory` (peak at 2,000
and 20,000 images), `precision` (what fewer bits cost; needs --oasis), `gpu` (where CUDA is
at hand). Every figure is a median of the repeats, which take turns.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # this file has the name of a package it measures

import numpy as np  # noqa: E402
import torch  # noqa: E402

from benchmarks.embedding import alternatives, gpu, memory, precision  # noqa: E402
from benchmarks.embedding.images import make_photographs, photograph_table  # noqa: E402
from benchmarks.embedding.models import four_small_vits, load_random, load_test_model  # noqa: E402
from embed.backbones.loading import Backbone, load_backbone  # noqa: E402
from embed.backbones.registry import BACKBONES  # noqa: E402
from embed.images.datasets import ImageTable  # noqa: E402
from embed.images.geometry import pixel_steps  # noqa: E402
from embed.options import Decoding  # noqa: E402
from embed.pipeline import Options, embed_images  # noqa: E402
from embed.reading import Batch, load_batches  # noqa: E402
from store.system import n_cores  # noqa: E402

SECTIONS = ("decode", "share", "compute", "alternatives", "memory", "precision", "gpu")


def medians(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of each way, the median of the repeats; one of each in turn, so that noise falls on all."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, action in ways.items():
            started = time.perf_counter()
            action()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def show(title: str, n: int, seconds: dict[str, float], base: str) -> None:
    """A table: images per second and the ratio to the way named `base`."""
    print(f"\n{title:<66}{'images/s':>10}{'ratio':>8}")
    for name, value in seconds.items():
        print(f"  {name:<64}{n / value:>10.1f}{seconds[base] / value:>8.2f}", flush=True)


def goal(text: str, value: float, wanted: float) -> None:
    """Say whether a goal was met."""
    print(f"  {text}: {value:.2f}, goal {wanted:g} {'met' if value >= wanted else 'MISSED'}", flush=True)


def decode(table: ImageTable, repeats: int) -> None:
    """Reading, decoding and resizing to 224 pixels, nothing encoded."""
    transform = load_clip_transform()
    steps = pixel_steps(transform)
    batches = [Batch(0, i, min(i + 32, len(table))) for i in range(0, len(table), 32)]

    def read(is_exact: bool, n_threads: int) -> None:
        for _ in load_batches(table, batches, Decoding([steps], False, 10**9, is_exact), n_threads):
            pass

    usual = "DataLoader, 2 workers, the library's transform on Pillow"
    seconds = medians(
        {
            usual: lambda: alternatives.load_all(alternatives.Photographs(table, transform), 2),
            "exact path (Pillow), 1 thread": lambda: read(True, 1),
            "exact path (Pillow), 2 threads": lambda: read(True, 2),
            "fast path, 1 thread": lambda: read(False, 1),
            "fast path, 2 threads": lambda: read(False, 2),
            "fast path, 2 processes": lambda: alternatives.load_all(alternatives.FastRows(table, steps), 2),
        },
        repeats,
    )
    show("read, decode, resize to 224", len(table), seconds, usual)
    goal("fast path, 2 threads, to the DataLoader", seconds[usual] / seconds["fast path, 2 threads"], 2.5)
    goal("2 threads to 1", seconds["fast path, 1 thread"] / seconds["fast path, 2 threads"], 1.7)


def share(table: ImageTable, scratch: Path, repeats: int) -> None:
    """Several backbones in one run against a run each; files written, durable."""
    real = [load_backbone("demo_clip"), load_backbone("demo_vit")]
    real += [load_test_model(name, scratch) for name in ("test_vit", "test_vit2")]
    for name, backbones in (
        ("one layer, 160 and 224 pixels", four_small_vits()),
        ("demo and timm's test models", real),
    ):
        n_geometries = len({b.recipe.geometry for b in backbones})
        seconds = medians(
            {
                "a run each": lambda b=backbones: [run(table, [each], scratch) for each in b],
                "one run": lambda b=backbones: run(table, b, scratch),
            },
            repeats,
        )
        show(
            f"{len(backbones)} backbones, {n_geometries} geometries: {name}",
            len(table),
            seconds,
            "a run each",
        )
        goal("one run to a run each", seconds["a run each"] / seconds["one run"], 2.0)


def compute(table: ImageTable, scratch: Path, repeats: int) -> None:
    """ViT-B/32 with random weights, end to end and bare."""
    vit = load_random("vit_b32.openai", scratch)
    batch = torch.from_numpy(np.random.default_rng(0).standard_normal((32, 3, 224, 224), np.float32))
    bare = "bare forward pass, batches of 32"
    seconds = medians(
        {
            bare: lambda: [vit.encode_images(batch) for _ in range(len(table) // 32)],
            "end to end, durable file": lambda: run(table, [vit], scratch),
        },
        repeats,
    )
    show("ViT-B/32 on the CPU, random weights", len(table), seconds, bare)
    goal("end to end to bare", seconds[bare] / seconds["end to end, durable file"], 0.95)


def alternative(table: ImageTable, few: ImageTable, scratch: Path, python: Path | None, repeats: int) -> None:
    """The paper authors' way and thingsvision's, on a tiny model and on ViT-B/32."""
    tiny, vit = load_backbone("demo_vit"), load_random("vit_b32.openai", scratch)
    config = BACKBONES["demo_vit"].config
    assert config is not None
    for name, backbone, images in (("tiny", tiny, table), ("vit", vit, few)):
        authors = "paper authors' way"
        seconds = medians(
            {
                authors: lambda b=backbone, t=images: alternatives.authors_way(t, b, scratch / "a.pt"),
                "this project": lambda b=backbone, t=images: run(t, [b], scratch),
            },
            repeats,
        )
        title = f"{backbone.id}, {len(images)} images"
        if python is not None:
            theirs, versions = alternatives.thingsvision_seconds(
                python, images, name, config, scratch / "thingsvision", repeats
            )
            seconds["thingsvision"] = statistics.median(theirs)
            title += f" ({versions})"
        show(title, len(images), seconds, authors)
        for other in [key for key in seconds if key != "this project"]:
            goal(f"this project to {other}", seconds[other] / seconds["this project"], 1.0)


def run(table: ImageTable, backbones: list[Backbone], scratch: Path, **how: object) -> None:
    """A run of the pipeline into a new folder."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        embed_images(table, backbones, Path(folder), Options(**{"n_threads": n_cores(), **how}))


def load_clip_transform() -> Callable:
    """CLIP's at 224 pixels, from open_clip."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    return image_transform_v2(PreprocessCfg(size=224), is_train=False)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of JPEGs to make the photographs from")
    parser.add_argument("--work", type=Path, help="keep the photographs here (default: a temporary folder)")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, metavar="SECTION")
    parser.add_argument("--thingsvision", type=Path, metavar="PYTHON", help="interpreter with thingsvision")
    parser.add_argument("--oasis", type=Path, help="folder of OASIS (images/, ratings.csv) for precision")
    parser.add_argument("--n", type=int, default=1000, help="photographs")
    parser.add_argument("--n-vit", type=int, default=256, help="photographs for ViT-B/32 on the CPU")
    parser.add_argument("--n-gpu", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        scratch = Path(temporary)
        make_photographs(work / "photographs", arguments.n, arguments.images)
        table = photograph_table(work / "photographs", arguments.n)
        few = photograph_table(work / "photographs", min(arguments.n, arguments.n_vit))
        size = np.mean([table.absolute(i).stat().st_size for i in range(len(table))]) / 1e3
        print(
            f"{len(table)} JPEGs of {size:.0f} KB on average, torch {torch.__version__}, {n_cores()} cores, "
            f"median of {arguments.repeats}"
        )
        if "decode" in arguments.only:
            decode(table, arguments.repeats)
        if "share" in arguments.only:
            share(table, scratch, arguments.repeats)
        if "compute" in arguments.only:
            compute(few, scratch, arguments.repeats)
        if "alternatives" in arguments.only:
            alternative(table, few, scratch, arguments.thingsvision, arguments.repeats)
        if "memory" in arguments.only:
            memory.measure(table, work)
        if "precision" in arguments.only and arguments.oasis is not None:
            precision.measure(arguments.oasis, scratch)
        if "gpu" in arguments.only:
            gpu.measure(table, work, arguments.n_gpu)


if __name__ == "__main__":
    main()
