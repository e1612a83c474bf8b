"""The report: the notebooks, executed on the stored arrays."""

from collections.abc import Callable, Sequence
from pathlib import Path

from iaa.library.layout import Layout
from iaa.library.opening import embedded_backbones, open_embedded
from iaa.library.rating.raters import keep_raters


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
    from notebooks.run import run_report

    config = load_config(layout.root, layout.dataset)
    names = embedded_backbones(layout, backbones)
    with open_embedded(layout, names[0]) as features:
        keep_raters(layout, features)
    return run_report(
        layout.report.resolve(),
        {
            "dataset": layout.dataset,
            "dataset_dir": str(layout.folder.resolve()),
            "images_dir": str(build_table(config).root.resolve()),
            "report_dir": str(layout.report.resolve()),
            "backbones": names,
            "seed": seed,
            "n_boot": n_boot,
        },
        on_page=on_page,
    )
