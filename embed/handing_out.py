"""Parts handed to makers one at a time, wherever those run: a slow one takes fewer, and one may end any time.

What is finished is in the store the moment it is made (store.parts), so nothing is kept here that a driver
which is killed would lose. A part whose maker ends is handed out again; after the second time all its images
are tried in a process apart (embed.crashes), so an image that kills becomes a failed row.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from embed.options import Timings

MAX_ENDED = 4
"""Makers that one part may cost."""
MAX_IN_VAIN = 3
"""Makers that may end one after the other without having been given a part, besides one per maker wanted."""

IN_VAIN = (
    "Is a machine busy, or short of memory for as many? Finished parts are kept: run the same command again "
    "to go on, with fewer --actors where memory is short."
)


class MakersEndedError(Exception):
    """Makers end again and again; what is finished is kept."""


@dataclass(frozen=True)
class Task:
    """A part to be made, for some backbones."""

    part: int
    backbones: tuple[str, ...]
    n_ended: int = 0
    """Makers that ended while they made it."""


@dataclass(frozen=True)
class Made:
    """What a maker says of a part that is in the store now."""

    part: int
    n_rows: int
    n_failed: int
    reason: str
    """Of its last failed row, or ''."""
    seconds: Timings = field(default_factory=Timings)


@dataclass(frozen=True)
class Heard:
    """News of a maker: it is ready for its first part, has made one, or has ended (`why`)."""

    maker: str
    made: Made | None = None
    why: str = ""


class Team(Protocol):
    """Makers somewhere. Whatever else than its end goes wrong with one is raised by `hear`."""

    def n_wanted(self) -> int:
        """How many makers there is room for now."""
        ...

    def start(self) -> str:
        """Start a maker; its name. It is heard of when it is ready."""
        ...

    def give(self, maker: str, task: Task) -> None:
        """Have a maker that is ready make a part."""
        ...

    def where(self, maker: str) -> str:
        """What people call the place where it runs."""
        ...

    def hear(self) -> list[Heard]:
        """News since it was asked last; waits a moment for some."""
        ...


def hand_out(
    todo: Mapping[int, Sequence[str]],
    team: Team,
    on_made: Callable[[Made], None],
    on_given: Callable[[Mapping[str, Task]], None],
    say: Callable[[str], None],
) -> None:
    """Have all parts made, `todo` naming the backbones of each. `on_given` is called with what each maker
    works on, whenever that changes.

    Raises MakersEndedError where a part ends MAX_ENDED makers, or makers end before they begin.
    """
    waiting = deque(Task(part, tuple(todo[part])) for part in sorted(todo))
    starting: set[str] = set()
    ready: deque[str] = deque()
    busy: dict[str, Task] = {}
    n_in_vain = 0
    while waiting or busy:
        n_useful = min(team.n_wanted(), len(waiting) + len(busy))
        while len(starting) + len(ready) + len(busy) < n_useful:
            starting.add(team.start())
        while waiting and ready:
            maker = ready.popleft()
            busy[maker] = waiting.popleft()
            team.give(maker, busy[maker])
        on_given(busy)
        for heard in team.hear():
            maker = heard.maker
            if heard.why:
                task = busy.pop(maker, None)
                starting.discard(maker)
                if maker in ready:
                    ready.remove(maker)
                say(f"{team.where(maker)} ended{f' at part {task.part}' if task else ''}: {heard.why}")
                if task is None:
                    n_in_vain += 1
                    if n_in_vain > MAX_IN_VAIN + team.n_wanted():
                        raise MakersEndedError(
                            f"{n_in_vain} actors ended before they began, the last: {heard.why}. {IN_VAIN}"
                        )
                else:
                    waiting.appendleft(_again(task, heard.why))
            elif heard.made is None:
                starting.remove(maker)
                ready.append(maker)
            elif maker in busy:
                n_in_vain = 0
                del busy[maker]
                ready.append(maker)
                on_made(heard.made)
    on_given(busy)


def _again(task: Task, why: str) -> Task:
    task = replace(task, n_ended=task.n_ended + 1)
    if task.n_ended >= MAX_ENDED:
        raise MakersEndedError(
            f"part {task.part} ended {task.n_ended} actors, the last: {why}. No image of it kills a process "
            "that decodes it; is there memory enough for a batch? Finished parts are kept: run the same "
            "command again to go on."
        )
    return task
