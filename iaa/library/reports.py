"""The report: the notebooks, executed on the stored arrays."""

from collections.abc import Callable, Sequence
from pathlib import Path

from iaa.library.embedding import default_backbones
from iaa.library.layout import Layout
from store import MissingFileError


def make_report(
    layout: Layout,
    backbones: Sequence[str] | None = None,
    seed: int = 0,
    n_boot: int = 1000,
    on_page: Callable[[str, int, int], None] | None = None,
) -> Path:
    """Write the pages under DATA/DATASET/report/ and return the path of the first.

    `on_page(name, number, total)` is called as each begins. Raises MissingFileError before anything is
    embedded, DatasetError for an unknown data set.
    """
    from embed.images.datasets import build_table, load_config
    from notebooks.run import run_report

    config = load_config(layout.root, layout.dataset)
    if not layout.targets.exists():
        raise MissingFileError(
            f"nothing is embedded for {layout.dataset} yet. First: iaa embed --dataset {layout.dataset}"
        )
    return run_report(
        layout.report.resolve(),
        {
            "dataset": layout.dataset,
            "dataset_dir": str(layout.folder.resolve()),
            "images_dir": str(build_table(config).root.resolve()),
            "report_dir": str(layout.report.resolve()),
            "backbones": default_backbones(layout.dataset, backbones),
            "seed": seed,
            "n_boot": n_boot,
        },
        on_page=on_page,
    )
