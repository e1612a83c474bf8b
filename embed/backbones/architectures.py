"""Architectures built by their family's library, weights not yet set, each with its own transform."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from embed.backbones.families import Texts, Transform, family
from embed.backbones.spec import BackboneError, BackboneSpec
from embed.uncompiled import load_shapes


def check_architecture(spec: BackboneSpec, has_file: bool = False) -> None:
    """Raises where the library does not know the names, or has the wrong activation for the weights.

    With a weights file the architecture alone must be known: weights of one's own have a name of one's
    own. Nothing is built, so a typing mistake is told before anything is downloaded.
    """
    if spec.config is None:
        family(spec.library).check(spec, has_file)


def named_by_user(spec: BackboneSpec) -> bool:
    """True if the name of the weights is none of the library's."""
    if spec.registered or spec.config is not None or not spec.pretrained:
        return False
    return family(spec.library).named_by_user(spec)


def build_architecture(
    spec: BackboneSpec, device: torch.device | str = "cpu"
) -> tuple[nn.Module, Transform]:
    """The model, its weights not yet set, and the library's evaluation transform for its weights.

    Only for loading all weights into it afterwards: most tensors are memory as it was found. The
    global random state is left as it was. On the device "meta" no memory is taken.
    """
    load_shapes()
    check_architecture(spec, has_file=True)
    with torch.random.fork_rng(devices=[]), quiet(), _NoRandomFill():
        return family(spec.library).build(spec, torch.device(device))


def build_tokenizer(spec: BackboneSpec) -> Callable[..., Tensor]:
    """The library's tokenizer of the backbone: texts to token ids."""
    with quiet():
        return _texts(spec).tokenizer(spec)


def text_context_length(spec: BackboneSpec) -> int:
    """The number of tokens that the text tower reads; nothing is built."""
    return _texts(spec).length_of(spec)


def _texts(spec: BackboneSpec) -> Texts:
    texts = family(spec.library).texts
    if texts is None:
        raise BackboneError(f"backbone {spec.id!r}: {spec.library} has no text towers")
    return texts


class _NoRandomFill(TorchFunctionMode):
    """Leaves out the random numbers that loading would overwrite: 60 % of the time to build."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is Tensor.normal_:
            # torch's truncated normal draws again until all lie within its bounds, which memory may never do.
            return args[0].zero_()
        if func in (Tensor.uniform_, Tensor.erfinv_):
            return args[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def quiet() -> Iterator[None]:
    """open_clip logs on the root logger, which sets up handlers, and warns of random weights."""
    root = logging.getLogger()
    placeholder = logging.NullHandler()
    before = root.manager.disable
    root.addHandler(placeholder)
    logging.disable(max(before, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(before)
        root.removeHandler(placeholder)
