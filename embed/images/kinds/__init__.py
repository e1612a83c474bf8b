"""Kinds of data sets: one file each, which holds its settings, its defaults and how its images are listed.

What reads tables of ratings is imported where one is read: the command line's help tells every kind.
"""

from embed.images.config import Kind
from embed.images.kinds import ava, demo, folder, table

KINDS: dict[str, Kind] = {
    "table": table.KIND,
    "ava": ava.KIND,
    "folder": folder.KIND,
    "demo": demo.KIND,
}
"""Every kind by its name, in the order in which they are told."""
