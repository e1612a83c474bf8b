"""How fast training is against its bare forward and backward passes: docs/finetuning.md has what came out.

    python benchmarks/finetune.py [--images DIR] [--backbone vit_b32.openai] [--steps 4] [--rounds 2]

ViT-B/32 with random weights, the paper's settings, batches of 32 (128 on a GPU). Compared in turns, medians
over the steps: forward + backward on one batch that lies in memory, the training loop from the pixel cache,
and the same loop from JPEGs of AVA's size. Then the share of emd_r2 in a step. On a GPU also the share of the
peak that matrix products reach there, and the time per epoch of AVA's 206,974 images that follows.
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

from benchmarks.embedding.images import make_photographs, photograph_table  # noqa: E402
from embed.backbones.architectures import build_architecture  # noqa: E402
from embed.backbones.device import describe_device, pick_device  # noqa: E402
from embed.backbones.loading import Backbone, load_backbone  # noqa: E402
from embed.backbones.registry import resolve_backbone  # noqa: E402
from embed.options import Options  # noqa: E402
from finetune.loss import emd_r2  # noqa: E402
from finetune.model import build_model  # noqa: E402
from finetune.pixels import build_pixels, pixel_plan  # noqa: E402
from finetune.settings import Settings  # noqa: E402
from finetune.sources import CachedPixels, Source, StreamedPixels  # noqa: E402
from finetune.targets import Lesson  # noqa: E402
from finetune.training import train  # noqa: E402

N_AVA = 206_974
GFLOP_FORWARD = {"vit_b32.openai": 8.7}


def random_backbone(id: str, device: torch.device) -> Backbone:
    """A backbone with random weights, whose speed is that of any others."""
    spec = resolve_backbone(id)
    model, transform = build_architecture(spec)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0) if "ln" in name and "weight" in name else parameter.normal_(0, 0.02)
    return Backbone(
        spec, model, transform, weights_sha256="0" * 64, weights_file="random", weights_source="benchmark",
        device=device, precision="float32",
    )  # fmt: skip


def median_seconds(action: Callable[[], object], n: int, device: torch.device) -> float:
    """Median seconds of an action, its kernels included; the first run is not counted."""
    seconds = []
    for _ in range(n + 1):
        started = time.perf_counter()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def step_seconds(
    backbone: Backbone, source: Source, lesson: Lesson, settings: Settings, folder: Path
) -> list[float]:
    """Seconds of each step of one epoch of the training loop but the first."""
    stamps = []
    model = build_model(backbone, next(iter(backbone.outputs)), lesson.shares.shape[1], settings)
    train(model, source, lesson, settings, folder, on_step=lambda p: stamps.append(time.perf_counter()))
    return np.diff(stamps).tolist()


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s that a large matrix product reaches."""
    a = torch.randn(8192, 8192, device=device, dtype=dtype)
    return 2 * 8192**3 / median_seconds(lambda: a @ a, 10, device)


def measure(folder: Path, device: str, dry: bool = False) -> dict[str, float]:
    """Images/s of forward + backward on one batch in memory and of the training loop from the pixel cache."""
    batch, n = (4, 8) if dry else (128, 1000)
    backbone = load_backbone("demo_vit") if dry else random_backbone("vit_b32.openai", pick_device(device))
    make_photographs(folder / "images", n, None)
    table, options = photograph_table(folder / "images", n), Options()
    cache = build_pixels(table, backbone, pixel_plan(table, backbone, folder / "pixels", options), options)
    shares = np.random.default_rng(0).dirichlet(np.ones(10), n).astype(np.float32)
    lesson = Lesson(np.arange(1.0, 11), shares, np.resize(np.arange(n), 13 * batch), np.arange(4), n)
    settings = Settings(batch_size=batch, max_epochs=1)
    model = build_model(backbone, next(iter(backbone.outputs)), 10, settings)
    inputs = torch.randn(batch, 3, *backbone.recipe.crop, device=backbone.device)
    wanted = torch.from_numpy(shares[np.resize(np.arange(n), batch)]).to(backbone.device)

    def bare() -> None:
        model.zero_grad()
        emd_r2(wanted, model(inputs)).mean().backward()

    alone = median_seconds(bare, 2 if dry else 20, backbone.device)
    step = statistics.median(
        step_seconds(backbone, CachedPixels(cache, backbone), lesson, settings, folder / "run")
    )
    return {"images_s": batch / step, "bare_images_s": batch / alone, "of_bare": alone / step}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of JPEGs to make the photographs from")
    parser.add_argument("--backbone", default="vit_b32.openai")
    parser.add_argument("--steps", type=int, default=4, help="steps per measurement (default 4; GPU: 40)")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--pixels", nargs="*", default=["cache", "stream"])
    arguments = parser.parse_args()
    device = pick_device(arguments.device)
    on_gpu = device.type == "cuda"
    batch = 128 if on_gpu else 32
    n_steps = arguments.steps * (10 if on_gpu else 1) + 1
    settings = Settings(batch_size=batch, max_epochs=1, precision=arguments.precision)
    backbone = random_backbone(arguments.backbone, device)
    print(f"{arguments.backbone}, random weights, {arguments.precision}, batches of {batch}, ", end="")
    print(f"torch {torch.__version__}, {describe_device(device)}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        n = min(batch * n_steps, 2000)
        make_photographs(folder / "images", n, arguments.images)
        table = photograph_table(folder / "images", n)
        options = Options()
        plan = pixel_plan(table, backbone, folder / "pixels", options)
        cache = build_pixels(table, backbone, plan, options)
        sources = {"cache": CachedPixels(cache, backbone), "stream": StreamedPixels(table, backbone, options)}
        rng = np.random.default_rng(0)
        shares = rng.dirichlet(np.ones(10), n).astype(np.float32)
        rows = np.resize(np.arange(n), batch * n_steps)
        lesson = Lesson(np.arange(1.0, 11), shares, rows, np.arange(4), n)

        model = build_model(backbone, next(iter(backbone.outputs)), 10, settings)
        inputs = torch.randn(batch, 3, *backbone.recipe.crop, device=device)
        wanted = torch.from_numpy(shares[:batch]).to(device)

        def bare() -> None:
            model.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=arguments.precision == "bfloat16"):
                predicted = model(inputs)
            emd_r2(wanted, predicted).mean().backward()

        measured: dict[str, list[float]] = {name: [] for name in ["bare", *arguments.pixels]}
        for turn in range(arguments.rounds):
            measured["bare"].append(median_seconds(bare, arguments.steps * (10 if on_gpu else 1), device))
            for name in arguments.pixels:
                run = folder / f"{name}{turn}"
                measured[name] += step_seconds(backbone, sources[name], lesson, settings, run)
        seconds = {name: statistics.median(values) for name, values in measured.items()}
        print(f"{'':<52}{'images/s':>10}{'of bare':>10}")
        named = {"bare": "forward + backward, batch in memory", "cache": "training, pixel cache"}
        named |= {"stream": "training, JPEGs decoded every time"}
        for name, value in seconds.items():
            print(f"{named[name]:<52}{batch / value:>10.2f}{seconds['bare'] / value:>9.2f}x")

        predicted = torch.softmax(torch.randn(batch, 10, device=device), dim=1).requires_grad_(True)
        loss = median_seconds(lambda: emd_r2(wanted, predicted).mean().backward(), 200, device)
        step = min(seconds.values())
        print(f"emd_r2, forward + backward: {1e6 * loss:.0f} us, {100 * loss / step:.3f} % of a step")
        best = seconds.get("cache", step)
        print(f"an epoch of AVA ({N_AVA:,} images) from the cache: {N_AVA * best / batch / 3600:.2f} hours")
        if on_gpu and arguments.backbone in GFLOP_FORWARD:
            dtype = torch.bfloat16 if arguments.precision == "bfloat16" else torch.float32
            peak = peak_flops(device, dtype)
            reached = 3e9 * GFLOP_FORWARD[arguments.backbone] * batch / best
            share = 100 * reached / peak
            print(f"{reached / 1e12:.0f} of {peak / 1e12:.0f} TFLOP/s of a matrix product: {share:.0f} %")


if __name__ == "__main__":
    main()
