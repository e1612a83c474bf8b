"""Shapes in signatures, as jaxtyping writes them: `Float[np.ndarray, "n_rows dim"]`.

People and type checkers read them. At run time they are the array's type alone: importing jaxtyping takes
nearly as long as importing numpy, and every command would wait for it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float32, Float64, Int, Int8, Int32, Int64, Shaped, UInt8, UInt64
else:

    class Shaped:
        """An array of some shape."""

        def __class_getitem__(cls, item: tuple[Any, str]) -> Any:
            """The type of the array."""
            return item[0]

    Bool = Float = Float32 = Float64 = Int = Int8 = Int32 = Int64 = UInt8 = UInt64 = Shaped

__all__ = [
    "Bool",
    "Float",
    "Float32",
    "Float64",
    "Int",
    "Int8",
    "Int32",
    "Int64",
    "Shaped",
    "UInt8",
    "UInt64",
]
