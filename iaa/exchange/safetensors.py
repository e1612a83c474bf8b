"""One safetensors file: a tensor per output."""

import json
from pathlib import Path

import numpy as np

from iaa.exchange.formats import ABOUT, Format, about, write_new
from store.features import Features


def write(
    features: Features,
    path: Path,
    outputs: list[str],
    unit_norm: bool = False,
    paths: np.ndarray | None = None,
) -> int:
    """Write one safetensors file and return its number of rows.

    Tensors: each output (n, dim) float32 with NaN in failed rows, and `status` uint8 (1 ok, 2 failed). Ids,
    failures and origin are JSON in the metadata, which has no paths.

    Raises SchemaError for an unknown output, StoreError where the file exists, SpaceError.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    tensors = {name: np.ascontiguousarray(features.read(name, unit_norm=unit_norm)) for name in outputs}
    said = {
        ABOUT: json.dumps(about(features, unit_norm)),
        "image_id": json.dumps(features.image_id.tolist()),
        "failures": json.dumps({str(row): reason for row, reason in sorted(features.failures.items())}),
    }
    tensors["status"] = np.ascontiguousarray(features.status)

    def fill(partial: Path) -> None:
        mode = partial.stat().st_mode & 0o777  # what the user's umask leaves of it
        try:
            save_file(tensors, partial, said)
            partial.chmod(mode)  # save_file gives them to their owner alone
        except SafetensorError as error:  # all that can fail here is writing
            raise OSError(str(error)) from error

    write_new(path, fill)
    return features.n_images


FORMAT = Format("one safetensors file", (".safetensors",), write)
