"""`iaa report`: the notebooks, executed on the stored arrays, as one linked set of pages."""

import time
from typing import Annotated

import typer

from iaa import options
from iaa.console import answer_json, answer_line, at_work, note
from iaa.paths import Layout, data_root


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report")(report)


def report(
    dataset: options.Dataset = "demo",
    backbone: options.Backbones = None,
    seed: Annotated[int, typer.Option(help="Seed of every bootstrap and fold.")] = 0,
    n_boot: Annotated[
        int,
        typer.Option(
            min=1, help="Bootstrap resamples behind each interval; comparisons take as many as they need."
        ),
    ] = 1000,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Run the notebooks on what has been embedded and write pages under DATA/DATASET/report/."""
    from embed.datasets import build_table, load_config
    from notebooks.run import run_report
    from store import MissingFileError

    layout = Layout(data_root(data), dataset)
    config = load_config(layout.root, dataset)
    ids = options.default_backbones(dataset, backbone)
    if not layout.targets.exists():
        raise MissingFileError(f"nothing is embedded for {dataset} yet. First: iaa embed --dataset {dataset}")
    started = time.perf_counter()
    with at_work("report") as lines:

        def on_page(name: str, number: int, total: int) -> None:
            note(f"[{number}/{total}] {name}")
            lines.set_postfix_str(f"page {number} of {total}")

        index = run_report(
            layout.report.resolve(),
            {
                "dataset": dataset,
                "dataset_dir": str(layout.folder.resolve()),
                "images_dir": str(build_table(config, layout.root).root.resolve()),
                "report_dir": str(layout.report.resolve()),
                "backbones": ids,
                "seed": seed,
                "n_boot": n_boot,
            },
            on_page=on_page,
        )
    seconds = time.perf_counter() - started
    if as_json:
        answer_json({"dataset": dataset, "index": str(index), "seconds": seconds})
        return
    note(f"report made in {seconds:.0f} s; open it in a browser:")
    answer_line(str(index))
