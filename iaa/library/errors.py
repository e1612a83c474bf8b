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
