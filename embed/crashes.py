"""Images that kill the process which decodes them: found out, and turned into failed rows.

Decoders are native code and run in the threads of the run itself, which is fast; a crash takes the run with
it. So the rows being decoded stand in a small mapped file that outlives the process. Whoever started the run
(iaa.supervision) starts it again; each row that was in flight is then tried in a process apart, and
those that kill it are never decoded again.
"""

import itertools
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from embed.images.datasets import ImageTable
from embed.images.sources import ImageFile
from embed.options import Decoding
from store.system import ended_by

N_SLOTS = 256
_NONE = -1


class CrashNotes:
    """What is known about crashes of one run, kept in a folder while the run is supervised.

    Rows are of the list of images with the digest `images`; what was found in another list is forgotten.
    """

    def __init__(self, folder: Path, images: str = "") -> None:
        self.folder = folder
        self.images = images
        self.suspects = rows_in_flight(folder)
        """Rows that were being decoded when the run before this one crashed."""
        file = folder / "culprits.json"
        self.culprits: dict[int, str] = {}
        """Reason per row that must not be decoded."""
        if file.exists():
            known = json.loads(file.read_text(encoding="utf-8"))
            if known["images"] == images:
                self.culprits = {int(row): reason for row, reason in known["rows"].items()}
        self._slots = np.memmap(folder / "in-flight", np.int64, "w+", shape=(N_SLOTS,))
        self._slots[:] = _NONE
        self._next = itertools.cycle(range(N_SLOTS))
        self._mine = threading.local()

    def convict(self, culprits: Mapping[int, str]) -> None:
        """Remember rows that crash their decoder, for this and the following starts."""
        self.culprits.update(culprits)
        known = {"images": self.images, "rows": self.culprits}
        (self.folder / "culprits.json").write_text(json.dumps(known), encoding="utf-8")

    @contextmanager
    def watch(self, row: int) -> Iterator[None]:
        """Note that this thread decodes a row."""
        if not hasattr(self._mine, "slot"):
            self._mine.slot = next(self._next)
        self._slots[self._mine.slot] = row
        try:
            yield
        finally:
            self._slots[self._mine.slot] = _NONE


def crash_notes(table: ImageTable, decoding: Decoding, folder: Path | None) -> CrashNotes | None:
    """The notes of a supervised run, after each image that was in flight at a crash has been tried apart;
    None for a run without a supervisor."""
    if folder is None:
        return None
    notes = CrashNotes(folder, table.digest)
    suspects = {row: table.absolute(row) for row in notes.suspects if row < len(table)}
    if suspects:
        notes.convict(find_culprits(suspects, decoding))
    return notes


def rows_in_flight(folder: Path) -> list[int]:
    """The rows that were being decoded when the process that noted them ended."""
    file = folder / "in-flight"
    slots = np.fromfile(file, np.int64) if file.exists() else np.zeros(0, np.int64)
    return sorted(set(slots[slots != _NONE].tolist()))


def suspect(folder: Path, rows: Iterable[int]) -> None:
    """Have rows tried in a process apart by the next run that keeps its notes in the folder, as if they had
    been in flight: for a crash after which nobody can tell which were."""
    folder.mkdir(parents=True, exist_ok=True)
    np.array([*rows], np.int64).tofile(folder / "in-flight")


def find_culprits(paths: Mapping[int, ImageFile], decoding: Decoding) -> dict[int, str]:
    """The rows whose image kills the process that loads it (embed.trial), with a reason for each."""
    culprits: dict[int, str] = {}
    waiting = list(paths.items())
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    while waiting:
        task = pickle.dumps(([path for _, path in waiting], decoding))
        trial = subprocess.run(
            [sys.executable, "-m", "embed.trial"], input=task, stdout=subprocess.PIPE, env=environment
        )
        n_survived = len(trial.stdout)
        if trial.returncode == 0 or n_survived == len(waiting):
            break
        name = ended_by(trial.returncode)
        if name is None:
            raise RuntimeError(f"trying images in a process apart failed with code {trial.returncode}")
        culprits[waiting[n_survived][0]] = f"the decoder crashed ({name})"
        waiting = waiting[n_survived + 1 :]
    return culprits
