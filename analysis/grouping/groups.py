"""Which photographs belong together: copies, near-duplicates, bursts, brackets and panoramas.

Rows are put into an order of their own first, by capture time and then by content, so that the groups are the
same whatever order the files come in. Files of the same bytes are one photograph from there on.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, get_args

import numpy as np

from analysis.grouping.leaders import Like, find_leaders
from analysis.grouping.overlap import find_overlap
from store.shapes import Float, Int

Kind = Literal["copies", "near", "burst", "bracket", "panorama"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Small = Callable[[int], np.ndarray | None]
"""From a row to its picture, upright, grey, with a long edge of `overlap.EDGE` pixels."""

SECONDS = 10.0
"""Photographs of a burst or a bracket are taken within so many of its first; those of a panorama, of the one
before."""
MIN_BIAS_STEP = 0.25
"""EV; cameras offer thirds, which they write as 0.3 or 0.33."""
MIN_CORRELATION = 0.6
"""Steps of panoramas that were made reach 0.7; of pairs of one subject 0.8 % reach this (docs/groups.md)."""
STEP = (0.15, 0.85)
"""What share of its width (or height) a panorama goes on by, from picture to picture."""
MAX_DRIFT = 0.15
"""And how far it strays across."""
MIN_FRAMES = 3
"""Two pictures that overlap are as often one that was composed again."""
MIN_PIXELS = 0.6
"""Of the largest picture's: smaller copies come after it, since scaling down makes sharp."""


@dataclass(frozen=True)
class Thresholds:
    """Cosines from which on two photographs are like each other."""

    near: float
    """Taken within an hour, as edited copies are, which keep their time."""
    burst: float
    """Taken within seconds."""
    bracket: float
    """Taken within seconds with different exposure compensation."""
    later: float
    """Taken more than an hour apart: there are so many such pairs that few may be wrong."""
    unknown: float
    """Nobody knows when one of them was taken."""

    def __post_init__(self) -> None:
        for name in ("near", "burst", "bracket", "later", "unknown"):
            if not 0.01 <= getattr(self, name) <= 1:
                raise ValueError(
                    f"threshold {name} is {getattr(self, name)}: cosines from 0.01 to 1 make sense"
                )


@dataclass(frozen=True)
class Shots:
    """What is known of n photographs besides their vectors; None or NaN is what is not."""

    sha256: np.ndarray | None = None
    """uint8 (n, 32), of the files' bytes; zeros: not known."""
    taken: Float[np.ndarray, " n"] | None = None
    """Seconds from 1970."""
    bias: Float[np.ndarray, " n"] | None = None
    """Exposure compensation, EV."""
    score: Float[np.ndarray, " n"] | None = None
    sharpness: Float[np.ndarray, " n"] | None = None
    width: np.ndarray | None = None
    height: np.ndarray | None = None
    """Pixels, upright; 0: not known."""
    name: Sequence[str] | None = None
    """Says in which order equal ones are shown; default: as they come."""


@dataclass(frozen=True)
class Group:
    """Photographs that belong together; `rows` in the order in which to show them."""

    kind: Kind
    rows: Int[np.ndarray, " n_members"]
    cosine: Float[np.ndarray, " n_members"] = field(repr=False)
    """Of each with the group's first picture; NaN where vectors played no part."""
    is_ranked: bool
    """True if the rows are a suggestion, best first; copies are by name, brackets and panoramas by time."""


def group_photographs(
    vectors: Float[np.ndarray, "n dim"] | None,
    shots: Shots,
    thresholds: Thresholds,
    seconds: float = SECONDS,
    kinds: Sequence[Kind] = KINDS,
    small: Small | None = None,
) -> list[Group]:
    """Groups of two and more, no photograph in two of them, in the order of their first members.

    `vectors` have unit length; rows of NaN or zeros are like nothing but their copies, and None stands for a
    library without vectors. A group with members that differ is one of its kind, copies included; "copies"
    have nothing but the same bytes. Kinds that are not asked for are not looked for. Panoramas need `small`,
    which is asked for few.
    """
    n = len(vectors) if vectors is not None else _length(shots)
    columns = _Columns(shots, n)
    content = _contents(vectors, columns, shots.sha256)
    alone = np.array([rows[0] for rows in content], np.int64)
    members = dict(zip(alone.tolist(), content, strict=True))
    found: list[tuple[Kind, np.ndarray, np.ndarray]] = []
    if vectors is not None:
        square = np.einsum("ij,ij->i", vectors, vectors)
        order = alone[np.isfinite(square[alone]) & (square[alone] > 0.5)]
        found = list(_like_each_other(vectors, order, columns, thresholds, seconds, kinds, small))
    if "copies" in kinds:
        taken = {int(row) for _, rows, _ in found for row in rows}
        single = [rows[:1] for first, rows in members.items() if first not in taken and len(rows) > 1]
        found += [("copies", row, np.full(1, np.nan)) for row in single]
    groups = [_with_copies(kind, rows, cosine, members, columns) for kind, rows, cosine in found]
    return sorted(groups, key=lambda group: int(group.rows.min()))


def order_anew(groups: Sequence[Group], shots: Shots, n: int) -> list[Group]:
    """The same groups, their members in the order of other scores or another sharpness; `n` photographs."""
    columns = _Columns(shots, n)
    return [_in_order(group.kind, group.rows, group.cosine, columns) for group in groups]


def _like_each_other(
    vectors: np.ndarray,
    order: Int[np.ndarray, " n_contents"],
    columns: "_Columns",
    thresholds: Thresholds,
    seconds: float,
    kinds: Sequence[Kind],
    small: Small | None,
) -> Iterator[tuple[Kind, np.ndarray, np.ndarray]]:
    """Kind, rows and cosines of the groups of different contents; `order` is that of capture."""
    timed = order[np.isfinite(columns.taken[order])]
    if "bracket" in kinds:
        brackets = _brackets(vectors, timed, columns, thresholds, seconds)
        yield from (("bracket", rows, vectors[rows] @ vectors[rows[0]]) for rows in brackets)
        order, timed = _without(order, brackets), _without(timed, brackets)
    if "panorama" in kinds and small is not None:
        panoramas = _panoramas(vectors, timed, columns, thresholds, seconds, small)
        yield from (("panorama", rows, vectors[rows] @ vectors[rows[0]]) for rows in panoramas)
        order = _without(order, panoramas)
    if "near" not in kinds and "burst" not in kinds:
        return
    like = Like(thresholds.burst, thresholds.near, thresholds.later, thresholds.unknown, seconds)
    leader, cosine = find_leaders(vectors[order], columns.taken[order], like)
    by_leader = np.argsort(leader, kind="stable")
    starts = np.flatnonzero(np.diff(leader[by_leader], prepend=-1, append=len(order)))
    for start, stop in pairwise(starts.tolist()):
        if stop - start > 1:
            some = by_leader[start:stop]
            rows, cosines = order[some], cosine[some]
            kind = _kind(columns.taken[rows], cosines, thresholds.near, seconds)
            if kind in kinds:
                yield kind, rows, cosines


def _kind(taken: np.ndarray, cosine: np.ndarray, near: float, seconds: float) -> Kind:
    """A burst has several moments, all within seconds, as far as they are known; a whole-second clock may not
    tell them apart, then pictures that differ more than variants do are several moments, too."""
    known = taken[np.isfinite(taken)]
    if not len(known) or known.max() - known.min() > seconds:
        return "near"
    return "burst" if np.ptp(known) > 0 or bool((cosine < near).any()) else "near"


def _brackets(
    vectors: np.ndarray, timed: np.ndarray, columns: "_Columns", thresholds: Thresholds, seconds: float
) -> list[np.ndarray]:
    """Runs of the same scene within seconds, in which no exposure compensation comes twice.

    Two exposures are one only if there are as many of each, and neither neighbour in time goes on with the
    scene: who turns the wheel after a burst makes no bracket of its last picture.
    """
    taken, bias = columns.taken, columns.bias
    timed = timed[np.isfinite(bias[timed])]
    runs: list[list[int]] = []
    same_scene: list[bool] = []  # as the run before
    for row in timed.tolist():
        run = runs[-1] if runs else [row]
        is_near = (
            taken[row] - taken[run[0]] <= seconds and _cosine(vectors, row, run[0]) >= thresholds.bracket
        )
        twins = [other for other in run if abs(bias[other] - bias[row]) < MIN_BIAS_STEP]
        if runs and is_near and all(taken[t] == taken[row] and bias[t] == bias[row] for t in twins):
            run.append(row)
        else:
            runs.append([row])
            same_scene.append(bool(is_near) and len(runs) > 1)
    exposures = [np.unique(bias[run], return_counts=True)[1] for run in runs]
    n_exposures = [len(counts) for counts in exposures]
    found = []
    for at, run in enumerate(runs):
        before = same_scene[at] and n_exposures[at - 1] == 1
        after = at + 1 < len(runs) and same_scene[at + 1] and n_exposures[at + 1] == 1
        is_pair = n_exposures[at] == 2 and np.ptp(exposures[at]) == 0 and not (before or after)
        if n_exposures[at] > 2 or is_pair:
            found.append(np.array(run))
    return found


def _panoramas(
    vectors: np.ndarray,
    timed: np.ndarray,
    columns: "_Columns",
    thresholds: Thresholds,
    seconds: float,
    small: Small,
) -> list[np.ndarray]:
    """Runs of at least three in which each goes on where the one before ends, all in one direction."""
    if len(timed) < MIN_FRAMES:
        return []
    a, b = timed[:-1], timed[1:]
    may_be = columns.taken[b] - columns.taken[a] <= seconds
    for side in (columns.width, columns.height):
        may_be &= side[a] == side[b]
    may_be[may_be] = np.einsum("ij,ij->i", vectors[a[may_be]], vectors[b[may_be]]) < thresholds.near
    padded = np.concatenate([[False], may_be, [False]])
    may_be &= padded[:-2] | padded[2:]  # one step alone is no panorama
    pictures: dict[int, np.ndarray | None] = {}
    runs: list[list[int]] = []
    going = ""
    for at in np.flatnonzero(may_be).tolist():
        pair = int(timed[at]), int(timed[at + 1])
        pictures = {row: pictures[row] if row in pictures else small(row) for row in pair}
        direction = _direction(pictures[pair[0]], pictures[pair[1]])
        if direction and direction == going and runs[-1][-1] == pair[0]:
            runs[-1].append(pair[1])
        elif direction:
            runs.append(list(pair))
        going = direction
    used: set[int] = set()
    found = []
    for run in runs:
        if len(run) >= MIN_FRAMES and not used.intersection(run):
            used.update(run)
            found.append(np.array(run))
    return found


def _direction(first: np.ndarray | None, second: np.ndarray | None) -> str:
    """Where the second picture lies that goes on with the first: right, left, down or up; else ''."""
    if first is None or second is None or first.shape != second.shape or min(first.shape) < 8:
        return ""
    overlap = find_overlap(first, second)
    if overlap.correlation < MIN_CORRELATION:
        return ""
    for step, drift, names in (
        (overlap.right, overlap.down, ("left", "right")),
        (overlap.down, overlap.right, ("up", "down")),
    ):
        if STEP[0] <= abs(step) <= STEP[1] and abs(drift) <= MAX_DRIFT:
            return names[step > 0]
    return ""


class _Columns:
    """The columns of Shots, each there and of length n."""

    def __init__(self, shots: Shots, n: int) -> None:
        def column(name: str, missing: float) -> np.ndarray:
            given = getattr(shots, name)
            if given is None:
                return np.full(n, missing)
            values = np.array(given, np.float64)
            if values.shape != (n,):
                raise ValueError(f"{name} has the shape {values.shape}, but there are {n} photographs")
            return np.where(np.isfinite(values), values, missing)

        self.taken, self.bias = column("taken", np.nan), column("bias", np.nan)
        self.score, self.sharpness = column("score", -np.inf), column("sharpness", -np.inf)
        self.width, self.height = column("width", 0), column("height", 0)
        self.place = np.arange(n)
        """Of each row among the names."""
        if shots.name is not None:
            if len(shots.name) != n:
                raise ValueError(f"there are {len(shots.name)} names, but {n} photographs")
            self.place[sorted(range(n), key=shots.name.__getitem__)] = np.arange(n)


def _contents(
    vectors: np.ndarray | None, columns: _Columns, sha256: np.ndarray | None
) -> list[Int[np.ndarray, " n_copies"]]:
    """The rows of each content, by name; contents by capture time, those without last, then by their hash."""
    n = len(columns.place)
    digest = np.zeros((n, 32), np.uint8) if sha256 is None else np.array(sha256, np.uint8)
    if digest.shape != (n, 32):
        raise ValueError(f"sha256 has the shape {digest.shape}, but there are {n} photographs")
    unknown = ~np.asarray(digest.any(axis=1))
    if vectors is not None:
        for row in np.flatnonzero(unknown).tolist():
            digest[row] = np.frombuffer(hashlib.sha256(vectors[row].tobytes()).digest(), np.uint8)
    words = np.ascontiguousarray(digest).view(">u8").astype(np.uint64)
    order = np.lexsort((columns.place, unknown, *words.T[::-1]))
    words, is_unknown = words[order], unknown[order]
    is_new = np.ones(n, dtype=bool)
    is_new[1:] = (words[1:] != words[:-1]).any(axis=1) | is_unknown[1:]
    contents = np.split(order, np.flatnonzero(is_new)[1:]) if n else []
    first = np.array([rows[0] for rows in contents], np.int64)
    by_time = np.argsort(columns.taken[first], kind="stable")  # NaN last
    return [contents[at] for at in by_time.tolist()]


def _with_copies(
    kind: Kind, contents: np.ndarray, cosine: np.ndarray, members: dict[int, np.ndarray], columns: _Columns
) -> Group:
    rows = np.concatenate([members[int(row)] for row in contents])
    cosine = np.repeat(cosine, [len(members[int(row)]) for row in contents]).astype(np.float64)
    return _in_order(kind, rows, cosine, columns)


def _in_order(kind: Kind, rows: np.ndarray, cosine: np.ndarray, columns: _Columns) -> Group:
    """Best first (score, not much smaller, sharpness, pixels), else by time; then by name."""
    by_time = (columns.place[rows], columns.taken[rows])
    order = np.lexsort(by_time)
    if is_ranked := kind in ("near", "burst"):
        pixels = columns.width[rows] * columns.height[rows]
        is_small = pixels < MIN_PIXELS * pixels.max()
        order = np.lexsort((*by_time, -pixels, -columns.sharpness[rows], is_small, -columns.score[rows]))
    return Group(kind, rows[order], cosine[order], is_ranked)


def _length(shots: Shots) -> int:
    given = (shots.sha256, shots.taken, shots.name)
    return next((len(column) for column in given if column is not None), 0)


def _without(order: np.ndarray, groups: list[np.ndarray]) -> np.ndarray:
    return order[~np.isin(order, np.concatenate(groups))] if groups else order


def _cosine(vectors: np.ndarray, row: int, other: int) -> float:
    return float(vectors[row] @ vectors[other])
