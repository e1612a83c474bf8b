"""What goes wrong between a person and the verbs."""

from store.errors import Hinted


class UsageError(Hinted, ValueError):
    """The verb cannot be carried out as it was asked for; the message says what to ask instead."""
