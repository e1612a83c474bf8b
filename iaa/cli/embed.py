"""`iaa embed`: images and texts in, files out."""

import json
import os
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from iaa.cli import options
from iaa.cli.console import answer_json, answer_table, note, progress
from iaa.library import embedding
from iaa.library.embedding import How, default_backbones
from iaa.library.errors import UsageError
from iaa.library.layout import Layout, data_root
from iaa.library.opening import has_text, open_embedded
from iaa.library.supervision import crash_folder
from iaa.library.workers import choose_devices, embed_by_workers, local_device, parse_worker
from store import open_prompts, open_targets


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("embed")(embed)


def embed(
    context: typer.Context,
    dataset: options.Dataset = None,
    backbone: options.Backbones = None,
    prompts: Annotated[
        list[str] | None,
        typer.Option(
            "--prompts",
            "-p",
            help="Encode this prompt set instead of the images: paper_fixed, paper_context or a TOML file "
            "(repeatable).",
            show_default=False,
        ),
    ] = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    precision: options.Precision = options.FloatType.float32,
    engine: Annotated[
        options.Engine,
        typer.Option(
            help="What computes; part of what identifies the file. auto: what made the rows that are there, "
            "else on a CPU ONNX Runtime for convolutional networks, and torch."
        ),
    ] = options.Engine.auto,
    batch_size: Annotated[
        str,
        typer.Option(
            help="Images per forward pass, or auto: what an unfinished run has, else 32 on a CPU, up to 256 "
            "that fit on a GPU. Halved, and noted in the file, where memory runs out."
        ),
    ] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Decoding threads. Default: one per core.")
    ] = None,
    max_failures: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Stop if a larger share of at least 1,000 images fails.")
    ] = 0.05,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Refuse larger images, by their header.")
    ] = 200_000_000,
    exact: Annotated[
        bool, typer.Option("--exact", help="Decode and resize with Pillow, bit-equal to the library.")
    ] = False,
    worker: Annotated[
        str | None,
        typer.Option(
            help="I/N: make part I of N of the run, beside other processes, here or on machines that share "
            "the folder. Default: torchrun's RANK and WORLD_SIZE.",
            show_default=False,
        ),
    ] = None,
    devices: Annotated[
        str | None,
        typer.Option(
            help="all: one process per GPU. A number: of GPUs, or of CPU processes where there is none.",
            show_default=False,
        ),
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Only join the parts that workers have made. Needs no weights.")
    ] = False,
    check_content: Annotated[
        bool,
        typer.Option(
            "--check-content", help="Read the images of finished rows again: are they still the same bytes?"
        ),
    ] = False,
    update: Annotated[
        bool,
        typer.Option(
            "--update",
            help="Photographs were added, removed or replaced: keep the rows of those that are the same "
            "files, embed the others, try failed ones again.",
        ),
    ] = False,
    overwrite: options.Overwrite = False,
    data: options.Data = None,
    as_json: options.Json = False,
    progress_lines: Annotated[bool, typer.Option("--progress-lines", hidden=True)] = False,
) -> None:
    """Embed every image of a data set, each decoded once for all backbones; or, with --prompts, texts.

    Stop it at any time and run the same command again: finished parts are kept. A second run finds the
    finished files and does nothing. An image that cannot be read is a failed row with a reason.

    Where photographs have come, gone or changed since, a run is refused until it says --update (which keeps
    the rows of all others) or --overwrite (which does not).

    Several processes share the work with --devices, or with --worker 1/3, --worker 2/3 and --worker 3/3;
    the last one to finish joins the parts. One that was stopped is started again by its own command.

    Example: iaa embed -d holiday -b vit_b32.openai; iaa embed -d holiday -b vit_b32.openai -p paper_fixed
    """
    if sum([merge, devices is not None, worker is not None]) > 1:
        raise UsageError("--worker, --devices and --merge exclude each other: give one of them")
    if update and (merge or overwrite or devices is not None or worker is not None):
        raise UsageError("--update is for one process and keeps what is finished: give it alone")
    if merge and overwrite:
        raise UsageError("--merge finishes a run, --overwrite discards it: give one of them")
    if prompts and (update or merge or devices is not None or worker is not None):
        raise UsageError("--prompts encodes texts in one process: leave --update, --merge and workers out")
    layout = Layout(data_root(data), options.choose_dataset(dataset, data))
    if merge:
        _merge(layout, backbone, as_json)
        return
    ids = default_backbones(layout.dataset, backbone)
    files = options.weight_files(ids, weights)
    if prompts:
        _embed_prompts(layout, ids, prompts, files, device, overwrite, as_json)
        return
    n_per_batch = options.batch_size(batch_size)
    if devices is not None:
        _embed_by_workers(context, layout, ids, choose_devices(devices), n_per_batch, as_json)
        return
    how = How(
        weights=files,
        device=local_device(device, os.environ) if worker is None else device,
        precision=precision.value,
        engine=engine.value,
        batch_size=n_per_batch,
        threads=threads,
        max_failed_share=max_failures,
        max_pixels=max_pixels,
        exact=exact,
        overwrite=overwrite,
        check_content=check_content,
        crash_folder=crash_folder(),
        worker=None if update else parse_worker(worker, os.environ),
        n_siblings=int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if worker is None else 1,
    )
    _embed_here(layout, ids, how, as_json, progress_lines, update)


def _embed_here(
    layout: Layout, ids: list[str], how: How, as_json: bool, progress_lines: bool, update: bool
) -> None:
    on_rows = _print_rows if progress_lines else None
    done = embedding.embed(layout, ids, how, update, progress, note, on_rows)
    if as_json:
        _answer_outcomes(layout, done.outcomes, done.rate, **done.how, seconds=done.seconds)
        return
    _show_outcomes(done.outcomes)
    if done.n_new:
        how_many = f"{done.rate:,.0f} images/s; read to resize summed over {done.how['n_threads']} threads"
        rows = [[stage, float(s)] for stage, s in done.seconds.items()]
        answer_table(f"Seconds per stage ({how_many})", ["stage", "seconds"], rows)
    n_left = max((o.n_left for o in done.outcomes), default=0)
    if n_left:
        note(
            f"{n_left:,} rows are left to other workers, and the last one to finish joins the parts. Start "
            "one that was stopped again. Should the parts stay apart: "
            f"iaa embed --dataset {layout.dataset} --merge"
        )
        return
    if update and not done.n_new:
        note("Nothing to embed: every image is the same file as before, or one that cannot be read.")
    elif not done.n_new:
        note("Nothing to do: every file is finished for exactly this combination.")
    _note_next(layout, ids, how.weights)


def _embed_by_workers(
    context: typer.Context,
    layout: Layout,
    ids: list[str],
    devices: list[str],
    n_per_batch: int | None,
    as_json: bool,
) -> None:
    own = {"dataset", "devices", "device", "worker", "merge", "data", "as_json", "progress_lines"}
    arguments = [*_arguments_of(context, own), "--dataset", layout.dataset, "--data", str(layout.root)]
    done = embed_by_workers(layout, ids, devices, arguments, n_per_batch, progress, note)
    if done.n_dead:
        note(
            f"error: {done.n_dead} of {done.n_workers} workers did not finish. What is finished is kept: run "
            f"the same command again to go on (iaa embed --dataset {layout.dataset} ...)."
        )
        raise typer.Exit(1)
    if as_json:
        _answer_outcomes(layout, done.outcomes, done.rate, workers=done.answers)
        return
    _show_outcomes(done.outcomes)
    n_new = max((o.n_new for o in done.outcomes), default=0)
    if n_new:
        note(f"{n_new:,} images by {done.n_workers} workers, {done.rate:,.0f} images/s")
    else:
        note("Nothing to do: every file is finished for exactly this combination.")
    _note_next(layout, ids)


def _arguments_of(context: typer.Context, without: set[str]) -> list[str]:
    """The options of the running command, as they would be typed, but for those named."""
    words = []
    for option in context.command.params:
        value = context.params.get(str(option.name))
        if option.name in without or value is None or value is False or value == option.default:
            continue
        for each in value if isinstance(value, list | tuple) else [value]:
            words += [option.opts[0]] if each is True else [option.opts[0], str(each)]
    return words


def _merge(layout: Layout, backbone: list[str] | None, as_json: bool) -> None:
    outcomes = embedding.merge(layout, backbone)
    if as_json:
        _answer_outcomes(layout, outcomes, 0.0)
    elif outcomes:
        _show_outcomes(outcomes)
        _note_next(layout, [o.backbone for o in outcomes])
    else:
        note(f"Nothing to join: no run is unfinished in {layout.features}")


def _print_rows(n_rows: int, n_failed: int, is_new: bool) -> None:
    """One line of JSON on stdout for the process that started this worker."""
    print(json.dumps({"n_rows": n_rows, "n_failed": n_failed, "is_new": is_new}), flush=True)


def _answer_outcomes(layout: Layout, outcomes: list[Any], rate: float, **more: Any) -> None:
    files = [asdict(o) for o in outcomes]
    answer_json({"dataset": layout.dataset, "files": files, "images_per_second": rate, **more})


def _note_next(layout: Layout, ids: list[str], weights: Mapping[str, Path] | None = None) -> None:
    """A command that works now, whatever the data set has."""
    reading = [b for b in ids if has_text(b)]
    is_rated = open_targets(layout.targets).is_rated
    if reading:
        asked = f"--dataset {layout.dataset} --backbone {reading[0]}"
        if reading[0] in (weights or {}):  # texts go through the very weights that made the vectors
            asked += f" --weights {shlex.quote(str((weights or {})[reading[0]]))}"
        by = "embed --prompts paper_fixed" if is_rated else "rank --high beautiful --low ugly"
        note(f"Next: iaa {by} {asked}")
    elif is_rated:
        note(f"Next: iaa probe --dataset {layout.dataset}" + "".join(f" --backbone {b}" for b in ids))
    else:  # nothing to fit to, no words: any picture that has a vector
        with open_embedded(layout, ids[0]) as features:
            names = features.image_id[features.ok]
        if len(names):
            like = shlex.quote(str(names[0]))
            note(f"Next: iaa search --like {like} --dataset {layout.dataset} --backbone {ids[0]}")


def _embed_prompts(
    layout: Layout,
    ids: list[str],
    prompts: list[str],
    files: dict[str, Path],
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    if without := [name for name in ids if not has_text(name)]:
        note(f"no text tower, so no prompts: {', '.join(without)}")
    made = embedding.embed_prompts(layout, ids, prompts, files, device, overwrite, progress)
    if as_json:
        answer_json({"dataset": layout.dataset, "files": made.rows()})
        return
    if not len(made):
        note("Nothing to encode: name a CLIP backbone, such as --backbone vit_b32.openai")
        return
    rows = [[*row.values()] for row in made.rows()]
    answer_table("Prompt files", ["prompts", "backbone", "texts", "file", "digest"], rows)
    first = made.rows()[0]
    asked = f"--dataset {layout.dataset} --backbone {first['backbone']}"
    if not layout.features_of(first["backbone"]).exists():
        note(f"Next: iaa embed {asked}")
    elif first["prompts"] in embedding.DEFAULT_SETS and open_targets(layout.targets).is_rated:
        note(f"Next: iaa prompts evaluate {asked}")
    elif {1, -1} <= set(open_prompts(first["path"]).polarity.tolist()):
        note(f"Next: iaa rank --prompts {first['prompts']} {asked}")


def _show_outcomes(outcomes: list[Any]) -> None:
    rows = [
        [o.backbone, o.n_images, o.n_failed, o.n_new, o.n_left, str(o.path), o.digest[:12]] for o in outcomes
    ]
    answer_table("Feature files", ["backbone", "rows", "failed", "new", "left", "file", "digest"], rows)
    for outcome in outcomes:
        if outcome.n_failed and outcome.digest:
            _show_failures(outcome.path)


def _show_failures(path: Path) -> None:
    from store import open_features

    with open_features(path) as features:
        reasons = Counter(features.failures.values())
    note(f"failed rows of {path} by reason (all of them: iaa info {path}):")
    for reason, count in reasons.most_common(5):
        note(f"  {count:>6}  {reason}")
