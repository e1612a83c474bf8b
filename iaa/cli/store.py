"""`iaa info` and `iaa verify`: what a stored file is, and whether it is still what was written."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from iaa.cli import options
from iaa.cli.console import answer, progress
from iaa.library.dataset import open_dataset
from iaa.library.errors import UsageError
from iaa.library.layout import data_root
from iaa.library.stored import describe_file, verify_files
from iaa.library.table import Table, facts


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("info", no_args_is_help=True)(info)
    app.command("verify")(verify)


def info(
    file: Annotated[Path, typer.Argument(help="Any HDF5 file of the store.")],
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Say what a stored file is: kind, arrays, identity, provenance, digest, failed rows."""
    described = describe_file(file, data_root(data))
    told = {key: value for key, value in described.items() if not isinstance(value, dict)}
    for key in ("identity", "provenance"):
        told |= {f"{key}.{name}": value for name, value in described[key].items()}
    told |= {f"/{name}": f"{shape} {dtype}" for name, (shape, dtype) in described["arrays"].items()}
    failures = described.get("failures", {})
    columns = {"image": list(failures), "reason": list(failures.values())}
    tables = [Table(f"Failed rows: {len(failures)}", columns)] if failures else []
    notes = ["No failed rows."] if "failures" in described and not failures else []
    answer(as_json, described, facts(str(file), told), *tables, notes=notes)


def verify(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Files or folders. Default: the whole data root.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", "-d", help="Instead of paths: everything of a data set.")
    ] = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Read every stored byte and compare it with its digest; exit code 1 if anything is damaged."""
    if paths and dataset is not None:
        raise UsageError("--dataset and paths exclude each other: give one of them")
    place = data_root(data) if dataset is None else open_dataset(dataset, data).layout.folder
    started = time.perf_counter()
    verdicts = verify_files(paths or [place], progress)
    seconds = time.perf_counter() - started
    damaged = [v for v in verdicts if not v.is_intact]
    files = [{"file": value.pop("path"), **value} for value in map(asdict, verdicts)]
    columns: dict[str, list[Any]] = {
        "file": [v.path for v in verdicts],
        "kind": [v.schema for v in verdicts],
        "bytes": [v.n_bytes for v in verdicts],
        "verdict": ["intact" if v.is_intact else v.problems for v in verdicts],
    }
    gib = sum(v.n_bytes for v in verdicts) / 2**30
    told = f"{len(verdicts)} files, {gib:.2f} GiB in {seconds:.1f} s; {len(damaged)} damaged"
    value = {"n_files": len(verdicts), "n_damaged": len(damaged), "files": files}
    answer(as_json, value, Table("Stored files", columns), notes=[told])
    if damaged:
        raise typer.Exit(1)
