"""Parts handed to makers that are slow, end, and come: every part once, a poisonous one bounded."""

import itertools
from collections import Counter

import pytest

from embed.handing_out import (
    MAX_ENDED,
    Heard,
    Made,
    MakersEndedError,
    Task,
    hand_out,
)
from store.at_work import crash_folder, forget_work, note_work, noted_work, notes_folder


class PlayedTeam:
    """Makers on paper: `takes(maker)` turns for a part; `ends(maker, task)` says why it ended at one."""

    def __init__(self, n, takes=lambda maker: 1, ends=lambda maker, task: "", starts=lambda maker: True):
        self.n, self.takes, self.ends, self.starts = n, takes, ends, starts
        self.numbers = itertools.count(1)
        self.starting, self.busy = [], {}
        self.by = Counter()
        self.most = 0

    def n_wanted(self):
        return self.n

    def start(self):
        maker = f"m{next(self.numbers)}"
        self.starting.append(maker)
        return maker

    def give(self, maker, task):
        assert maker not in self.busy
        self.busy[maker] = [task, self.takes(maker)]
        self.most = max(self.most, len(self.busy))

    def where(self, maker):
        return maker

    def hear(self):
        news = [Heard(m) if self.starts(m) else Heard(m, why="no start") for m in self.starting]
        self.starting = []
        for maker, work in list(self.busy.items()):
            task, work[1] = work[0], work[1] - 1
            if why := self.ends(maker, task):
                news.append(Heard(maker, why=why))
                del self.busy[maker]
            elif work[1] == 0:
                self.by[maker] += 1
                news.append(Heard(maker, Made(task.part, 4, 0, "")))
                del self.busy[maker]
        return news


def run(team, n_parts=20):
    made, given, said = [], [], []
    todo = {part: ("a",) for part in range(n_parts)}
    hand_out(todo, team, lambda m: made.append(m.part), lambda busy: given.append(dict(busy)), said.append)
    assert given[-1] == {}
    return made, said


def test_every_part_is_made_once_and_a_slow_maker_takes_fewer():
    team = PlayedTeam(3, takes=lambda maker: 6 if maker == "m2" else 1)
    made, said = run(team)
    assert sorted(made) == list(range(20)) and said == []
    assert team.most == 3 and team.by["m2"] < team.by["m1"] and team.by["m2"] < team.by["m3"]


def test_no_more_makers_are_started_than_there_are_parts():
    team = PlayedTeam(50)
    run(team, 3)
    assert next(team.numbers) == 4


def test_makers_end_and_others_come():
    killed = {("m1", 0), ("m2", 1), ("m4", 0)}
    team = PlayedTeam(2, ends=lambda maker, task: "killed" if (maker, task.part) in killed else "")
    made, said = run(team)
    assert sorted(made) == list(range(20))
    assert sorted(said) == ["m1 ended at part 0: killed", "m2 ended at part 1: killed",
                            "m4 ended at part 0: killed"]  # fmt: skip


def test_machines_that_come_later_get_parts():
    team = PlayedTeam(1)
    give = team.give

    def growing(maker, task):
        team.n = 4 if task.part > 5 else 1
        give(maker, task)

    team.give = growing
    made, _ = run(team)
    assert sorted(made) == list(range(20)) and len(team.by) == 4


def test_a_part_that_ends_its_makers_is_told_how_often_and_then_given_up():
    seen = []

    def ends(maker, task):
        if task.part != 7:
            return ""
        seen.append(task.n_ended)
        return "SIGSEGV"

    with pytest.raises(MakersEndedError, match=rf"part 7 ended {MAX_ENDED} actors, the last: SIGSEGV"):
        run(PlayedTeam(2, ends=ends))
    assert seen == list(range(MAX_ENDED))


def test_makers_that_never_begin_are_given_up():
    with pytest.raises(MakersEndedError, match="6 actors ended before they began, the last: no start"):
        run(PlayedTeam(2, starts=lambda maker: False))


def test_who_is_at_what_is_noted_and_forgotten(tmp_path):
    path = tmp_path / "b.h5"
    assert noted_work(path) == []
    note_work(path, [{"part": 3, "where": "m1"}])
    assert noted_work(path) == [{"part": 3, "where": "m1"}]
    crash_folder(path, 3).mkdir()
    forget_work(path, is_done=False)
    assert noted_work(path) == [] and crash_folder(path, 3).is_dir()
    forget_work(path, is_done=True)
    assert not notes_folder(path).exists()
    assert Task(1, ("a",)).n_ended == 0
