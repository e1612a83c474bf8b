"""One safetensors file: a tensor per output."""

import json
import math
from pathlib import Path

import numpy as np

from iaa.exchange.formats import ABOUT, Format, about, blocks, dim, write_new
from store.errors import SchemaError, StoreError
from store.features import Features

MAX_HEADER_BYTES = 100_000_000
"""What readers of the format take."""
STATUS = "status"
_BYTES = {"F32": 4, "U8": 1}


def write(
    features: Features,
    path: Path,
    outputs: list[str],
    unit_norm: bool = False,
    paths: np.ndarray | None = None,
) -> int:
    """Write one safetensors file and return its number of rows.

    Tensors: each output (n, dim) float32 with NaN in failed rows, and `status` uint8 (1 ok, 2 failed). Ids,
    failures and origin are JSON in the metadata, which has no paths. Memory holds a block of vectors.

    Raises SchemaError for an output that is unknown or called `status`, StoreError where the file exists or
    the ids are too many for a header, SpaceError.
    """
    if STATUS in outputs:
        raise SchemaError(
            f"{path}: an output called {STATUS!r} would take the name of the tensor that says which rows "
            "failed. Write another format: --to parquet"
        )
    rows = np.arange(features.n_images)
    said = {
        ABOUT: json.dumps(about(features, unit_norm)),
        "failures": json.dumps({str(row): reason for row, reason in sorted(features.failures.items())}),
        "image_id": json.dumps(features.image_id.tolist()),
    }
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {
        name: ("F32", (len(rows), dim(features, name))) for name in sorted(outputs)
    }
    shapes[STATUS] = ("U8", (len(rows),))
    header = header_of(said, shapes)
    if len(header) > MAX_HEADER_BYTES:
        raise StoreError(
            f"{path}: {len(rows):,} ids and failures take {len(header):,} bytes of a safetensors header, "
            f"which may have {MAX_HEADER_BYTES:,}. Write another format: --to parquet, --to clip-retrieval"
        )

    def fill(partial: Path) -> None:
        with partial.open("wb") as file:
            file.write(header)
            for name in sorted(outputs):
                for block in blocks(features, name, rows, unit_norm):
                    file.write(np.ascontiguousarray(block, "<f4").data)
            file.write(np.ascontiguousarray(features.status).data)

    write_new(path, fill)
    return features.n_images


def header_of(said: dict[str, str], shapes: dict[str, tuple[str, tuple[int, ...]]]) -> bytes:
    """The start of a safetensors file: the length of its header, which is JSON, and where the bytes of each
    tensor (type and shape by name) lie behind it. Wider types come first, then names in order."""
    header: dict[str, object] = {"__metadata__": said}
    start = 0
    for name, (kind, shape) in shapes.items():
        stop = start + math.prod(shape) * _BYTES[kind]
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": (start, stop)}
        start = stop
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


FORMAT = Format("one safetensors file", (".safetensors",), write)
