"""How fast images become rows, as ratios in one run.

    python benchmarks/embed.py [--images DIR] [--n 1000] [--repeats 3]

Compared, on the same files in the page cache: the library's own transform on Pillow (a torch DataLoader of
2 workers), this project's exact path and its fast path with one and two threads; several backbones in one
run against a run each; and ViT-B/32 with random weights end to end against its bare forward pass. Medians
of the repeats.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from embed.datasets import ImageTable
from embed.geometry import pixel_steps
from embed.loading import load_backbone
from embed.pipeline import Options, embed_images
from embed.reading import Batch, load_batches

GEOMETRY_BACKBONES = ("demo_clip", "demo_vit", "efficientnet_lite0.in1k")


class Photographs(Dataset):
    """The usual way: one file, one transform, in a worker process."""

    def __init__(self, table: ImageTable, transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self.table, self.transform = table, transform

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self.transform(Image.open(self.table.absolute(row)))


def make_table(images: Path | None, folder: Path, n: int) -> ImageTable:
    """`n` photographs: those given, repeated as needed, or rendered at AVA's usual size and byte count."""
    if images is not None:
        files = sorted(p.relative_to(images).as_posix() for p in images.rglob("*.jpg"))
        root = images
    else:
        root, files = folder, []
        rng = np.random.default_rng(0)
        y, x = np.mgrid[0:480, 0:640]
        for i in range(min(n, 200)):
            waves = [
                np.sin(x / (19 + 7 * c + i % 13) + c) * np.cos(y / (29 + i % 11 - 5 * c)) for c in range(3)
            ]
            pixels = 128 + 90 * np.stack(waves, axis=2) + rng.normal(0, 12, (480, 640, 3))
            files.append(f"{i}.jpg")
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(root / files[-1], quality=88)
    names = np.array([files[i % len(files)] for i in range(n)])
    ids = np.array([f"{i:06d}" for i in range(n)])
    return ImageTable("benchmark", root, ids, names, split=np.full(n, ""))


def rate(n: int, action: Callable[[], object], repeats: int) -> float:
    """Images per second, the median of the repeats."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - started)
    return n / statistics.median(seconds)


def read_all(table: ImageTable, steps: object, is_exact: bool, n_threads: int) -> None:
    """Every image through the reading path, nothing encoded."""
    batches = [Batch(0, i, min(i + 32, len(table))) for i in range(0, len(table), 32)]
    for _ in load_batches(table, batches, [steps], False, 10**9, is_exact, n_threads):
        pass


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of JPEGs; default: rendered ones")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--skip-vit", action="store_true", help="leave ViT-B/32 out (minutes on a CPU)")
    arguments = parser.parse_args()
    n, repeats = arguments.n, arguments.repeats
    _, _, transform = open_clip.create_model_and_transforms("ViT-B-32-quickgelu")
    steps = pixel_steps(transform)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        table = make_table(arguments.images, folder, n)
        rows: list[tuple[str, float, float]] = []

        def add(name: str, value: float, against: float | None = None) -> float:
            rows.append((name, value, value / against if against else 1.0))
            print(f"{name:<64}{value:>10.1f}{rows[-1][2]:>9.2f}x", flush=True)
            return value

        print(f"{n} JPEGs of {table.root}, torch {torch.__version__}, {torch.get_num_threads()} threads")
        print(f"{'reading, decoding, resizing to 224':<64}{'images/s':>10}{'ratio':>10}")
        loader = DataLoader(Photographs(table, transform), batch_size=32, num_workers=2)
        base = add(
            "DataLoader, 2 workers, the library's transform on Pillow", rate(n, lambda: list(loader), repeats)
        )
        add("exact path (Pillow), 1 thread", rate(n, lambda: read_all(table, steps, True, 1), repeats), base)
        add("exact path (Pillow), 2 threads", rate(n, lambda: read_all(table, steps, True, 2), repeats), base)
        one = add("fast path, 1 thread", rate(n, lambda: read_all(table, steps, False, 1), repeats), base)
        two = add("fast path, 2 threads", rate(n, lambda: read_all(table, steps, False, 2), repeats), base)
        print(f"{'fast path, two threads over one':<64}{two / one:>19.2f}x")

        print("\nseveral backbones (files written, durable)")
        loaded = [load_backbone(name) for name in GEOMETRY_BACKBONES]
        counter = iter(range(10**6))

        def run(backbones: list) -> None:
            embed_images(table, backbones, folder / f"run{next(counter)}", Options(n_threads=2))

        single = [add(f"{b.id} alone", rate(n, lambda b=b: run([b]), 1)) for b in loaded]
        separate = 1 / sum(1 / s for s in single)
        add("the three one after the other", separate)
        add("the three in one run", rate(n, lambda: run(loaded), 1), separate)

        if not arguments.skip_vit:
            print("\ncompute-bound: ViT-B/32, random weights")
            few = make_table(arguments.images, folder, min(n, 256))
            file = folder / "vit.safetensors"
            save_random_vit(file)
            vit = load_backbone("vit_b32.openai", weights=file)
            batch = torch.zeros(32, 3, 224, 224)
            bare = add(
                "bare forward pass, batches of 32",
                rate(len(few), lambda: [vit.encode_images(batch) for _ in range(len(few) // 32)], repeats),
            )
            add(
                "end to end",
                rate(
                    len(few),
                    lambda: embed_images(few, [vit], folder / f"vit{next(counter)}", Options(n_threads=2)),
                    repeats,
                ),
                bare,
            )


def save_random_vit(file: Path) -> None:
    """A checkpoint of the real architecture with random weights."""
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32-quickgelu")
    save_file({k: v.contiguous().clone() for k, v in model.state_dict().items()}, file)


if __name__ == "__main__":
    main()
