"""What exports of models for ONNX Runtime have in common: what they need, and what they follow from.

Nothing of torch is imported here, so that an export can be used without it.
"""

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from embed.backbones.families import family
from embed.backbones.spec import BackboneError, BackboneSpec
from embed.backbones.weights import file_sha256, library_versions
from store.digests import digest_of_json

OLDEST = {"onnxruntime": (1, 17), "onnx": (1, 15)}
"""What runs the exported operators, and what torch's exporter needs."""

TOLERANCE = 1e-5
"""How far an export's vectors may be from torch's: the length of the difference, of the vector's."""

OPSET = 17

_OWN_DIGEST = "line_sha256"


class EngineUnavailable(BackboneError):  # noqa: N818
    """An engine cannot compute a backbone here; the message says why."""


def engine_versions() -> dict[str, str]:
    """Versions of the packages by which ONNX Runtime computes.

    Raises EngineUnavailable for one that is missing, too old or cannot be loaded.
    """
    found = {}
    for package, oldest in OLDEST.items():
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            raise EngineUnavailable(
                f"{package} is not installed: pip install '{package}>={_dotted(oldest)}'"
            ) from None
        check_age(package, found[package], oldest)
    try:
        load_onnxruntime()
    except Exception as error:  # a library that cannot be loaded, or one made for another numpy
        raise EngineUnavailable(f"onnxruntime cannot be loaded: {first_line(error)}") from error
    return found


def load_onnxruntime() -> Any:
    """The package, which else tells its makers of each model and process from version 1.29 on."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when it is first imported
    import onnxruntime

    return onnxruntime


def check_age(package: str, version: str, oldest: Sequence[int]) -> None:
    """Raise EngineUnavailable for a version that is too old."""
    if _numbers(version) < tuple(oldest):
        raise EngineUnavailable(
            f"{package} {version} is too old: pip install '{package}>={_dotted(oldest)}'"
        )


def made_from(spec: BackboneSpec, versions: dict[str, str]) -> dict[str, Any]:
    """What every export of a backbone follows from besides its weights: its settings, the libraries and
    packages, and the sources here, by which any change of what an output is made by is seen."""
    settings = [spec.config] if spec.config is not None else family(spec.library).settings(spec)
    return {
        "backbone": spec.id,
        "settings": [file_sha256(path) for path in settings],
        "versions": {**library_versions(spec), **versions, "opset": str(OPSET)},
        "program": _program(),
    }


def header_line(header: Mapping[str, Any], magic: bytes) -> bytes:
    """What an export begins with: its program's mark, and a line of JSON with a digest of itself."""
    told = json.loads(json.dumps(header))
    return magic + json.dumps({**told, _OWN_DIGEST: digest_of_json(told)}).encode() + b"\n"


def read_header(file: BinaryIO, magic: bytes, n_bytes: int) -> dict[str, Any]:
    """The line of JSON that an export begins with, of at most so many bytes, behind its program's mark.

    Raises ValueError for what is no such file, or not as it was written.
    """
    if file.readline(len(magic)) != magic:
        raise ValueError("no export of this program")
    header = json.loads(file.readline(n_bytes))
    if not isinstance(header, dict):
        raise ValueError("its first line is no object")
    if header.pop(_OWN_DIGEST, "") != digest_of_json(header):
        raise ValueError("its first line is not as it was written")
    return header


def is_of_key(header: Mapping[str, Any], key: Mapping[str, Any]) -> bool:
    """Whether an export follows from exactly this. Raises KeyError for a header without a key."""
    return bool(header["key"] == json.loads(json.dumps(key)))


def largest_share(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference of vectors (n, dim) as a share of the length of those expected; infinite for
    other shapes or what is no number."""
    ours, theirs = found.astype(np.float64), expected.astype(np.float64)
    if ours.shape != theirs.shape or not np.isfinite(ours).all():
        return float("inf")
    lengths = np.linalg.norm(theirs, axis=1).clip(np.finfo(np.float32).tiny)
    return float((np.linalg.norm(ours - theirs, axis=1) / lengths).max())


def first_line(error: BaseException) -> str:
    """The kind of an error and the first line of its message."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}"


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".")[:2]
    return tuple(int(part) for part in parts if part.isdecimal())


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


def _program() -> str:
    hasher = hashlib.sha256()
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        hasher.update(source.name.encode() + hashlib.sha256(source.read_bytes()).digest())
    return hasher.hexdigest()
