"""The protocol of a run: who may write, what is left to make, when the parts become the file.

    with claimed(plan, open_features) as run:
        for index in run.begin():
            run.write(index, arrays_of(index))
        run.finish("source_sha256")

A lock keeps other runs away for as long as this one lasts. Workers share it: each makes every n-th part, by
arithmetic, so that no row depends on locks; beginning and finishing take turns, and whoever finds all parts
there joins them.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from store.digests import digest_of_json
from store.errors import IdentityError, MissingFileError, StoreError
from store.identity import complete
from store.locks import lock_path, turn, worker_lock, write_lock
from store.parts import (
    JoinNotes,
    Plan,
    begin,
    begun_plan,
    clean_up,
    discard,
    merge_parts,
    missing_parts,
    open_part,
    write_part,
)
from store.remote_run import RemoteRun
from store.sharding import keep_parts

logger = logging.getLogger(__name__)

Worker = tuple[int, int]
"""(number from 1, number of workers)."""

File = TypeVar("File")
Opened = TypeVar("Opened", covariant=True)
Join = Callable[[Plan], object]


class Open(Protocol[Opened]):
    """Opens a finished file if its identity has the values asked for (open_features, open_prompts)."""

    def __call__(
        self, path: Path, expect: Mapping[str, Any] | None = None, /
    ) -> AbstractContextManager[Opened]: ...


def share_of(n_parts: int, worker: Worker | None) -> range:
    """Numbers of the parts that a run makes: all, or every n-th for one of n workers."""
    if worker is None:
        return range(n_parts)
    number, n_workers = worker
    return range(number - 1, n_parts, n_workers)


class Run(Generic[File]):
    """A file in the making, claimed by this process (see `claimed`)."""

    def __init__(
        self,
        plan: Plan,
        open_file: Open[File],
        worker: Worker | None = None,
        remote: RemoteRun | None = None,
    ) -> None:
        self.plan = plan
        self.worker = worker
        self.remote = remote
        """Where the parts of workers are that share no folder with this one."""
        self.todo: list[int] = []
        """Numbers of the parts that `begin` found missing."""
        self._open = open_file
        self._is_finished = False

    def begin(
        self,
        overwrite: bool = False,
        is_usable: Callable[[File], bool] | None = None,
        prepare: Callable[[], None] | None = None,
        missing: Callable[[Iterable[int]], list[int]] | None = None,
    ) -> list[int]:
        """Numbers of the parts of this worker's share that are to be made; none where the file is finished.

        Args:
            overwrite: replace a finished file, and discard a begun run, of another combination.
            is_usable: whether a finished file of this combination is still to be left alone.
            prepare: what may refuse the run; called before anything is written.
            missing: which of a share's parts are to be made, where that is more than those not there.

        Raises:
            IdentityError: a finished file or a begun run is of another combination (unless `overwrite`).
        """
        with turn(lock_path(self.plan.path)):
            if self._is_there(overwrite, is_usable):
                clean_up(self.plan)
                self._is_finished = True
                return []
            if prepare is not None:
                prepare()
            if overwrite:
                self._discard_other()
            begin(self.plan)
            share = share_of(len(self.plan.parts), self.worker)
            self.todo = missing(share) if missing else missing_parts(self.plan, share)
        if self.remote is not None:
            self.remote.begin(overwrite)
            there = self.remote.parts()
            absent = missing_parts(self.plan, self.todo)
            for index in set(self.todo).difference(absent).intersection(there):
                self.remote.withdraw(index)  # whole, but not of the images as they are now
                del there[index]
            for index in set(share).difference(self.todo, there):
                self.remote.keep(index)  # a worker that was stopped had made it, and no more
            self.todo = [index for index in self.todo if index not in there]
        return self.todo

    @property
    def is_finished(self) -> bool:
        """True if `begin` found the file finished."""
        return self._is_finished

    def write(
        self, index: int, arrays: Mapping[str, np.ndarray], notes: Mapping[str, list[Any]] | None = None
    ) -> None:
        """Keep a part, as store.parts.write_part does, and where the others look for it."""
        write_part(self.plan, index, arrays, notes)
        if self.remote is not None:
            self.remote.keep(index)

    def finish(
        self, equal_by: str = "", join_notes: JoinNotes | None = None, join: Join | None = None
    ) -> list[int]:
        """Make the file, unless parts are left to other workers: their numbers are returned.

        `join` makes the file from the parts (default: merge_parts, or keep_parts where the plan is sharded,
        with `equal_by` and `join_notes`). Whoever comes after it finds the file finished. A run alone has
        nobody to leave parts to: StoreError names one that is damaged or missing.
        """
        if self._is_finished:
            return []
        if self.remote is not None:
            there = self.remote.parts()
            left = [index for index in range(len(self.plan.parts)) if index not in there]
            if left and not self.remote.take_finished():
                return left
            if not left:
                self.remote.fetch(there)
        with turn(lock_path(self.plan.path)):
            # Another worker's join removes the parts.
            if not self.plan.folder.exists() and self._is_there():
                return []
            return self._join(join or (lambda plan: _joined(plan, equal_by, join_notes)))

    def n_failed(self, index: int) -> int:
        """Failed rows of a part that is there, wherever it is. Raises StoreError."""
        if self.remote is not None:
            return self.remote.parts_seen[index].n_failed
        with open_part(self.plan, index) as part:
            return int(part.arrays["failures/row"][0][0])

    def _join(self, join: Join) -> list[int]:
        if self.worker is not None and (left := missing_parts(self.plan)):
            return left
        try:
            join(self.plan)
        except (StoreError, OSError):
            # Where locks do not work, another worker may have joined the same parts meanwhile.
            if self.plan.folder.exists() or not self._is_there():
                raise
        return []

    def _is_there(self, overwrite: bool = False, is_usable: Callable[[File], bool] | None = None) -> bool:
        try:
            with self._open(self.plan.path, complete(self.plan.identity)) as file:
                return is_usable is None or is_usable(file)
        except MissingFileError:
            return False
        except IdentityError:
            if not overwrite:
                raise
            return False

    def _discard_other(self) -> None:
        try:
            begin(self.plan)
        except Exception as error:  # whatever is wrong with the old run, the user asked to replace it
            logger.warning("an unfinished run is discarded: %s", str(error).splitlines()[0])
            discard(self.plan)


def _joined(plan: Plan, equal_by: str, join_notes: JoinNotes | None) -> str:
    return (keep_parts if plan.is_sharded else merge_parts)(plan, equal_by, join_notes)


@contextmanager
def claimed(
    plan: Plan, open_file: Open[File], worker: Worker | None = None, remote: RemoteRun | None = None
) -> Iterator[Run[File]]:
    """The run that makes a plan's file, alone or as one of several workers, while the body lasts.

    Raises BusyError if another run writes the file, or this worker is at work already.
    """
    lock = lock_path(plan.path)
    with write_lock(lock) if worker is None else worker_lock(lock, worker, digest_of_json(plan.described())):
        yield Run(plan, open_file, worker, remote)


def join_begun(
    path: Path,
    ids: Mapping[str, np.ndarray],
    open_file: Open[File],
    equal_by: str,
    is_usable: Callable[[File], bool],
    check: Callable[[Plan], None],
    join_notes: JoinNotes | None = None,
    is_sharded: bool = False,
) -> tuple[Plan, list[int]] | None:
    """Join the parts of a begun run by hand: its plan and the numbers of the parts that are missing.

    None if no run was begun. `check(plan)` may refuse it; `is_usable` as for Run.begin. It takes a turn, and
    no lock: workers may be at it.
    """
    with turn(lock_path(path)):
        plan = begun_plan(path, ids, ".merge-of-parts")
        if plan is None:
            return None
        plan = replace(plan, is_sharded=is_sharded)
        run = Run(plan, open_file)
        if run._is_there(overwrite=True, is_usable=is_usable):
            clean_up(plan)
            return plan, []
        check(plan)
        if left := missing_parts(plan):
            return plan, left
        return plan, run._join(lambda plan: _joined(plan, equal_by, join_notes))
