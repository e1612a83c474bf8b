"""The report: the notebooks, executed on the stored arrays."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from iaa.library.layout import Layout
from iaa.library.opening import embedded_backbones, open_embedded
from iaa.library.painting import keep_painted
from iaa.library.rating.raters import keep_raters

if TYPE_CHECKING:
    from iaa.library.photographs import Photographs

_EDGE = 420
"""Longer side of the photographs on the pages, in pixels."""


def make_report(
    layout: Layout,
    backbones: Sequence[str] | None = None,
    seed: int = 0,
    n_boot: int = 1000,
    on_page: Callable[[str, int, int], None] | None = None,
) -> Path:
    """Write the pages under DATA/DATASET/report/ and return the path of the first. Default: all backbones
    that are embedded.

    `on_page(name, number, total)` is called as each begins. Raises MissingFileError before anything is
    embedded, DatasetError for an unknown data set.
    """
    from embed.images.datasets import build_table, load_config
    from iaa.library.photographs import Photographs
    from notebooks.run import run_report

    config = load_config(layout.root, layout.dataset)
    names = embedded_backbones(layout, backbones)
    table = build_table(config)
    photographs = Photographs(table, config.exif_rotate, layout.features_of(names[0]))

    with open_embedded(layout, names[0]) as features:
        keep_raters(layout, features)
    keep_painted(layout)
    return run_report(
        layout.report.resolve(),
        {
            "dataset": layout.dataset,
            "dataset_dir": str(layout.folder.resolve()),
            "images_dir": str(table.root.resolve()),
            "report_dir": str(layout.report.resolve()),
            "backbones": names,
            "seed": seed,
            "n_boot": n_boot,
        },
        on_page=on_page,
        pictures=lambda shots: pictures(layout, photographs, shots),
    )


def pictures(
    layout: Layout, photographs: "Photographs", shots: Sequence[Mapping[str, str]]
) -> list[bytes | None]:
    """A small JPEG, or None, for each shot of a page: a photograph of the data set, or, where `place` names a
    folder of it, a picture that was made there."""
    from iaa.library.photographs import load_thumbnail

    if shots and (place := shots[0].get("place")):
        files = [layout.folder / place / shot["file"] for shot in shots]
        return [load_thumbnail(file, False, edge=_EDGE).jpeg for file in files]
    return [found.jpeg for found in photographs.thumbnails(shots, edge=_EDGE)]
