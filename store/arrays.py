"""What all readers of sealed arrays can do, whether the arrays lie in one file or in several."""

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from store.digests import decode_strings
from store.errors import SchemaError

MAX_STRINGS = 2**32


class Arrays(ABC):
    """Named arrays under one digest; what is handed out was checked against it and is read-only."""

    path: Path
    schema: str
    identity: dict[str, Any]
    provenance: dict[str, Any]
    digest: str

    @property
    @abstractmethod
    def arrays(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Shape and dtype of every array, by path."""

    @abstractmethod
    def view(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows [start, stop) of an array, their blocks checked. Raises IntegrityError naming what is
        damaged."""

    @abstractmethod
    def take(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Some rows of an array, by index or mask, as a copy; the blocks that hold them are checked."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the files; views already handed out stay valid."""

    @property
    @abstractmethod
    def n_bytes(self) -> int:
        """Bytes on the disk."""

    def require(self, name: str, kind: str = "", shape: tuple[int | None, ...] | None = None) -> None:
        """Raise SchemaError unless there is the array `name`, of one of these kinds (numpy) and of
        that shape, where they are given (None is any length)."""
        if name not in self.arrays:
            some = sorted(self.arrays)[:20]
            raise SchemaError(f"{self.path} has no array /{name}; it has {', '.join(some)}")
        found, dtype = self.arrays[name]
        fits = shape is None or (
            len(shape) == len(found) and all(n in (None, m) for n, m in zip(shape, found, strict=True))
        )
        if not fits or (kind and dtype.kind not in kind):
            raise SchemaError(
                f"{self.path}: /{name} is {dtype} of shape {found}, which is not what files of "
                f"kind {self.schema!r} hold there. Make the file again"
            )

    def require_identity(self, **kinds: type | tuple[type, ...]) -> None:
        """Raise SchemaError unless the identity has these fields, of these types."""
        for name, kind in kinds.items():
            if not isinstance(self.identity.get(name), kind):
                raise SchemaError(
                    f"{self.path}: the identity of a file of kind {self.schema!r} needs {name!r}, got "
                    f"{str(self.identity.get(name))[:60]!r}. Make the file again"
                )

    def strings(self, name: str) -> np.ndarray:
        """A string array, decoded. Raises SchemaError for one that is none, or of more than 4 GiB."""
        self.require(name, "S")
        shape, dtype = self.arrays[name]
        if (n_bytes := int(np.prod(shape)) * dtype.itemsize) > MAX_STRINGS:
            raise SchemaError(f"{self.path}: /{name} has {n_bytes:,} bytes of text, too many to read at once")
        return decode_strings(self.view(name))

    def check_all(self) -> None:
        """Check every block of every array; raises IntegrityError at the first that is damaged."""
        for name in self.arrays:
            self.view(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Reader:
    """What gives meaning to the arrays of an open file, and closes it."""

    file: Arrays

    def close(self) -> None:
        """Forget the mapped file."""
        self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
