"""`iaa style`: what graded alterations of photographs do to features and scores."""


import typer

from iaa.cli import options
from iaa.cli.console import note, progress, show

verbs = typer.Typer()


@verbs.command("style")
@options.explain(
    change=("-c", "These alterations alone (repeatable): exposure, contrast, saturation, sharpness, noise, "
     "jpeg, crop, tilt, cast. Default: all."),
    overwrite="Replace variants of other photographs or alterations.",
    photographs=typer.Option("--photographs", "-n", min=2, help="How many to alter: of the test images "
        "first."),
)  # fmt: skip
def style(
    context: typer.Context,
    dataset: options.Dataset = None,
    backbone: options.Embedded = None,
    photographs: int = 128,
    change: list[str] | None = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    overwrite: bool = False,
    seed: options.Seed = 0,
    n_boot: options.Boot = 1000,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Style or content? Photographs altered step by step in memory: what features, scores and probes notice.

    Each is made darker and brighter, flatter, greyer, softer, noisier and so on, 37 versions in all, which go
    through the backbones of the data set and are kept in DATA/DATASET/style. Then: how well each alteration
    can be read from the features, how far it moves each score and each order, and whether the direction of
    each probe lies along style or along content. Stop it at any time; the same command goes on. iaa report
    shows it as a page. What the numbers mean: docs/style.md.

    Example: iaa style -d mine
    """
    from iaa.library.style import check_changes, study_style

    check_changes(change)
    options.run_apart(context)
    from iaa.library.backbones import weight_files
    from iaa.library.embedding import How
    from iaa.library.opening import embedded_backbones
    from iaa.library.supervision import crash_folder

    layout = options.choose_layout(dataset, data)
    files = weight_files(embedded_backbones(layout, backbone), weights)
    how = How(files, device, threads=threads, overwrite=overwrite, crash_folder=crash_folder())
    done = study_style(layout, backbone, photographs, change, how, n_boot, seed, progress, note)
    show(done, as_json)
