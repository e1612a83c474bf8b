"""`iaa export` and `iaa import`: vectors out to other programs, and in from them."""

import enum
from pathlib import Path
from typing import Annotated, Any

import typer

from iaa import options
from iaa.console import answer_json, answer_table, at_work, note
from iaa.paths import Layout, data_root
from iaa.work import load_table, open_embedded, open_only_embedded
from store import MissingFileError, StoreError, open_features, open_targets


class Format(enum.StrEnum):
    """What `iaa export` writes."""

    parquet = "parquet"
    csv = "csv"
    clip_retrieval = "clip-retrieval"
    safetensors = "safetensors"


_ENDINGS = {
    ".parquet": Format.parquet,
    ".pq": Format.parquet,
    ".csv": Format.csv,
    ".safetensors": Format.safetensors,
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("export")(export)
    app.command("import")(import_)


def export(
    out: Annotated[Path, typer.Argument(help="File to write, or folder for clip-retrieval. Must be new.")],
    dataset: options.Dataset = "demo",
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone", "-b", help="Backbone id. Default: the only one embedded.", show_default=False
        ),
    ] = None,
    to: Annotated[
        Format | None,
        typer.Option(
            "--to",
            help="What to write. Default: what the file's ending says, else Parquet.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        list[str] | None,
        typer.Option("--output", help="Output; repeatable. Default: all.", show_default=False),
    ] = None,
    unit: Annotated[
        bool, typer.Option("--unit", help="Scale vectors to length 1, as clip-retrieval's index expects.")
    ] = False,
    only_ok: Annotated[
        bool, typer.Option("--only-ok", help="clip-retrieval: leave failed rows out instead of NaN.")
    ] = False,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Write a feature file as Parquet, CSV, safetensors, or npy and Parquet in clip-retrieval's layout.

    Example: iaa export vectors.parquet --dataset mine --backbone efficientnet_lite0.in1k
    """
    from store.exports import export_clip_retrieval, export_csv, export_parquet, export_safetensors

    to = _format_of(out, to)
    if only_ok and to is not Format.clip_retrieval:
        raise typer.BadParameter(f"--only-ok is for clip-retrieval; {to} marks failed rows, so they stay")
    layout = Layout(data_root(data), dataset)
    opened = open_embedded(layout, backbone) if backbone else open_only_embedded(layout)
    with opened as features, at_work(f"writing {out}"):
        names = list(dict.fromkeys(output or features.outputs))
        paths = _image_paths(layout, features)
        if to is Format.clip_retrieval:
            if len(names) != 1:
                choice = " or --output ".join(names)
                raise typer.BadParameter(f"clip-retrieval holds one output: --output {choice}")
            n_rows = export_clip_retrieval(features, out, names[0], unit, paths, only_ok)
        elif to is Format.parquet:
            n_rows = export_parquet(features, out, names, unit, paths)
        elif to is Format.csv:
            n_rows = export_csv(features, out, names, unit, paths)
        else:
            n_rows = export_safetensors(features, out, names, unit)
        n_failed = int((~features.ok).sum())
    if as_json:
        answer_json({"out": out, "format": to, "outputs": names, "n_rows": n_rows, "n_failed": n_failed})
        return
    fate = "left out" if only_ok else "kept as failed rows"
    note(f"wrote {out}: {n_rows:,} rows of {', '.join(names)}; {n_failed:,} failed images {fate}")


def _format_of(out: Path, to: Format | None) -> Format:
    """The format that `--to` or the file's ending says. Raises typer.BadParameter where the two
    contradict."""
    ending = out.suffix.lower()
    said = _ENDINGS.get(ending)
    if ending in (".npy", ".npz", ".tsv", ".xlsx", ".json", ".jsonl", ".h5", ".hdf5", ".pt", ".tar"):
        known = ", ".join(_ENDINGS)
        raise typer.BadParameter(
            f"{out}: {ending} files are not written; there are {known}, and a folder of .npy with Parquet: "
            "--to clip-retrieval"
        )
    if to is not None and said is not None and said is not to:
        raise typer.BadParameter(
            f"{out} ends as a file of {said} does, but --to says {to}. Leave --to out, or call the file "
            "otherwise"
        )
    return to or said or Format.parquet


def import_(
    source: Annotated[
        Path, typer.Argument(help="Folder of clip-retrieval (with img_emb/ and metadata/), or a .npy file.")
    ],
    backbone: Annotated[
        str,
        typer.Option(
            "--backbone", "-b", help="What to call them: a name of your own, or a backbone's if you are sure."
        ),
    ],
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Data set they belong to, or a new name.")],
    ids: Annotated[
        Path | None,
        typer.Option(help="With a .npy file: ids of its rows (lines of text, CSV, Parquet or .npy)."),
    ] = None,
    id_column: Annotated[
        str | None, typer.Option(help="Column of the ids. Default: image_id, else image_path, key or id.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(help="Name of this output. Default: as exported, else embedding.", show_default=False),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the feature file.")] = False,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Take over vectors that another program has made; the file says that they are imported.

    With a data set, each of its images gets its vector by id or path; images without one become failed
    rows. With a new name the file has the imported ids in their order.

    Example: iaa import embeddings/ --dataset mine --backbone clip-retrieval.vit_b32
    """
    from store.imports import join, measure_lengths, read_clip_retrieval, read_npy, write_imported
    from store.locks import lock_path, write_lock

    if source.is_dir() == (ids is not None):
        what = "--ids is for a .npy file; clip-retrieval's folder has its own"
        raise typer.BadParameter(what if ids else f"{source} is no folder; a .npy file needs --ids FILE")
    with at_work(f"reading {source}"):
        found = read_clip_retrieval(source, id_column) if ids is None else read_npy(source, ids, id_column)
    for remark in found.notes:
        note(remark)
    layout = Layout(data_root(data), dataset)
    path = layout.features_of(backbone)
    more: dict[str, Any] = {}
    if dataset == "demo" or (layout.folder / "dataset.toml").exists():
        _, table = load_table(layout, quiet=as_json)
        rows, joined_on = join(found, table.image_id, _keys_of(table))
        more = {"image_id": table.image_id, "images_digest": table.digest}
        more |= {"rows": rows, "joined_on": joined_on}
    else:
        _write_plain_targets(layout, found.ids)
    with write_lock(lock_path(path)):
        if path.exists() and not overwrite:
            raise StoreError(f"{path} exists already. Choose another --backbone, or replace it: --overwrite")
        with at_work(f"importing {source}"):
            digest = write_imported(found, path, backbone, output or found.output or "embedding", **more)
    lengths = measure_lengths(found)
    with open_features(path) as features:
        n_ok, n_failed = int(features.ok.sum()), len(features.failures)
        n_unused = int(features.provenance["n_without_image"])
    if as_json:
        counts = {"n_ok": n_ok, "n_failed": n_failed, "n_unused": n_unused}
        answer_json({"file": path, "digest": digest, **counts, **lengths})
        return
    unit = "of unit length" if lengths["is_unit_length"] else "not of unit length"
    answer_table(
        f"Imported from {source}",
        ["what", "value"],
        [
            ["file", str(path)],
            ["rows", f"{n_ok:,} with a vector, {n_failed:,} failed"],
            ["imported rows without an image", f"{n_unused:,}"],
            ["matched by", more.get("joined_on", "their own ids, in their order")],
            ["vectors", f"{found.dtype}, {unit} ({lengths['length_min']:g} to {lengths['length_max']:g})"],
            ["digest", digest[:12]],
        ],
    )


def _image_paths(layout: Layout, features: Any) -> Any:
    """The images' paths from the targets file, where that is of the same images."""
    import numpy as np

    try:
        targets = open_targets(layout.targets)
    except MissingFileError:
        return None
    return targets.path if np.array_equal(targets.image_id, features.image_id) else None


def _keys_of(table: Any) -> dict[str, Any]:
    """What an imported id may be: how tools name images is not settled."""
    import os

    import numpy as np

    stems = [os.path.splitext(p)[0] for p in table.path.tolist()]
    return {
        "image_id": table.image_id,
        "path": table.path,
        "path without ending": np.array(stems, dtype=object),
        "file name": np.array([p.rpartition("/")[2] for p in table.path.tolist()], dtype=object),
        "absolute path": np.array([f"{table.location}/{p}" for p in table.path.tolist()], dtype=object),
    }


def _write_plain_targets(layout: Layout, ids: Any) -> None:
    """A data set of its own: images without ratings, known by their ids alone."""
    import numpy as np

    from store import Targets, write_targets
    from store.digests import digest_of_strings

    empty = np.full(len(ids), "", dtype="U5")
    targets = Targets(ids, ids, None, None, None, 0.0, empty, "none", layout.dataset)
    if layout.targets.exists():
        there = open_targets(layout.targets)
        if not np.array_equal(there.image_id, ids):
            raise StoreError(
                f"{layout.targets} lists {there.n_images:,} images, which are not the {len(ids):,} imported "
                "ones. Choose another --dataset"
            )
        return
    write_targets(layout.targets, targets, {"images": digest_of_strings(ids, ids)}, {"kind": "imported"})
