"""Formats in which vectors go out and come in (docs/exchange.md), one file each.

These modules import pyarrow and the like only where a file is written or read: the command line knows all
formats by name at every start.
"""

from iaa.exchange import clip_retrieval, csv, embedding_atlas, lance, npy, parquet, safetensors
from iaa.exchange.formats import Format

FORMATS: dict[str, Format] = {
    "parquet": parquet.FORMAT,
    "parquet-folder": parquet.FOLDER,
    "lance": lance.FORMAT,
    "embedding-atlas": embedding_atlas.FORMAT,
    "csv": csv.FORMAT,
    "clip-retrieval": clip_retrieval.FORMAT,
    "safetensors": safetensors.FORMAT,
    "npy": npy.FORMAT,
}
"""Every format by its name; where nothing says which to write, the first."""


def written_formats() -> list[str]:
    """Names of the formats that `iaa export` writes."""
    return [name for name, format in FORMATS.items() if format.write]
