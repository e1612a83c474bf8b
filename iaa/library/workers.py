"""Many workers: which one this process is, and one process per device started and watched."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from iaa.library.embedding import NOTHING_TO_DO, told
from iaa.library.errors import UsageError
from iaa.library.layout import Layout
from iaa.library.progress import Progress, Say, log, show_progress
from iaa.library.supervision import VARIABLE
from store.parts import begun_provenance, part_bounds
from store.system import ended_by, n_cores

if TYPE_CHECKING:
    from embed.pipeline import Outcome
    from iaa.library.embedding import How

LAST_WORDS = 15


def parse_worker(given: str | None, environment: Mapping[str, str]) -> tuple[int, int] | None:
    """(number from 1, number of workers) from `--worker I/N`, else from torchrun's RANK and WORLD_SIZE.

    None for a run without workers. Raises UsageError for anything else than 1 <= I <= N.
    """
    if given is None:
        rank, size = environment.get("RANK"), environment.get("WORLD_SIZE")
        if rank is None or size is None or size == "1":
            return None
        if not (rank.isdecimal() and size.isdecimal() and int(rank) < int(size)):
            raise UsageError(f"RANK={rank!r} and WORLD_SIZE={size!r} in the environment: no worker")
        return int(rank) + 1, int(size)
    number, separator, n_workers = given.partition("/")
    if not (separator and number.isdecimal() and n_workers.isdecimal()):
        raise UsageError(f"--worker takes I/N such as 1/4, got {given!r}")
    if not 1 <= int(number) <= int(n_workers):
        raise UsageError(f"--worker {given}: workers count from 1 to N, so 1/4, 2/4, 3/4, 4/4")
    return int(number), int(n_workers)


def local_device(device: str, environment: Mapping[str, str]) -> str:
    """The device of a process that torchrun started: with `auto`, the GPU of its LOCAL_RANK."""
    rank = environment.get("LOCAL_RANK", "")
    if device != "auto" or not rank.isdecimal():
        return device
    import torch

    n_gpus = torch.cuda.device_count()
    return f"cuda:{int(rank) % n_gpus}" if n_gpus else device


def choose_devices(given: str) -> list[str]:
    """One device per process for `--devices`: every GPU, or a number of them, or of CPU processes.

    Raises UsageError where that many are not here.
    """
    import torch

    n_gpus = torch.cuda.device_count()
    if given != "all" and not (given.isdecimal() and int(given) > 0):
        raise UsageError(f"--devices takes all or a number of processes, got {given!r}")
    if given == "all" and not n_gpus:
        raise UsageError(
            "--devices all: PyTorch finds no GPU here. Leave it out for one process on all cores, or "
            "say --devices 2 for two processes on the CPU"
        )
    wanted = n_gpus if given == "all" else int(given)
    if not n_gpus:
        return ["cpu"] * wanted
    if wanted > n_gpus:
        raise UsageError(f"--devices {given}: {n_gpus} GPUs are here; --devices all takes them")
    return [f"cuda:{i}" for i in range(wanted)]


@dataclass
class Worker:
    """A started worker: what it answered, and the last lines it had to say."""

    number: int
    process: subprocess.Popen[str]
    answer: dict[str, Any] | None = None
    said: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_WORDS))


def run_workers(
    arguments: Sequence[str],
    devices: Sequence[str],
    on_rows: Callable[[int, int, bool], None],
    say: Say = log,
) -> list[Worker]:
    """Start one `iaa embed --worker` per device, pass on their progress, and wait for all of them.

    A worker that dies does not stop the others. On an interrupt all are told to stop, and waited for.
    """
    events: queue.Queue[tuple[Worker, str, str]] = queue.Queue()
    workers = [_start(arguments, i, device, len(devices)) for i, device in enumerate(devices, start=1)]
    readers = [
        threading.Thread(target=_read, args=(worker, name, events), daemon=True)
        for worker in workers
        for name in ("stdout", "stderr")
    ]
    try:
        for reader in readers:
            reader.start()
        n_open = len(readers)
        while n_open:
            worker, stream, line = events.get()
            if not line:
                n_open -= 1
            elif stream == "stderr":
                worker.said.append(line.rstrip())
            else:
                _take(worker, json.loads(line), on_rows)
    finally:
        # When all went well they have ended; else an interrupted or failed launcher takes them along.
        for worker in workers:
            if worker.process.poll() is None and sys.exc_info()[0] is not None:
                worker.process.send_signal(signal.SIGTERM)
        for worker in workers:
            worker.process.wait()
    for worker in workers:
        if worker.process.returncode:
            say(f"worker {worker.number}/{len(workers)} {_how_it_ended(worker.process.returncode)}:")
            for line in worker.said:
                say(f"  {line}")
    return workers


def _start(arguments: Sequence[str], number: int, device: str, n_workers: int) -> Worker:
    environment = dict(os.environ)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", VARIABLE):
        environment.pop(name, None)
    n_threads = max(1, n_cores() // n_workers)
    environment.setdefault("OMP_NUM_THREADS", str(n_threads))
    environment["PYTHONIOENCODING"] = "utf-8:backslashreplace"
    command = [sys.executable, "-m", "iaa", "embed", *arguments, "--device", device]
    if "--threads" not in arguments:
        command += ["--threads", str(min(32, n_threads))]
    process = subprocess.Popen(
        [*command, "--worker", f"{number}/{n_workers}", "--json", "--progress-lines"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",  # whatever the locale, and whatever a library prints
        errors="backslashreplace",
        env=environment,
        start_new_session=True,  # Ctrl-C reaches the launcher alone, which tells them once
    )
    return Worker(number, process)


def _read(worker: Worker, name: str, events: "queue.Queue[tuple[Worker, str, str]]") -> None:
    for line in getattr(worker.process, name):
        events.put((worker, name, line))
    events.put((worker, name, ""))


def _take(worker: Worker, message: dict[str, Any], on_rows: Callable[[int, int, bool], None]) -> None:
    if "n_rows" in message:
        on_rows(message["n_rows"], message["n_failed"], message["is_new"])
    elif "error" in message:
        worker.said.append(f"error: {message['error']['message']}")
    else:
        worker.answer = message


def _how_it_ended(code: int) -> str:
    if name := ended_by(code):
        return f"was ended by {name}; its last words"
    return f"failed with exit code {code}; its last words"


@dataclass(frozen=True)
class WorkersDone:
    """What several processes made together; without outcomes where some did not finish."""

    outcomes: "list[Outcome]"
    answers: list[dict[str, Any]]
    """What each worker that finished answered."""
    n_workers: int
    n_dead: int
    rate: float
    """Images per second, all together."""

    def told(self) -> str:
        """How many images they made, or that there was nothing to do."""
        n_new = max((o.n_new for o in self.outcomes), default=0)
        made = f"{n_new:,} images by {self.n_workers} workers, {self.rate:,.0f} images/s"
        return made if n_new else NOTHING_TO_DO

    def complaint(self, dataset: str) -> str:
        """What to tell people where some did not finish."""
        return (
            f"error: {self.n_dead} of {self.n_workers} workers did not finish; why is said above. What is "
            "finished is kept: once that is mended, run the same command again to go on (iaa embed "
            f"--dataset {dataset} ...)."
        )

    def to_dict(self, layout: Layout) -> dict[str, Any]:
        """Files, rate and each worker's answer, as plain values."""
        return told(layout, self.outcomes, self.rate, workers=self.answers)


def worker_arguments(layout: Layout, backbones: Sequence[str], how: "How") -> list[str]:
    """The options with which a process of its own, `iaa embed`, embeds as `how` says; the device apart."""
    words = ["--data", str(layout.root), "--dataset", layout.dataset]
    words += [word for name in backbones for word in ("--backbone", name)]
    words += [word for name, file in how.weights.items() for word in ("--weights", f"{name}={file}")]
    words += ["--max-failures", str(how.max_failed_share)]
    names = ("precision", "batch_size", "threads", "max_pixels", "shard_above", "exact", "overwrite")
    for name in (*names, "check_content", "thumbnails", "engine"):
        value, option = getattr(how, name), f"--{name.replace('_', '-')}"
        if value is True:
            words += [option]
        elif value:
            words += [option, str(value)]
    return words


def embed_by_workers(
    layout: Layout,
    backbones: Sequence[str],
    devices: Sequence[str],
    how: "How",
    progress: Progress = show_progress,
    say: Say = log,
) -> WorkersDone:
    """One process per device, each `iaa embed` as `how` says; their parts joined at the end."""
    from embed.batching import CPU_BATCH, MAX_BATCH
    from embed.pipeline import feature_path, merge_run, rows_per_part
    from iaa.library.embedding import prepare_table, rows_on

    _, table = prepare_table(layout, progress=progress)
    begun = [begun_provenance(feature_path(layout.features, name)) for name in backbones]
    # A GPU may turn out to hold fewer images; then there are more parts than counted here.
    likely = CPU_BATCH if devices[0] == "cpu" else MAX_BATCH
    n_batch = how.batch_size or next((b["batch_size"] for b in begun if b), 0) or likely
    n_part = rows_per_part(layout.features, backbones, len(table), n_batch, how.shard_above)[backbones[0]]
    n_parts = len(part_bounds(len(table), n_part))
    say(f"data set {layout.dataset}: {len(table):,} images in {table.location}")
    if n_parts < len(devices):
        say(f"{n_parts} parts of {n_part:,} images keep {n_parts} of {len(devices)} processes busy")
        devices = devices[: max(1, n_parts)]
    say(f"starting {len(devices)} workers: {', '.join(devices)}")
    started = time.perf_counter()
    with progress(f"embedding ({', '.join(backbones)})", len(table), "images") as bar:
        arguments = worker_arguments(layout, backbones, how)
        workers = run_workers(arguments, devices, rows_on(bar, len(table), say=say), say)
    answers = [w.answer for w in workers if w.answer]
    files = [answer["files"] for answer in answers]
    n_new = [sum(f["n_new"] for f in each) for each in zip(*files, strict=True)]
    rate = max(n_new, default=0) / (time.perf_counter() - started)
    if len(answers) < len(workers):
        return WorkersDone([], answers, len(workers), len(workers) - len(answers), rate)
    paths = [feature_path(layout.features, name) for name in backbones]
    outcomes = [merge_run(table, path, how.shard_above) for path in paths]
    outcomes = [replace(o, n_new=n) for o, n in zip(outcomes, n_new, strict=True)]
    return WorkersDone(outcomes, answers, len(workers), 0, rate)
