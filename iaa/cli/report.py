"""`iaa report`: the notebooks, executed on the stored arrays, as one linked set of pages."""

import time

import typer

from iaa.cli import options
from iaa.cli.console import answer_json, answer_line, at_work, note

verbs = typer.Typer()


@verbs.command("report")
@options.explain(
    seed="Seed of every bootstrap and fold.",
    n_boot=typer.Option(min=1, help="Bootstrap resamples behind each interval; comparisons take as many as "
        "they need."),
)  # fmt: skip
def report(
    dataset: options.Dataset = None,
    backbone: options.Embedded = None,
    seed: int = 0,
    n_boot: int = 1000,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Run the notebooks on what has been embedded and write pages under DATA/DATASET/report/."""
    from iaa.library.reports import make_report

    layout = options.choose_layout(dataset, data)
    started = time.perf_counter()
    with at_work("report") as lines:

        def on_page(name: str, number: int, total: int) -> None:
            note(f"[{number}/{total}] {name}")
            lines.set_postfix_str(f"page {number} of {total}")

        index = make_report(layout, backbone, seed, n_boot, on_page)
    seconds = time.perf_counter() - started
    if as_json:
        answer_json({"dataset": layout.dataset, "index": index, "seconds": seconds})
        return
    note(f"report made in {seconds:.0f} s; open it in a browser:")
    answer_line(str(index))
