"""Where CUDA is at hand: many rows through five backbones in one run, and what limits it."""

import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

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
        for precision in ("float32", "bfloat16", "float16"):
            backbones = [load_random(id, Path(folder), "cuda", precision) for id in BACKBONES]
            _one_run(many, backbones, Path(folder) / precision)
            del backbones
            torch.cuda.empty_cache()
    _nvjpeg(table)


def _one_run(table: ImageTable, backbones: list[Backbone], out: Path) -> None:
    n, precision = len(table), backbones[0].precision
    size = largest_batch(backbones)
    decode_limit = n / _seconds(lambda: _decode(table, backbones, size))
    bare = 1 / sum(1 / _bare_rate(backbone, size) for backbone in backbones)
    timings = Timings()
    with _utilisation() as seen:
        seconds = _seconds(
            lambda: embed_images(table, backbones, out, Options(batch_size=size), None, timings)
        )
    rate, busy = n / seconds, statistics.mean(seen) if seen else float("nan")
    print(
        f"  {precision}, batch {size}: {rate:,.0f} images/s through {len(backbones)} backbones, "
        f"GPU {busy:.0f} % busy; decode limit {decode_limit:,.0f} ({rate / decode_limit:.2f} of it), "
        f"bare forward {bare:,.0f} ({rate / bare:.2f} of it); of the lower one "
        f"{rate / min(decode_limit, bare):.2f}, goal 0.9"
    )
    stages = ", ".join(f"{stage} {value:.1f}" for stage, value in asdict(timings).items())
    print(f"    seconds: {stages}")
    print(f"    {AVA:,} images would take {AVA / rate / 60:.1f} minutes", flush=True)


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def _decode(table: ImageTable, backbones: list[Backbone], size: int) -> None:
    """The reading path alone, for every geometry of the backbones, by all cores."""
    steps = list({b.recipe.geometry: pixel_steps(b.transform) for b in backbones}.values())
    batches = [Batch(0, i, min(i + size, len(table))) for i in range(0, len(table), size)]
    for _ in load_batches(table, batches, Decoding(steps, max_pixels=10**9), min(32, n_cores())):
        pass


def _bare_rate(backbone: Backbone, size: int) -> float:
    """Images per second of the forward pass in a loop on images that are on the device already."""
    images = torch.randn(size, 3, *backbone.recipe.crop, device=backbone.device)
    for _ in range(3):
        backbone.encode_images(images)
    torch.cuda.synchronize()
    return N_FORWARD * size / _seconds(lambda: [backbone.encode_images(images) for _ in range(N_FORWARD)])


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


def _nvjpeg(table: ImageTable, n: int = 1000, batch: int = 64) -> None:
    """nvJPEG through torchvision against libjpeg-turbo on the CPU: rate, and how far the pixels are apart."""
    n = min(n, len(table))
    data = [torchvision.io.read_file(str(table.absolute(i))) for i in range(n)]

    def on_device() -> None:
        for start in range(0, n, batch):
            torchvision.io.decode_jpeg(data[start : start + batch], device="cuda")

    def on_cpu() -> None:
        for each in data:
            torchvision.io.decode_jpeg(each)

    try:
        on_device()
    except RuntimeError as error:
        print(f"  nvJPEG cannot be used here: {str(error).splitlines()[0]}")
        return
    apart = torch.cat(
        [
            (torchvision.io.decode_jpeg(d, device="cuda").cpu().int() - torchvision.io.decode_jpeg(d).int())
            .abs().flatten()
            for d in data[:50]
        ]
    ).float()  # fmt: skip
    gpu, cpu = n / _seconds(on_device), n / _seconds(on_cpu)
    print(
        f"  nvJPEG {gpu:,.0f} images/s, libjpeg-turbo {cpu:,.0f} on one core; pixels differ by "
        f"{apart.mean():.2f} of 255 on average, {apart.max():.0f} at most, "
        f"{(apart == 0).float().mean():.1%} equal",
        flush=True,
    )
