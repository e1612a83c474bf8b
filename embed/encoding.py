"""The inner loop: decode once, encode with every backbone asked for, keep parts.

A pool of threads reads and decodes ahead, the calling thread encodes, one more writes. Batches lie on a fixed
grid inside parts, so that an interrupted and resumed run gives the same bytes as an uninterrupted one. On
a GPU copies and kernels are only queued: the results of a batch are fetched after the next one is queued.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from embed.backbones.loading import Backbone
from embed.batching import Encoder
from embed.crashes import crash_notes
from embed.images.datasets import ImageTable
from embed.images.geometry import LEAST, MOST, OWN_SIZE, check_cut, pixel_steps
from embed.options import Options, Timings
from embed.reading import DIGEST_BYTES, Batch, Row, load_batches
from store import Status
from store.looks import Look, Looks
from store.parts import within_blocks
from store.run import Run

_BATCHES_KEEPING = 8
"""Batches whose thumbnails may be on their way to the disk."""


class TooManyFailuresError(Exception):
    """The run was stopped because too many images failed."""


def embed_parts(
    table: ImageTable,
    backbones: Sequence[Backbone],
    runs: Mapping[str, Run[Any]],
    options: Options,
    on_rows: Callable[[int, int, bool], None] | None,
    timings: Timings,
) -> None:
    """Make the parts that the runs (by backbone id) have to make, each image decoded once for all that want
    it; the parts of these runs have one size.

    Raises TooManyFailuresError if more than `max_failed_share` of at least 1,000 images failed.
    """
    parts = runs[backbones[0].id].plan.parts
    todo = {b.id: runs[b.id].todo for b in backbones}
    wanted = sorted(set().union(*(todo[b.id] for b in backbones)))
    geometries: list[Any] = []
    steps = []
    for backbone in backbones:
        check_cut(backbone.transform, backbone.recipe.mean, backbone.recipe.std)
        if backbone.recipe.geometry not in geometries:
            geometries.append(backbone.recipe.geometry)
            steps.append(pixel_steps(backbone.transform))
    batches = [
        Batch(index, start, min(start + options.batch_size, end))
        for index in wanted
        for first, end in within_blocks(*parts[index])
        for start in range(first, end, options.batch_size)
    ]
    decoding = options.decoding(steps)
    crashes = crash_notes(table, decoding, options.crash_folder)
    looks = Looks(options.looks) if options.looks is not None else None
    known = None if looks is None else looks.known()
    loaded = load_batches(table, batches, decoding, options.n_threads, crashes, known)
    encoders = {b.id: Encoder(b, options.batch_size) for b in backbones}
    n_seen = n_failed = 0
    n_waiting = parts_waiting(backbones)
    writing: deque[Future[float]] = deque()
    keeping: deque[Future[bool]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="write") as writer:
        for batch in _encoded(loaded, parts, encoders, todo, geometries, timings):
            if looks is not None and batch.looks:
                keeping.append(writer.submit(looks.put, batch.looks))  # before the part is there
                while len(keeping) > _BATCHES_KEEPING:
                    keeping.popleft().result()
            if batch.is_last:
                writing.append(writer.submit(_write, runs, batch.part))
            while writing and (writing[0].done() or len(writing) > n_waiting):
                timings.write += writing.popleft().result()
            n_seen += batch.n_rows
            n_failed += batch.n_failed
            if on_rows is not None:
                on_rows(batch.n_rows, batch.n_failed, True)
            reasons = sorted(batch.part.failed.values())
            check_failures(n_seen, n_failed, options.max_failed_share, reasons[-1] if reasons else "")
        for written in writing:
            timings.write += written.result()
    if looks is not None:
        looks.close()


def check_failures(n_seen: int, n_failed: int, max_share: float, reason: str) -> None:
    """Raise TooManyFailuresError, with the last reason, where too many of at least 1,000 images failed."""
    if n_seen >= 1000 and n_failed > max_share * n_seen:
        raise TooManyFailuresError(
            f"{n_failed} of the first {n_seen} images failed, more than {max_share:.0%}; the last: "
            f"{reason or 'in an earlier part'}. Right folder? "
            "Finished parts are kept; go on with a higher --max-failures."
        )


def parts_waiting(backbones: Sequence[Backbone]) -> int:
    """How many parts may be on their way to the disk while the next one is made.

    On the CPU none: writing takes little of the time, and a kill repeats at most one part. A GPU makes a part
    in less than a second and does not wait; there a kill may repeat two.
    """
    return int(any(torch.device(b.device).type != "cpu" for b in backbones))


class Part:
    """The rows of one part while they are being made."""

    def __init__(self, index: int, start: int, stop: int, backbones: Sequence[Backbone]) -> None:
        n_rows = stop - start
        self.index, self.start, self.stop = index, start, stop
        self.backbones = backbones
        self.sha256 = np.zeros((n_rows, DIGEST_BYTES), np.uint8)
        self.size = np.zeros(n_rows, np.int64)
        self.failed: dict[int, str] = {}
        self.broken: dict[str, dict[int, str]] = {b.id: {} for b in backbones}
        self.smaller_batches: dict[str, list[list[int]]] = {b.id: [] for b in backbones}
        self.other_decoders: Counter[str] = Counter()
        self.outputs = {
            b.id: {
                name: np.full((n_rows, dim), np.nan, b.dtype_of(name)) for name, dim in b.outputs.items()
            }
            for b in backbones
        }

    def add_sources(self, first: int, rows: Sequence[Row]) -> None:
        """Note what the files were and which images failed; `first` is counted from the part's start."""
        for position, row in enumerate(rows, first):
            self.sha256[position] = np.frombuffer(row.sha256, np.uint8)
            self.size[position] = row.size
            if row.decoder:
                self.other_decoders[row.decoder] += 1
            if row.pixels is None:
                self.failed[position] = row.reason

    def add_vectors(self, backbone_id: str, first: int, outputs: dict[str, np.ndarray]) -> None:
        """Keep a batch's outputs; a row that is not finite everywhere is a failed row."""
        for name, values in outputs.items():
            kept = self.outputs[backbone_id][name]
            with np.errstate(over="ignore"):  # becomes infinite, which is looked for
                kept[first : first + len(values)] = values
            is_finite = np.isfinite(kept[first : first + len(values)]).all(axis=1)
            for position in (first + np.flatnonzero(~is_finite)).tolist():
                reason = f"the backbone gave non-finite values in {name}"
                if kept.dtype == np.float16 and np.isfinite(values[position - first]).all():
                    reason = f"the backbone gave values beyond 65,504 in {name}, which is kept as float16"
                self.broken[backbone_id].setdefault(position, reason)

    def arrays(self, backbone_id: str) -> dict[str, np.ndarray]:
        """The part's rows for one backbone, ready to be written."""
        failed = dict(sorted((self.broken[backbone_id] | self.failed).items()))
        status = np.full(self.stop - self.start, Status.OK, np.uint8)
        status[list(failed)] = Status.FAILED
        for values in self.outputs[backbone_id].values():
            values[list(failed)] = np.nan
        return {
            "status": status,
            "source_sha256": self.sha256,
            "source_size": self.size,
            "failures/row": np.array(list(failed), np.int64),
            "failures/reason": np.array(list(failed.values()), dtype=str),
            **{f"outputs/{name}": values for name, values in self.outputs[backbone_id].items()},
        }

    def notes(self, backbone_id: str) -> dict[str, Any]:
        """Provenance of this part alone: [first row, last row + 1, batch size] where it was smaller, and
        [decoder, number of images] for decoders other than the usual ones."""
        noted = {
            "smaller_batches": self.smaller_batches[backbone_id],
            "other_decoders": sorted([name, n] for name, n in self.other_decoders.items()),
        }
        return {name: values for name, values in noted.items() if values}


def join_notes(notes: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The notes of all parts, shortened: neighbouring rows of one smaller batch size are one entry, for a
    file's header is short, and images are counted once per decoder."""
    smaller: list[list[int]] = []
    for start, stop, size in notes.get("smaller_batches", []):
        _note_smaller(smaller, start, stop, size)
    decoders: Counter[str] = Counter()
    for name, n in notes.get("other_decoders", []):
        decoders[name] += n
    joined: dict[str, list[Any]] = {
        "smaller_batches": smaller,
        "other_decoders": sorted([name, n] for name, n in decoders.items()),
    }
    return {**notes, **{name: values for name, values in joined.items() if values}}


@dataclass(frozen=True)
class _Encoded:
    """A batch whose rows are in its part."""

    part: Part
    is_last: bool
    n_rows: int
    n_failed: int
    looks: list[Look]


@dataclass(frozen=True)
class _InFlight:
    """A batch on its way through the device."""

    batch: Batch
    rows: Sequence[Row]
    part: Part
    outputs: dict[str, dict[str, torch.Tensor]]
    """By backbone; on the host, but not there before `copied`."""
    copied: list[torch.cuda.Event]


def _encoded(
    loaded: Iterable[tuple[Batch, list[Row]]],
    parts: Sequence[tuple[int, int]],
    encoders: dict[str, Encoder],
    todo: dict[str, list[int]],
    geometries: Sequence[Any],
    timings: Timings,
) -> Iterator[_Encoded]:
    """The batches in order: on a device that is given work and left alone each after the next one has been
    queued, on a CPU at once."""
    part: Part | None = None
    in_flight: _InFlight | None = None
    waiting_since = time.perf_counter()
    for batch, rows in loaded:
        started = time.perf_counter()
        timings.wait += started - waiting_since
        for row in rows:
            timings.read += row.seconds[0]
            timings.decode += row.seconds[1]
            timings.resize += row.seconds[2]
        if part is None or part.index != batch.part:
            active = [e.backbone for id, e in encoders.items() if batch.part in todo[id]]
            part = Part(batch.part, *parts[batch.part], active)
        queued = _queue(batch, rows, part, encoders, geometries)
        done = [] if in_flight is None else [_finish(in_flight)]
        in_flight = queued if queued.copied else None
        if in_flight is None:
            done.append(_finish(queued))
        timings.encode += time.perf_counter() - started
        yield from done
        waiting_since = time.perf_counter()
    if in_flight is not None:
        started = time.perf_counter()
        last = _finish(in_flight)
        timings.encode += time.perf_counter() - started
        yield last


def _queue(
    batch: Batch, rows: Sequence[Row], part: Part, encoders: dict[str, Encoder], geometries: Sequence[Any]
) -> _InFlight:
    """Start a batch through every backbone; pixels of one geometry are copied to the device once.

    A failed image holds its place as zeros, so that its neighbours' vectors do not depend on it.
    """
    outputs: dict[str, dict[str, torch.Tensor]] = {}
    copied = []
    pixels: dict[tuple[int, torch.device], torch.Tensor] = {}
    for backbone in part.backbones if any(row.pixels is not None for row in rows) else ():
        device = torch.device(backbone.device)
        if backbone.recipe.crop_mode == OWN_SIZE:
            position = geometries.index(backbone.recipe.geometry)
            outputs[backbone.id] = _at_own_sizes(encoders[backbone.id], batch, rows, part, position)
            continue
        key = geometries.index(backbone.recipe.geometry), device
        if key not in pixels:
            pixels[key] = _stack(rows, key[0], device.type == "cuda").to(device, non_blocking=True)
        encoder = encoders[backbone.id]
        vectors = encoder.encode(pixels[key])
        # Without blocking only from CUDA: elsewhere the copy would be read before it is there.
        outputs[backbone.id] = {
            name: values.to("cpu", non_blocking=device.type == "cuda") for name, values in vectors.items()
        }
        if device.type == "cuda":
            copied.append(torch.cuda.current_stream(device).record_event())
        if encoder.size < len(rows):
            _note_smaller(part.smaller_batches[backbone.id], batch.start, batch.stop, encoder.size)
    return _InFlight(batch, rows, part, outputs, copied)


def _at_own_sizes(
    encoder: Encoder, batch: Batch, rows: Sequence[Row], part: Part, position: int
) -> dict[str, torch.Tensor]:
    """Outputs of images at their own size, NaN for those that cannot be used; equal sizes go together.

    On a CPU each goes alone: nothing is gained by more, and so its vector depends on no other image.
    """
    backbone = encoder.backbone
    device = torch.device(backbone.device)
    vectors = {name: torch.full((len(rows), dim), np.nan) for name, dim in backbone.outputs.items()}
    by_size: dict[tuple[int, ...], list[int]] = {}
    for i, row in enumerate(rows):
        if row.pixels is None:
            continue
        height, width = row.pixels[position].shape[:2]
        if min(height, width) < LEAST:
            part.broken[backbone.id][batch.start - part.start + i] = (
                f"{width} x {height} pixels: {backbone.id} takes images at their own size (longer edge up to "
                f"{MOST}) and needs {LEAST} pixels each way"
            )
        else:
            by_size.setdefault((height, width), []).append(i)
    for members in by_size.values():
        n_together = 1 if device.type == "cpu" else len(members)
        for start in range(0, len(members), n_together):
            some = members[start : start + n_together]
            pixels = _stack([rows[i] for i in some], position, device.type == "cuda").to(device)
            for name, values in encoder.encode(pixels).items():
                vectors[name][some] = values.to("cpu")
            if encoder.size < len(some):
                _note_smaller(part.smaller_batches[backbone.id], batch.start, batch.stop, encoder.size)
    return vectors


def _note_smaller(noted: list[list[int]], start: int, stop: int, size: int) -> None:
    """Note [first row, last row + 1, size]; neighbours share an entry, for a file's header is short."""
    if noted and noted[-1][1:] == [start, size]:
        noted[-1][1] = stop
    else:
        noted.append([start, stop, size])


def _finish(queued: _InFlight) -> _Encoded:
    """Wait for a batch and put its rows into its part."""
    for event in queued.copied:
        event.synchronize()
    batch, rows, part = queued.batch, queued.rows, queued.part
    first = batch.start - part.start
    part.add_sources(first, rows)
    for backbone_id, tensors in queued.outputs.items():
        part.add_vectors(backbone_id, first, {name: values.numpy() for name, values in tensors.items()})
    n_failed = sum(row.pixels is None for row in rows)
    looks = [row.look for row in rows if row.look is not None]
    return _Encoded(part, batch.stop == part.stop, len(rows), n_failed, looks)


def _stack(rows: Sequence[Row], position: int, is_pinned: bool) -> torch.Tensor:
    """Pixels of one geometry, uint8 (n_rows, h, w, 3); page-locked if asked, for copies in the background."""
    pixels = [row.pixels[position] if row.pixels is not None else 0 for row in rows]
    shape = next(p.shape for p in pixels if not isinstance(p, int))
    stacked = torch.empty((len(rows), *shape), dtype=torch.uint8, pin_memory=is_pinned)
    values = stacked.numpy()
    for target, image in zip(values, pixels, strict=True):
        target[...] = image
    return stacked


def _write(runs: Mapping[str, Run[Any]], part: Part) -> float:
    """Keep a part for every backbone it was made for; returns the seconds it took."""
    started = time.perf_counter()
    for backbone in part.backbones:
        runs[backbone.id].write(part.index, part.arrays(backbone.id), part.notes(backbone.id))
    return time.perf_counter() - started
