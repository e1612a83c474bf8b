"""`iaa push` and `iaa pull`: finished files to an object store, and from it."""

from typing import Annotated

import typer

from iaa.cli import options
from iaa.cli.console import answer, progress

verbs = typer.Typer()

Url = Annotated[str, typer.Argument(metavar="URL", help="Where: s3://BUCKET/FOLDER (gs://, az:// likewise).")]


@verbs.command("push", no_args_is_help=True)
def push(
    url: Url,
    dataset: options.Dataset = None,
    backbone: options.Embedded = None,
    overwrite: options.Overwrite = False,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Send a data set's finished files to an object store: features, targets, prompts, captions.

    What is there already is not sent again: a push that was stopped goes on. Photographs and ratings
    stay here. Credentials are the provider's own (AWS_PROFILE and the like). Needs the extra s3.

    Example: iaa push s3://my-bucket/aesthetics --dataset mine
    """
    from iaa.library import remotes

    moved = remotes.push(options.choose_layout(dataset, data), url, backbone, overwrite, progress)
    answer(as_json, moved.to_dict(), moved.table(), notes=moved.notes())


@verbs.command("pull", no_args_is_help=True)
def pull(
    url: Url,
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Name of the data set there, and here.")],
    backbone: options.Embedded = None,
    overwrite: options.Overwrite = False,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Fetch a data set's files from an object store, every byte checked against its digest.

    What is here already is not fetched again: a pull that was stopped goes on. Then everything works as
    if the files had been made here; what looks at photographs needs those, too. Needs the extra s3.

    Example: iaa pull s3://my-bucket/aesthetics --dataset mine
    """
    from iaa.library import remotes
    from iaa.library.layout import Layout, data_root

    moved = remotes.pull(Layout(data_root(data), dataset), url, backbone, overwrite, progress)
    answer(as_json, moved.to_dict(), moved.table(), notes=moved.notes())
