"""What goes wrong between a person and the verbs."""


class UsageError(ValueError):
    """The verb cannot be carried out as it was asked for; the message says what to ask instead."""
