"""`iaa info` and `iaa verify`: what a stored file is, and whether it is still what was written."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from iaa.cli import options
from iaa.cli.console import answer_json, answer_table, note, progress
from iaa.library.errors import UsageError
from iaa.library.layout import data_root


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("info")(info)
    app.command("verify")(verify)


def info(
    file: Annotated[Path, typer.Argument(help="Any HDF5 file of the store.")],
    as_json: options.Json = False,
) -> None:
    """Say what a stored file is: kind, arrays, identity, provenance, digest, failed rows."""
    from store.features import FEATURES_SCHEMA, Features
    from store.sealed import SealedFile

    with SealedFile(file) as sealed:
        arrays = {name: [list(shape), str(dtype)] for name, (shape, dtype) in sealed.arrays.items()}
        described: dict[str, Any] = {
            "file": str(file),
            "schema": sealed.schema,
            "digest": sealed.digest,
            "identity": sealed.identity,
            "provenance": sealed.provenance,
            "arrays": arrays,
        }
        if sealed.schema == FEATURES_SCHEMA:
            features = Features(sealed)
            described["n_ok"] = int(features.ok.sum())
            described["failures"] = {
                str(features.image_id[row]): reason for row, reason in sorted(features.failures.items())
            }
    if as_json:
        answer_json(described)
        return
    for key in ("identity", "provenance"):
        described |= {f"{key}.{name}": value for name, value in described.pop(key).items()}
    described |= {f"/{name}": f"{shape} {dtype}" for name, (shape, dtype) in described.pop("arrays").items()}
    failures = described.pop("failures", None)
    answer_table(str(file), ["what", "value"], [[k, str(v)] for k, v in described.items()])
    if failures is not None:
        rows = [[name, reason] for name, reason in failures.items()]
        answer_table(f"Failed rows: {len(rows)}", ["image", "reason"], rows) if rows else note(
            "No failed rows."
        )


def verify(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Files or folders. Default: the whole data root.", show_default=False),
    ] = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Read every stored byte and compare it with its digest; exit code 1 if anything is damaged."""
    from store.verify import stored_files, verify_file

    wanted = paths or [data_root(data)]
    files: list[Path] = []
    for path in wanted:
        if not path.exists():
            raise UsageError(f"{path} does not exist. Nothing made yet? Try: iaa embed")
        files += stored_files(path) if path.is_dir() else [path]
    started = time.perf_counter()
    verdicts = []
    with progress("verifying", sum(f.stat().st_size for f in files), "bytes") as bar:
        for file in files:
            verdicts.append(verify_file(file))
            bar.update(file.stat().st_size)
            bar.set_postfix_str(f"{sum(not v.is_intact for v in verdicts)} damaged")
    seconds = time.perf_counter() - started
    damaged = [v for v in verdicts if not v.is_intact]
    if as_json:
        answer_json(
            {
                "n_files": len(verdicts),
                "n_damaged": len(damaged),
                "files": [
                    {
                        "file": str(v.path),
                        "schema": v.schema,
                        "digest": v.digest,
                        "n_bytes": v.n_bytes,
                        "problems": list(v.problems),
                    }
                    for v in verdicts
                ],
            }
        )
    else:
        rows = [
            [str(v.path), v.schema, f"{v.n_bytes:,}", "intact" if v.is_intact else v.problems]
            for v in verdicts
        ]
        answer_table("Stored files", ["file", "kind", "bytes", "verdict"], rows)
        gib = sum(v.n_bytes for v in verdicts) / 2**30
        note(f"{len(verdicts)} files, {gib:.2f} GiB in {seconds:.1f} s; {len(damaged)} damaged")
    if damaged:
        raise typer.Exit(1)
