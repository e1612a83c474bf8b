"""Importing torch, torchvision, timm and open_clip without what only a compiler needs.

Libraries load torch's compiler to say of single functions that they are not to be compiled, and that takes
longer than all the rest of their import. Torch itself loads what its operators give for tensors without data,
a quarter of its import. Nothing here compiles a model; where one is built, compiled or exported, all that is
loaded then.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_COMPILER = "torch._dynamo"
_SHAPES = "torch._meta_registrations"


def library(name: str) -> Any:
    """The module of this name, loaded without torch's compiler where that is possible. Raises ImportError."""
    if not name.startswith("torchvision"):  # which decodes and resizes; the others build models
        load_shapes()
    if name in sys.modules or _COMPILER in sys.modules:
        return importlib.import_module(name)
    import torch

    disable = torch.compiler.disable
    torch.compiler.disable = _leave_as_it_is
    try:
        with _stood_in():
            return importlib.import_module(name)
    finally:
        torch.compiler.disable = disable


def put_off_shapes() -> None:
    """Let torch, when it is imported, leave out shapes of tensors without data until a model is built. For
    processes of this program alone: others may want them at any time."""
    if "torch" not in sys.modules and _SHAPES not in sys.modules:
        sys.modules[_SHAPES] = _StandIn(_SHAPES)


def load_shapes() -> None:
    """What was put off."""
    if isinstance(sys.modules.get(_SHAPES), _StandIn):
        del sys.modules[_SHAPES]
        if "torch" in sys.modules:
            importlib.import_module(_SHAPES)


class _StandIn(ModuleType):
    """A module that is loaded when something is asked of it that it does not have."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        for stood_in in (_SHAPES,) if self.__name__ == _SHAPES else (_COMPILER, f"{_COMPILER}.utils"):
            if isinstance(sys.modules.get(stood_in), _StandIn):
                del sys.modules[stood_in]
        return getattr(importlib.import_module(self.__name__), name)


@contextmanager
def _stood_in() -> Iterator[None]:
    """Meanwhile the compiler is two modules with the one function that torchvision takes from it."""
    package, utils = _StandIn(_COMPILER), _StandIn(f"{_COMPILER}.utils")
    package.__path__ = []
    utils.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
    sys.modules |= {package.__name__: package, utils.__name__: utils}
    try:
        yield
    finally:
        for module in (package, utils):
            if sys.modules.get(module.__name__) is module:
                del sys.modules[module.__name__]


def _is_compile_supported(device_type: str) -> bool:
    return bool(importlib.import_module(f"{_COMPILER}.utils").is_compile_supported(device_type))


def _leave_as_it_is(fn: Any = None, recursive: bool = True, **_: Any) -> Any:
    return fn if fn is not None else lambda function: function
