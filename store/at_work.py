"""Notes beside a file that many make for one driver: who is at which part, and what they decode.

No row depends on them. They lie beside the file while it is made, and go when it is finished.
"""

import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from store.durable import write_json
from store.errors import StoreError
from store.json_files import read_json

WORK_NOTE = "work.json"


def notes_folder(path: Path) -> Path:
    """Where it stands, beside the file that is being made, which maker works on what."""
    return path.with_name(f"{path.name}.actors")


def crash_folder(path: Path, part: int) -> Path:
    """Where the makers of a part note what they decode, for the one that comes after them."""
    return notes_folder(path) / f"part-{part:05d}"


def note_work(path: Path, work: Iterable[Mapping[str, Any]]) -> None:
    """Note who works on which part of a file. No row depends on it, so a full disk is not told here."""
    with suppress(StoreError):
        write_json(notes_folder(path) / WORK_NOTE, {"work": list(work)})


def noted_work(path: Path) -> list[dict[str, Any]]:
    """`part` and `where` of each maker at work on a file, as its driver noted last; empty if none is."""
    try:
        return [
            {"part": int(each["part"]), "where": str(each["where"])}
            for each in read_json(notes_folder(path) / WORK_NOTE, "")["work"]
        ]
    except (StoreError, KeyError, TypeError, ValueError):
        return []


def forget_work(path: Path, is_done: bool) -> None:
    """Remove what was noted of a run: all of it, or what is known of crashes stays for one that goes on."""
    if is_done:
        shutil.rmtree(notes_folder(path), ignore_errors=True)
        return
    with suppress(OSError):
        (notes_folder(path) / WORK_NOTE).unlink(missing_ok=True)
        notes_folder(path).rmdir()
