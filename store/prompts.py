"""Prompt files: one row per text, verbatim, with its label, polarity, content name and vector."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from store.arrays import Reader
from store.identity import check_identity
from store.rows import Selection, read_rows
from store.sealed import SealedFile
from store.shapes import Float32, Int8

PROMPTS_SCHEMA = "iaa/prompts"


class Prompts(Reader):
    """An open prompt file; arrays are read-only, vectors are raw unless unit length is asked for."""

    def __init__(self, file: SealedFile) -> None:
        file.require_identity(prompt_set=str, backbone=str)
        file.require("text", "S", (None,))
        n_prompts = file.arrays["text"][0][0]
        for name in ("label", "content", "template"):
            file.require(name, "S", (n_prompts,))
        file.require("polarity", "i", (n_prompts,))
        file.require("outputs/embedding", "f", (n_prompts, None))
        self.file = file
        self.path = file.path
        self.text = file.strings("text")
        self.label = file.strings("label")
        self.content = file.strings("content")
        self.template = file.strings("template")
        self.polarity: Int8[np.ndarray, " n_prompts"] = file.view("polarity")
        self.identity = file.identity
        self.provenance = file.provenance
        self.digest = file.digest
        self.set_name = str(file.identity["prompt_set"])
        self.backbone = str(file.identity["backbone"])

    @property
    def n_prompts(self) -> int:
        """Number of texts."""
        return len(self.text)

    def read(
        self, output: str = "embedding", rows: Selection = None, unit_norm: bool = False
    ) -> Float32[np.ndarray, "n_rows dim"]:
        """Text vectors, as the text tower gave them or, if asked, scaled to unit length."""
        return read_rows(self.file, f"outputs/{output}", rows, unit_norm)


def open_prompts(path: Path | str, expect: Mapping[str, Any] | None = None) -> Prompts:
    """Open a prompt file; with `expect`, only if its identity has those values.

    Raises MissingFileError, SchemaError, IntegrityError, or IdentityError naming the fields that differ.
    """
    file = SealedFile(path, PROMPTS_SCHEMA)
    if expect:
        advice = "Encode the prompts again: iaa embed --prompts NAME --overwrite"
        check_identity(file.identity, expect, path, advice)
    return Prompts(file)
