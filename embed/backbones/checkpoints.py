"""Tensors by name from any file that people keep weights in, read without running code from it.

The one reader of backbones' weights, of heads made with torch and of checkpoints: every file passes
`store.tensor_files` first. torch's advice to switch its protection off goes no further than this.
"""

import argparse
import re
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from store.tensor_files import TensorFileError, check_tensor_file, not_whole

#: Names under which training programs keep the plain weights; averaged ones have "ema" as a word in theirs.
_PLAIN = ("state_dict", "model", "module", "model_state_dict", "params")


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a file on the CPU, and which of its entries they are."""

    tensors: dict[str, Tensor]
    entry: str = ""
    """Path of the entry taken, such as `state_dict_ema` or `checkpoint/model`; '' where tensors lie bare."""
    is_averaged: bool = False
    """True if the entry's name says that it was averaged over training."""
    passed_over: tuple[str, ...] = ()
    """Entries with weights that were not taken: plain ones beside averaged ones, and averages of a kind
    that is not read."""


class TorchScriptError(TensorFileError):
    """The file is a TorchScript archive: a program, not only tensors."""


def read_checkpoint(path: Path) -> Checkpoint:
    """The tensors of a safetensors file or of what torch.save wrote, whatever its ending.

    Of weights that were averaged over training (EMA) and plain ones the averaged are taken, as timm does.
    Raises TensorFileError: not such a file, damaged, objects besides tensors, no tensors, or two sets of
    weights of which neither is to be preferred.
    """
    kind = check_tensor_file(path)
    if kind == "torchscript":
        raise TorchScriptError(f"{path} is a TorchScript archive, a program and not only tensors")
    if kind == "safetensors":
        try:
            return Checkpoint(load_file(path))
        except Exception as error:  # the library raises many kinds for a header that lies
            raise not_whole(path, error) from error
    return _choose(path, _read_pickled(path))


def _read_pickled(path: Path) -> Any:
    try:
        with _known_harmless(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's are about its own options
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # `from None`: a traceback with torch's own message would repeat its advice.
        raise TensorFileError(_why_not_read(path, str(error))) from None


def _known_harmless() -> AbstractContextManager[None]:
    """timm's and many authors' checkpoints hold their command line, which is but names and values."""
    allow = getattr(torch.serialization, "safe_globals", None)  # since torch 2.5
    return nullcontext() if allow is None else allow([argparse.Namespace])


def _why_not_read(path: Path, said: str) -> str:
    found = re.search(r"GLOBAL ([\w.]+)|[Uu]nsupported (?:global|class|type)\S* ([\w.]+)", said)
    if found:
        return (
            f"{path} holds objects besides tensors ({found[1] or found[2]}): a pickle that would run code "
            "from the file to make them, so it was not read. Ask for the tensors alone, as safetensors, from "
            "whoever made it"
        )
    is_advice = "weights_only" in said.replace(" ", "_").lower()
    reason = "" if is_advice or not said else said.splitlines()[0][:200]
    return (
        f"{path} cannot be read as tensors{f' ({reason})' if reason else ''}: it is damaged, cut short, or "
        "holds more than tensors. Fetch it again, or ask for safetensors from whoever made it"
    )


def _choose(path: Path, content: Any) -> Checkpoint:
    """The tensors in nested dictionaries: averaged ones before plain ones, down to where tensors lie."""
    entry: tuple[str, ...] = ()
    passed_over: list[str] = []
    while isinstance(content, Mapping) and not _is_tensors(content):
        inner = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Mapping) and v}
        averaged = [name for name in inner if _is_averaged(name) and _holds_tensors(inner[name])]
        plain = [name for name in _PLAIN if name in inner and _holds_tensors(inner[name])]
        passed_over += [name for name in inner if _is_averaged(name) and name not in averaged]
        chosen = averaged or plain
        if not chosen:
            break
        if len(chosen) > 1:
            raise TensorFileError(
                f"{path} holds several sets of weights: {', '.join(chosen)}. Save the one you mean alone, as "
                "safetensors"
            )
        passed_over += ["/".join((*entry, name)) for name in plain if name != chosen[0]]
        entry = (*entry, chosen[0])
        content = inner[chosen[0]]
    if not isinstance(content, Mapping) or not _is_tensors(content):
        held = ", ".join(repr(key) for key in list(content)[:8]) if isinstance(content, Mapping) else ""
        raise TensorFileError(
            f"{path} holds no tensors by name (a {type(content).__name__}{f' with {held}' if held else ''}; "
            f"also looked under state_dict_ema and other names with ema, {', '.join(_PLAIN)})"
        )
    tensors = {str(name): value for name, value in content.items()}
    _check_storage(path, tensors)
    return Checkpoint(tensors, "/".join(entry), any(map(_is_averaged, entry)), tuple(passed_over))


def _check_storage(path: Path, tensors: dict[str, Tensor]) -> None:
    """A view can claim any size of one stored number; copied, it would take that much memory."""
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            kind = f"{tensor.layout}, {tensor.device.type}, {tensor.dtype}".replace("torch.", "")
            raise TensorFileError(f"{path}: {name} is no plain tensor ({kind}). Save it dense, with its data")
        if tensor.nbytes > tensor.untyped_storage().nbytes():
            raise TensorFileError(
                f"{path}: {name} claims {tuple(tensor.shape)} = {tensor.nbytes:,} bytes and stores "
                f"{tensor.untyped_storage().nbytes():,}. Damaged, or expanded before it was saved"
            )


def _is_averaged(name: str) -> bool:
    return "ema" in re.split(r"[^a-z]+", name.lower())


def _is_tensors(content: Mapping[Any, Any]) -> bool:
    return bool(content) and all(isinstance(value, Tensor) for value in content.values())


def _holds_tensors(content: Mapping[Any, Any]) -> bool:
    """True if tensors lie here or in a dictionary below."""
    return _is_tensors(content) or any(
        isinstance(value, Mapping) and _is_tensors(value) for value in content.values()
    )
