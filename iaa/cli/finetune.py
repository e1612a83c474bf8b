"""`iaa finetune`: a backbone trained end to end on the votes; its predictions go back into the store."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from iaa.cli import options
from iaa.cli.console import answer_json, answer_table, interval_cell, note, progress
from iaa.library import finetuning
from iaa.library.embedding import default_backbones
from iaa.library.layout import Layout, data_root
from iaa.library.supervision import crash_folder

if TYPE_CHECKING:
    from finetune.run import Run
    from finetune.training import Progress


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("finetune")(finetune)


def finetune(
    dataset: options.Dataset = None,
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
    layout = Layout(data_root(data), options.choose_dataset(dataset, data))
    ids = default_backbones(layout.dataset, backbone)
    files = options.weight_files(ids, weights)
    with _watching() as watch:
        done = finetuning.finetune(
            layout,
            ids,
            chosen,
            files,
            device,
            watch,
            output,
            pixels,
            threads,
            crash_folder(),
            n_boot,
            progress,
        )
    if as_json:
        runs = [
            d.record
            | {"settings": d.record["identity"]["settings"]}
            | {"result": None if d.result is None else asdict(d.result)}
            for d in done
        ]
        answer_json({"dataset": layout.dataset, "runs": runs})
        return
    columns = ["backbone", "trained", "parameters", "best epoch", "held-out emd_r2", "SRCC test"]
    answer_table(
        f"Fine-tuned on {layout.dataset}", [*columns, "accuracy test", "seconds"], [_cells(d) for d in done]
    )
    for d in done:
        if d.record["failures"]:
            n_failed = len(d.record["failures"])
            note(f"{n_failed} images could not be read and took no part; see {d.folder}/run.json")
    asked = "".join(f" --backbone {name}" for name in backbone or [])
    note(f"Next: iaa report --dataset {layout.dataset}{asked}")


def _cells(done: finetuning.Finetuned) -> list[Any]:
    record, result = done.record, done.result
    metrics = (None, None) if result is None else (result.srcc, result.accuracy)
    return [
        done.id, record["identity"]["settings"]["train"], record["n_trainable"],
        f"{record['best_epoch']} of {record['n_epochs']}", f"{record['best']['held_out_loss']:.4f}",
        *(interval_cell(metric) for metric in metrics), f"{record['seconds']:,.0f}",
    ]  # fmt: skip


def _begin(run: "Run", n_fitted: int, n_held_out: int, is_finished: bool) -> None:
    if is_finished:
        note(f"{run.id} is finished: {run.folder}")
    else:
        note(f"{run.id}: {n_fitted:,} images to learn from, {n_held_out:,} held out; {run.folder}")


def _announce(n_bytes: int, n_free: int) -> None:
    note(f"pixel cache: {n_bytes / 1e9:.2f} GB will be written, {n_free / 1e9:.1f} GB are free")


@contextmanager
def _watching() -> Iterator[finetuning.Watch]:
    """Progress within each epoch with loss and time left, and a line for each epoch that is done."""
    shown = ExitStack()
    bar: Any = None

    def on_step(step: "Progress") -> None:
        nonlocal bar
        if bar is None:
            title = f"epoch {step.epoch}"
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
        yield finetuning.Watch(_begin, on_step, on_epoch, _announce)
