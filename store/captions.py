"""Caption files: what is said of each image, any number of texts, or the reason why there is none."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from store.errors import SchemaError
from store.identity import check_identity
from store.sealed import SealedFile, write_sealed
from store.shapes import Int

CAPTIONS_SCHEMA = "iaa/captions"


class Captions:
    """An open caption file: a row per image of the list, its captions one after the other.

    `n_captions` may be 0; `reason` then says why, and is '' elsewhere. The captions of image i are
    `text[first[i] : first[i + 1]]`.
    """

    def __init__(self, file: SealedFile) -> None:
        file.require_identity(captions=str, images=str)
        file.require("image_id", "S", (None,))
        n_images = file.arrays["image_id"][0][0]
        file.require("reason", "S", (n_images,))
        file.require("n_captions", "i", (n_images,))
        file.require("stop", "i", (None,))
        file.require("utf8", "u", (None,))
        self.path = file.path
        self.image_id = file.strings("image_id")
        self.reason = file.strings("reason")
        self.n_captions: Int[np.ndarray, " n_images"] = file.view("n_captions").astype(np.int64)
        data, stop = file.view("utf8").tobytes(), file.view("stop").tolist()
        starts = [0, *stop[:-1]]
        if self.n_captions.min(initial=0) < 0 or int(self.n_captions.sum()) != len(stop):
            raise SchemaError(
                f"{file.path}: {len(stop)} captions, but its images have {self.n_captions.sum()}"
            )
        if any(a > b for a, b in zip(starts, stop, strict=True)) or (stop[-1] if stop else 0) != len(data):
            raise SchemaError(f"{file.path}: /stop does not divide the {len(data)} bytes of its captions")
        try:
            self.text = [data[a:b].decode() for a, b in zip(starts, stop, strict=True)]
        except UnicodeDecodeError as error:
            raise SchemaError(f"{file.path}: a caption is not UTF-8 text") from error
        self.first: Int[np.ndarray, " n_images_and_1"] = np.concatenate([[0], np.cumsum(self.n_captions)])
        self.identity = file.identity
        self.provenance = file.provenance
        self.digest = file.digest
        self.name = str(file.identity["captions"])
        self.images = str(file.identity["images"])

    @property
    def n_images(self) -> int:
        """Number of images, captioned or not."""
        return len(self.image_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing stays open: all is read at once."""

    def of(self, row: int) -> list[str]:
        """The captions of one image."""
        return self.text[self.first[row] : self.first[row + 1]]


def write_captions(
    path: Path,
    image_id: np.ndarray,
    captions: Sequence[Sequence[str]],
    reason: Sequence[str],
    identity: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> str:
    """Write the captions of every image, in the order of the list, and return the content digest.

    `identity` names them (`captions`) and the list of images (`images`). Raises ValueError where an image has
    neither a caption nor a reason, or both.
    """
    if not len(image_id) == len(captions) == len(reason):
        raise ValueError(f"{len(image_id)} images, {len(captions)} lists of captions, {len(reason)} reasons")
    if wrong := [
        i for i, (said, why) in enumerate(zip(captions, reason, strict=True)) if bool(said) == bool(why)
    ]:
        raise ValueError(
            f"image {image_id[wrong[0]]!r} must have either captions or a reason for having none"
        )
    encoded = [text.encode() for said in captions for text in said]
    arrays = {
        "image_id": np.asarray(image_id, dtype=str),
        "reason": np.asarray(list(reason), dtype=str),
        "n_captions": np.array([len(said) for said in captions], dtype=np.int32),
        "stop": np.cumsum([len(each) for each in encoded], dtype=np.int64),
        "utf8": np.frombuffer(b"".join(encoded), np.uint8),
    }
    return write_sealed(path, CAPTIONS_SCHEMA, identity, provenance, arrays)


def open_captions(path: Path | str, images: str = "") -> Captions:
    """Open a caption file; with `images`, only if it is of that list.

    Raises MissingFileError, SchemaError, IntegrityError, IdentityError.
    """
    with SealedFile(path, CAPTIONS_SCHEMA) as file:
        if images:
            advice = (
                "The data set lists other images than when they were captioned: iaa caption add --overwrite"
            )
            check_identity(file.identity, {"images": images}, path, advice)
        return Captions(file)
