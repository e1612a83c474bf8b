"""What goes wrong between a person and the verbs, and what an error has to say."""

from dataclasses import asdict
from typing import Any

from iaa.library.extras import missing_extra

_OURS = {"analysis", "embed", "finetune", "iaa", "notebooks", "store"}


class UsageError(ValueError):
    """The verb cannot be carried out as it was asked for; the message says what to ask instead."""


def is_ours(error: BaseException) -> bool:
    """True for errors which say what to do: of this program's own kinds, or for want of an extra."""
    return missing_extra(error) is not None or type(error).__module__.split(".")[0] in _OURS


def message_of(error: BaseException) -> str:
    """What went wrong with its notes; what is told to those who call from Python is none of them."""
    hint = getattr(error, "hint", None)
    notes = [each for each in getattr(error, "__notes__", []) if hint is None or each != hint.note]
    return missing_extra(error) or "\n".join([str(error), *notes])


def describe_error(error: BaseException, message: str, exit_code: int) -> dict[str, Any]:
    """An error for machines: its kind, its message, and what to do next where it says so."""
    told = {"kind": type(error).__name__, "message": message, "exit_code": exit_code}
    hint = getattr(error, "hint", None)
    return told | ({"hint": asdict(hint)} if hint else {})


def explain(error: BaseException) -> list[str]:
    """What to tell people about an error, a line each: what went wrong, and what to type next. Nothing for
    one that nobody foresaw."""
    if is_ours(error):
        hint = getattr(error, "hint", None)
        return [f"error: {message_of(error)}", *([f"Try: {hint.command}"] if hint else [])]
    if isinstance(error, OSError) and error.strerror:  # of the machine, not of the program
        where = f" {error.filename}" if error.filename is not None else " a file"
        return [f"error: cannot use{where}: {error.strerror}. To see where: iaa --verbose ..."]
    if isinstance(error, MemoryError):
        return [f"error: there is not enough memory ({error or 'of the machine'}). Close other programs"]
    return []
