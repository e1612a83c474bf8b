"""`iaa prompt` and `iaa probe`: answers from the stored arrays, in seconds."""

import typer


def register(app: typer.Typer) -> None:
    """Add the commands."""
