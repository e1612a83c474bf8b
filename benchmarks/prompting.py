"""Speed and memory of the prompting analysis at AVA's size, on a synthetic store made here.

    python benchmarks/prompting.py                 pair search, cache, and maxima on 16,384 images
    python benchmarks/prompting.py --full          the maxima of all 255,522 images (10 TFLOP: minutes)
    python benchmarks/prompting.py --device cuda   the maxima of all images by the torch backend
    python benchmarks/prompting.py --texts 39000   encode all context prompts, at 77 tokens too (an hour)

The vectors are random around planted axes; nothing here says anything about photographs. Each stage
runs in a process of its own, so that its peak memory is its own. Ratios carry over between
machines, seconds do not.
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from analysis.prompting.maxima import load_context_maxima
from analysis.prompting.pairs import search_pairs, sortable_bits
from analysis.prompting.scores import cosines, index_labels, one_prompt_per_label, unit_directions
from analysis.prompting.sorting import sort_by_buckets, sort_whole
from analysis.twins import first_equal_rows
from embed.prompts.sets import PAPER_HIGH, PAPER_LOW
from store import open_features, open_prompts
from store.features import FEATURES_SCHEMA
from store.prompts import PROMPTS_SCHEMA
from store.sealed import write_sealed
from store.system import n_cores

N_TRAIN, N_TEST, DIM, N_CONTENTS = 229_971, 25_551, 512, 1000
LABELS = PAPER_HIGH + PAPER_LOW
POLARITY = np.array([1] * len(PAPER_HIGH) + [-1] * len(PAPER_LOW), np.int8)


def make_store(folder: Path, n_images: int) -> None:
    """Write features, prompts and mean votes, unless they are there."""
    if (folder / "votes.npy").exists():
        return
    rng = np.random.default_rng(0)
    quality = rng.normal(size=n_images).astype(np.float32)
    axis = rng.normal(size=DIM).astype(np.float32)
    common = 4 * rng.normal(size=DIM).astype(np.float32)
    features = rng.standard_normal((n_images, DIM), dtype=np.float32)
    features += common + 0.3 * quality[:, None] * axis
    write_sealed(
        folder / "features.h5",
        FEATURES_SCHEMA,
        {"backbone": "synthetic"},
        {},
        {
            "image_id": np.arange(n_images).astype(str),
            "status": np.ones(n_images, np.uint8),
            "failures/row": np.empty(0, np.int64),
            "failures/reason": np.empty(0, "U1"),
            "outputs/embedding": features,
        },
    )
    for name, n_contents in (("fixed", 1), ("context", N_CONTENTS)):
        label = np.repeat(LABELS, n_contents)
        strength = np.repeat(POLARITY * rng.uniform(0, 0.5, len(LABELS)), n_contents)
        text = rng.standard_normal((len(label), DIM), dtype=np.float32)
        text += common + (strength[:, None] * axis).astype(np.float32)
        columns = {key: np.full(len(label), "-") for key in ("text", "template")}
        write_sealed(
            folder / f"{name}.h5",
            PROMPTS_SCHEMA,
            {"backbone": "synthetic", "prompt_set": name},
            {},
            columns
            | {
                "label": label,
                "content": np.tile(np.arange(n_contents).astype(str), len(LABELS)),
                "polarity": np.repeat(POLARITY, n_contents),
                "outputs/embedding": text,
            },
        )
    votes = 5.3 + 0.7 * (0.5 * quality + rng.normal(size=n_images))
    np.save(folder / "votes.npy", np.round(votes * 200) / 200)  # ties, as about 200 votes give


def time_pair_search(folder: Path, n_train: int) -> dict[str, float]:
    """Seconds from the feature file to all three metrics of all 324 pairs on the training images."""
    mos = np.load(folder / "votes.npy")[:n_train]
    for _ in open_features(folder / "features.h5").blocks("embedding"):
        pass  # warm: the goal is from a warm file
    started, cpu = time.perf_counter(), time.process_time()
    with open_features(folder / "features.h5") as features, open_prompts(folder / "fixed.h5") as prompts:
        text = unit_directions(prompts.read())
        first = first_equal_rows(partial(features.read, "embedding"), features.n_images)
        similarity = cosines(features.blocks("embedding"), first, text)
        index = index_labels(prompts.label.tolist(), prompts.polarity)
    scores = one_prompt_per_label("fixed", similarity, index).take(slice(0, n_train))  # type: ignore[arg-type]
    read = time.perf_counter() - started
    table = search_pairs(scores, mos, mos > 5)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    best = table.best("srcc")
    return {
        "pair_search_s": seconds,
        "pair_search_cpu_s": cpu,
        "pair_search_similarities_s": read,
        "pair_search_pairs_s": seconds - read,
        "best_srcc": best.value,
        **_scipy_seconds(scores.strength, mos, table.srcc, n_pairs=24),
        **_sort_seconds(scores.strength[:, 0] - scores.strength[:, -1]),
    }


def _sort_seconds(score: np.ndarray) -> dict[str, float]:
    """Milliseconds of processor time of both sorts, the best of some, on the scores of one pair."""
    found = {}
    keys = sortable_bits(score).astype(np.int64) << 32 | np.arange(len(score))
    for sort in (sort_whole, sort_by_buckets):
        best = np.inf
        for _ in range(9):
            given = keys.copy()
            started = time.thread_time()
            sort(given, score)
            best = min(best, time.thread_time() - started)
        found[f"{sort.__name__}_ms"] = best * 1e3
    return found


def _scipy_seconds(strength: np.ndarray, mos: np.ndarray, srcc: np.ndarray, n_pairs: int) -> dict[str, float]:
    """Seconds scipy.stats would need for all pairs, from some; and their values are the same."""
    from scipy.stats import pearsonr, spearmanr

    high, low = np.flatnonzero(POLARITY > 0), np.flatnonzero(POLARITY < 0)
    picked = np.linspace(0, srcc.size - 1, n_pairs).astype(int)
    started, cpu = time.perf_counter(), time.process_time()
    for pair in picked:
        i, j = divmod(int(pair), len(low))
        score = strength[:, high[i]] - strength[:, low[j]]
        value = spearmanr(score, mos).statistic
        pearsonr(score, mos)
        np.mean((score >= 0) == (mos > 5))
        if abs(value - srcc[i, j]) > 1e-9:
            raise SystemExit(f"pair {i}, {j}: SRCC {srcc[i, j]} is not scipy's {value}")
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return {"scipy_pairs_s": seconds * srcc.size / n_pairs, "scipy_pairs_cpu_s": cpu * srcc.size / n_pairs}


def time_maxima(folder: Path, n_images: int) -> dict[str, float]:
    """Seconds of the context maxima, of a bare product of the same size, and of reading the cache."""
    features, prompts = open_features(folder / "features.h5"), open_prompts(folder / "context.h5")
    n_products = n_images * prompts.n_prompts
    flop = 2.0 * n_products * DIM
    bare = _bare_rate(features.read("embedding", slice(0, 2048)), unit_directions(prompts.read()))
    cache = folder / "maxima.h5"
    cache.unlink(missing_ok=True)
    started = time.perf_counter()
    load_context_maxima(features, "embedding", prompts, cache)
    seconds = time.perf_counter() - started
    bare = (
        bare + _bare_rate(features.read("embedding", slice(0, 2048)), unit_directions(prompts.read()))
    ) / 2
    started = time.perf_counter()
    kept = load_context_maxima(features, "embedding", prompts, cache)
    total = sum(float(np.nansum(a)) for a in (kept.maximum, kept.winner, kept.mean))  # read every page
    cached = time.perf_counter() - started
    assert np.isfinite(total)
    return {
        "maxima_images": n_images,
        "maxima_s": seconds,
        "maxima_gflops": flop / seconds / 1e9,
        "bare_product_gflops": bare / 1e9,
        "maxima_cached_s": cached,
    }


def _bare_rate(images: np.ndarray, text: np.ndarray, repeats: int = 3) -> float:
    """FLOP per second of images @ text.T in float32 with all BLAS threads, the best of some."""
    out = np.empty((len(images), len(text)), np.float32)
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        np.matmul(images, text.T, out=out)
        seconds.append(time.perf_counter() - started)
    return 2.0 * out.size * images.shape[1] / min(seconds)


def time_text(n_texts: int) -> dict[str, float]:
    """Seconds for every k-th of the 39,000 context prompts through the text tower of ViT-B/32, as
    `embed.prompts.text` encodes them and at the full context; the weights are random, which changes no time.

    Prompts are picked evenly, so that their lengths are those of the whole set.
    """
    import open_clip
    import torch

    from embed.backbones.loading import Backbone
    from embed.backbones.registry import resolve_backbone
    from embed.prompts.sets import PROMPT_SETS, expand
    from embed.prompts.text import encode_part

    spec = resolve_backbone("vit_b32.openai")
    torch.manual_seed(0)
    model, _, transform = open_clip.create_model_and_transforms(spec.architecture)
    pinned = {"weights_sha256": "", "weights_file": "", "weights_source": "random"}
    backbone = Backbone(spec, model, transform, **pinned, device=torch.device("cpu"), precision="float32")  # type: ignore[arg-type]
    every = expand(PROMPT_SETS["paper_context"]).text
    texts = [every[i] for i in np.linspace(0, len(every) - 1, n_texts).astype(int)]
    encode_part(backbone, texts[:64])  # warm
    started = time.perf_counter()
    short = encode_part(backbone, texts)
    seconds = time.perf_counter() - started
    started = time.perf_counter()
    full = np.concatenate(
        [backbone.encode_texts(texts[i : i + 256]).numpy() for i in range(0, len(texts), 256)]
    )
    at_77 = time.perf_counter() - started
    needed = backbone.contexts_needed(texts)
    return {
        "texts": n_texts,
        "texts_tokens_mean": float(np.mean(needed)),
        "texts_tokens_most": float(max(needed)),
        "texts_s": seconds,
        "texts_at_77_s": at_77,
        "texts_times_faster": at_77 / seconds,
        "texts_max_abs_difference": float(np.abs(short - full).max()),
        "texts_max_abs_value": float(np.abs(full).max()),
        "texts_39000_s": seconds * len(every) / n_texts,
    }


def time_torch_maxima(folder: Path, device: str) -> dict[str, float]:
    """Seconds of the context maxima of all images by the torch backend, transfers included."""
    import torch

    from embed.prompts.maxima import compute_maxima

    features, prompts = open_features(folder / "features.h5"), open_prompts(folder / "context.h5")
    index = index_labels(prompts.label.tolist(), prompts.polarity)
    text = unit_directions(prompts.read())
    torch.ones(1, device=device)  # starting the device is not part of it
    started = time.perf_counter()
    blocks = features.blocks("embedding")
    compute_maxima(blocks, features.n_images, text, index.of_prompt, index.n_labels, device)
    return {"torch_maxima_images": features.n_images, "torch_maxima_s": time.perf_counter() - started}


def apart(stage: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    """The stage's numbers, from a process of its own, with its peak memory over the interpreter's."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measured, (stage, *arguments))


def _measured(stage: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    # The peak starts anew: it is inherited otherwise.
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before = _peak_kib()
    numbers = stage(*arguments)
    name = stage.__name__.removeprefix("time_")
    return numbers | {f"{name}_peak_gb": (_peak_kib() - before) / 1024**2}


def _peak_kib() -> int:
    """Peak resident memory of this process, pages of mapped files included (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--full", action="store_true", help="maxima of all images")
    parser.add_argument("--images", type=int, default=16_384, help="images for the maxima without --full")
    parser.add_argument("--texts", type=int, default=512, help="how many of the 39,000 context prompts")
    parser.add_argument("--only", choices=["pairs", "maxima", "texts"], help="one of the stages")
    parser.add_argument("--device", help="also the torch backend, on this device")
    parser.add_argument("--folder", type=Path, help="keep the synthetic store here (1 GB)")
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        n_images = N_TRAIN + N_TEST
        make_store(folder / "ava_size", n_images)
        numbers = {"cores": float(n_cores()), "load_at_start": os.getloadavg()[0]}
        if not options.json:
            simd = np.show_config(mode="dicts")["SIMD Extensions"]
            print("numpy uses:", *(simd.get("found") or ["only its baseline"]))
        if options.only in (None, "pairs"):
            numbers |= apart(time_pair_search, folder / "ava_size", N_TRAIN)
            numbers["times_faster_than_scipy"] = numbers["scipy_pairs_s"] / numbers["pair_search_s"]
            # On a busy machine: with the cores to itself, the search takes its processor time over them.
            of_each = numbers["pair_search_cpu_s"] / numbers["cores"]
            numbers["times_faster_by_processor_time"] = numbers["scipy_pairs_cpu_s"] / of_each
        some = folder / "ava_size"
        if not options.full:
            some, n_images = folder / f"images_{options.images}", options.images
            make_store(some, n_images)
        if options.only in (None, "maxima"):
            numbers |= apart(time_maxima, some, n_images)
            numbers["share_of_bare_product"] = numbers["maxima_gflops"] / numbers["bare_product_gflops"]
        if options.only in (None, "texts"):
            numbers |= apart(time_text, options.texts)
        if options.device:
            numbers |= apart(time_torch_maxima, folder / "ava_size", options.device)
    if options.json:
        print(json.dumps(numbers))
        return
    goals = {
        "pair_search_s": "at most 15 on 2 cores",
        "times_faster_than_scipy": "at least 10",
        "pair_search_peak_gb": "under 2",
        "share_of_bare_product": "at least 0.6",
        "maxima_peak_gb": "never more than 2",
        "maxima_cached_s": "under 2",
        "texts_times_faster": "at least 3",
    }
    for name, value in numbers.items():
        goal = f"   goal: {goals[name]}" if name in goals else ""
        print(f"{name:28s} {value:12.6g}{goal}")


if __name__ == "__main__":
    main()
