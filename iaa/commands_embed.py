"""`iaa embed` and `iaa embed-prompts`: images and texts in, files out."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from iaa import options
from iaa.console import answer_json, answer_table, note, progress
from iaa.paths import Layout, data_root
from iaa.supervision import crash_folder
from iaa.work import load_backbones, load_table, log_run


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("embed")(embed)
    app.command("embed-prompts")(embed_prompts)


def embed(
    dataset: options.Dataset = "demo",
    backbone: options.Backbones = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    batch_size: Annotated[
        int, typer.Option(min=1, help="Images per forward pass; kept through a resume.")
    ] = 32,
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
    overwrite: options.Overwrite = False,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Embed every image of a data set: each is decoded once for all backbones asked for.

    Stop it at any time and run the same command again: finished parts are kept. A second run finds the
    finished files and does nothing. An image that cannot be read is a failed row with a reason.
    """
    from embed.device import n_cores
    from embed.pipeline import Options, Timings, embed_images

    layout = Layout(data_root(data), dataset)
    ids = options.default_backbones(dataset, backbone)
    files = options.weight_files(ids, weights)
    config, table = load_table(layout, quiet=as_json)
    note(f"data set {dataset}: {len(table):,} images in {table.root}")
    loaded = load_backbones(ids, files, device)
    run = Options(
        batch_size=batch_size,
        exif_rotate=config.exif_rotate,
        max_pixels=max_pixels,
        n_threads=threads or min(32, n_cores()),
        max_failed_share=max_failures,
        is_exact=exact,
        overwrite=overwrite,
        crash_folder=crash_folder(),
    )
    timings = Timings()
    failed = 0
    with progress(f"embedding ({', '.join(ids)})", len(table), "images") as bar:

        def on_rows(n_rows: int, n_failed: int, is_new: bool) -> None:
            nonlocal failed
            failed += n_failed
            if not is_new:
                bar.initial = n_rows
                bar.n = n_rows
                if n_rows:
                    note(f"resuming: {n_rows:,} of {len(table):,} images are done already")
            else:
                bar.update(n_rows)
            bar.set_postfix_str(f"{failed} failed")

        outcomes = embed_images(table, loaded, layout.features, run, on_rows, timings)
    n_new = max((o.n_new for o in outcomes), default=0)
    rate = n_new / timings.wall if n_new else 0.0
    log_run(layout, {"command": "embed", "backbones": ids, "n_new": n_new, "seconds": asdict(timings)})
    if as_json:
        answer_json(
            {
                "dataset": dataset,
                "files": [asdict(o) for o in outcomes],
                "images_per_second": rate,
                "seconds": asdict(timings),
            }
        )
        return
    _show_outcomes(outcomes)
    if n_new == 0:
        note("Nothing to do: every file is finished for exactly this combination.")
    else:
        seconds = [[stage, float(s)] for stage, s in asdict(timings).items()]
        answer_table(
            f"Seconds per stage ({rate:,.0f} images/s; read to resize summed over {run.n_threads} threads)",
            ["stage", "seconds"],
            seconds,
        )
    prompted = any(b.spec.has_text for b in loaded)
    note(f"Next: iaa {'embed-prompts' if prompted else 'probe'} --dataset {dataset}")


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
    from embed.backbones import resolve_backbone
    from embed.prompt_sets import expand, get_prompt_set
    from embed.text import embed_prompts as encode

    layout = Layout(data_root(data), dataset)
    ids = options.default_backbones(dataset, backbone)
    files = options.weight_files(ids, weights)
    with_text = [name for name in ids if resolve_backbone(name).has_text]
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
    rows = [[m["prompts"], m["backbone"], m["n_prompts"], str(m["path"]), m["digest"][:12]] for m in made]
    answer_table("Prompt files", ["prompts", "backbone", "texts", "file", "digest"], rows)
    note(f"Next: iaa prompt --dataset {dataset}")


def _show_outcomes(outcomes: list[Any]) -> None:
    rows = [[o.backbone, o.n_images, o.n_failed, o.n_new, str(o.path), o.digest[:12]] for o in outcomes]
    answer_table("Feature files", ["backbone", "rows", "failed", "new", "file", "digest"], rows)
    for outcome in outcomes:
        if outcome.n_failed:
            _show_failures(outcome.path)


def _show_failures(path: Path) -> None:
    from store import open_features

    with open_features(path) as features:
        reasons = Counter(features.failures.values())
    note(f"failed rows of {path} by reason (all of them: iaa info {path}):")
    for reason, count in reasons.most_common(5):
        note(f"  {count:>6}  {reason}")
