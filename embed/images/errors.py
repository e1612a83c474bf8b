"""What goes wrong with a data set."""

from store.errors import Hinted


class DatasetError(Hinted):
    """A data set's files or settings are not as they must be."""
