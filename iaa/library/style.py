"""Style or content: altered photographs through the backbones, and what becomes of features and scores."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from iaa.library.embedding import Embedded, How, log_run, run_pipeline, targets_of
from iaa.library.errors import UsageError
from iaa.library.layout import Layout
from iaa.library.opening import embedded_backbones, open_embedded
from iaa.library.progress import Progress, Say, log, show_progress
from iaa.library.results import metric_text
from iaa.library.table import Table
from store import IdentityError, MissingFileError, open_features, open_targets, write_targets
from store.derived import load_derived, save_derived
from store.errors import did_you_mean, hinting

if TYPE_CHECKING:
    from analysis.variants.page import StyleResults
    from embed.backbones.loading import Backbone
    from embed.images.table import ImageTable

N_PHOTOGRAPHS = 128
"""Photographs altered unless told otherwise: with 37 versions each, minutes on two cores."""
_BOX = (160, 120)
"""Pictures on the page are no larger."""


@dataclass(frozen=True)
class Style:
    """What altered photographs say about the backbones of a data set."""

    dataset: str
    found: "list[StyleResults]"
    embedded: Embedded | None
    notes: list[str] = field(default_factory=list)

    def tables(self) -> list[Table]:
        """How well each alteration is read, what it does to each score, where each probe's direction lies."""
        return [self.readings(), self.moves(), self.shares()]

    def readings(self) -> Table:
        """R2 of reading each alteration's strength, a row per alteration, a column per output."""
        outputs = {(each.backbone, output): each for each in self.found for output in each.readings}
        changes = list(dict.fromkeys(c for each in self.found for rs in each.readings.values() for c in rs))
        columns: dict[str, list[Any]] = {"alteration": changes}
        for (backbone, output), each in outputs.items():
            readings = each.readings[output]
            columns[f"{backbone}/{output}"] = [
                metric_text(readings[c].r2) if c in readings else "" for c in changes
            ]
        return Table("How well a ridge probe reads the strength: R2, photographs left out", columns)

    def moves(self) -> Table:
        """What the greatest and the least strength of each alteration do to each method's scores."""
        rows = [
            (each.backbone, move.method, move.change, f"{strength:g}", *map(metric_text, measured))
            for each in self.found
            for move in each.moves
            for step, strength in enumerate(move.strengths)
            if step in (0, len(move.strengths) - 1) and step != move.at_rest
            for measured in [(move.move[step], move.order[step])]
        ]
        names = (
            "backbone",
            "method",
            "alteration",
            "strength",
            "move in standard deviations",
            "order kept (SRCC)",
        )
        return Table("What alterations do to scores", {n: [r[i] for r in rows] for i, n in enumerate(names)})

    def shares(self) -> Table:
        """How much of each probe's direction lies along style and along content."""
        rows = [
            (f"{each.backbone}/{output}", share.what, share.n_directions,
             *map(metric_text, (share.share, share.random, share.unlearned)), share.p_value)
            for each in self.found for output, shares in each.shares.items() for share in shares
        ]  # fmt: skip
        names = (
            "probe on",
            "directions",
            "number",
            "share",
            "of random ones",
            "of probes of shuffled votes",
            "p",
        )
        return Table("Along style or along content", {n: [r[i] for r in rows] for i, n in enumerate(names)})

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {"dataset": self.dataset, "backbones": [each.to_dict() for each in self.found]}


def study_style(
    layout: Layout,
    backbones: Sequence[str] | None = None,
    n_photographs: int = N_PHOTOGRAPHS,
    changes: Sequence[str] | None = None,
    how: How | None = None,
    n_boot: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
    say: Say = log,
) -> Style:
    """Alter photographs of a data set in memory, put them through its backbones, and measure.

    What is made stays in DATA/DATASET/style; the same call again goes on where it was stopped, and only
    measures where all is there. With `how.overwrite`, variants of other photographs or alterations are
    replaced.

    Raises UsageError for unknown alterations, or where others are there; as `embed` for the run itself.
    """
    from analysis.variants.page import study

    names = [name for name in embedded_backbones(layout, backbones) if _can_run(layout, name)]
    embedded = make_variants(layout, names, n_photographs, changes, how or How(), progress, say)
    found, failed = [], 0
    for name in names:
        with open_embedded(layout, name) as features, (progress or show_progress)(f"measuring {name}", 0, ""):
            found.append(study(layout.folder, features, open_targets(layout.targets), n_boot, seed))
            failed = max(failed, found[-1].n_failed)
    notes = (
        [f"{failed} rows failed and took no part; why: iaa info {layout.variants.features}"] if failed else []
    )
    return Style(layout.dataset, found, embedded, [*notes, f"Next: iaa report --dataset {layout.dataset}"])


def make_variants(
    layout: Layout,
    backbones: Sequence[str],
    n_photographs: int = N_PHOTOGRAPHS,
    changes: Sequence[str] | None = None,
    how: How | None = None,
    progress: Progress | None = None,
    say: Say = log,
) -> Embedded | None:
    """The altered photographs' features, a file per backbone below DATA/DATASET/style, and what each row is;
    None where every file is there. Says what it takes before it begins."""
    from embed.images.datasets import build_table, load_config
    from embed.images.variants import choose_photographs, list_variants
    from embed.options import Options

    how, show, there = how or How(), progress or show_progress, layout.variants
    names = check_changes(changes)
    config = load_config(layout.root, layout.dataset)
    table = build_table(config)
    rows = choose_photographs(table, n_photographs)
    if len(rows) < 2:
        raise UsageError(f"{layout.dataset} has {len(rows)} photographs to alter; at least 2 are needed")
    with show("reading the photographs", len(rows), "images") as bar:
        variants = list_variants(table, rows, names, config.exif_rotate, bar.update, how.max_pixels)
    _check_same(there, variants, how.overwrite)
    targets = targets_of(variants)
    write_targets(
        there.targets,
        targets,
        {"images": variants.digest, "photographs": variants.made["photographs"]},
        variants.made,
    )
    n_steps = len(variants) // len(rows)
    _keep_pictures(there, variants, n_steps)
    missing = [name for name in backbones if how.overwrite or not _is_made(layout, variants, name)]
    if not missing:
        return None
    options = Options(
        batch_size=how.batch_size or 1,
        exif_rotate=config.exif_rotate,
        max_pixels=how.max_pixels,
        n_threads=how.threads or _n_threads(),
        max_failed_share=1.0,  # photographs that cannot be read are told where they were embedded first
        overwrite=how.overwrite,
        crash_folder=how.crash_folder,
    )
    say(
        f"{len(rows):,} of {len(table):,} photographs of {layout.dataset}, {n_steps} versions of each: "
        f"{len(variants):,} rows by {', '.join(missing)}"
    )

    def estimate(loaded: "list[Backbone]") -> None:
        seconds = _seconds_per_row(variants, loaded, options, n_steps) * len(variants)
        n_bytes = 4 * len(variants) * sum(sum(b.outputs.values()) for b in loaded)
        say(f"that takes about {_told(seconds)} here and {n_bytes / 1e6:,.0f} MB in {there.features}")

    embedded = run_pipeline(there, variants, missing, options, how, False, show, say, on_loaded=estimate)
    log_run(layout, {"command": "style", "backbones": missing, "n_new": embedded.n_new, **embedded.how}, say)
    return embedded


def check_changes(changes: Sequence[str] | None) -> list[str]:
    """The alterations asked for, in their own order, or all. Raises UsageError with those there are."""
    from embed.images.alterations import ALTERATIONS

    for name in changes or ():
        if name not in ALTERATIONS:
            near = did_you_mean(name, ALTERATIONS)
            raise UsageError(f"--change {name}: there are {', '.join(ALTERATIONS)}.{near}")
    return [name for name in ALTERATIONS if not changes or name in changes]


def _can_run(layout: Layout, backbone: str) -> bool:
    """False for imported vectors: of no altered photograph would there be any."""
    with open_embedded(layout, backbone) as features:
        return features.identity.get("weights_sha256") != "imported"


def _check_same(there: Layout, variants: "ImageTable", overwrite: bool) -> None:
    """Raises UsageError where variants of other photographs or alterations are there."""
    if overwrite or not there.targets.exists():
        return
    found = open_targets(there.targets).provenance
    wrong = [key for key, value in variants.made.items() if found.get(key) != value]
    if not wrong:
        return
    told = "; ".join(
        f"{key}: {_short(found.get(key))} there, {_short(variants.made[key])} asked for" for key in wrong
    )
    error = UsageError(f"{there.folder} holds variants of other photographs or alterations ({told})")
    raise hinting(
        error, f"the same command with --overwrite, or: iaa style --dataset {there.dataset} as it was begun"
    )


def _short(value: Any) -> str:
    text = ", ".join(value) if isinstance(value, dict) else str(value)
    return text[:12] if len(text) == 64 else text


def _is_made(layout: Layout, variants: "ImageTable", backbone: str) -> bool:
    """True for a finished file of these variants by the weights of the data set's own features."""
    try:
        with open_embedded(layout, backbone) as own:
            same = {key: own.identity[key] for key in ("weights_sha256", "outputs")}
        asked = {"images": variants.digest, "variants": dict(variants.made), **same}
        with open_features(layout.variants.features_of(backbone), asked):
            return True
    except (MissingFileError, IdentityError, KeyError):
        return False


def _keep_pictures(there: Layout, variants: "ImageTable", n_steps: int) -> None:
    """Every version of the first photograph that can be read, small, for the page."""
    from PIL import Image, ImageOps

    from embed.images.decode import ImageError
    from embed.images.variants import VariantSource

    path = there.derived / "pictures.h5"
    key = {"photographs": variants.made["photographs"], "images": variants.digest}
    source, names = variants.source, variants.columns["photograph"]
    assert isinstance(source, VariantSource)
    if load_derived(path, key) is not None:
        return
    for first in range(0, len(variants), n_steps):
        try:
            whole = source.at(str(variants.path[first])).pixels()
        except ImageError:
            continue
        size = ImageOps.contain(Image.fromarray(whole), _BOX).size
        rows = range(first, first + n_steps)
        shown = [
            np.asarray(Image.fromarray(source.at(str(variants.path[row])).pixels()).resize(size))
            for row in rows
        ]
        save_derived(path, {"photograph": names[first : first + 1], "pixels": np.stack(shown)}, key)
        return


def _seconds_per_row(variants: "ImageTable", loaded: "list[Backbone]", options: Any, n_steps: int) -> float:
    """Seconds that a row takes on this machine, from the versions of one photograph."""
    import torch

    from embed.images.geometry import pixel_steps, scale_pixels
    from embed.reading import load_row

    n_tried = min(n_steps, 16)
    started = time.perf_counter()
    decoding = options.decoding([pixel_steps(b.transform) for b in loaded])
    rows = [load_row(variants.absolute(i), decoding) for i in range(n_tried)]
    usable = [row.pixels for row in rows if row.pixels is not None]
    made = (time.perf_counter() - started) / n_tried
    encoded = 0.0
    for position, backbone in enumerate(loaded):
        if not usable:
            break
        batch = torch.from_numpy(np.stack([pixels[position] for pixels in usable]))
        for _ in range(2):  # the first call of a model is no measure of the others
            started = time.perf_counter()
            scaled = scale_pixels(batch, backbone.recipe.mean, backbone.recipe.std, backbone.device)
            backbone.encode_images(scaled)
            seconds = (time.perf_counter() - started) / len(usable)
        encoded += seconds
    return max(made / options.n_threads, encoded) if options.n_threads > 1 else made + encoded


def _told(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"


def _n_threads() -> int:
    from store.system import n_cores

    return max(1, min(32, n_cores()))
