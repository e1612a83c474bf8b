"""Work in processes apart: what decodes photographs or runs a network may crash, and the page must not.

A process ends when the one that started it does, whatever ended that.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any, TypeVar

Answer = TypeVar("Answer")


class HelperDied(Exception):  # noqa: N818
    """The process that was to do something ended without an answer, twice."""


class Helpers:
    """A few processes for one kind of work, started when they are first needed."""

    def __init__(self, n_processes: int) -> None:
        self.n_processes = n_processes
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None
        self._is_closed = False

    def call(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        """What the function answers in one of the processes. It must be importable, its arguments and answer
        pickled.

        What dies with a neighbour that crashed its process is tried again by itself. Raises HelperDied
        where that dies, too, and whatever the function raises.
        """
        try:
            return self._submit(function, *arguments).result()
        except BrokenProcessPool:
            self._forget()
        pool = _pool(1)
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            raise HelperDied("the process that was at it crashed") from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def start(self) -> None:
        """Start a process before it is needed."""
        self._submit(os.getpid)

    def close(self) -> None:
        """End the processes."""
        with self._lock:
            self._is_closed = True
        self._forget()

    def _submit(self, function: Callable[..., Answer], *arguments: Any) -> "Future[Answer]":
        with self._lock:
            if self._is_closed:
                raise HelperDied("the page is being closed")
            if self._pool is None:
                self._pool = _pool(self.n_processes)
            return self._pool.submit(function, *arguments)

    def _forget(self) -> None:
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            processes = list((getattr(pool, "_processes", None) or {}).values())
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()


def _pool(n_processes: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(n_processes, multiprocessing.get_context("spawn"), _begin)


def _begin() -> None:
    """In the new process: interrupts are for the one that started it; when that ends, so does this."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(0)
