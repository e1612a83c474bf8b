"""A run over the machines of a Ray cluster. Ray starts our makers and says when one has ended; what is made,
kept and joined is the store's alone."""

import logging
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from iaa.library.embedding import Embedded, How, OnRows, rows_on
from iaa.library.extras import naming_extras
from iaa.library.layout import Layout
from iaa.library.makers import ClusterError, Job, Maker, Opened, check_versions, look_at_some, versions
from iaa.library.progress import Progress, Say

if TYPE_CHECKING:
    from embed.handing_out import Heard, Made, Task
    from embed.images.table import ImageTable
    from embed.options import Options

ADDRESSES = "auto (the cluster that this machine is part of), local (this machine alone), ray://HOST:10001"
PATIENCE = 30
"""Seconds without room for any maker after which it is said."""
_RECOUNT = 5
"""Seconds between two looks at how many machines there are."""


@dataclass(frozen=True)
class Need:
    """What a maker takes of its machine."""

    cpus: int
    gpus: int

    def __str__(self) -> str:
        return f"{self.cpus} CPUs and {self.gpus} GPU" if self.gpus else f"{self.cpus} CPUs"

    def room(self, nodes: Sequence[Mapping[str, float]]) -> int:
        """How many fit on machines with these resources."""
        return sum(
            min(
                int(node.get("CPU", 0)) // self.cpus,
                int(node.get("GPU", 0)) // self.gpus if self.gpus else 10**9,
            )
            for node in nodes
        )


def choose_need(device: str, threads: int | None, nodes: Sequence[Mapping[str, float]]) -> Need:
    """A GPU per maker where machines have some (or `device` says so) and its share of the cores, at most 32;
    else one maker on all cores of the smallest machine.

    Raises ClusterError where no machine has that much.
    """
    with_gpus = [node for node in nodes if node.get("GPU", 0) >= 1]
    takes_gpu = device != "cpu" and bool(with_gpus or device != "auto")
    usable = [node for node in (with_gpus if takes_gpu else nodes) if node.get("CPU", 0) >= 1]
    shares = [int(node["CPU"]) // max(1, int(node.get("GPU", 0)) if takes_gpu else 1) for node in usable]
    need = Need(threads or max(1, min([32, *shares])), int(takes_gpu))
    if not need.room(nodes):
        has = "; ".join(f"{n.get('CPU', 0):g} CPUs, {n.get('GPU', 0):g} GPUs" for n in nodes) or "none"
        raise ClusterError(
            f"no machine of the cluster has {need} for an actor; its machines have: {has}. "
            "Give fewer --threads, or --device cpu"
        )
    return need


@contextmanager
def cluster(address: str) -> Iterator[Any]:
    """The module `ray`, connected; a connection that was there is used and left as it is.

    Raises ClusterError where no cluster answers, or one of another Ray or Python, where Ray does not come up
    on this machine, and where the cluster is lost while it is used.
    """
    with naming_extras():
        import ray
    if ray.is_initialized():
        with _told_of_loss(ray):
            yield ray
        return
    _check_address(address)
    dashboard = False if address == "local" else None
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.WARNING, include_dashboard=dashboard)
    except ConnectionError as error:
        raise ClusterError(
            f"no Ray cluster at {address!r}: {str(error).rstrip('.')}. Start one (ray start --head), or use "
            f"this machine alone: --ray local. An address is {ADDRESSES}"
        ) from error
    except Exception as error:  # Ray has no kind of its own for a machine on which it does not come up
        with suppress(Exception):
            ray.shutdown()
        if not isinstance(error, RuntimeError) or "ersion" not in str(error):
            raise _not_up(address, error) from error
        raise ClusterError(
            f"the Ray cluster at {address!r} is of another version: {' '.join(str(error).split())}. "
            "Install the same Python and Ray here and there"
        ) from error
    try:
        with _told_of_loss(ray):
            yield ray
    finally:
        ray.shutdown()


def _not_up(address: str, error: Exception) -> ClusterError:
    return ClusterError(
        f"Ray does not come up for {address!r}: {_short(' '.join(str(error).split()))} Is this machine busy, "
        "or short of memory or of /dev/shm? Finished parts are kept: run the same command again when it is "
        "quieter, or do without Ray on one machine: leave --ray out"
    )


@contextmanager
def _told_of_loss(ray: Any) -> Iterator[None]:
    """What Ray raises when its own processes are gone, as a ClusterError."""
    try:
        yield
    except ray.exceptions.RayTaskError:  # what an actor raised, and none foresaw
        raise
    except ray.exceptions.RayError as error:
        raise ClusterError(
            f"the Ray cluster was lost: {_short(' '.join(str(error).split()))} Does it run (ray status), and "
            "has this machine memory left? Finished parts are kept: run the same command again to go on"
        ) from error


def _check_address(address: str) -> None:
    """Ray waits for minutes for a host that does not answer, and then ends the process."""
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise ClusterError(f"--ray {address!r} is no address of a Ray cluster. It is {ADDRESSES}")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"no Ray cluster at {address!r}: {error}. Is its head up, and the port open? "
            f"An address is {ADDRESSES}"
        ) from error


class RayTeam:
    """Makers as actors of a Ray cluster (embed.handing_out.Team)."""

    def __init__(
        self, ray: Any, job: Job, table: "ImageTable", need: Need, n_makers: int | None, say: Say
    ) -> None:
        self._ray, self._need, self._n_makers, self._say = ray, need, n_makers, say
        self._job, self._table = ray.put(job), ray.put(table)
        self._actor = ray.remote(Maker).options(num_cpus=need.cpus, num_gpus=need.gpus, max_restarts=0)
        self._actors: dict[str, Any] = {}
        self._where: dict[str, str] = {}
        self._futures: dict[Any, tuple[str, str]] = {}
        self._n_started = 0
        self._spare: list[str] = []
        self._news: list[Heard] = []
        self._room, self._counted = 0, float("-inf")
        self._waiting_since: float | None = time.monotonic()
        self._opened: Opened | None = None
        self._crashes: Callable[[int], Any] = lambda part: None

    def n_wanted(self) -> int:
        """As many as were asked for, else as there is room for; machines come and go."""
        if self._n_makers is not None:
            return self._n_makers
        if time.monotonic() - self._counted > _RECOUNT:
            self._room, self._counted = self._need.room(alive_nodes(self._ray)), time.monotonic()
        return max(1, self._room)

    def start(self) -> str:
        """Start an actor, which says hello; the first one is up already."""
        from embed.handing_out import Heard

        if self._spare:
            self._news.append(Heard(self._spare[-1]))
            return self._spare.pop()
        self._n_started += 1
        name = f"actor {self._n_started}"
        self._actors[name] = self._actor.remote()
        self._futures[self._actors[name].hello.remote()] = name, "hello"
        return name

    def first(self) -> Opened:
        """What the first actor would make. It is heard of as every other when parts are handed out."""
        from embed.handing_out import IN_VAIN, MAX_IN_VAIN, MakersEndedError

        for _ in range(MAX_IN_VAIN):
            name = self.start()
            while name in self._actors and self._opened is None:
                for heard in self.hear():
                    why = heard.why
            if self._opened is not None:
                self._spare.append(name)
                return self._opened
        raise MakersEndedError(f"{MAX_IN_VAIN} actors ended before they began, the last: {why}. {IN_VAIN}")

    def give(self, maker: str, task: "Task") -> None:
        """Send a part to an actor."""
        self._futures[self._actors[maker].make.remote(task, self._crashes(task.part))] = maker, "make"

    def where(self, maker: str) -> str:
        """Its process and machine."""
        return f"{maker} ({self._where[maker]})" if maker in self._where else maker

    def hear(self) -> "list[Heard]":
        """News of the actors. Raises ClusterError for versions or folders that differ, and what a part or
        loading raised."""
        if self._news:
            news, self._news = self._news, []
            return news
        futures = list(self._futures)
        done, _ = self._ray.wait(futures, num_returns=len(futures), timeout=0.02) if futures else ([], [])
        if not done and futures:
            done, _ = self._ray.wait(futures, num_returns=1, timeout=1.0)
        self._tell_waiting()
        return [heard for future in done for heard in self._take(future)]

    def _take(self, future: Any) -> "Iterator[Heard]":
        from embed.handing_out import Heard

        maker, said = self._futures.pop(future)
        errors = self._ray.exceptions
        try:
            value = self._ray.get(future)
        except errors.RayTaskError as error:
            raise _cause(error) from error
        except errors.RayError as error:
            with suppress(Exception):
                self._ray.kill(self._actors[maker])
            del self._actors[maker]
            why = " ".join(str(error).split())
            if "No module named" in why:
                raise ClusterError(
                    f"an actor cannot be started: {why}. Install image-aesthetics-store on every machine "
                    "with the extras that are here, best from one image (deploy/Dockerfile)"
                ) from error
            yield Heard(maker, why=_short(why))
            return
        if said == "hello":
            self._waiting_since = None
            self._where[maker], theirs = value
            check_versions(versions(), theirs, self.where(maker))
            self._futures[self._actors[maker].open.remote(self._job, self._table)] = maker, "open"
        elif said == "open":
            self._check_same(maker, value)
            yield Heard(maker)
        else:
            yield Heard(maker, value)

    def _check_same(self, maker: str, opened: Opened) -> None:
        """All make what the first would; with GPUs of other sizes batches follow the run that was begun."""
        from store.identity import differences

        if self._opened is None:
            self._opened = opened
            return
        for name, plan in self._opened.plans.items():
            wrong = list(differences(opened.plans[name].described(), plan.described()))
            if wrong:
                lines = [f"  {field}: {found!r} there, {asked!r} in the run" for field, found, asked in wrong]
                raise ClusterError(
                    "\n".join([f"{self.where(maker)} would make other rows of {name}:", *lines])
                )

    def _tell_waiting(self) -> None:
        if self._waiting_since is not None and time.monotonic() - self._waiting_since > PATIENCE:
            self._say(f"waiting for a machine with {self._need} free; what runs in the cluster: ray status")
            self._waiting_since = None

    def serve(self, crashes: Callable[[int], Any]) -> None:
        """Where notes of crashes of a part are kept."""
        self._crashes = crashes

    def close(self) -> None:
        """End all actors."""
        for actor in self._actors.values():
            with suppress(Exception):
                self._ray.kill(actor)


def alive_nodes(ray: Any) -> list[dict[str, float]]:
    """The resources of each machine of the cluster."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _cause(error: Any) -> BaseException:
    """What was raised in an actor, as it would have been here."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, BaseException) else error


def _short(why: str) -> str:
    return why if len(why) <= 300 else f"{why[:300]}..."


def embed_on_cluster(
    layout: Layout,
    table: "ImageTable",
    names: Sequence[str],
    options: "Options",
    how: How,
    progress: Progress,
    say: Say,
    on_rows: OnRows | None = None,
) -> Embedded:
    """Embed as embedding.embed does, the parts made by actors of the Ray cluster at `how.ray`.

    Raises ClusterError, MakersEndedError, and what embed.pipeline.embed_images raises.
    """
    assert how.ray is not None
    with cluster(how.ray) as ray:
        nodes = alive_nodes(ray)
        need = choose_need(how.device, how.threads, nodes)
        device = "cuda" if need.gpus else "cpu"
        options = replace(options, n_threads=need.cpus)
        weights = {name: file.absolute() for name, file in how.weights.items()}
        theirs = replace(how, ray=None, device=device, weights=weights, crash_folder=None)
        job = Job(layout, names, theirs, options, look_at_some(table))
        team = RayTeam(ray, job, table, need, how.actors, say)
        try:
            n_machines = f"{len(nodes)} machine{'s' if len(nodes) != 1 else ''}"
            say(f"Ray: {n_machines}, up to {team.n_wanted()} actors with {need} each")
            return run_team(team, team.first(), table, options, names, progress, say, on_rows)
        finally:
            team.close()


def run_team(
    team: Any,
    first: Opened,
    table: "ImageTable",
    options: "Options",
    names: Sequence[str],
    progress: Progress,
    say: Say,
    on_rows: OnRows | None = None,
) -> Embedded:
    """Begin the run, have its parts made by a team, join them."""
    from embed.encoding import check_failures
    from embed.handing_out import hand_out
    from embed.options import Timings
    from embed.pipeline import OnRows, Runs, make_files
    from store.at_work import crash_folder, forget_work, note_work

    plans = {name: replace(plan, ids={"image_id": table.image_id}) for name, plan in first.plans.items()}
    options = replace(options, batch_size=first.batch_size)
    timings = Timings()
    n_seen = n_failed = 0

    def make(runs: Runs, on_rows: OnRows | None) -> None:
        todo: dict[int, list[str]] = {}
        for name, run in runs.items():
            for part in run.todo:
                todo.setdefault(part, []).append(name)
        paths = [run.plan.path for run in runs.values()]
        team.serve(lambda part: crash_folder(paths[0], part))

        def on_made(made: "Made") -> None:
            nonlocal n_seen, n_failed
            n_seen, n_failed = n_seen + made.n_rows, n_failed + made.n_failed
            for stage, seconds in asdict(made.seconds).items():
                setattr(timings, stage, getattr(timings, stage) + seconds)
            if on_rows is not None:
                on_rows(made.n_rows, made.n_failed, True)
            check_failures(n_seen, n_failed, options.max_failed_share, made.reason)

        noted: dict[str, int] = {}

        def on_given(busy: "Mapping[str, Task]") -> None:
            nonlocal noted
            if noted != (now := {maker: task.part for maker, task in busy.items()}):
                noted = now
                for path in paths:
                    note_work(
                        path, ({"part": part, "where": team.where(maker)} for maker, part in now.items())
                    )

        is_done = False
        try:
            hand_out(todo, team, on_made, on_given, say)
            is_done = True
        finally:
            for path in paths:
                forget_work(path, is_done)

    if on_rows is not None:
        outcomes = make_files(table, plans, options, make, on_rows, timings)
    else:
        with progress(f"embedding ({', '.join(names)})", len(table), "images") as bar:
            moved = rows_on(bar, len(table), say=say)
            outcomes = make_files(table, plans, options, make, moved, timings)
    return Embedded(outcomes, first.used, asdict(timings))
