"""All that needs a GPU, in one go: what is right, how fast it is, and what limits it.

    python benchmarks/gpu_check.py [--out build/gpu] [--limit 540]     where CUDA is at hand
    python benchmarks/gpu_check.py --dry                               the same script on the CPU, tiny

The most important first. After each section OUT/gpu.json is written whole, and a table ends the output also
when the time is up or the process is told to stop: a section that would begin after the limit is left out by
name. Weights are random, photographs are rendered: nothing is fetched. A figure with a goal says whether it
was met; a section that fails keeps its error and does not stop the others. The exit status is 1 if one
failed, 3 if only goals were missed or sections were left out.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # this file lies beside others of the names of packages they measure

#: Bounds of figures, by section and name: at least (>=) or at most (<=).
GOALS: dict[tuple[str, str], tuple[str, float]] = {
    **{("agreement", f"{b}_float32_difference"): ("<=", 1e-4) for b in ("demo_clip", "demo_vit")},
    ("agreement", "vit_b32.openai_float32_difference"): ("<=", 1e-4),
    ("agreement", "vit_b32.openai_bfloat16_cosine"): (">=", 0.9999),
    ("agreement", "vit_b32.openai_float16_cosine"): (">=", 0.9999),
    **{(f"embedding {p}", "of_lower_limit"): (">=", 0.9) for p in ("float32", "bfloat16", "float16")},
    ("memory", "rows_differ_by"): ("<=", 1e-3),
    ("devices", "same_rows"): (">=", 1),
    ("maxima", "differ_by"): ("<=", 1e-5),
    ("fine-tuning", "of_bare"): (">=", 0.9),
}


@dataclass
class Check:
    """What the sections share."""

    dry: bool
    folder: Path
    limit: float
    started: float

    @property
    def device(self) -> str:
        """Where everything runs."""
        return "cpu" if self.dry else "cuda"

    @property
    def left(self) -> float:
        """Seconds until the limit."""
        return self.limit - (time.monotonic() - self.started)

    def photographs(self, n: int, n_files: int = 0) -> Any:
        """A data set of `n` rows over fewer files of AVA's size."""
        from benchmarks.embedding.images import linked_table, make_photographs, photograph_table

        n_files = n_files or (8 if self.dry else 200)
        make_photographs(self.folder / "photographs", n_files, None)
        table = photograph_table(self.folder / "photographs", n_files)
        return linked_table(table, self.folder / f"rows{n}", n)

    def load(self, id: str, device: str, precision: str = "float32") -> Any:
        """A backbone: the demo's own weights, others with random ones."""
        from benchmarks.embedding.models import load_random
        from embed.backbones.loading import load_backbone

        if id.startswith("demo_"):
            return load_backbone(id, device=device, precision=precision)
        return load_random(id, self.folder, device, precision)


def agreement(check: Check) -> dict[str, Any]:
    """Rows of the device against the CPU's: largest difference in units of the largest component, smallest
    cosine, for each precision."""
    import numpy as np

    from embed.pipeline import Options, embed_images, feature_path
    from store import open_features

    table = check.photographs(16 if check.dry else 64)

    def rows(name: str, backbone: Any) -> np.ndarray:
        embed_images(table, [backbone], check.folder / name, Options(batch_size=8))
        with open_features(feature_path(check.folder / name, backbone.id)) as features:
            return np.array(features.read(next(iter(features.outputs))), np.float64)

    found: dict[str, Any] = {}
    for id in ("demo_clip", "demo_vit") + (() if check.dry else ("vit_b32.openai",)):
        reference = rows("cpu", check.load(id, "cpu"))
        for precision in ("float32", "bfloat16", "float16"):
            if check.dry and precision == "float16":
                continue  # a CPU computes it very slowly
            got = rows(f"device_{precision}", check.load(id, check.device, precision))
            lengths = np.linalg.norm(got, axis=1) * np.linalg.norm(reference, axis=1)
            found[f"{id}_{precision}_cosine"] = float(((got * reference).sum(1) / lengths).min())
            apart = np.abs(got - reference).max() / np.abs(reference).max()
            found[f"{id}_{precision}_difference"] = float(apart)
    return found


def embedding(precision: str, check: Check) -> dict[str, Any]:
    """Five backbones of two geometries through 20,000 rows in one run."""
    from benchmarks.embedding import gpu
    from embed.backbones.device import free_memory

    ids = ("demo_clip", "demo_vit") if check.dry else gpu.BACKBONES
    table = check.photographs(24 if check.dry else 20_000)
    backbones = [check.load(id, check.device, precision) for id in ids]
    try:
        return gpu.measure_run(table, backbones, check.folder / f"run_{precision}")
    finally:
        del backbones
        free_memory(check.device)


def memory(check: Check) -> dict[str, Any]:
    """Out of memory in the middle of a run: the batch is halved, and the rows are those with room enough."""
    import torch

    from embed.backbones.device import free_memory
    from embed.batching import Encoder

    backbone = check.load("demo_clip" if check.dry else "vit_b32.openai", check.device)
    size, (height, width) = (16 if check.dry else 256), backbone.recipe.crop
    pixels = torch.randint(0, 256, (size, height, width, 3), dtype=torch.uint8).to(check.device)
    expected = Encoder(backbone, size).encode(pixels)["embedding"].cpu()
    encoder = Encoder(backbone, size)
    if check.dry:  # a CPU's memory cannot be taken away: the library's own error stands in
        whole = backbone.encode_images

        def refuse(images: Any) -> Any:
            if len(images) > size // 3:
                raise torch.OutOfMemoryError("planted")
            return whole(images)

        object.__setattr__(backbone, "encode_images", refuse)
        got = encoder.encode(pixels)["embedding"].cpu()
    else:
        free_memory(check.device)
        total = torch.cuda.get_device_properties(0).total_memory
        try:
            torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 120e6) / total)
            got = encoder.encode(pixels)["embedding"].cpu()
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
    if not encoder.size < size:
        raise RuntimeError(f"{size} images fitted: memory never ran out, so nothing was checked")
    apart = float((got - expected).abs().max() / expected.abs().max())
    return {"batch_begun_with": size, "batch_ended_with": encoder.size, "rows_differ_by": apart}


def devices(check: Check) -> dict[str, Any]:
    """`iaa embed --devices`: a process each, one file, the rows of one process to the bit."""
    import numpy as np
    import torch

    from store import open_features

    n = 2 if check.dry else torch.cuda.device_count()
    root = check.folder / "data"
    table = check.photographs(24)
    environment = {**os.environ, "IAA_DATA": str(root), "PYTHONPATH": str(ROOT)}

    def iaa(*arguments: object) -> dict[str, Any]:
        command = [sys.executable, "-m", "iaa", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            raise RuntimeError(f"iaa {' '.join(map(str, arguments))}: {done.stderr.strip()[-400:]}")
        return json.loads(done.stdout) if "--json" in arguments else {}

    rows = []
    for name, how in (("one", ("--device", check.device)), ("all", ("--devices", n))):
        iaa("dataset", "add", name, "--kind", "folder", "--images", table.root)
        answer = iaa("embed", "-d", name, "-b", "demo_vit", "--batch-size", 8, *how, "--json")
        with open_features(answer["files"][0]["path"]) as features:
            rows.append(np.array(features.read(next(iter(features.outputs)))))
    return {"n_devices": n, "same_rows": int(np.array_equal(*rows))}


def tests(check: Check) -> dict[str, Any]:
    """The tests marked gpu; in a dry run they are only collected."""
    how = ["--collect-only"] if check.dry else ["--timeout=200"]
    places = ["tests/embed/test_gpu.py", "tests/iaa/test_prompt.py", "tests/finetune/test_training.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *how, *places]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=max(60, check.left),
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
    )  # fmt: skip
    lines = (done.stdout + done.stderr).strip().splitlines()
    if done.returncode:
        raise RuntimeError("\n".join(lines[-15:]))
    return {"said": next((line for line in reversed(lines) if "passed" in line), lines[-1])}


def texts(check: Check) -> dict[str, Any]:
    """Prompts through the text tower at their own lengths."""
    import numpy as np

    from benchmarks.embedding.gpu import seconds_of
    from embed.prompts.sets import PROMPT_SETS, expand
    from embed.prompts.text import encode_part

    backbone = check.load("demo_clip" if check.dry else "vit_b32.openai", check.device)
    every = expand(PROMPT_SETS["paper_context"]).text
    n = 32 if check.dry else 4096
    some = [every[i] for i in np.linspace(0, len(every) - 1, n).astype(int)]
    encode_part(backbone, some[:16])
    seconds = seconds_of(lambda: encode_part(backbone, some), backbone.device)
    return {"prompts_s": n / seconds, "all_39000_seconds": len(every) * seconds / n}


def maxima(check: Check) -> dict[str, Any]:
    """Context maxima at AVA's size on the device, and the first rows against numpy's."""
    import numpy as np

    from benchmarks.embedding.gpu import seconds_of
    from embed.backbones.device import pick_device
    from embed.prompts.maxima import compute_maxima

    rng = np.random.default_rng(0)
    n_images, n_prompts, dim = (300, 78, 32) if check.dry else (255_522, 39_000, 512)
    text = rng.standard_normal((n_prompts, dim), np.float32)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    label = np.repeat(np.arange(39), n_prompts // 39)
    block = rng.standard_normal((min(n_images, 8192), dim), np.float32)
    blocks = [(start, block[: n_images - start]) for start in range(0, n_images, len(block))]
    device, found = pick_device(check.device), []
    compute_maxima([(0, block[:64])], 64, text, label, 39, check.device)
    seconds = seconds_of(
        lambda: found.append(compute_maxima(blocks, n_images, text, label, 39, check.device)), device
    )
    few = block[:200].astype(np.float64)
    cosine = few @ text.astype(np.float64).T / np.linalg.norm(few, axis=1, keepdims=True)
    expected = cosine.reshape(len(few), 39, -1).max(axis=2)
    apart = float(np.abs(found[0][0][: len(few)] - expected).max())
    return {"seconds": seconds, "tflops": 2e-12 * n_images * n_prompts * dim / seconds, "differ_by": apart}


def fine_tuning(check: Check) -> dict[str, Any]:
    """Steps of the training loop from the pixel cache beside forward + backward on one batch in memory."""
    from benchmarks.finetune import measure

    return measure(check.folder / "finetune", check.device, dry=check.dry)


def nvjpeg(check: Check) -> dict[str, Any]:
    """The graphics card's JPEG decoder beside libjpeg-turbo."""
    if check.dry:
        return {"said": "needs a GPU"}
    from benchmarks.embedding.gpu import nvjpeg as compare

    return compare(check.photographs(200), 200)


SECTIONS: dict[str, Callable[[Check], dict[str, Any]]] = {
    "agreement": agreement,
    "embedding float32": partial(embedding, "float32"),
    "embedding bfloat16": partial(embedding, "bfloat16"),
    "embedding float16": partial(embedding, "float16"),
    "memory": memory,
    "devices": devices,
    "tests": tests,
    "nvjpeg": nvjpeg,
    "texts": texts,
    "fine-tuning": fine_tuning,
    "maxima": maxima,
}


def judge(section: str, found: dict[str, Any], dry: bool) -> dict[str, str]:
    """By figure with a goal: met or missed. Speed in a dry run means nothing and is not judged."""
    verdicts = {}
    for (where, name), (sign, bound) in GOALS.items():
        if where != section or name not in found or (dry and name.startswith("of_")):
            continue
        is_met = found[name] >= bound if sign == ">=" else found[name] <= bound
        verdicts[name] = f"{'met' if is_met else 'MISSED'} ({sign} {bound:g})"
    return verdicts


def machine(check: Check) -> dict[str, Any]:
    """What was measured on."""
    import torch

    from embed.backbones.device import describe_device
    from store.system import n_cores

    device = torch.device("cpu" if check.dry else "cuda:0")
    return {
        "device": describe_device(device), "n_gpus": torch.cuda.device_count(), "cores": n_cores(),
        "python": platform.python_version(), "torch": torch.__version__, "dry": check.dry,
    }  # fmt: skip


def run_sections(check: Check, names: list[str], out: Path, report: dict[str, Any]) -> None:
    """Each section in turn; the report is complete after each of them."""
    from store.durable import write_json

    def keep() -> None:
        report["seconds"] = round(time.monotonic() - check.started, 1)
        write_json(out / "gpu.json", report)

    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        entry: dict[str, Any] = {"state": "left out: the time was up"}
        report["sections"][name] = entry
        if check.left <= 0:
            keep()
            continue
        entry["state"] = "stopped"
        keep()
        started = time.monotonic()
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            found = SECTIONS[name](check)
            entry |= {"state": "done", "figures": found, "goals": judge(name, found, check.dry)}
        except Exception as error:
            entry |= {"state": "failed", "error": f"{type(error).__name__}: {error}"}
            traceback.print_exc()
        entry["seconds"] = round(time.monotonic() - started, 1)
        keep()


def show(report: dict[str, Any]) -> None:
    """The table, and what it was measured on."""
    print("\n" + ", ".join(f"{key} {value}" for key, value in report["machine"].items()))
    for name, entry in report["sections"].items():
        print(f"{name:<22}{entry['state']}{entry.get('error', ''):>.200}  {entry.get('seconds', '')}")
        for figure, value in entry.get("figures", {}).items():
            shown = f"{value:.6g}" if isinstance(value, float) else str(value)
            print(f"    {figure:<40}{shown:>16}  {entry['goals'].get(figure, '')}")
    sys.stdout.flush()


def exit_status(report: dict[str, Any], names: list[str]) -> int:
    """1 if a section failed or was stopped, 3 if one was left out or a goal missed, else 0."""
    entries = [report["sections"].get(name, {"state": "left out"}) for name in names]
    if any(entry["state"] in ("failed", "stopped") for entry in entries):
        return 1
    missed = any("MISSED" in verdict for entry in entries for verdict in entry.get("goals", {}).values())
    return 3 if missed or any(entry["state"] != "done" for entry in entries) else 0


def stop(*_: object) -> None:
    """A request to stop ends the section that runs; what was measured is shown."""
    raise KeyboardInterrupt


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("build/gpu"), help="folder of gpu.json")
    parser.add_argument("--limit", type=float, default=540, help="seconds after which nothing is begun")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="SECTION",
                        help=f"some of: {', '.join(SECTIONS)}")  # fmt: skip
    parser.add_argument("--dry", action="store_true", help="on the CPU, tiny: does the script itself work?")
    given = parser.parse_args()
    started = time.monotonic()
    import torch

    if not given.dry and not torch.cuda.is_available():
        raise SystemExit("no GPU: CUDA is not available to this Python's torch. --dry runs on the CPU.")
    signal.signal(signal.SIGTERM, stop)
    report: dict[str, Any] = {"sections": {}}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        check = Check(given.dry, Path(folder), given.limit, started)
        report["machine"] = machine(check)
        try:
            run_sections(check, given.only, given.out, report)
        except KeyboardInterrupt:
            print("stopped: what was measured before stands below", file=sys.stderr)
        show(report)
    print(f"\n{given.out / 'gpu.json'}")
    raise SystemExit(exit_status(report, given.only))


if __name__ == "__main__":
    main()
