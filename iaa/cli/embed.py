"""`iaa embed`: images and texts in, files out."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from iaa.cli import options
from iaa.cli.console import answer, note, progress
from iaa.library.errors import UsageError

verbs = typer.Typer()


@verbs.command("embed")
@options.explain(
    prompts=("-p", "Encode this prompt set instead of the images: paper_fixed, paper_context or a TOML file "
     "(repeatable)."),
    batch_size="Images per forward pass, or auto: what an unfinished run has, else 32 on a CPU, up to 256 "
    "that fit on a GPU. Halved, and noted in the file, where memory runs out.",
    exact="Decode and resize with Pillow, bit-equal to the library.",
    worker="I/N: make part I of N of the run, beside other processes, here or on machines that share the "
    "folder. Default: torchrun's RANK and WORLD_SIZE.",
    devices="all: one process per GPU. A number: of GPUs, or of CPU processes where there is none.",
    merge="Only join the parts that workers have made, or shards. No weights.",
    check_content="Read the images of finished rows again: are they still the same bytes?",
    update="Photographs were added, removed or replaced: keep the rows of those that are the same files, "
    "embed the others, try failed ones again.",
    thumbnails="Make thumbnails of the same pixels, about 20 KB each, for iaa open.",
    overwrite="Replace files and unfinished runs of another combination.",
    metrics="Write counts, rate and seconds here at the end, as Prometheus' collectors read them.",
    engine=typer.Option(metavar="[auto|torch|onnxruntime]", help="What computes; part of what identifies the "
        "file. auto: what made the rows that are there, else on a CPU ONNX Runtime for convolutional "
        "networks, and torch."),
    max_failures=typer.Option(min=0.0, max=1.0, help="Stop if a larger share of at least 1,000 images "
        "fails."),
    max_pixels=typer.Option(min=1, help="Refuse larger images, by their header."),
    remote=typer.Option(metavar="URL", help="s3://BUCKET/FOLDER: put parts there and find those of workers "
        "that share no folder; the file goes there, too. With --merge: join what is there. Needs the extra "
        "s3."),
    ray=typer.Option(metavar="ADDRESS", help="Hand parts to actors of a Ray cluster: auto (this machine's), "
        "local, ray://HOST:10001. Each takes --threads cores, and a GPU where there are some. Needs the "
        "extra ray."),
    actors=typer.Option(min=1, help="With --ray: how many. Default: as many as it has room for."),
    shard_above=typer.Option(min=0, help="Images above which the file stays in shards, which are not "
        "joined."),
)  # fmt: skip
def embed(
    context: typer.Context,
    dataset: options.Dataset = None,
    backbone: options.Backbones = None,
    prompts: list[str] | None = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    precision: options.Precision = options.FloatType.float32,
    engine: str = "auto",
    batch_size: str = "auto",
    threads: options.Threads = None,
    max_failures: float = 0.05,
    max_pixels: int = 200_000_000,
    exact: bool = False,
    worker: str | None = None,
    devices: str | None = None,
    remote: str | None = None,
    ray: str | None = None,
    actors: int | None = None,
    merge: bool = False,
    shard_above: int = 1_000_000,
    check_content: bool = False,
    update: bool = False,
    thumbnails: bool = False,
    overwrite: bool = False,
    metrics: Path | None = None,
    data: options.Data = None,
    as_json: options.Json = False,
    progress_lines: Annotated[bool, typer.Option("--progress-lines", hidden=True)] = False,
    leash: Annotated[bool, typer.Option("--leash", hidden=True)] = False,
) -> None:
    """Embed every image of a data set, each decoded once for all backbones; or, with --prompts, texts.

    Stop it at any time and run the same command again: finished parts are kept. A second run finds the
    finished files and does nothing. An image that cannot be read is a failed row with a reason.

    Where photographs have come, gone or changed since, a run is refused until it says --update (which keeps
    the rows of all others) or --overwrite (which does not).

    Several processes share the work with --devices, or with --worker 1/3, --worker 2/3 and --worker 3/3;
    the last one to finish joins the parts. One that was stopped is started again by its own command. With
    --ray auto, a Ray cluster's machines do, which may come and go. Machines that share no folder meet in an
    object store: --remote s3://BUCKET/FOLDER.

    Example: iaa embed -d holiday -b vit_b32.openai; iaa embed -d holiday -b vit_b32.openai -p paper_fixed
    """
    if sum([merge, devices is not None, worker is not None, ray is not None]) > 1:
        raise UsageError("--worker, --devices, --ray and --merge exclude each other: give one of them")
    if remote and devices is not None:
        raise UsageError(
            "--devices shares a folder: give each process its --worker I/N, or use iaa push after"
        )
    if actors and ray is None:
        raise UsageError("--actors says how many actors of a Ray cluster work: give its address, --ray auto")
    if metrics and (prompts or merge):
        raise UsageError("--metrics is about images being embedded: leave it out with --prompts and --merge")
    if update and (merge or overwrite or devices is not None or worker is not None or ray is not None):
        raise UsageError("--update is for one process and keeps what is finished: give it alone")
    if merge and overwrite:
        raise UsageError("--merge finishes a run, --overwrite discards it: give one of them")
    if prompts and (
        update or merge or remote or devices is not None or worker is not None or ray is not None
    ):
        raise UsageError("--prompts encodes texts in one process: leave --update, --merge and workers out")
    from iaa.library import backbones

    if not merge:
        backbones.check_ids(backbone or [])
    options.run_apart(context)
    from iaa.library import embedding, next_steps, workers
    from iaa.library.engines import check_engine
    from iaa.library.metrics import write_metrics
    from iaa.library.supervision import crash_folder

    check_engine(engine)
    layout = options.choose_layout(dataset, data)
    if merge:
        joined = embedding.merge(layout, backbone, remote, shard_above, progress)
        if not joined and not as_json:
            note(f"Nothing to join: no run is unfinished in {remote or layout.features}")
            return
        notes = next_steps.notes_on(layout, joined, [each.backbone for each in joined])
        answer(as_json, embedding.told(layout, joined), embedding.outcome_table(joined), notes=notes)
        return
    ids = embedding.default_backbones(layout.dataset, backbone)
    if prompts:
        ids = embedding.reading_backbones(layout, backbone)
        if without := [name for name in backbone or [] if name not in ids]:
            note(f"no text tower, so no prompts: {', '.join(without)}")
        files = backbones.weight_files(ids, weights)
        made = embedding.embed_prompts(layout, ids, prompts, files, device, overwrite, progress)
        step = next_steps.next_after_prompts(layout, made)
        value = {"dataset": layout.dataset, "files": made.rows()}
        answer(as_json, value, made, notes=[f"Next: {step.command}"] if step else [])
        return
    how = embedding.How(
        weights=backbones.weight_files(ids, weights),
        device=workers.local_device(device, os.environ) if worker is None else device,
        precision=precision.value,
        engine=engine,
        batch_size=embedding.parse_batch_size(batch_size),
        threads=threads,
        max_failed_share=max_failures,
        max_pixels=max_pixels,
        exact=exact,
        shard_above=shard_above,
        overwrite=overwrite,
        check_content=check_content,
        thumbnails=thumbnails,
        crash_folder=crash_folder(),
        worker=None if update or devices or ray else workers.parse_worker(worker, os.environ),
        remote=remote,
        ray=ray,
        actors=actors,
        n_siblings=int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if worker is None else 1,
    )
    if devices is not None:
        made_by = workers.embed_by_workers(layout, ids, workers.choose_devices(devices), how, progress, note)
        if made_by.n_dead:
            note(made_by.complaint(layout.dataset))
            raise typer.Exit(1)
        told = made_by.to_dict(layout)
        write_metrics(metrics, told)
        notes = next_steps.notes_on(layout, made_by.outcomes, ids, made_by.told(), how.weights)
        answer(as_json, told, embedding.outcome_table(made_by.outcomes), notes=notes)
        return
    done = embedding.embed(layout, ids, how, update, progress, note, _print_rows if progress_lines else None)
    told = done.to_dict(layout)
    write_metrics(metrics, told)
    notes = next_steps.notes_on(layout, done.outcomes, ids, done.told(update), how.weights, remote)
    answer(as_json, told, *done.tables(), notes=notes)


def _print_rows(n_rows: int, n_failed: int, is_new: bool) -> None:
    """One line of JSON on stdout for the process that started this worker."""
    print(json.dumps({"n_rows": n_rows, "n_failed": n_failed, "is_new": is_new}), flush=True)
