"""The error of the room."""


class PaintingError(ValueError):
    """A picture that cannot be painted as asked; the message says what to ask instead."""
