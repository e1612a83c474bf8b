"""What goes wrong with a data set."""


class DatasetError(Exception):
    """A data set's files or settings are not as they must be."""
