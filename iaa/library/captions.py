"""Captions of photographs: taken over from tables, written by CoCa, encoded as prompts of their own."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iaa.library.caption_files import N_NAMED, read_captions, sort_captions
from iaa.library.errors import UsageError
from iaa.library.layout import Layout
from iaa.library.opening import check_known
from iaa.library.progress import Progress, Say, log, show_progress
from iaa.library.table import Table
from store import Captions, IdentityError, MissingFileError, open_captions, open_targets, write_captions
from store.errors import did_you_mean, hinting
from store.text import read_bytes

if TYPE_CHECKING:
    import numpy as np

    from embed.images.datasets import ImageTable

WRITER = "open_clip:coca_ViT-B-32/mscoco_finetuned_laion2b_s13b_b90k"
"""What writes captions where nobody names a model: CoCa, fine-tuned on the captions of COCO."""
DEFAULT_HIGH, DEFAULT_LOW = ("outstanding",), ("horrible",)
"""The labels that the paper found best for the continuous task with contents (section 4.1.2)."""


@dataclass(frozen=True)
class Captioned:
    """A caption file as it was made: what it holds, and what is missing in it."""

    dataset: str
    name: str
    path: Path
    digest: str
    n_images: int
    n_captioned: int
    n_captions: int
    reasons: dict[str, int]
    """Photographs without a caption, by reason."""
    missing: list[str]
    """Their ids."""
    examples: list[tuple[str, str]] = field(repr=False)
    unknown: list[str] = field(default_factory=list)
    n_doubled: int = 0
    remarks: list[str] = field(default_factory=list)

    def table(self) -> Table:
        """The first captions."""
        some = f"{self.n_captioned:,} of {self.n_images:,} photographs"
        title = f"{self.name}: {self.n_captions:,} captions of {some}"
        return Table(
            title, {"image_id": [i for i, _ in self.examples], "caption": [c for _, c in self.examples]}
        )

    def notes(self) -> Iterator[str]:
        """What was left out and why, and what is next."""
        yield from self.remarks
        if self.unknown:
            yield f"{len(self.unknown):,} names mean no photograph of {self.dataset}: {_some(self.unknown)}"
        if self.n_doubled:
            yield f"{self.n_doubled:,} captions stood twice for one photograph: they count once"
        for reason, n in self.reasons.items():
            yield f"{n:,} photographs have none: {reason}"
        if self.missing:
            yield f"Without a caption: {_some(self.missing)}"
        yield f"Next: iaa caption embed {self.name} --dataset {self.dataset}"

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        counted = {
            k: getattr(self, k) for k in ("n_images", "n_captioned", "n_captions", "n_doubled", "reasons")
        }
        listed = {"missing": self.missing, "unknown": self.unknown}
        return (
            {"dataset": self.dataset, "name": self.name, "path": self.path, "digest": self.digest}
            | counted
            | listed
        )


def add_captions(
    layout: Layout,
    file: Path | str | None = None,
    columns: Sequence[str] = (),
    name: str | None = None,
    encoding: str | None = None,
    overwrite: bool = False,
) -> Captioned:
    """Take over captions: of a CSV, Parquet, JSON or JSON lines file keyed by image id or file, or, without a
    file, of columns that the data set's own table has. All texts of a photograph count, each once.

    `name` is by default the file's name or the column's. Raises UsageError where nothing fits, where the
    name is taken, MissingFileError, TableError, DatasetError.
    """
    image_id, path, own, images = _images(layout)
    provenance: dict[str, Any]
    if file is None:
        if not columns:
            raise UsageError("give a file of captions, or --column with a column of the data set's table")
        if unknown := [c for c in columns if c not in own]:
            raise UsageError(
                f"{layout.dataset} has no column {unknown[0]!r}; it has {', '.join(own) or 'none'}."
                f"{did_you_mean(unknown[0], own)} Give the table itself as the file"
            )
        origin = f"column {', '.join(columns)}"
        said = [(str(i), own[c][row]) for row, i in enumerate(image_id) for c in columns]
        said = [(i, cell if isinstance(cell, str) else cell.item()) for i, cell in said]
        provenance = {"source": "column", "columns": list(columns)}
        name = name or columns[0]
    else:
        file = Path(file)
        said, origin = read_captions(file, columns, encoding), file.name
        provenance = {
            "source": "file",
            "file": file.name,
            "columns": list(columns),
            "n_bytes": len(read_bytes(file)),
        }
        name = name or file.stem
    target = check_new(layout, name, overwrite)
    found = sort_captions(said, image_id.tolist(), path.tolist(), origin)
    identity = {"captions": name, "images": images, "n_images": len(image_id)}
    write_captions(target, image_id, found.captions, found.reason, identity, provenance)
    made = _told(layout, open_captions(target))
    return replace(made, unknown=found.unknown, n_doubled=found.n_doubled, remarks=found.notes)


def caption_photographs(
    layout: Layout,
    backbone: str = WRITER,
    weights: Path | None = None,
    name: str = "coca",
    device: str = "auto",
    threads: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    say: Say = log,
) -> Captioned:
    """A caption of every photograph, written by a CoCa of open_clip. One that cannot be read has none, and
    the
    reason. A run that was stopped goes on; a finished one of the same model is left alone.

    Raises BackboneError for a model that writes none, WeightsUnavailable, IdentityError where captions of
    that name are others.
    """
    from embed.captioning import caption_images
    from embed.images.datasets import build_table, load_config
    from embed.options import Options
    from iaa.library.backbones import load_backbones
    from iaa.library.embedding import rows_on
    from iaa.library.supervision import crash_folder
    from store.system import n_cores

    target = layout.captions_of(name)
    config = load_config(layout.root, layout.dataset)
    table = build_table(config)
    (loaded,) = load_backbones([backbone], {} if weights is None else {backbone: weights}, device, say=say)
    options = Options(
        exif_rotate=config.exif_rotate,
        n_threads=threads or max(1, min(32, n_cores())),
        overwrite=overwrite,
        crash_folder=crash_folder(),
    )
    with (progress or show_progress)(f"captions by {backbone}", len(table), "images") as bar:
        caption_images(table, loaded, name, target, options, rows_on(bar, len(table), say=say))
    return _told(layout, open_captions(target))


def _told(layout: Layout, captions: Captions) -> Captioned:
    """What a finished caption file holds."""
    has = captions.n_captions > 0
    some = [row for row in range(captions.n_images) if has[row]][:N_NAMED]
    return Captioned(
        dataset=layout.dataset,
        name=captions.name,
        path=captions.path,
        digest=captions.digest,
        n_images=captions.n_images,
        n_captioned=int(has.sum()),
        n_captions=len(captions.text),
        reasons=dict(Counter(captions.reason[~has].tolist())),
        missing=captions.image_id[~has].tolist(),
        examples=[(str(captions.image_id[row]), " | ".join(captions.of(row))) for row in some],
    )


def check_new(layout: Layout, name: str, overwrite: bool) -> Path:
    """The caption file of a name. Raises UsageError where it is taken, UnsafeNameError."""
    target = layout.captions_of(name)
    if target.exists() and not overwrite:
        raise UsageError(
            f"{layout.dataset} has captions {name!r} already: choose another --name, or --overwrite"
        )
    return target


def open_named(layout: Layout, name: str) -> Captions:
    """Captions by name. Raises MissingFileError with those there are, IdentityError for another list."""
    check_known(layout)
    path = layout.captions_of(name)
    if not path.exists():
        there = [p.stem for p in sorted(layout.captions.glob("*.h5"))]
        error = MissingFileError(
            f"{layout.dataset} has no captions {name!r}; there are: {', '.join(there) or 'none'}."
            + did_you_mean(name, there)
        )
        made = f"iaa caption add FILE --name {name} --dataset {layout.dataset}"
        raise hinting(error, made, f"iaa.open_dataset({layout.dataset!r}).add_captions(FILE, name={name!r})")
    return open_captions(path, _images(layout)[3])


def embed_captions(
    layout: Layout,
    name: str,
    backbones: Sequence[str] | None = None,
    high: Sequence[str] | None = None,
    low: Sequence[str] | None = None,
    all_labels: bool = False,
    template: str | None = None,
    weights: Mapping[str, Path] | None = None,
    device: str = "auto",
    overwrite: bool = False,
    progress: Progress | None = None,
    say: Say = log,
) -> Table:
    """Encode every different caption with every label ("a [label] picture, of [caption]"), a row per file
    made;
    what that costs is said before it starts, and a run that was stopped goes on.

    Default labels: outstanding and horrible; `all_labels`: the paper's 39. Raises UsageError, PromptSetError,
    MissingFileError, WeightsUnavailable, IdentityError for a finished file of other captions or labels.
    """
    from embed.prompts.captions import (
        CAPTION_TEMPLATE,
        caption_set,
        caption_table,
        encode_captions,
        finished_digest,
        look_at_captions,
        measure_cost,
    )
    from embed.prompts.sets import PROMPT_SETS, Label
    from iaa.library.backbones import load_backbones
    from iaa.library.embedding import reading_backbones

    if all_labels and (high or low):
        raise UsageError("give either --all-labels or labels of your own")
    captions = open_named(layout, name)
    labels = [Label(word, +1) for word in high or DEFAULT_HIGH] + [
        Label(word, -1) for word in low or DEFAULT_LOW
    ]
    if all_labels:
        labels = list(PROMPT_SETS["paper_fixed"].labels)
    table = caption_table(captions, labels, template or CAPTION_TEMPLATE)
    made: dict[str, list[Any]] = {
        key: [] for key in ("prompts", "backbone", "n_prompts", "n_cut", "path", "digest")
    }
    show = progress or show_progress
    for loaded in load_backbones(reading_backbones(layout, backbones), weights or {}, device):
        set_name = caption_set(name)
        path = layout.prompts(set_name, loaded.id)
        try:
            digest = finished_digest(captions, table, loaded, path, overwrite)
        except IdentityError as error:
            command = f"iaa caption embed {name} --dataset {layout.dataset} --overwrite"
            call = f"iaa.open_dataset({layout.dataset!r}).embed_captions({name!r}, overwrite=True)"
            raise hinting(error, command, call) from error
        found = None
        if digest is None:
            with show(f"tokens of {set_name} ({loaded.id})", len(table), "texts") as bar:
                found = look_at_captions(captions, table, loaded, bar.update)
            say(measure_cost(captions, table, loaded, found).told(loaded.context_length))
            with show(f"{set_name} ({loaded.id})", len(table), "prompts") as bar:
                digest = encode_captions(captions, table, loaded, path, overwrite, bar.update)
        n_cut = None if found is None else len(found.too_long)
        row = (set_name, loaded.id, len(table), n_cut, str(path), digest)
        for key, value in zip(made, row, strict=True):
            made[key].append(value)
    return Table("Prompt files", made)


def list_captions(layout: Layout) -> Table:
    """The caption files of a data set: name, photographs with a caption, captions, file."""
    check_known(layout)
    opened = [open_captions(path) for path in sorted(layout.captions.glob("*.h5"))]
    return Table(
        f"Captions of {layout.dataset}",
        {
            "captions": [c.name for c in opened],
            "source": [str(c.provenance.get("source", "")) for c in opened],
            "n_captioned": [int((c.n_captions > 0).sum()) for c in opened],
            "n_captions": [len(c.text) for c in opened],
            "first": [c.text[0] for c in opened],
            "file": [str(c.path) for c in opened],
        },
    )


def remove_captions(layout: Layout, name: str) -> list[Path]:
    """Delete captions and the prompts encoded from them; returns the files. Raises MissingFileError."""
    from embed.prompts.captions import caption_set

    path = layout.captions_of(name)
    if not path.exists():
        open_named(layout, name)
    files = [path, *sorted(layout.prompts(caption_set(name), "any").parent.glob("*.h5"))]
    for each in files:
        each.unlink()
    return files


def _images(layout: Layout) -> "tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], str]":
    """Ids, paths and columns of the data set's images, and the digest of their list."""
    check_known(layout)
    if layout.targets.exists():
        targets = open_targets(layout.targets)
        return targets.image_id, targets.path, targets.columns, targets.images
    table = image_table(layout)
    return table.image_id, table.path, dict(table.columns), table.digest


def image_table(layout: Layout) -> "ImageTable":
    """The data set's images as they are listed now."""
    from embed.images.datasets import build_table, load_config

    return build_table(load_config(layout.root, layout.dataset))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:N_NAMED]) + (f", ... ({len(names):,})" if len(names) > N_NAMED else "")
