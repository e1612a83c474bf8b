"""Where painted pictures lie in a data set's folder, and what in each says how it was made.

The library writes them, the report reads them."""

FOLDER = "painted"
KEY = "iaa paint"
"""Keyword of the PNG's text chunk that holds all settings, one JSON object."""
PREVIEW = "preview.png"
"""The picture that is in work."""
