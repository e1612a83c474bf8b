"""`iaa export` and `iaa import`: vectors out to other programs, and in from them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iaa.cli import options
from iaa.cli.console import Answer, at_work, show
from iaa.exchange import written_formats

if TYPE_CHECKING:
    from iaa.library.dataset import Dataset

verbs = typer.Typer()


@verbs.command("export", no_args_is_help=True)
@options.explain(
    output="Output; repeatable. Default: all.",
    unit="Scale vectors to length 1, as clip-retrieval's index expects.",
    only_ok="clip-retrieval: leave failed rows out instead of NaN.",
    to=typer.Option("--to", metavar=f"[{'|'.join(written_formats())}]", help="What to write. Default: what "
        "the file's ending says, else Parquet."),
)  # fmt: skip
@options.of_dataset
def export(
    chosen: "Dataset",
    out: Annotated[Path, typer.Argument(help="File to write, or folder for clip-retrieval.")],
    backbone: options.OneEmbedded = None,
    to: str | None = None,
    output: list[str] | None = None,
    unit: bool = False,
    only_ok: bool = False,
    overwrite: options.Overwrite = False,
) -> Any:
    """Write a feature file as Parquet, CSV, safetensors, or npy and Parquet in clip-retrieval's layout.

    Example: iaa export vectors.parquet --dataset mine --backbone efficientnet_lite0.in1k
    """
    done = chosen.export(out, to, backbone, output, unit, only_ok, overwrite)
    return Answer(done.to_dict(), notes=done.notes())


@verbs.command("import", no_args_is_help=True)
@options.explain(
    ids="With a .npy file: ids of its rows (lines of text, CSV, Parquet or .npy).",
    id_column="Column of the ids. Default: image_id, else image_path, key or id.",
    output="Name of this output. Default: as exported, else embedding.",
    source=typer.Argument(help="Folder of clip-retrieval (with img_emb/ and metadata/), or a .npy file."),
    backbone=typer.Option("--backbone", "-b", help="What to call them: a name of your own, or a backbone's "
        "if you are sure."),
)  # fmt: skip
def import_(
    source: Path,
    backbone: str,
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Data set they belong to, or a new name.")],
    ids: Path | None = None,
    id_column: str | None = None,
    output: str | None = None,
    overwrite: options.Overwrite = False,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Take over vectors that another program has made; the file says that they are imported.

    With a data set, each of its images gets its vector by id or path; images without one become failed
    rows. With a new name the file has the imported ids in their order.

    Example: iaa import embeddings/ --dataset mine --backbone clip-retrieval.vit_b32
    """
    from iaa.library import exchange
    from iaa.library.layout import Layout, data_root

    layout = Layout(data_root(data), dataset)
    with at_work(f"reading {source}"):
        done = exchange.import_vectors(layout, source, backbone, ids, id_column, output, overwrite)
    show(done, as_json)
