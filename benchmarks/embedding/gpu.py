"""Where CUDA is at hand: many rows through five backbones in one run, and what limits it."""

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torchvision

from benchmarks.embedding.images import linked_table
from benchmarks.embedding.models import load_random
from embed.backbones.device import describe_device
from embed.backbones.loading import Backbone
from embed.batching import largest_batch
from embed.images.datasets import ImageTable
from embed.images.geometry import pixel_steps
from embed.options import Decoding
from embed.pipeline import Options, Timings, embed_images
from embed.reading import Batch, load_batches
from store.system import n_cores

#: Two geometries: CLIP's 224, and augreg's 248 with a crop.
BACKBONES = ("vit_b32.openai", "rn50.openai", "rn50.cc12m", "rn50.yfcc15m", "vit_b32.in21k")
PRECISIONS = ("float32", "bfloat16", "float16")
AVA = 255_522
N_FORWARD = 30


def measure(table: ImageTable, work: Path, n: int) -> None:
    """Print rates, utilisation and ratios; nothing but a line where there is no GPU."""
    if not torch.cuda.is_available():
        print("\ngpu: not measured, CUDA is not available here")
        return
    print(f"\n{describe_device(torch.device('cuda:0'))}, {n_cores()} cores, {n:,} images")
    with tempfile.TemporaryDirectory(dir=work) as folder:
        many = linked_table(table, Path(folder) / "many", n)
        for precision in PRECISIONS:
            backbones = [load_random(id, Path(folder), "cuda", precision) for id in BACKBONES]
            show(precision, measure_run(many, backbones, Path(folder) / precision))
            del backbones
            torch.cuda.empty_cache()
    show("nvJPEG", nvjpeg(table))


def show(title: str, found: dict[str, Any]) -> None:
    """A line for each figure."""
    print(f"  {title}")
    for name, value in found.items():
        print(f"    {name:<44}{value:>14,.4g}" if isinstance(value, float) else f"    {name:<44}{value:>14}")
    sys.stdout.flush()


def measure_run(table: ImageTable, backbones: list[Backbone], out: Path) -> dict[str, Any]:
    """One run of several backbones to durable files: images/s, beside reading alone and bare passes."""
    n, device = len(table), backbones[0].device
    size = largest_batch(backbones)
    decode_limit = n / seconds_of(lambda: _decode(table, backbones, size), device)
    bare = 1 / sum(1 / bare_rate(backbone, size) for backbone in backbones)
    timings = Timings()
    with _utilisation() as seen:
        seconds = seconds_of(
            lambda: embed_images(table, backbones, out, Options(batch_size=size), None, timings), device
        )
    rate = n / seconds
    return {
        "batch": size,
        "images_s": rate,
        "gpu_busy_percent": statistics.mean(seen) if seen else None,
        "decode_limit_images_s": decode_limit,
        "bare_forward_images_s": bare,
        "of_decode_limit": rate / decode_limit,
        "of_bare_forward": rate / bare,
        "of_lower_limit": rate / min(decode_limit, bare),
        "ava_minutes": AVA / rate / 60,
        **{f"seconds_{stage}": value for stage, value in asdict(timings).items()},
    }


def seconds_of(action: Callable[[], object], device: torch.device) -> float:
    """Seconds of an action, its kernels included."""
    started = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _decode(table: ImageTable, backbones: list[Backbone], size: int) -> None:
    """The reading path alone, for every geometry of the backbones, by all cores."""
    steps = list({b.recipe.geometry: pixel_steps(b.transform) for b in backbones}.values())
    batches = [Batch(0, i, min(i + size, len(table))) for i in range(0, len(table), size)]
    for _ in load_batches(table, batches, Decoding(steps, max_pixels=10**9), min(32, n_cores())):
        pass


def bare_rate(backbone: Backbone, size: int) -> float:
    """Images per second of the forward pass in a loop on images that are on the device already."""
    images = torch.randn(size, 3, *backbone.recipe.crop, device=backbone.device)
    n = N_FORWARD if backbone.device.type == "cuda" else 2
    seconds_of(lambda: [backbone.encode_images(images) for _ in range(n // 10 + 1)], backbone.device)
    return n * size / seconds_of(
        lambda: [backbone.encode_images(images) for _ in range(n)], backbone.device
    )


@contextmanager
def _utilisation() -> Iterator[list[float]]:
    """Percentages of busy time by the driver, sampled while the body runs; empty without nvidia-smi."""
    seen: list[float] = []
    stop = threading.Event()
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--id=0"]

    def sample() -> None:
        while not stop.wait(0.5):
            try:
                answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
                seen.append(float(answer.stdout.split()[0]))
            except (OSError, subprocess.SubprocessError, ValueError, IndexError):
                return

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield seen
    finally:
        stop.set()
        sampler.join()


def nvjpeg(table: ImageTable, n: int = 1000, batch: int = 64) -> dict[str, Any]:
    """nvJPEG through torchvision against libjpeg-turbo on one core: rates, and how far the pixels are apart
    (of 255). Raises RuntimeError where nvJPEG cannot be used."""
    n, device = min(n, len(table)), torch.device("cuda")
    data = [torchvision.io.read_file(str(table.absolute(i))) for i in range(n)]

    def on_device() -> None:
        for start in range(0, n, batch):
            torchvision.io.decode_jpeg(data[start : start + batch], device="cuda")

    on_device()
    apart = torch.cat(
        [
            (torchvision.io.decode_jpeg(d, device="cuda").cpu().int() - torchvision.io.decode_jpeg(d).int())
            .abs().flatten()
            for d in data[:50]
        ]
    ).float()  # fmt: skip
    return {
        "nvjpeg_images_s": n / seconds_of(on_device, device),
        "libjpeg_turbo_images_s": n / seconds_of(
            lambda: [torchvision.io.decode_jpeg(each) for each in data], device
        ),
        "pixels_apart_mean": float(apart.mean()),
        "pixels_apart_most": float(apart.max()),
        "pixels_equal_share": float((apart == 0).float().mean()),
    }
