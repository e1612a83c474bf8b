"""Work in processes apart: what decodes photographs or runs a network may crash, and the page must not.

A process ends when the one that started it does, whatever ended that.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any, TypeVar

from embed.uncompiled import put_off_shapes

Answer = TypeVar("Answer")


class HelperDied(Exception):  # noqa: N818
    """The process that was to do something ended without an answer, twice."""


class Helpers:
    """A few processes for one kind of work, started when they are first needed."""

    def __init__(self, n_processes: int) -> None:
        self.n_processes = n_processes
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None
        self._apart: list[ProcessPoolExecutor] = []
        self._is_closed = False

    def call(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        """What the function answers in one of the processes. It must be importable, its arguments and answer
        pickled.

        What dies with a neighbour that crashed its process is tried again in a process of its own. Raises
        HelperDied where that dies, too, and whatever the function raises.
        """
        with self._lock:
            self._check_open()
            try:
                self._pool = pool = self._pool or _pool(self.n_processes)
                future = pool.submit(function, *arguments)
            except BrokenProcessPool:  # by somebody else, who has not noticed yet
                self._pool = pool = _pool(self.n_processes)
                future = pool.submit(function, *arguments)
        try:
            return future.result()
        except (BrokenProcessPool, CancelledError):
            return self._call_apart(pool, function, *arguments)

    def close(self) -> None:
        """End the processes."""
        with self._lock:
            self._is_closed = True
            pools = [*self._apart, *([] if self._pool is None else [self._pool])]
            self._pool, self._apart = None, []
        for pool in pools:
            _end(pool)

    def _call_apart(
        self, broken: ProcessPoolExecutor, function: Callable[..., Answer], *arguments: Any
    ) -> Answer:
        with self._lock:
            self._check_open()
            if self._pool is broken:
                self._pool = None
            pool = _pool(1)
            self._apart.append(pool)
            future = pool.submit(function, *arguments)
        try:
            return future.result()
        except (BrokenProcessPool, CancelledError):
            raise HelperDied("the process that was at it crashed") from None
        finally:
            with self._lock:
                is_ours = pool in self._apart
                self._apart = [other for other in self._apart if other is not pool]
            if is_ours:
                _end(pool)

    def _check_open(self) -> None:
        if self._is_closed:
            raise HelperDied("the page is being closed")


def _end(pool: ProcessPoolExecutor) -> None:
    for process in list((getattr(pool, "_processes", None) or {}).values()):
        process.terminate()
    pool.shutdown(wait=True, cancel_futures=True)


def _pool(n_processes: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        n_processes, mp_context=multiprocessing.get_context("spawn"), initializer=_begin
    )


def _begin() -> None:
    """In the new process: interrupts are for the one that started it; when that ends, so does this."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    put_off_shapes()
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(0)
