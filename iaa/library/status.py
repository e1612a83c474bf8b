"""How far runs are: parts done, rate, failures, who works, time left; asked from anywhere."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from iaa.library.layout import Layout
from iaa.library.lines import duration
from iaa.library.opening import check_known, embedded_paths
from iaa.library.table import Table
from store import StoreError, open_features
from store.at_work import noted_work
from store.locks import Holder, holders, lock_path
from store.parts import Plan, begun_plan, open_part, unfinished_runs
from store.remote import Remote, open_remote
from store.remote_run import RemoteRun, begun_names, begun_plans, plan_of

N_STALE = 10
"""So many times as long as a part takes without a new one, and nobody knows how much time is left."""
N_RECENT = 64
"""Parts from whose times the rate is: a run's rate now, not that of its first day."""


@dataclass(frozen=True)
class RunState:
    """A feature file, finished or in the making."""

    backbone: str
    state: str
    """`finished`, `running`, `stopped`, `elsewhere` (its processes are other machines'), or `damaged`."""
    n_rows: int
    n_done: int
    n_failed: int | None
    """Failed rows among those done; None of a finished file that is in an object store alone."""
    n_parts: int
    n_parts_done: int
    images_per_second: float | None
    """Over the last parts of all workers together, since they were started; None until two are there."""
    seconds_left: float | None
    seconds_since_part: float | None
    """Since the last part was written, by the clocks of the file system and of this machine."""
    who: Sequence[Holder]
    path: Path
    problem: str = ""
    remote: str = ""
    """The object store in which the parts, or the finished file, were counted."""
    at_work: Sequence[str] = ()
    """Which actor of a cluster is at which part, as the driver noted last; `who` is the driver."""


class Status(list[RunState]):
    """The runs of a data set, the unfinished first."""

    def __init__(self, layout: Layout, runs: Sequence[RunState], remote: str | None = None) -> None:
        super().__init__(runs)
        self.layout, self.remote = layout, remote

    def table(self) -> Table:
        """A row per feature file."""
        columns: dict[str, list[Any]] = {
            "backbone": [run.backbone for run in self],
            "state": [run.state for run in self],
            "images": [f"{run.n_done:,} of {run.n_rows:,}" for run in self],
            "parts": [f"{run.n_parts_done} of {run.n_parts}" if run.n_parts else "joined" for run in self],
            "n_failed": ["" if run.n_failed is None else run.n_failed for run in self],
            "images/s": [_number(run.images_per_second) for run in self],
            "left": [_duration(run.seconds_left) for run in self],
            "last part": [_ago(run.seconds_since_part) for run in self],
            "who": [(*map(_named, run.who), *run.at_work) or "" for run in self],
        }
        return Table(f"Runs of {self.layout.dataset}", columns)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {"dataset": self.layout.dataset, "runs": [asdict(run) for run in self]}

    def to_frame(self) -> Any:
        """A pandas DataFrame, one row per feature file."""
        return Table("Runs", {name: [asdict(run)[name] for run in self] for name in _FIELDS}).to_frame()

    def notes(self) -> list[str]:
        """What to do about what is not finished."""
        told = [f"{run.path}: {run.problem}" for run in self if run.problem]
        if there := [run for run in self if run.remote and run.state != "finished"]:
            names = ", ".join(run.backbone for run in there)
            told.append(
                f"Counted at {there[0].remote}: {names}. Who works is not known there; the last part tells."
            )
        if any(run.state == "stopped" for run in self):
            told.append("What is stopped goes on with its own command; whole parts are kept.")
        if not self:
            nor = f", nor of {self.layout.dataset} at {self.remote}" if self.remote else ""
            what = f"Nothing is embedded or begun in {self.layout.features}{nor}"
            told.append(f"{what}. Next: iaa embed --dataset {self.layout.dataset}")
        return told


_FIELDS = tuple(RunState.__dataclass_fields__)


def run_states(layout: Layout, now: float | None = None, remote: str | None = None) -> Status:
    """How far each feature file of a data set is; with `remote`, the URL of an object store, also those that
    are there, whose parts are counted there. Nothing is locked and nothing is written; headers alone are
    read, so a finished file is taken at its word here (`iaa verify` reads all of it).

    Raises DatasetError for an unknown data set of which nothing is there, RemoteError.
    """
    now = time.time() if now is None else now
    begun = unfinished_runs(layout.features)
    unfinished = [state for path in begun if (state := _unfinished(path, now)) is not None]
    finished = [_finished(path) for path in embedded_paths(layout)]
    there = [] if remote is None else _states_at(open_remote(remote, layout.dataset), layout, now)
    states = {state.path: state for state in (*finished, *unfinished)}
    for state in there:
        own = states.get(state.path)
        if own is None:
            states[state.path] = state
        elif own.state != "finished":
            states[state.path] = replace(state, who=own.who, at_work=own.at_work, state=own.state)
    if not states and remote is None:
        check_known(layout)
    ordered = sorted(states.values(), key=lambda s: (s.state == "finished", s.backbone))
    return Status(layout, ordered, remote)


def _states_at(remote: Remote, layout: Layout, now: float) -> list[RunState]:
    """What an object store has of a data set's feature files, and of runs of them."""
    where = remote.objects.url
    states = []
    for name in remote.names():
        named = remote.noted(name)
        if named is None or not name.startswith("features/"):
            continue
        backbone, n = str(named.identity.get("backbone", Path(name).stem)), int(named.identity["n_images"])
        path = layout.folder / name
        states.append(RunState(backbone, "finished", n, n, None, 0, 0, None, None, None, (), path, "", where))
    finished = {state.path for state in states}
    for name in begun_names(remote):
        path = layout.folder / name
        for described in begun_plans(remote, name).values() if path not in finished else ():
            plan = plan_of(described, path)
            written = RemoteRun(remote, plan).written()
            noted = {index: when for index, (_, when) in written.items() if when is not None}
            n_failed = sum(note.n_failed for note, _ in written.values())
            states.append(_progress(plan, written, noted, n_failed, noted, "elsewhere", now, remote=where))
    return states


def _finished(path: Path) -> RunState:
    try:
        with open_features(path) as features:
            n, n_failed = features.n_images, len(features.failures)
            return RunState(features.backbone, "finished", n, n, n_failed, 0, 0, None, None, None, (), path)
    except StoreError as error:
        return _damaged(path, error)


def _damaged(path: Path, error: StoreError) -> RunState:
    problem = str(error).splitlines()[0]
    return RunState(path.stem, "damaged", 0, 0, 0, 0, 0, None, None, None, (), path, problem)


def _unfinished(path: Path, now: float) -> RunState | None:
    """None where the run has been joined meanwhile, or nothing but its folder is there."""
    try:
        plan = begun_plan(path, {})
    except StoreError as error:
        return _damaged(path, error)
    if plan is None:
        return None
    written, n_failed = _parts_done(plan)
    who = [holder for holder in holders(lock_path(path)) if holder.is_running is not False]
    began = min((holder.since for holder in who), default=0.0)  # a pause before that is no slowness
    recent = {index: when for index, when in written.items() if when >= began}
    state = "stopped" if not who else "running" if any(h.is_running for h in who) else "elsewhere"
    found = _progress(plan, written, written, n_failed, recent, state, now)
    at_work = [f"part {each['part']}: {each['where']}" for each in noted_work(path)] if who else []
    return replace(found, who=who, at_work=at_work)


def _progress(
    plan: Plan,
    done: Collection[int],
    written: Mapping[int, float],
    n_failed: int,
    recent: Mapping[int, float],
    state: str,
    now: float,
    remote: str = "",
) -> RunState:
    """A run of which some parts are done, when each was written, as far as that is known, and which of them
    its rate is from."""
    rows = [stop - start for start, stop in plan.parts]
    n_done = sum(rows[index] for index in done)
    rate = _rate(recent, rows)
    last = max(written.values(), default=None)
    since = None if last is None else max(0.0, now - last)
    is_stale = state == "elsewhere" and rate and since is not None and since > N_STALE * plan.part_rows / rate
    return RunState(
        str(plan.identity.get("backbone", plan.path.stem)),
        state,
        plan.n_rows,
        n_done,
        n_failed,
        len(rows),
        len(done),
        rate,
        (plan.n_rows - n_done) / rate if rate and state != "stopped" and not is_stale else None,
        since,
        (),
        plan.path,
        remote=remote,
    )


def _parts_done(plan: Plan) -> tuple[dict[int, float], int]:
    """When each sealed part was written, and the failed rows of all; what is damaged will be made again."""
    written: dict[int, float] = {}
    n_failed = 0
    for index in range(len(plan.parts)):
        try:
            with open_part(plan, index) as part:
                written[index] = plan.part_path(index).stat().st_mtime
                n_failed += int(part.arrays["failures/row"][0][0])
        except (StoreError, OSError):
            continue
    return written, n_failed


def _rate(written: Mapping[int, float], rows: Sequence[int]) -> float | None:
    """Rows per second between the first and the last of the newest parts; the first one's rows were made
    before it was written, so they do not count."""
    newest = sorted((when, index) for index, when in written.items())[-N_RECENT:]
    if len(newest) < 2 or newest[-1][0] <= newest[0][0]:
        return None
    return sum(rows[index] for _, index in newest[1:]) / (newest[-1][0] - newest[0][0])


def _named(holder: Holder) -> str:
    worker = f"worker {holder.worker}, " if holder.worker else ""
    unknown = "" if holder.is_running else " (not asked)"
    return f"{worker}process {holder.process} on {holder.host}{unknown}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _duration(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)


def _ago(seconds: float | None) -> str:
    return "" if seconds is None else f"{duration(seconds)} ago"
