"""`iaa embed` and `iaa embed-prompts`: images and texts in, files out."""

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from iaa import options
from iaa.console import answer_json, answer_table, note, progress
from iaa.paths import Layout, data_root
from iaa.supervision import crash_folder
from iaa.work import has_text, load_backbones, load_table, log_run
from iaa.workers import arguments_of, choose_devices, local_device, parse_worker, run_workers
from store import open_targets
from store.parts import begun_provenance, part_bounds
from store.system import n_cores

RESUMING = "resuming: {} of {} images are done already"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("embed")(embed)
    app.command("embed-prompts")(embed_prompts)


def embed(
    context: typer.Context,
    dataset: options.Dataset = "demo",
    backbone: options.Backbones = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    precision: options.Precision = options.FloatType.float32,
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
    """Embed every image of a data set: each is decoded once for all backbones asked for.

    Stop it at any time and run the same command again: finished parts are kept. A second run finds the
    finished files and does nothing. An image that cannot be read is a failed row with a reason.

    Where photographs have come, gone or changed since, a run is refused until it says --update (which keeps
    the rows of all others) or --overwrite (which does not).

    Several processes share the work with --devices, or with --worker 1/3, --worker 2/3 and --worker 3/3;
    the last one to finish joins the parts. One that was stopped is started again by its own command.
    """
    from embed.finished import feature_path, finished_already, note_finished
    from embed.options import Options

    if sum([merge, devices is not None, worker is not None]) > 1:
        raise typer.BadParameter("--worker, --devices and --merge exclude each other: give one of them")
    if update and (merge or overwrite or devices is not None or worker is not None):
        raise typer.BadParameter("--update is for one process and keeps what is finished: give it alone")
    if merge and overwrite:
        raise typer.BadParameter("--merge finishes a run, --overwrite discards it: give one of them")
    layout = Layout(data_root(data), dataset)
    if merge:
        _merge(layout, backbone, as_json)
        return
    ids = options.default_backbones(dataset, backbone)
    files = options.weight_files(ids, weights)
    n_per_batch = options.batch_size(batch_size)
    if devices is not None:
        _embed_by_workers(context, layout, ids, choose_devices(devices), n_per_batch, as_json)
        return
    share = None if update else parse_worker(worker, os.environ)
    config, table = load_table(layout, quiet=as_json, worker=share)
    note(f"data set {dataset}: {len(table):,} images in {table.location}")
    n_siblings = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if worker is None else 1
    run = Options(
        batch_size=n_per_batch or 1,
        exif_rotate=config.exif_rotate,
        max_pixels=max_pixels,
        n_threads=threads or max(1, min(32, n_cores() // n_siblings)),
        max_failed_share=max_failures,
        is_exact=exact,
        overwrite=overwrite,
        check_content=check_content,
        crash_folder=crash_folder(),
        worker=share,
    )
    asked = (files, run, precision.value)
    found = finished_already(layout.finished, table, ids, layout.features, *asked, update)
    if found is not None:
        _tell_finished(layout, found, run, as_json, update)
        return
    from embed.batching import largest_batch
    from embed.update import update_folder

    chosen = local_device(device, os.environ) if worker is None else device
    loaded = load_backbones(ids, files, chosen, precision.value, layout.root)
    in_work = update_folder(layout.features) if update else layout.features
    begun = [begun_provenance(feature_path(in_work, name)) for name in ids]
    n_per_batch = n_per_batch or next((b["batch_size"] for b in begun if b), 0) or largest_batch(loaded)
    run = replace(run, batch_size=n_per_batch)
    outcomes = _embed_here(layout, table, loaded, run, as_json, progress_lines, update)
    note_finished(layout.finished, table, outcomes, *asked)


def _embed_here(
    layout: Layout,
    table: Any,
    loaded: list[Any],
    run: Any,
    as_json: bool,
    progress_lines: bool,
    update: bool,
) -> list[Any]:
    from embed.options import Timings
    from embed.pipeline import embed_images, rows_per_part
    from embed.update import update_images

    ids = [b.id for b in loaded]
    n_part = rows_per_part(layout.features, ids, len(table), run.batch_size)[ids[0]]
    parts = part_bounds(len(table), n_part)
    share = [parts[i] for i in run.share(len(parts))]
    n_rows_here = sum(stop - start for start, stop in share)
    name = "worker {}/{}".format(*run.worker) if run.worker else ""
    if name:
        note(f"{name}: {n_rows_here:,} of {len(table):,} images, in {len(share)} of {len(parts)} parts")
    timings = Timings()
    with progress(f"embedding ({', '.join(ids)})", n_rows_here, "images", is_hidden=progress_lines) as bar:
        told = "{} of {} images have their rows already" if update else RESUMING
        show = _progress_of(bar, n_rows_here, told)
        on_rows = _print_rows if progress_lines else show
        act = update_images if update else embed_images
        outcomes = act(table, loaded, layout.features, run, on_rows, timings)
    n_new = max((o.n_new for o in outcomes), default=0)
    rate = n_new / timings.wall if n_new else 0.0
    how = {
        "batch_size": run.batch_size,
        "n_threads": run.n_threads,
        "precision": sorted({b.precision for b in loaded}),
        "device": sorted({str(b.device) for b in loaded}),
    }
    seconds = asdict(timings)
    entry = {"command": "embed", "backbones": ids, "n_new": n_new, **how, "seconds": seconds}
    log_run(layout, entry | ({"worker": name} if name else {}))
    if as_json:
        _answer_outcomes(layout, outcomes, rate, **how, seconds=seconds)
        return outcomes
    _show_outcomes(outcomes)
    if n_new:
        answer_table(
            f"Seconds per stage ({rate:,.0f} images/s; read to resize summed over {run.n_threads} threads)",
            ["stage", "seconds"],
            [[stage, float(s)] for stage, s in seconds.items()],
        )
    n_left = max((o.n_left for o in outcomes), default=0)
    if n_left:
        note(
            f"{name} is done; {n_left:,} rows are left to other workers, and the last one to finish joins "
            f"the parts. Start one that was stopped again. Should the parts stay apart: "
            f"iaa embed --dataset {layout.dataset} --merge"
        )
        return outcomes
    if not n_new:
        _note_nothing_new(update)
    _note_next(layout, ids)
    return outcomes


def _tell_finished(
    layout: Layout, found: list[tuple[Any, dict[str, Any]]], run: Any, as_json: bool, update: bool
) -> None:
    """What a run that loads every model would say, too."""
    outcomes = [outcome for outcome, _ in found]
    how = {
        "batch_size": found[0][1]["batch_size"],
        "n_threads": run.n_threads,
        "precision": sorted({made["precision"] for _, made in found}),
        "device": sorted({made["device"] for _, made in found}),
    }
    seconds: dict[str, float] = {}
    ids = [outcome.backbone for outcome in outcomes]
    log_run(layout, {"command": "embed", "backbones": ids, "n_new": 0, **how, "seconds": seconds})
    if as_json:
        _answer_outcomes(layout, outcomes, 0.0, **how, seconds=seconds)
        return
    _show_outcomes(outcomes)
    _note_nothing_new(update)
    _note_next(layout, ids)


def _note_nothing_new(update: bool) -> None:
    if update:
        note("Nothing to embed: every image is the same file as before, or one that cannot be read.")
    else:
        note("Nothing to do: every file is finished for exactly this combination.")


def _embed_by_workers(
    context: typer.Context,
    layout: Layout,
    ids: list[str],
    devices: list[str],
    n_per_batch: int | None,
    as_json: bool,
) -> None:
    """One worker process per device; their answers as one."""
    from embed.batching import CPU_BATCH, MAX_BATCH
    from embed.pipeline import feature_path, merge_run, rows_per_part

    _, table = load_table(layout, quiet=as_json)
    begun = [begun_provenance(feature_path(layout.features, name)) for name in ids]
    # A GPU may turn out to hold fewer images; then there are more parts than counted here.
    likely = CPU_BATCH if devices[0] == "cpu" else MAX_BATCH
    n_per_batch = n_per_batch or next((b["batch_size"] for b in begun if b), 0) or likely
    n_part = rows_per_part(layout.features, ids, len(table), n_per_batch)[ids[0]]
    n_parts = len(part_bounds(len(table), n_part))
    note(f"data set {layout.dataset}: {len(table):,} images in {table.location}")
    if n_parts < len(devices):
        note(f"{n_parts} parts of {n_part:,} images keep {n_parts} of {len(devices)} processes busy")
        devices = devices[: max(1, n_parts)]
    note(f"starting {len(devices)} workers: {', '.join(devices)}")
    own = {"devices", "device", "worker", "merge", "data", "as_json", "progress_lines"}
    arguments = [*arguments_of(context, own), "--data", str(layout.root)]
    started = time.perf_counter()
    with progress(f"embedding ({', '.join(ids)})", len(table), "images") as bar:
        workers = run_workers(arguments, devices, _progress_of(bar, len(table)))
    answers = [w.answer["files"] for w in workers if w.answer]
    n_new = max((sum(f["n_new"] for f in files) for files in zip(*answers, strict=True)), default=0)
    rate = n_new / (time.perf_counter() - started)
    if len(answers) < len(workers):
        raise typer.Exit(_tell_unfinished(layout.dataset, len(workers) - len(answers), len(workers)))
    outcomes = [merge_run(table, feature_path(layout.features, name)) for name in ids]
    outcomes = [
        replace(o, n_new=sum(files[i]["n_new"] for files in answers)) for i, o in enumerate(outcomes)
    ]
    if as_json:
        _answer_outcomes(layout, outcomes, rate, workers=[w.answer for w in workers])
        return
    _show_outcomes(outcomes)
    if n_new:
        note(f"{n_new:,} images by {len(workers)} workers, {rate:,.0f} images/s")
    else:
        note("Nothing to do: every file is finished for exactly this combination.")
    _note_next(layout, ids)


def _merge(layout: Layout, backbone: list[str] | None, as_json: bool) -> None:
    from embed.pipeline import feature_path, merge_run, unfinished_runs

    paths = [feature_path(layout.features, name) for name in dict.fromkeys(backbone or [])]
    paths = paths or unfinished_runs(layout.features)
    if not paths:
        note(f"Nothing to join: no run is unfinished in {layout.features}")
    _, table = load_table(layout, quiet=as_json)
    if missing := [p for p in paths if not p.exists() and p not in unfinished_runs(layout.features)]:
        raise typer.BadParameter(
            f"nothing to join for {missing[0]}: no worker has begun it. "
            f"Start them: iaa embed --dataset {layout.dataset} --worker 1/2 ..."
        )
    outcomes = [merge_run(table, path) for path in paths]
    if as_json:
        _answer_outcomes(layout, outcomes, 0.0)
    elif outcomes:
        _show_outcomes(outcomes)
        _note_next(layout, [o.backbone for o in outcomes])


def _progress_of(bar: Any, n_all: int, told: str = RESUMING) -> Callable[[int, int, bool], None]:
    """What to do as rows get done: move the bar, and say once what earlier runs have done."""
    failed = 0

    def on_rows(n_rows: int, n_failed: int, is_new: bool) -> None:
        nonlocal failed
        failed += n_failed
        if is_new:
            bar.update(n_rows)
        elif n_rows:
            bar.initial = getattr(bar, "initial", 0) + n_rows  # a hidden bar has none
            bar.n += n_rows
            note(told.format(f"{n_rows:,}", f"{n_all:,}"))
        bar.set_postfix_str(f"{failed} failed")

    return on_rows


def _print_rows(n_rows: int, n_failed: int, is_new: bool) -> None:
    """One line of JSON on stdout for the process that started this worker."""
    print(json.dumps({"n_rows": n_rows, "n_failed": n_failed, "is_new": is_new}), flush=True)


def _tell_unfinished(dataset: str, n_dead: int, n_workers: int) -> int:
    note(
        f"error: {n_dead} of {n_workers} workers did not finish. What is finished is kept: run the same "
        f"command again to go on (iaa embed --dataset {dataset} ...)."
    )
    return 1


def _answer_outcomes(layout: Layout, outcomes: list[Any], rate: float, **more: Any) -> None:
    files = [asdict(o) for o in outcomes]
    answer_json({"dataset": layout.dataset, "files": files, "images_per_second": rate, **more})


def _note_next(layout: Layout, ids: list[str]) -> None:
    if any(has_text(name) for name in ids):
        step = "embed-prompts --dataset"
    elif open_targets(layout.targets).is_rated:
        step = "probe --dataset"
    else:
        step = "score --head NAME --dataset"  # nothing to fit to; what was fitted elsewhere can rank
    note(f"Next: iaa {step} {layout.dataset}")


def embed_prompts(
    dataset: options.Dataset = "demo",
    backbone: options.Backbones = None,
    prompts: Annotated[
        list[str] | None,
        typer.Option("--prompts", "-p", help="paper_fixed, paper_context or a TOML file. Default: both."),
    ] = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Encode prompt sets with the backbones' text towers; backbones without one are left out, and named."""
    from embed.prompt_sets import expand, get_prompt_set
    from embed.text import embed_prompts as encode

    layout = Layout(data_root(data), dataset)
    ids = options.default_backbones(dataset, backbone)
    files = options.weight_files(ids, weights)
    with_text = [name for name in ids if has_text(name)]
    if without := [name for name in ids if name not in with_text]:
        note(f"no text tower, so no prompts: {', '.join(without)}")
    sets = [get_prompt_set(name) for name in (prompts or ["paper_fixed", "paper_context"])]
    made: list[dict[str, Any]] = []
    for loaded in load_backbones(with_text, files, device) if with_text else []:
        for prompt_set in sets:
            table = expand(prompt_set)
            path = layout.prompts(prompt_set.name, loaded.id)
            with progress(f"{prompt_set.name} ({loaded.id})", len(table), "prompts") as bar:
                digest = encode(prompt_set.name, table, loaded, path, overwrite, bar.update)
            made.append(
                {
                    "prompts": prompt_set.name,
                    "backbone": loaded.id,
                    "n_prompts": len(table),
                    "path": path,
                    "digest": digest,
                }
            )
    if as_json:
        answer_json({"dataset": dataset, "files": made})
        return
    if not made:
        note("Nothing to encode: name a CLIP backbone, such as --backbone vit_b32.openai")
        return
    rows = [[m["prompts"], m["backbone"], m["n_prompts"], str(m["path"]), m["digest"][:12]] for m in made]
    answer_table("Prompt files", ["prompts", "backbone", "texts", "file", "digest"], rows)
    note(f"Next: iaa prompt --dataset {dataset}")


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
