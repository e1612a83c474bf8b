"""`iaa info`, `iaa status`, `iaa verify`: what a stored file is, how far, and still whole."""

from pathlib import Path
from typing import Annotated

import typer

from iaa.cli import options
from iaa.cli.console import progress, show
from iaa.library.errors import UsageError

verbs = typer.Typer()


@verbs.command("info", no_args_is_help=True)
def info(
    file: Annotated[Path, typer.Argument(help="Any HDF5 file of the store, or a painted PNG.")],
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Say what a stored file is: kind, arrays, identity, provenance, digest, failed rows."""
    from iaa.library import layout, stored

    if file.suffix.lower() == ".png" and file.is_file():
        from iaa.library import painting  # with all that painting takes

        return show(painting.describe_painting(file), as_json)
    show(stored.describe_file(file, layout.data_root(data)), as_json)


@verbs.command("status")
@options.explain(remote=typer.Option(metavar="URL", help="Count what is in an object store, too."))
def status(
    dataset: options.Dataset = None,
    remote: str | None = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Say how far runs are: parts done, failures, rate, time left, and who is at work.

    Asked on any machine that sees the data root, or with --remote the object
    store, beside the run or after it; nothing is locked or written.

    Example: watch iaa status -d ava
    """
    from iaa.library.status import run_states

    show(run_states(options.choose_layout(dataset, data), remote=remote), as_json)


@verbs.command("verify")
@options.explain(
    dataset=("-d", "Instead of paths: everything of a data set."),
    paths=typer.Argument(help="Files or folders. Default: the whole data root."),
)
def verify(
    paths: list[Path] | None = None,
    dataset: str | None = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Read every stored byte and compare it with its digest; exit code 1 if anything is damaged."""
    from iaa.library import layout, stored

    if paths and dataset is not None:
        raise UsageError("--dataset and paths exclude each other: give one of them")
    place = layout.data_root(data) if dataset is None else options.choose(dataset, data).layout.folder
    found = stored.verify_files(paths or [place], progress)
    show(found, as_json)
    if found.n_damaged:
        raise typer.Exit(1)
