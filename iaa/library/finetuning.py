"""A backbone trained end to end on the votes; its predictions go back into the store."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from iaa.library.embedding import log_run, prepare_table
from iaa.library.layout import Layout
from iaa.library.opening import next_report
from iaa.library.progress import Progress, Say, log, show_progress
from iaa.library.results import metric_text
from iaa.library.table import Table
from store import Features, open_features, open_targets

if TYPE_CHECKING:
    from analysis.results.methods import MethodResult
    from embed.backbones.loading import Backbone
    from embed.images.datasets import ImageTable
    from embed.options import Options
    from finetune import training
    from finetune.run import Run
    from finetune.settings import Settings
    from finetune.sources import Source

Pixels = Literal["cache", "stream"]


@dataclass(frozen=True)
class Watch:
    """Who wants to know what a training is doing; each is called with plain values."""

    on_begin: "Callable[[Run, int, int, bool], None]"
    """The run, images to learn from, images held out, and whether it is finished already."""
    on_step: "Callable[[training.Progress], None]"
    on_epoch: Callable[[dict[str, float]], None]
    on_pixels: Callable[[int, int], None]
    """Bytes that the pixel cache will take, and bytes that are free."""


@contextmanager
def watching(progress: Callable[..., AbstractContextManager[Any]], say: Say) -> Iterator[Watch]:
    """Progress within each epoch with loss and time left, and a line for each epoch that is done."""
    shown = ExitStack()
    bar: Any = None

    def on_begin(run: "Run", n_fitted: int, n_held_out: int, is_finished: bool) -> None:
        counts = f"{n_fitted:,} images to learn from, {n_held_out:,} held out"
        say(f"{run.id} is finished: {run.folder}" if is_finished else f"{run.id}: {counts}; {run.folder}")

    def on_step(step: "training.Progress") -> None:
        nonlocal bar
        if bar is None:
            done = step.step - 1
            opened = progress(f"epoch {step.epoch}", step.n_steps, "steps", initial=done, stays=False)
            bar = shown.enter_context(opened)
        bar.update(1)
        bar.set_postfix_str(f"emd_r2 {step.loss:.4f}")

    def on_epoch(entry: dict[str, float]) -> None:
        nonlocal bar
        shown.close()
        bar = None
        say(
            f"epoch {entry['epoch']:.0f}: emd_r2 {entry['train_loss']:.4f} train, "
            f"{entry['held_out_loss']:.4f} held out, SRCC {entry['held_out_srcc']:.4f} held out, "
            f"{entry['seconds']:,.0f} s"
        )

    def on_pixels(n_bytes: int, n_free: int) -> None:
        say(f"pixel cache: {n_bytes / 1e9:.2f} GB will be written, {n_free / 1e9:.1f} GB are free")

    with shown:
        yield Watch(on_begin, on_step, on_epoch, on_pixels)


@dataclass(frozen=True)
class Finetuned:
    """A finished run: its record, and what its predictions reach on the test images."""

    id: str
    folder: Path
    record: dict[str, Any]
    result: "MethodResult | None"
    """None where the data set has no test images."""

    def to_dict(self) -> dict[str, Any]:
        """Record, settings and result as plain values."""
        result = None if self.result is None else asdict(self.result)
        return self.record | {"settings": self.record["identity"]["settings"], "result": result}


class FinetunedRuns(list[Finetuned]):
    """Finished runs, backbone by backbone."""

    def __init__(self, dataset: str, done: "Sequence[Finetuned]", backbones: Sequence[str] | None) -> None:
        super().__init__(done)
        self.dataset = dataset
        self.asked = backbones

    def table(self) -> Table:
        """A row per finished run, with what it reaches on the test images."""
        records = [each.record for each in self]
        results = [each.result for each in self]
        return Table(
            f"Fine-tuned on {self.dataset}",
            {
                "backbone": [each.id for each in self],
                "trained": [record["identity"]["settings"]["train"] for record in records],
                "parameters": [record["n_trainable"] for record in records],
                "best epoch": [f"{record['best_epoch']} of {record['n_epochs']}" for record in records],
                "held-out emd_r2": [record["best"]["held_out_loss"] for record in records],
                "SRCC test": [metric_text(result.srcc) if result else "" for result in results],
                "accuracy test": [metric_text(result.accuracy) if result else "" for result in results],
                "seconds": [round(record["seconds"]) for record in records],
            },
        )

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {"dataset": self.dataset, "runs": [each.to_dict() for each in self]}

    def notes(self) -> Iterator[str]:
        """Images that took no part, and what is next."""
        for each in self:
            if n_failed := len(each.record["failures"]):
                yield f"{n_failed} images could not be read and took no part; see {each.folder}/run.json"
        yield next_report(self.dataset, self.asked)


def finetune_by_preset(
    layout: Layout,
    backbones: Sequence[str] | None,
    preset: str = "paper",
    train: Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    weights: Mapping[str, Path] | None = None,
    device: str = "auto",
    output: str | None = None,
    pixels: Pixels = "cache",
    threads: int | None = None,
    n_boot: int = 1000,
    progress: Progress | None = None,
    say: Say = log,
    crash_folder: Path | None = None,
) -> FinetunedRuns:
    """Train backbones (default: as for `embed`) once for each of `train`, by a preset and what of it is set
    otherwise; says how each epoch went. Raises FinetuneError, UsageError, and as load_backbones."""
    from finetune.settings import make_settings
    from iaa.library.embedding import default_backbones

    parts: list[str | None] = list(dict.fromkeys(train)) if train else [None]
    chosen = [make_settings(preset, {**(settings or {}), "train": part}) for part in parts]
    ids = default_backbones(layout.dataset, backbones)
    with watching(progress or show_progress, say) as watch:
        how = (output, pixels, threads, crash_folder, n_boot, progress)
        return FinetunedRuns(
            layout.dataset, finetune(layout, ids, chosen, dict(weights or {}), device, watch, *how), backbones
        )


def finetune(
    layout: Layout,
    backbones: Sequence[str],
    settings: "Sequence[Settings]",
    weights: dict[str, Path],
    device: str,
    watch: Watch,
    output: str | None = None,
    pixels: Pixels = "cache",
    threads: int | None = None,
    crash_folder: Path | None = None,
    n_boot: int = 1000,
    progress: Progress | None = None,
) -> list[Finetuned]:
    """Train every backbone with every settings, each gone on with where it stopped (section 4.3).

    Raises FinetuneError for ratings that teach nothing, and as load_backbones.
    """
    from embed.options import Options
    from iaa.library.backbones import load_backbones
    from store.system import n_cores

    config, table = prepare_table(layout)
    how = Options(
        exif_rotate=config.exif_rotate, n_threads=threads or min(32, n_cores()), crash_folder=crash_folder
    )
    show = progress or show_progress
    done = []
    for name in backbones:
        for chosen in settings:
            (loaded,) = load_backbones([name], weights, device)  # anew: training changes the weights
            done.append(_one(layout, table, loaded, chosen, how, watch, output, pixels, n_boot, show))
    return done


def _one(
    layout: Layout,
    table: "ImageTable",
    loaded: "Backbone",
    settings: "Settings",
    how: "Options",
    watch: Watch,
    output: str | None,
    pixels: Pixels,
    n_boot: int,
    progress: Progress,
) -> Finetuned:
    from embed.pipeline import embed_images
    from finetune.run import finetune as run_finetune
    from finetune.run import plan_run
    from finetune.targets import build_lesson
    from finetune.tuned import load_tuned, read_record

    targets = open_targets(layout.targets)
    lesson = build_lesson(targets, settings.held_out)
    run = plan_run(loaded, targets, table.digest, lesson, settings, how, layout.finetuned, output)
    device = loaded.device
    watch.on_begin(run, len(lesson.fitted), len(lesson.held_out), read_record(run.folder) is not None)

    def source() -> "Source":
        return _source(layout, table, loaded, run, how, pixels, watch, progress)

    record = run_finetune(run, loaded, source, watch.on_step, watch.on_epoch)
    embed_images(table, [load_tuned(run.folder, device)], layout.features, how)
    log_run(layout, {"command": "finetune", "id": run.id, "seconds": record["seconds"]})
    return Finetuned(run.id, run.folder, record, _measure(layout, run.id, n_boot))


def _measure(layout: Layout, backbone_id: str, n_boot: int) -> "MethodResult | None":
    from analysis.results.finetuning import evaluate_finetuned
    from embed.pipeline import feature_path

    targets = open_targets(layout.targets)
    if (targets.split == "test").sum() < 2:
        return None
    with open_features(feature_path(layout.features, backbone_id)) as features:
        return evaluate_finetuned(features, targets, n_boot)


def _source(
    layout: Layout,
    table: "ImageTable",
    loaded: "Backbone",
    run: "Run",
    how: "Options",
    pixels: Pixels,
    watch: Watch,
    progress: Progress,
) -> "Source":
    from finetune.pixels import build_pixels, pixel_plan
    from finetune.sources import CachedPixels, StoredFeatures, StreamedPixels

    if run.settings.train == "head":
        features = _features(layout, table, loaded, how)
        return StoredFeatures(features.read(run.output), features.failures)
    if pixels == "stream":
        return StreamedPixels(table, loaded, how)
    plan = pixel_plan(table, loaded, layout.pixels, how)
    with progress("pixel cache", len(table), "images") as bar:
        cache = build_pixels(table, loaded, plan, how, watch.on_pixels, lambda n, n_failed: bar.update(n))
    return CachedPixels(cache, loaded)


def _features(layout: Layout, table: "ImageTable", loaded: "Backbone", how: "Options") -> Features:
    from embed.pipeline import embed_images

    (outcome,) = embed_images(table, [loaded], layout.features, how)
    return open_features(outcome.path)
