"""`iaa finetune`: a backbone trained end to end on the votes; its predictions go back into the store."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from iaa import options
from iaa.console import answer_json, answer_table, note, progress
from iaa.paths import Layout, data_root
from iaa.supervision import crash_folder
from iaa.work import interval_cell, load_backbones, load_table, log_run
from store import Features, open_features, open_targets
from store.system import n_cores

if TYPE_CHECKING:
    from embed.datasets import ImageTable
    from embed.loading import Backbone
    from embed.options import Options
    from finetune.run import Run
    from finetune.sources import Source
    from finetune.training import Progress

Rate = typer.Option(min=0.0, show_default=False)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("finetune")(finetune)


def finetune(
    dataset: options.Dataset = "demo",
    backbone: options.Backbones = None,
    preset: Annotated[
        str,
        typer.Option(help="paper, nima or demo: where every setting that is not given comes from."),
    ] = "paper",
    train: Annotated[
        list[str] | None,
        typer.Option(
            help="all; last:K for the last K blocks; head for the new layer on frozen features. Repeatable.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="Output the new layer is put on. Default: the backbone's first.")
    ] = None,
    optimizer: Annotated[str | None, typer.Option(help="sgd or adam.", show_default=False)] = None,
    momentum: Annotated[float | None, typer.Option(help="Of sgd.", show_default=False)] = None,
    lr_head: Annotated[
        float | None, typer.Option(help="Learning rate of the new layer.", show_default=False)
    ] = None,
    lr_tower: Annotated[
        float | None, typer.Option(help="Learning rate of everything else.", show_default=False)
    ] = None,
    lr_head_first: Annotated[
        float | None, typer.Option(help="Of the new layer during --head-epochs.", show_default=False)
    ] = None,
    weight_decay_head: Annotated[
        float | None, typer.Option(help="Of the new layer.", show_default=False)
    ] = None,
    weight_decay_tower: Annotated[
        float | None, typer.Option(help="Of everything else.", show_default=False)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images per step of the optimiser.", show_default=False)
    ] = None,
    micro_batch: Annotated[
        int | None,
        typer.Option(min=0, help="Images per forward pass, where memory is short.", show_default=False),
    ] = None,
    dropout: Annotated[float | None, typer.Option(help="Before the new layer.", show_default=False)] = None,
    head_epochs: Annotated[
        int | None, typer.Option(min=0, help="Epochs for the new layer alone, at first.", show_default=False)
    ] = None,
    max_epochs: Annotated[int | None, typer.Option(min=1, help="Stop after.", show_default=False)] = None,
    patience: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many epochs without gain.", show_default=False)
    ] = None,
    held_out: Annotated[
        float | None, typer.Option(help="Share of train that decides when to stop.", show_default=False)
    ] = None,
    update_batch_norm: Annotated[
        bool | None,
        typer.Option("--update-batch-norm", help="Let batch norms follow the images.", show_default=False),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32 or bfloat16 (autocast).", show_default=False)
    ] = None,
    compile: Annotated[
        bool | None, typer.Option("--compile", help="torch.compile the model.", show_default=False)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of order, dropout and the new layer.", show_default=False)
    ] = None,
    pixels: Annotated[
        Literal["cache", "stream"],
        typer.Option(help="cache: decode once, 150 KB an image at 224 pixels. stream: decode every epoch."),
    ] = "cache",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Decoding threads. Default: one per core.")
    ] = None,
    n_boot: options.Boot = 1000,
    weights: options.Weights = None,
    device: options.Device = "auto",
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Fine-tune backbones on the votes of the training images (the paper's section 4.3).

    The last layer becomes linear + softmax over the vote levels, the loss is emd_r2, and training stops when
    the loss on held-out training images no longer falls. Stop it at any time: the same command goes on where
    it stopped. The result is the backbone BACKBONE+finetuned.DIGEST: its predictions for all images lie in
    the store, and iaa embed knows it.

    Example: iaa finetune -d ava -b vit_b32.openai; watch it: tensorboard --logdir data/ava/finetuned
    """
    from embed.options import Options as EmbedOptions
    from finetune.settings import make_settings

    changes = {
        "optimizer": optimizer, "momentum": momentum, "lr_head": lr_head,
        "lr_tower": lr_tower, "lr_head_first": lr_head_first, "weight_decay_head": weight_decay_head,
        "weight_decay_tower": weight_decay_tower, "batch_size": batch_size, "micro_batch": micro_batch,
        "dropout": dropout, "head_epochs": head_epochs, "max_epochs": max_epochs, "patience": patience,
        "held_out": held_out, "update_batch_norm": update_batch_norm, "precision": precision,
        "compile": compile, "seed": seed,
    }  # fmt: skip
    parts: list[str | None] = list(dict.fromkeys(train)) if train else [None]
    chosen = [make_settings(preset, {**changes, "train": part}) for part in parts]
    layout = Layout(data_root(data), dataset)
    ids = options.default_backbones(dataset, backbone)
    files = options.weight_files(ids, weights)
    config, table = load_table(layout, quiet=as_json)
    how = EmbedOptions(
        exif_rotate=config.exif_rotate, n_threads=threads or min(32, n_cores()), crash_folder=crash_folder()
    )
    answers = []
    for name, settings in product(ids, chosen):
        (loaded,) = load_backbones([name], files, device)  # anew each time: training changes the weights
        answers.append(_finetune_one(layout, table, loaded, settings, how, output, pixels, n_boot))
    if as_json:
        answer_json({"dataset": dataset, "runs": answers})
        return
    rows = [
        [a["id"], a["settings"]["train"], a["n_trainable"], f"{a['best_epoch']} of {a['n_epochs']}",
         f"{a['best']['held_out_loss']:.4f}", a["srcc"], a["accuracy"], f"{a['seconds']:,.0f}"]
        for a in answers
    ]  # fmt: skip
    columns = ["backbone", "trained", "parameters", "best epoch", "held-out emd_r2", "SRCC test"]
    answer_table(f"Fine-tuned on {dataset}", [*columns, "accuracy test", "seconds"], rows)
    note(f"Next: iaa report --dataset {dataset}")


def _finetune_one(
    layout: Layout,
    table: "ImageTable",
    loaded: "Backbone",
    settings: Any,
    how: "Options",
    output: str | None,
    pixels: str,
    n_boot: int,
) -> dict[str, Any]:
    from embed.pipeline import embed_images
    from finetune.run import finetune as run_finetune
    from finetune.run import plan_run
    from finetune.targets import build_lesson
    from finetune.tuned import load_tuned, read_record

    targets = open_targets(layout.targets)
    lesson = build_lesson(targets, settings.held_out)
    run = plan_run(loaded, targets, table.digest, lesson, settings, how, layout.finetuned, output)
    device = loaded.device
    if read_record(run.folder) is not None:
        note(f"{run.id} is finished: {run.folder}")
    else:
        note(
            f"{run.id}: {len(lesson.fitted):,} images to learn from, {len(lesson.held_out):,} held out, "
            f"{len(lesson.levels)} levels; {run.folder}"
        )
    with _bar(loaded.id) as (on_step, on_epoch):
        record = run_finetune(
            run, loaded, lambda: _source(layout, table, loaded, run, how, pixels), on_step, on_epoch
        )
    if record["failures"]:
        n_failed = len(record["failures"])
        note(f"{n_failed} images could not be read and took no part; see {run.folder}/run.json")
    tuned = load_tuned(run.folder, device)
    embed_images(table, [tuned], layout.features, how)
    log_run(layout, {"command": "finetune", "id": run.id, "seconds": record["seconds"]})
    return {**record, "settings": record["identity"]["settings"], **_test_metrics(layout, run.id, n_boot)}


def _test_metrics(layout: Layout, backbone_id: str, n_boot: int) -> dict[str, str]:
    """SRCC and accuracy on the test images as cells; empty where the data set has no test images."""
    from analysis.finetuning import evaluate_finetuned
    from embed.pipeline import feature_path

    targets = open_targets(layout.targets)
    with open_features(feature_path(layout.features, backbone_id)) as features:
        if (targets.split == "test").sum() < 2:
            return {"srcc": "", "accuracy": ""}
        result = evaluate_finetuned(features, targets, n_boot)
    return {"srcc": interval_cell(result.srcc), "accuracy": interval_cell(result.accuracy)}


def _source(
    layout: Layout, table: "ImageTable", loaded: "Backbone", run: "Run", how: "Options", pixels: str
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
        cache = build_pixels(table, loaded, plan, how, _announce, lambda n, n_failed: bar.update(n))
    return CachedPixels(cache, loaded)


def _features(layout: Layout, table: "ImageTable", loaded: "Backbone", how: "Options") -> Features:
    from embed.pipeline import embed_images

    (outcome,) = embed_images(table, [loaded], layout.features, how)
    return open_features(outcome.path)


def _announce(n_bytes: int, n_free: int) -> None:
    note(f"pixel cache: {n_bytes / 1e9:.2f} GB will be written, {n_free / 1e9:.1f} GB are free")


@contextmanager
def _bar(
    name: str,
) -> "Iterator[tuple[Callable[[Progress], None], Callable[[dict[str, float]], None]]]":
    """Progress within each epoch with loss and time left, and a line for each epoch that is done."""
    shown = ExitStack()
    bar: Any = None

    def on_step(step: "Progress") -> None:
        nonlocal bar
        if bar is None:
            title = f"{name}, epoch {step.epoch}"
            bar = shown.enter_context(
                progress(title, step.n_steps, "steps", initial=step.step - 1, stays=False)
            )
        bar.update(1)
        bar.set_postfix_str(f"emd_r2 {step.loss:.4f}")

    def on_epoch(entry: dict[str, float]) -> None:
        nonlocal bar
        shown.close()
        bar = None
        note(
            f"epoch {entry['epoch']:.0f}: emd_r2 {entry['train_loss']:.4f} train, "
            f"{entry['held_out_loss']:.4f} held out, SRCC {entry['held_out_srcc']:.4f} held out, "
            f"{entry['seconds']:,.0f} s"
        )

    with shown:
        yield on_step, on_epoch
