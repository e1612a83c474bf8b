"""Importing torchvision, timm and open_clip without torch's compiler.

They load it to say of single functions that they are not to be compiled, and that takes longer than all the
rest of their import. Nothing here compiles a model; where one is compiled or exported, the compiler is loaded
then.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_COMPILER = "torch._dynamo"


def library(name: str) -> Any:
    """The module of this name, loaded without torch's compiler where that is possible. Raises ImportError."""
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


class _StandIn(ModuleType):
    """A module that is loaded when something is asked of it that it does not have."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        for stood_in in (_COMPILER, f"{_COMPILER}.utils"):
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
