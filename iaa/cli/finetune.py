"""`iaa finetune`: a backbone trained end to end on the votes; its predictions go back into the store."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from finetune.settings import make_settings, meanings
from iaa.cli import options
from iaa.cli.console import answer, note, progress
from iaa.library import finetuning
from iaa.library.embedding import default_backbones
from iaa.library.supervision import crash_folder

if TYPE_CHECKING:
    from finetune.run import Run
    from finetune.training import Progress


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("finetune")(with_settings(finetune))


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option for each setting of `finetune.settings` that it does not take by itself;
    what is not typed is None, as in the preset."""
    signature = inspect.signature(command)
    own = {name: each for name, each in signature.parameters.items() if each.kind is not each.VAR_KEYWORD}
    hints = get_type_hints(command, include_extras=True)
    for name, (kind, meaning) in meanings().items():
        if name not in own:
            flags = [f"--{name.replace('_', '-')}"] if kind is bool else []
            hints[name] = Annotated[kind | None, typer.Option(*flags, help=meaning)]
            own[name] = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None)
    parameters = [each.replace(annotation=hints[name]) for name, each in own.items()]

    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = hints
    return command


def finetune(
    dataset: options.Dataset = None,
    backbone: options.Backbones = None,
    preset: Annotated[
        str, typer.Option(help="paper, nima or demo: where every setting that is not given comes from.")
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
    pixels: Annotated[
        Literal["cache", "stream"],
        typer.Option(help="cache: decode once, 150 KB an image at 224 pixels. stream: decode every epoch."),
    ] = "cache",
    threads: options.Threads = None,
    n_boot: options.Boot = 1000,
    weights: options.Weights = None,
    device: options.Device = "auto",
    data: options.Data = None,
    as_json: options.Json = False,
    **settings: Any,
) -> None:
    """Fine-tune backbones on the votes of the training images (the paper's section 4.3).

    The last layer becomes linear + softmax over the vote levels, the loss is emd_r2, and training stops when
    the loss on held-out training images no longer falls. Stop it at any time: the same command goes on where
    it stopped. The result is the backbone BACKBONE+finetuned.DIGEST: its predictions for all images lie in
    the store, and iaa embed knows it.

    Example: iaa finetune -d ava -b vit_b32.openai; watch it: tensorboard --logdir data/ava/finetuned
    """
    parts: list[str | None] = list(dict.fromkeys(train)) if train else [None]
    chosen = [make_settings(preset, {**settings, "train": part}) for part in parts]
    layout = options.choose_layout(dataset, data)
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
    notes = [
        f"{n_failed} images could not be read and took no part; see {each.folder}/run.json"
        for each in done
        if (n_failed := len(each.record["failures"]))
    ]
    asked = "".join(f" --backbone {name}" for name in backbone or [])
    notes.append(f"Next: iaa report --dataset {layout.dataset}{asked}")
    value = {"dataset": layout.dataset, "runs": [each.to_dict() for each in done]}
    answer(as_json, value, finetuning.runs_table(layout.dataset, done), notes=notes)


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
