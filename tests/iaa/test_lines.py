"""Progress without a terminal: lines that are due, and no others."""

import pytest

from iaa.cli.console import progress
from iaa.library import lines
from iaa.library.lines import Lines, duration


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def run(clock, total, steps, unit="images", initial=0):
    """What is said over (seconds, done) steps."""
    said = []
    shown = Lines("embedding", total, unit, lambda line: said.append((clock.now - 100, line)), initial, clock)
    for seconds, n in steps:
        clock.now += seconds
        shown.update(n)
        shown.tick()
    return said


def test_what_is_done_at_once_is_not_spoken_of(clock):
    assert run(clock, 100, [(0.01, 1)] * 100) == []


def test_every_twentieth_is_a_line(clock):
    said = run(clock, 400, [(0.5, 1)] * 400)
    assert [seconds for seconds, _ in said] == [2.0 + 10 * i for i in range(20)]
    assert said[0][1] == "embedding: 4 of 400 images (1%), 2 images/s, 3 min 18 s left"
    assert said[-1][1] == "embedding: 384 of 400 images (96%), 2 images/s, 8 s left"


def test_no_two_lines_within_two_seconds(clock):
    said = run(clock, 20, [(0.25, 1)] * 20)
    assert [seconds for seconds, _ in said] == [2.0, 4.0]


def test_every_half_minute_is_a_line_also_when_nothing_moves(clock):
    said = run(clock, 10_000, [(1, 1)] * 3 + [(1, 0)] * 97)
    assert [seconds for seconds, _ in said] == [2.0, 32.0, 62.0, 92.0]


def test_what_was_done_before_counts_for_the_share_and_not_for_the_rate(clock):
    said = run(clock, 100, [(1, 1)] * 4, initial=50)
    assert said[0][1] == "embedding: 52 of 100 images (52%), 1 images/s, 48 s left"


def test_work_of_unknown_length_tells_the_time(clock):
    assert [s for s, _ in run(clock, 0, [(1, 0)] * 70)] == [2.0, 32.0, 62.0]
    assert run(clock, 0, [(3700, 0)]) == [(3770.0, "embedding: 1 h 1 min")]


def test_bytes_are_told_in_megabytes(clock):
    assert run(clock, 10**9, [(4, 10**8)], "bytes")[0][1] == (
        "embedding: 100 of 1,000 MB (10%), 25 MB/s, 36 s left"
    )


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (7384, "2 h 3 min")])
def test_durations(seconds, said):
    assert duration(seconds) == said


def test_lines_come_from_a_thread_and_end_with_the_last_word(capsys, monkeypatch):
    """Nobody calls tick: the line is said while the caller waits. stderr is no terminal here."""
    monkeypatch.setattr(lines, "FIRST_SECONDS", 0.0)
    with progress("verifying", 4, "files") as shown:
        shown.set_postfix_str("0 damaged")
        shown.update(2)
        shown._is_over.wait(1.3)
        shown.update(2)
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("verifying: 2 of 4 files (50%), ") and said[0].endswith(" left, 0 damaged")
    assert "4 of 4 files (100%)" in said[-1] and "done in " in said[-1]


def test_a_hidden_one_says_nothing(capsys, monkeypatch):
    monkeypatch.setattr(lines, "FIRST_SECONDS", 0.0)
    with progress("x", 2, "files", is_hidden=True) as shown:
        shown.update(1)
        lines.time.sleep(0.8)
    assert capsys.readouterr().err == ""
