"""Images and texts into the store: the policy around a run that every caller wants alike."""

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iaa.library.backbones import check_ids, has_text, is_known, load_backbones
from iaa.library.engines import begun_by, check_engine, choose_engine, made_by
from iaa.library.errors import UsageError
from iaa.library.layout import Layout
from iaa.library.opening import embedded_paths
from iaa.library.progress import Bar, Progress, Say, log, show_progress
from iaa.library.remotes import fetch_runs, hand_over, take_up
from iaa.library.table import Table
from iaa.library.text_towers import keep_words
from store import SpaceError, Targets, open_features, write_targets
from store.parts import begun_provenance, part_bounds
from store.remote import open_remote
from store.shards import SHARD_ABOVE
from store.system import free_bytes, n_cores

if TYPE_CHECKING:
    from embed.backbones.loading import Backbone
    from embed.images.datasets import DatasetConfig, ImageTable
    from embed.options import Options
    from embed.pipeline import Outcome

OnRows = Callable[[int, int, bool], None]
OFFLINE_BACKBONES = ("efficientnet_lite0.in1k",)
"""What runs offline on any machine: what embeds a data set where no backbone is named."""
NOTHING_TO_DO = "Nothing to do: every file is finished for exactly this combination."
SAID_FROM = 10**9
"""Bytes of a file from which on its size is said before it is begun."""
DEFAULT_SETS = ("paper_fixed", "paper_context")


@dataclass(frozen=True)
class How:
    """How to embed. What shapes the rows (`batch_size`, `precision`, `max_pixels`, `exact`) is recorded."""

    weights: Mapping[str, Path] = field(default_factory=dict)
    """Weights file per backbone id, where it is not the registered one."""
    device: str = "auto"
    precision: str = "float32"
    engine: str = "auto"
    """What computes: `torch`, `onnxruntime`, or `auto`: what made the rows that are there, else the fastest
    that is exact."""
    batch_size: int | None = None
    """None: what an unfinished run has, else 32 on a CPU, up to 256 that fit on a GPU."""
    threads: int | None = None
    """Decoding threads; None: one per core."""
    max_failed_share: float = 0.05
    max_pixels: int = 200_000_000
    exact: bool = False
    overwrite: bool = False
    check_content: bool = False
    shard_above: int = SHARD_ABOVE
    """A file of more rows stays in shards: nothing is joined, the digest is the same."""
    thumbnails: bool = False
    """Make a thumbnail of each photograph from the same pixels, for `iaa open`."""
    crash_folder: Path | None = None
    worker: tuple[int, int] | None = None
    remote: str | None = None
    """Where in an object store (`s3://bucket/folder`) workers that share no folder put their parts and find
    those of the others; the finished file goes there, too."""
    ray: str | None = None
    """Address of a Ray cluster whose actors make the parts: `auto`, `local`, `ray://host:10001`."""
    actors: int | None = None
    """How many of them; None: as many as the cluster has room for. Each decodes with `threads` threads."""
    n_siblings: int = 1
    """Processes of this run on this machine, which share its cores."""


@dataclass(frozen=True)
class Embedded:
    """What a run ended with: an outcome per backbone, and how long the stages took."""

    outcomes: "list[Outcome]"
    how: dict[str, Any]
    """Batch size, threads, precisions, devices and engines that were really used."""
    seconds: dict[str, float]

    @property
    def n_new(self) -> int:
        """Images that were embedded now."""
        return max((o.n_new for o in self.outcomes), default=0)

    @property
    def rate(self) -> float:
        """Images per second, whole run; 0 where there was nothing to do."""
        return self.n_new / self.seconds["wall"] if self.n_new and self.seconds else 0.0

    def table(self) -> Table:
        """A row per feature file."""
        return outcome_table(self.outcomes)

    def stages(self) -> Table:
        """Seconds that each stage of the work took."""
        how = f"{self.rate:,.0f} images/s; read to resize summed over {self.how['n_threads']} threads"
        stages, seconds = list(self.seconds), [float(s) for s in self.seconds.values()]
        return Table(f"Seconds per stage ({how})", {"stage": stages, "seconds": seconds})

    def tables(self) -> list[Table]:
        """The files, and the seconds where something was done."""
        return [self.table(), *([self.stages()] if self.n_new else [])]

    def told(self, update: bool = False) -> str:
        """That there was nothing to do, where that is so."""
        if self.n_new:
            return ""
        if update:
            return "Nothing to embed: every image is the same file as before, or one that cannot be read."
        return NOTHING_TO_DO

    def to_dict(self, layout: Layout) -> dict[str, Any]:
        """Files, rate and seconds, and what was used, as plain values."""
        return told(layout, self.outcomes, self.rate, **self.how, seconds=self.seconds)

    def to_frame(self) -> Any:
        """The same as a pandas DataFrame."""
        return self.table().to_frame()

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def told(layout: Layout, outcomes: "Sequence[Outcome]", rate: float = 0.0, **more: Any) -> dict[str, Any]:
    """What a run ended with, as plain values."""
    files = [asdict(outcome) for outcome in outcomes]
    return {"dataset": layout.dataset, "files": files, "images_per_second": rate, **more}


def outcome_table(outcomes: "Sequence[Outcome]") -> Table:
    """What a run ended with, a row per feature file."""
    names = ("backbone", "n_images", "n_failed", "n_new", "n_left", "path", "digest")
    cells = {name: [getattr(o, name) for o in outcomes] for name in names}
    return Table("Feature files", cells | {"path": [str(path) for path in cells["path"]]})


def failure_reasons(outcomes: "Sequence[Outcome]") -> dict[Path, Counter[str]]:
    """Why rows failed and how often, for each finished file that has failed rows."""
    found = {}
    for outcome in outcomes:
        if outcome.n_failed and outcome.digest:
            with open_features(outcome.path) as features:
                found[outcome.path] = Counter(features.failures.values())
    return found


def parse_batch_size(given: str) -> int | None:
    """The number given, or None for `auto`; anything else is a UsageError."""
    if given == "auto":
        return None
    if not given.isascii() or not given.isdigit() or int(given) == 0:
        raise UsageError(f"--batch-size is auto or a number of at least 1, not {given!r}")
    return int(given)


def default_backbones(dataset: str, given: Sequence[str] | None = None) -> list[str]:
    """The backbones asked for, without repeats, or those that run offline on any machine.

    Raises UnknownBackbone with near names, before anything heavy is imported or listed.
    """
    if given:
        check_ids(given)
        return list(dict.fromkeys(given))
    from embed.images.datasets import built_in

    kind = built_in(dataset)
    return list(kind.backbones if kind else OFFLINE_BACKBONES)


def reading_backbones(layout: Layout, given: Sequence[str] | None = None) -> list[str]:
    """Those of the backbones asked for that read texts. Default: those that are embedded and do.

    Raises UnknownBackbone, UsageError where none has a text tower.
    """
    asked = default_backbones(layout.dataset, given)
    if not given:
        there = [open_features(path).backbone for path in embedded_paths(layout)]
        asked = [name for name in there if is_known(name)] or asked
    names = [name for name in asked if has_text(name)]
    if not names:
        raise UsageError(
            f"nothing to encode: {', '.join(asked)} has no text tower. Name a CLIP backbone, such as "
            "--backbone vit_b32.openai; all of them: iaa backbone list"
        )
    return names


def targets_of(table: "ImageTable") -> Targets:
    """What people said about the images, as the store keeps it."""
    import numpy as np

    n_levels = 0 if table.votes is None else table.votes.shape[1]
    return Targets(
        image_id=table.image_id,
        path=table.path,
        votes=table.votes,
        scores=table.scores,
        levels=np.arange(1, n_levels + 1, dtype=np.int64) if n_levels else None,
        threshold=table.threshold,
        split=table.split,
        split_name=table.split_name,
        dataset=table.dataset,
        columns=dict(table.columns),
    )


def prepare_table(
    layout: Layout,
    worker: tuple[int, int] | None = None,
    progress: Progress | None = None,
    say: Say = log,
) -> "tuple[DatasetConfig, ImageTable]":
    """The data set's image table; its targets file and lists of gaps are brought up to date."""
    from embed.images.datasets import build_table, load_config

    config = load_config(layout.root, layout.dataset)
    with (progress or show_progress)(f"listing the images of {layout.dataset}", 0, ""):
        table = build_table(config)
    provenance = {"kind": config.kind, "exif_rotate": config.exif_rotate}
    tag = ".{}-of-{}".format(*worker) if worker else ""
    write_targets(layout.targets, targets_of(table), {"images": table.digest}, provenance, tag)
    for name, gaps in gaps_of(table).items():
        listed = layout.logs / f"{name}.txt"
        try:
            listed.parent.mkdir(parents=True, exist_ok=True)
            text = "".join(f"{gap}\n" for gap in gaps)
            listed.write_text(text, encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            say(f"{listed} cannot be written: {error.strerror}")
    return config, table


def gaps_of(table: "ImageTable") -> dict[str, list[str]]:
    """Labels that have no file, and files that have no label, by the name of their list in the logs."""
    return {"labels_without_file": table.missing_files, "files_without_label": table.unlabelled_files}


def embed(
    layout: Layout,
    backbones: Sequence[str] | None = None,
    how: How | None = None,
    update: bool = False,
    progress: Progress | None = None,
    say: Say = log,
    on_rows: OnRows | None = None,
) -> Embedded:
    """Every image of the data set through the backbones: one finished feature file each, and the targets.

    Finished files are left alone, an unfinished run goes on with its own batches. With `update`, photographs
    that came, went or changed since are brought in and all others keep their rows. `say` takes sentences
    about what is going on, `on_rows(n_rows, n_failed, is_new)` stands in for the bar.

    Raises as embed.pipeline.embed_images, and DatasetError, UnknownBackbone, WeightsUnavailable, and
    EngineUnavailable where the engine asked for, or that of earlier rows, cannot compute here.
    """
    from embed.finished import finished_already, note_finished
    from embed.options import Options

    how = how or How()
    check_engine(how.engine)
    names = default_backbones(layout.dataset, backbones)
    if how.ray is not None:
        check_for_cluster(how, update)
    if how.remote is not None and update:
        raise UsageError(
            "--update is for one machine: leave --remote out, then send it: iaa push --overwrite"
        )
    remote = None if how.remote is None else open_remote(how.remote, layout.dataset)
    if how.ray is not None:
        layout = Layout(layout.root.absolute(), layout.dataset)  # other machines have other working folders
    config, table = prepare_table(layout, how.worker, progress, say)
    say(f"data set {layout.dataset}: {len(table):,} images in {table.location}")
    for name, gaps in gaps_of(table).items():
        if gaps:
            say(f"{len(gaps):,} {name.replace('_', ' ')}: listed in {layout.logs / name}.txt")
    options = Options(
        batch_size=how.batch_size or 1,
        exif_rotate=config.exif_rotate,
        max_pixels=how.max_pixels,
        n_threads=how.threads or max(1, min(32, n_cores() // how.n_siblings)),
        max_failed_share=how.max_failed_share,
        is_exact=how.exact,
        overwrite=how.overwrite,
        check_content=how.check_content,
        crash_folder=how.crash_folder,
        looks=layout.looks if how.thumbnails else None,
        shard_above=how.shard_above,
        worker=how.worker,
        remote=remote,
    )
    if remote is not None:
        take_up(remote, layout, names, table, how.overwrite, say)
    asked = (how.weights, options, how.precision)
    found = finished_already(layout.finished, table, names, layout.features, *asked, update, how.engine)
    if found is not None:
        made = [provenance for _, provenance in found]
        used = {
            "batch_size": made[0]["batch_size"],
            "n_threads": options.n_threads,
            "precision": sorted({each["precision"] for each in made}),
            "device": sorted({each["device"] for each in made}),
            "engine": {name: {"name": p.get("engine", "torch")} for name, p in zip(names, made, strict=True)},
        }
        embedded = Embedded([outcome for outcome, _ in found], used, {})
    elif how.ray is not None:
        from iaa.library.clusters import embed_on_cluster

        shows = progress or show_progress
        embedded = embed_on_cluster(layout, table, names, options, how, shows, say, on_rows)
        note_finished(layout.finished, table, embedded.outcomes, *asked)
    else:
        embedded = run_pipeline(
            layout, table, names, options, how, update, progress or show_progress, say, on_rows
        )
        note_finished(layout.finished, table, embedded.outcomes, *asked)
    if remote is not None:
        hand_over(remote, layout, embedded.outcomes, how.overwrite, progress)
    entry = {"command": "embed", "backbones": names, "n_new": embedded.n_new, **embedded.how}
    worker = {"worker": "worker {}/{}".format(*how.worker)} if how.worker else {}
    log_run(layout, entry | {"seconds": embedded.seconds} | worker, say)
    return embedded


def check_for_cluster(how: How, update: bool = False) -> None:
    """Raise UsageError for what a run on a Ray cluster cannot do."""
    if how.worker is not None:
        raise UsageError("--ray hands parts to actors, --worker takes every N-th: give one of them")
    if update:
        raise UsageError("--update is for one process and keeps what is finished: leave --ray out")
    if how.thumbnails:
        raise UsageError("--thumbnails writes a database that machines cannot share: leave --ray out")


def run_pipeline(
    layout: Layout,
    table: "ImageTable",
    names: Sequence[str],
    options: "Options",
    how: How,
    update: bool,
    progress: Progress,
    say: Say,
    on_rows: OnRows | None = None,
    on_loaded: "Callable[[list[Backbone]], None] | None" = None,
) -> Embedded:
    """The run itself: backbones loaded, batches as an unfinished run has them, a bar. `on_loaded` is called
    with the backbones before anything is embedded."""
    from embed.options import Timings
    from embed.pipeline import embed_images, rows_per_part
    from embed.update import update_folder, update_images

    folders = [update_folder(layout.features)] if update else []
    loaded, engines, n_batch = load_for_run(layout, names, how, folders, say)
    if on_loaded is not None:
        on_loaded(loaded)
    options = replace(options, batch_size=n_batch)
    if not options.overwrite and not update:
        for backbone in loaded:
            check_room(layout.features_of(backbone.id), backbone, len(table), how.shard_above, say)
    longest = max(backbone.row_bytes for backbone in loaded)
    n_part = rows_per_part(layout.features, names, len(table), n_batch, how.shard_above, longest)[names[0]]
    parts = part_bounds(len(table), n_part)
    share = [parts[i] for i in options.share(len(parts))]
    n_here = sum(stop - start for start, stop in share)
    if options.worker:
        mine = f"{n_here:,} of {len(table):,} images, in {len(share)} of {len(parts)} parts"
        say("worker {}/{}: ".format(*options.worker) + mine)
    timings = Timings()
    act = update_images if update else embed_images
    if on_rows is not None:
        outcomes = act(table, loaded, layout.features, options, on_rows, timings)
    else:
        with progress(f"embedding ({', '.join(names)})", n_here, "images") as bar:
            told = "have their rows" if update else "are done"
            moved = rows_on(bar, n_here, told, say)
            outcomes = act(table, loaded, layout.features, options, moved, timings)
    for backbone in loaded if options.worker is None or options.worker[0] == 1 else ():
        if has_text(backbone.id):
            keep_words(backbone, progress)  # people will ask for words
    used = {
        "batch_size": options.batch_size,
        "n_threads": options.n_threads,
        "precision": sorted({b.precision for b in loaded}),
        "device": sorted({str(b.device) for b in loaded}),
        "engine": engines,
    }
    return Embedded(outcomes, used, asdict(timings))


def check_room(path: Path, backbone: "Backbone", n_images: int, shard_above: int, say: Say) -> None:
    """Say how much of the disk a file will take before it is begun, where that is more than SAID_FROM.

    Raises SpaceError where there is not room for it.
    """
    from embed.pipeline import stays_in_shards

    n_bytes = n_images * backbone.row_bytes
    if path.exists() or n_bytes < SAID_FROM:
        return
    in_shards = stays_in_shards(n_images, backbone.row_bytes, shard_above)
    there = sum(part.stat().st_size for part in path.with_name(path.name + ".parts").glob("part-*.h5"))
    needed = n_bytes * (1 if in_shards else 2) - there
    free = free_bytes(next(folder for folder in path.parents if folder.is_dir()))
    widths = ", ".join(f"{name} {dim:,}" for name, dim in backbone.outputs.items())
    say(
        f"{backbone.id}: {widths} numbers, {backbone.row_bytes / 1000:,.1f} kB a photograph, "
        f"{n_bytes / 1e9:,.1f} GB for {n_images:,}"
        + (", kept in shards" if in_shards else ", and as much again while the parts are joined")
        + (f" ({there / 1e9:,.1f} GB are there)" if there else "")
        + f"; {free / 1e9:,.1f} GB are free"
    )
    if needed > free:
        raise SpaceError(
            f"{path} needs {needed / 1e9:,.1f} GB more, {free / 1e9:,.1f} GB are free. Free some space, or "
            "choose another place with --data"
            + ("" if in_shards else f"; in shards it is half of that: --shard-above {n_images - 1}")
        )


def load_for_run(
    layout: Layout, names: Sequence[str], how: How, folders: Sequence[Path] = (), say: Say = log
) -> "tuple[list[Backbone], dict[str, dict[str, Any]], int]":
    """The backbones with their engines, what was chosen for each, and the batch size: as begun runs have
    them, in `folders` (where an update is begun) or among the features, else as this machine can.

    Raises UnknownBackbone, WeightsUnavailable, DeviceError, EngineUnavailable.
    """
    from embed.batching import largest_batch
    from embed.pipeline import feature_path

    loaded = load_backbones(names, how.weights, how.device, how.precision, layout.root, say)
    places = [feature_path(folder, name) for folder in (*folders, layout.features) for name in names]
    begun = [begun_provenance(place) for place in places]
    engines = {}
    for backbone in loaded:
        path = layout.features_of(backbone.id)
        made = begun_by(feature_path(folders[0], backbone.id)) if folders else ""
        made = made or ("" if how.overwrite else made_by(path)) or begun_by(path)
        engines[backbone.id] = choose_engine(backbone, how.engine, made, say)
    n_batch = how.batch_size or next((b["batch_size"] for b in begun if b), 0) or largest_batch(loaded)
    return loaded, engines, n_batch


def rows_on(bar: Bar, n_all: int, told: str = "are done", say: Say = log) -> OnRows:
    """What to do as rows get done: move the bar, count what failed, say once what earlier runs have done."""
    failed = 0

    def on_rows(n_rows: int, n_failed: int, is_new: bool) -> None:
        nonlocal failed
        failed += n_failed
        if is_new:
            bar.update(n_rows)
        elif n_rows:
            bar.initial = getattr(bar, "initial", 0) + n_rows  # a hidden bar has none
            bar.n += n_rows
            say(f"resuming: {n_rows:,} of {n_all:,} images {told} already")
        bar.set_postfix_str(f"{failed} failed")

    return on_rows


def merge(
    layout: Layout,
    backbones: Sequence[str] | None = None,
    remote: str | None = None,
    shard_above: int = SHARD_ABOVE,
    progress: Progress | None = None,
) -> "list[Outcome]":
    """Join the parts that workers have made, and the shards of large files, into one file per backbone: of
    these, or of all that are in pieces. With `remote`, of the runs whose parts are in that object store,
    where the files go, too; those of more rows than `shard_above` in shards.

    Raises UsageError for a backbone that no worker has begun, StoreError where parts are missing.
    """
    from embed.pipeline import feature_path, merge_run, one_file, sharded_files, unfinished_runs

    there = None if remote is None else open_remote(remote, layout.dataset)
    shows = progress or show_progress
    fetched = [] if there is None else fetch_runs(there, layout, backbones, shows)
    paths = [feature_path(layout.features, name) for name in dict.fromkeys(backbones or [])] or fetched
    begun = unfinished_runs(layout.features)
    paths = paths or ([] if there else sorted({*begun, *sharded_files(layout.features)}))
    if not paths:
        return []
    _, table = prepare_table(layout)
    if missing := [p for p in paths if not p.exists() and p not in begun]:
        raise UsageError(
            f"nothing to join for {missing[0]}: no worker has begun it. "
            f"Start them: iaa embed --dataset {layout.dataset} --worker 1/2 ..."
        )
    outcomes = []
    with shows("joining the parts", len(paths), "files") as bar:
        for path in paths:
            outcomes.append(merge_run(table, path, None if there is None else shard_above))
            if there is None:
                one_file(path)
            bar.update(1)
    if there is not None:
        hand_over(there, layout, outcomes, progress=progress)
    return outcomes


def embed_prompts(
    layout: Layout,
    backbones: Sequence[str] | None = None,
    prompts: Sequence[str] | None = None,
    weights: Mapping[str, Path] | None = None,
    device: str = "auto",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Table:
    """Encode prompt sets (names or TOML files; default: the paper's two) with the backbones' text towers; a
    row per file. Default: the backbones that are embedded and read texts. Those without a text tower are left
    out.

    Raises UsageError where none has one, PromptSetError, PromptTooLong, WeightsUnavailable.
    """
    from embed.prompts.sets import expand, get_prompt_set
    from embed.prompts.text import embed_prompts as encode

    names = reading_backbones(layout, backbones)
    sets = [get_prompt_set(name) for name in (prompts or DEFAULT_SETS)]
    made: list[dict[str, Any]] = []
    for loaded in load_backbones(names, weights or {}, device):
        for prompt_set in sets:
            table = expand(prompt_set)
            path = layout.prompts(prompt_set.name, loaded.id)
            show = progress or show_progress
            with show(f"{prompt_set.name} ({loaded.id})", len(table), "prompts") as bar:
                digest = encode(prompt_set.name, table, loaded, path, overwrite, bar.update)
            row = {"prompts": prompt_set.name, "backbone": loaded.id, "n_prompts": len(table)}
            made.append({**row, "path": str(path), "digest": digest})
    columns = ("prompts", "backbone", "n_prompts", "path", "digest")
    return Table("Prompt files", {name: [row[name] for row in made] for name in columns})


def log_run(layout: Layout, entry: dict[str, Any], say: Say = log) -> None:
    """Append one line to the side log, the only place for clocks and durations."""
    stamped = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **entry}
    try:
        layout.logs.mkdir(parents=True, exist_ok=True)
        with (layout.logs / "runs.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(stamped) + "\n")
    except OSError as error:  # the work is done; no number depends on the log
        say(f"no line was added to {layout.logs / 'runs.jsonl'}: {error.strerror}")
