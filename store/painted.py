"""Where painted pictures lie in a data set's folder, and what the report knows of them."""

FOLDER = "painted"
LIST = "painted.json"
"""How each was made, by file, among what can be made again; made again with every report."""
PREVIEW = "preview.png"
"""The picture that is in work."""
