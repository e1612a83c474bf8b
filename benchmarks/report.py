"""How long the report takes from cached arrays, page by page.

    python benchmarks/report.py                       a synthetic store of AVA's size: 255,522 x 512
    python benchmarks/report.py --rows 20000          a smaller one
    python benchmarks/report.py --data data --dataset demo    one that is there; its report is made anew

The synthetic store has votes from 1 to 10, a tenth for testing, one backbone with its 39 fixed prompts and
the maxima of 39,000 context-aware ones (drawn, not computed: `benchmarks/prompting.py` times that step, and
they are kept); no photographs. Each notebook is executed alone, twice: *first* finds no caches but the
maxima, *again* finds all of them. Then the whole report, as `iaa report` makes it, notebooks side by side.
Seconds of the wall and of all processors. What was written is removed at the end. Needs 2 GB of disk.
"""

import argparse
import logging
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path[0] = str(Path(__file__).resolve().parents[1])  # in the place of this folder, which has an embed.py

from analysis.prompting.maxima import ContextMaxima, maxima_key, save_context_maxima  # noqa: E402
from analysis.prompting.scores import index_labels  # noqa: E402
from analysis.report.study import NothingToShowError  # noqa: E402
from analysis.results.markup import to_markdown  # noqa: E402
from embed.prompts.sets import expand, get_prompt_set, prompt_columns  # noqa: E402
from iaa.library.layout import Layout  # noqa: E402
from iaa.library.opening import embedded_backbones  # noqa: E402
from iaa.library.reports import make_report  # noqa: E402
from notebooks.run import execute, report_notebooks, run_report  # noqa: E402
from store import Status, Targets, open_features, open_prompts, write_targets  # noqa: E402
from store.features import FEATURES_SCHEMA  # noqa: E402
from store.prompts import PROMPTS_SCHEMA  # noqa: E402
from store.sealed import write_sealed  # noqa: E402

AVA = 255_522
"""About as many photographs as AVA has."""
NAME = "synthetic"
LEVELS = np.arange(1, 11)


def make(root: Path, n: int, dim: int) -> Path:
    """The store; returns its folder."""
    folder = root / NAME
    rng = np.random.default_rng(0)
    quality = rng.normal(size=n).astype(np.float32)
    ids = np.array([f"{i:06d}" for i in range(n)])
    votes = draw_votes(quality, rng)
    split = np.where(rng.random(n) < 0.1, "test", "train")
    targets = Targets(ids, ids, votes, None, LEVELS, 5.0, split, "tenth", NAME)
    write_targets(folder / "targets.h5", targets, {}, {})
    axis = rng.normal(size=dim).astype(np.float32) / np.float32(np.sqrt(dim))
    x = np.empty((n, dim), np.float32)
    mixing = (rng.normal(size=(dim, dim)) / np.sqrt(np.arange(1, dim + 1))[:, None]).astype(np.float32)
    for start in range(0, n, 8192):
        some = slice(start, min(start + 8192, n))
        x[some] = rng.standard_normal((some.stop - start, dim), np.float32) @ mixing
        x[some] += quality[some, None] * axis + np.float32(0.3)
    arrays: dict[str, np.ndarray] = {
        "image_id": ids, "status": np.full(n, Status.OK, np.uint8), "failures/row": np.zeros(0, np.int64),
        "failures/reason": np.zeros(0, "S1"), "outputs/embedding": x,
    }  # fmt: skip
    identity = {
        "backbone": NAME, "outputs": {"embedding": dim}, "preprocessing": "none", "weights_sha256": "none",
    }  # fmt: skip
    write_sealed(folder / "features" / f"{NAME}.h5", FEATURES_SCHEMA, identity, {}, arrays)
    for kind in ("fixed", "context"):
        table = expand(get_prompt_set(f"paper_{kind}"))
        columns = prompt_columns(table)
        texts = rng.standard_normal((len(columns["text"]), dim), np.float32)
        texts += 3 * columns["polarity"][:, None].astype(np.float32) * axis
        path = folder / "prompts" / f"paper_{kind}" / f"{NAME}.h5"
        about = {"prompt_set": f"paper_{kind}", "backbone": NAME}
        write_sealed(path, PROMPTS_SCHEMA, about, {}, columns | {"outputs/embedding": texts})
    keep_maxima(folder, quality, rng)
    return folder


def draw_votes(quality: np.ndarray, rng: np.random.Generator, n_votes: int = 210) -> np.ndarray:
    """So many votes per photograph, as AVA has on average: counts by level."""
    centre = 5.4 + 0.7 * quality
    bell = np.exp(-0.5 * ((LEVELS - centre[:, None]) / 1.4) ** 2)
    return rng.multinomial(n_votes, bell / bell.sum(axis=1, keepdims=True)).astype(np.int64)


def keep_maxima(folder: Path, quality: np.ndarray, rng: np.random.Generator) -> None:
    """Maxima of context-aware prompts under the key by which they are looked for."""
    context = open_prompts(folder / "prompts" / "paper_context" / f"{NAME}.h5")
    features = open_features(folder / "features" / f"{NAME}.h5")
    index = index_labels(context.label.tolist(), context.polarity)
    shape = (len(quality), index.n_labels)
    sign = index.polarity.astype(np.float32) * np.float32(0.01)
    maximum, mean = (
        centre + quality[:, None] * sign + np.float32(0.02) * rng.standard_normal(shape, np.float32)
        for centre in (np.float32(0.25), np.float32(0.15))
    )
    of_label = np.stack([np.flatnonzero(index.of_prompt == k)[:1000] for k in range(index.n_labels)])
    winner = of_label[np.arange(index.n_labels), rng.integers(0, of_label.shape[1], shape)]
    found = ContextMaxima(index.labels, index.polarity, maximum, winner.astype(np.int32), mean)
    cache = folder / "derived" / f"context_maxima_{NAME}.h5"
    save_context_maxima(cache, found, maxima_key(features, "embedding", context))


def timed(work: Callable[[], Any]) -> tuple[str, str]:
    """Wall and processor seconds, those of kernels included."""
    started, before = time.perf_counter(), _processor()
    try:
        work()
    except NothingToShowError as reason:
        return str(reason)[:60], ""
    return f"{time.perf_counter() - started:.1f}", f"{_processor() - before:.1f}"


def _processor() -> float:
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def measure(folder: Path, whole: Callable[[list[Path]], Path], backbones: list[str], n_passes: int) -> None:
    """Each page alone, `n_passes` times over, then all."""
    report = folder / "report"
    parameters = {
        "dataset": folder.name, "dataset_dir": str(folder), "images_dir": str(folder / "images"),
        "report_dir": str(report), "backbones": backbones, "seed": 0, "n_boot": 1000,
    }  # fmt: skip
    (report / "results").mkdir(parents=True, exist_ok=True)
    pages = sorted(report_notebooks(), key=lambda path: path.stem == "index")  # which reads the others
    lines = {path.stem: [path.stem] for path in pages}
    for _ in range(n_passes):
        for path in pages:
            run = lambda path=path: execute(path, report / "notebooks" / path.name, parameters)  # noqa: E731
            lines[path.stem] += timed(run)
            print(*lines[path.stem], flush=True)
    total = timed(lambda: whole([path for path in pages if lines[path.stem][-1]]))
    for stem, line in lines.items():
        page = report / f"{stem}.html"
        line.append(f"{page.stat().st_size / 1e6:.2f}" if page.exists() else "")
    passes = ("first", "again")[:n_passes]
    headings = ["page", *(f"{p}, {of} (s)" for p in passes for of in ("wall", "processor")), "MB"]
    end = ["the whole report", *[""] * (2 * n_passes - 2), *total][: 2 * n_passes + 1]
    size = sum(f.stat().st_size for f in report.rglob("*") if f.is_file())
    print("\n" + to_markdown(headings, [*lines.values(), [*end, f"{size / 1e6:.1f}"]]))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    print(f"\nLargest memory of one notebook: {peak:.1f} GB, with what is mapped from files")


def main() -> None:
    """Make, measure, print, remove."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=AVA)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--data", type=Path, help="data root of a data set that is there")
    parser.add_argument("--dataset", default="demo", help="its name (default demo)")
    parser.add_argument("--once", action="store_true", help="without the second pass over the pages")
    given = parser.parse_args()
    logging.getLogger("papermill").setLevel(logging.ERROR)
    n_passes = 1 if given.once else 2
    if given.data:
        layout = Layout(given.data.resolve(), given.dataset)
        measure(layout.folder, lambda _: make_report(layout), embedded_backbones(layout, None), n_passes)
        return
    with tempfile.TemporaryDirectory(prefix="report-") as root:
        started = time.perf_counter()
        folder = make(Path(root), given.rows, given.dim)
        print(f"{given.rows:,} x {given.dim}, made in {time.perf_counter() - started:.0f} s", flush=True)
        parameters = {
            "dataset": NAME, "dataset_dir": str(folder), "images_dir": str(folder / "images"),
            "report_dir": str(folder / "report"), "backbones": [NAME], "seed": 0, "n_boot": 1000,
        }  # fmt: skip
        measure(folder, lambda pages: run_report(folder / "report", parameters, pages), [NAME], n_passes)


if __name__ == "__main__":
    main()
