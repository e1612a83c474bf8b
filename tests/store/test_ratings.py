"""Ratings: what is acknowledged stays, whatever happens; what holds now is a question to the rows."""

import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from store.errors import IntegrityError, MissingFileError, SchemaError
from store.ratings import FILE_NAME, Rating, RatingError, Ratings, verify_ratings
from store.verify import stored_files, verify_file

A, B, C = (bytes([letter]) * 32 for letter in b"abc")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def ratings(tmp_path: Path):
    with Ratings(tmp_path / FILE_NAME) as opened:
        yield opened


def stars(value: float, image_id: str = "a.jpg", sha256: bytes = A) -> Rating:
    return Rating("stars", value, image_id, sha256)


def held(ratings: Ratings, rater: str = "me") -> dict[str, float]:
    return {event.image_id: event.value for event in ratings.present(rater)}


def test_the_latest_rating_of_a_photograph_holds(ratings: Ratings) -> None:
    ratings.add([stars(2), stars(4, "b.jpg", B)], "me")
    ratings.add([stars(5)], "me")
    ratings.add([stars(1)], "you")
    assert held(ratings) == {"a.jpg": 5, "b.jpg": 4}
    assert held(ratings, "you") == {"a.jpg": 1}
    assert ratings.raters() == ["me", "you"]
    assert len(ratings.events()) == 4  # and nothing is forgotten


def test_no_stars_take_a_rating_back_and_leave_the_flag(ratings: Ratings) -> None:
    ratings.add([stars(2), Rating("flag", -1, "a.jpg", A)], "me")
    ratings.add([stars(0)], "me")
    assert [(event.kind, event.value) for event in ratings.present("me")] == [("flag", -1)]


def test_a_renamed_photograph_is_the_same_by_its_content(ratings: Ratings) -> None:
    ratings.add([stars(2)], "me")
    ratings.add([stars(3, "moved/a.jpg", A)], "me")
    assert held(ratings) == {"moved/a.jpg": 3}


def test_a_pair_is_one_whichever_is_named_first(ratings: Ratings) -> None:
    ratings.add([Rating("pair", 1, "a.jpg", A, "b.jpg", B)], "me")
    ratings.add([Rating("pair", 0, "b.jpg", B, "a.jpg", A)], "me")
    (event,) = ratings.present("me")
    assert (event.image_id, event.value) == ("b.jpg", 0)


def test_undoing_goes_back_act_by_act_and_is_a_row_itself(ratings: Ratings) -> None:
    ratings.add([stars(1)], "me")
    ratings.add([stars(2), stars(3, "b.jpg", B)], "me", "import")
    ratings.add([stars(4)], "you")
    assert [event.value for event in ratings.undo("me")] == [2, 3]
    assert held(ratings) == {"a.jpg": 1}
    assert [event.value for event in ratings.undo("me")] == [1]
    assert held(ratings) == {} and ratings.undo("me") == []
    assert held(ratings, "you") == {"a.jpg": 4}
    assert [event.kind for event in ratings.events("me")] == ["stars", "stars", "stars", "undo", "undo"]


def test_an_act_is_undone_by_its_number_once_and_by_its_rater(ratings: Ratings) -> None:
    first = ratings.add([stars(1)], "me")
    ratings.add([stars(2, "b.jpg", B)], "me")
    with pytest.raises(RatingError, match="somebody else's"):
        ratings.undo("you", first)
    ratings.undo("me", first)
    assert held(ratings) == {"b.jpg": 2}
    with pytest.raises(RatingError, match="is undone"):
        ratings.undo("me", first)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("stars", 0.5, "a"), "expected 0 or 1 to 5"),
        (("stars", 6, "a"), "expected 0 or 1 to 5"),
        (("stars", float("nan"), "a"), "expected 0 or 1 to 5"),
        (("flag", 2, "a"), "expected -1, 0 or 1"),
        (("flag", True, "a"), "expected -1, 0 or 1"),
        (("hearts", 1, "a"), "stars, flag, pair"),
        (("pair", 1, "a"), "a pair is about two"),
        (("stars", 1, "a", A, "b"), "a pair is about two"),
        (("pair", 1, "a", A, "a", A), "with itself"),
        (("stars", 1, "a", b"short"), "32 bytes"),
    ],
)
def test_what_means_nothing_is_refused(given: tuple, said: str) -> None:
    with pytest.raises(RatingError, match=said):
        Rating(*given)


def test_all_of_an_act_or_nothing(ratings: Ratings) -> None:
    def some():
        yield stars(1)
        raise ValueError("the file ends here")

    with pytest.raises(ValueError, match="ends here"):
        ratings.add(some(), "me")
    assert ratings.events() == [] and ratings.add([], "me") == 0
    with pytest.raises(RatingError, match="have a name"):
        ratings.add([stars(1)], " ")


def test_names_that_are_no_utf8_come_back_as_they_were(ratings: Ratings) -> None:
    name = "caf\udce9 ü.jpg"
    ratings.add([stars(3, name)], "me")
    assert held(ratings) == {name: 3}
    assert verify_ratings(ratings.path)[1] == []


def test_rows_cannot_be_changed_or_deleted(ratings: Ratings) -> None:
    ratings.add([stars(3)], "me")
    with sqlite3.connect(ratings.path) as other:
        for statement in ("UPDATE events SET value = 5", "DELETE FROM events"):
            with pytest.raises(sqlite3.IntegrityError, match="are added"):
                other.execute(statement)
    other.close()


def damage(path: Path, *statements: str) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("DROP TRIGGER never_changed")
    other.execute("DROP TRIGGER never_deleted")
    for statement in statements:
        other.execute(statement)
    other.close()


def test_verify_finds_changed_and_missing_rows(tmp_path: Path) -> None:
    path = tmp_path / "mine" / FILE_NAME
    with Ratings(path) as ratings:
        ratings.add([stars(n, f"{n}.jpg", bytes([n]) * 32) for n in (1, 2, 3, 4, 5)], "me")
    assert stored_files(tmp_path) == [path]
    verdict = verify_file(path)
    assert verdict.is_intact and verdict.schema == "iaa/ratings" and len(verdict.digest) == 32
    damage(path, "UPDATE events SET value = 5 WHERE number = 2", "DELETE FROM events WHERE number = 4")
    assert verify_file(path).problems == ("rating 2 is not what was written", "ratings 4 to 4 are missing")


def test_a_file_with_flipped_bytes_is_said_to_be_damaged_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    with Ratings(path) as ratings:
        ratings.add([stars(1 + n % 5, f"{n}.jpg") for n in range(200)], "me")
    data = bytearray(path.read_bytes())
    for at in range(4096, len(data), 512):
        data[at : at + 64] = b"\xff" * 64
    path.write_bytes(data)
    assert verify_file(path).problems
    assert path.read_bytes() == data


def test_files_of_others_are_not_taken_for_ratings(tmp_path: Path) -> None:
    text, other, newer = (tmp_path / name for name in ("text", "other", "newer"))
    text.write_text("no database at all, and long enough to be none " * 10, encoding="utf-8")
    with pytest.raises(IntegrityError, match="keep it"):
        Ratings(text)
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE photos (id)")
    database.close()
    with pytest.raises(SchemaError, match="another program"):
        Ratings(other)
    Ratings(newer).close()
    with sqlite3.connect(newer) as database:
        database.execute("PRAGMA user_version=2")
    database.close()
    with pytest.raises(SchemaError, match="Update one"):
        Ratings(newer)
    with pytest.raises(MissingFileError, match="nothing has been rated"):
        Ratings(tmp_path / "none", is_new=False)


def test_two_writers_lose_nothing_of_each_other(tmp_path: Path) -> None:
    path, n = tmp_path / FILE_NAME, 60

    def rate(rater: str) -> None:
        with Ratings(path) as ratings:
            for number in range(n):
                ratings.add([stars(1 + number % 5, f"{number}.jpg", bytes([number]) * 32)], rater)

    threads = [threading.Thread(target=rate, args=(rater,)) for rater in ("me", "you")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Ratings(path) as ratings:
        assert len(ratings.present("me")) == len(ratings.present("you")) == n
        assert [event.number for event in ratings.events()] == list(range(1, 2 * n + 1))
    assert verify_file(path).is_intact


def test_many_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    """Of two that switch to a write-ahead log, SQLite tells one immediately that the file is locked."""

    def open_all(all_at_once: threading.Barrier, path: Path) -> None:
        all_at_once.wait()
        Ratings(path).close()

    with ThreadPoolExecutor(max_workers=4) as pool:
        for number in range(30):
            all_at_once, path = threading.Barrier(4), tmp_path / str(number) / FILE_NAME
            for opened in [pool.submit(open_all, all_at_once, path) for _ in range(4)]:
                opened.result()
            assert verify_file(path).is_intact


def test_ten_thousand_ratings(ratings: Ratings) -> None:
    ratings.add([stars(1 + n % 5, f"{n}.jpg", n.to_bytes(32, "big")) for n in range(1, 10_001)], "me")
    started = time.perf_counter()
    assert len(ratings.present("me")) == 10_000
    assert time.perf_counter() - started < 5
    assert len(ratings.undo("me")) == 10_000


RATER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from store.ratings import Rating, Ratings
ratings = Ratings(Path(sys.argv[1]))
number = ratings.last
while True:
    number += 1
    ratings.add([Rating("stars", 1 + number % 5, f"{number}.jpg", number.to_bytes(32, "big"))], sys.argv[2])
    print(number, flush=True)
"""


def kill_while_rating(path: Path, n_kills: int) -> None:
    """Kill a process that rates, again and again: what it was told to be kept is there, and nothing else is
    but what it may not have been told of yet."""
    chance = random.Random(1)
    n_acknowledged = 0
    for _ in range(n_kills):
        child = subprocess.Popen(
            [sys.executable, "-c", RATER, str(path), "me"], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert child.stdout is not None
        acknowledged = [int(child.stdout.readline())]
        time.sleep(chance.random() * 0.05)
        child.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in child.stdout.read().split("\n")[:-1]]
        child.wait()
        child.stdout.close()
        n_acknowledged += len(acknowledged)
        with Ratings(path) as ratings:
            numbers = [event.number for event in ratings.events()]
        assert set(acknowledged) <= set(numbers)
        assert len(numbers) - acknowledged[-1] in (0, 1)
    assert verify_file(path).is_intact
    assert n_acknowledged >= n_kills


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_what_is_acknowledged_survives_kills(tmp_path: Path) -> None:
    kill_while_rating(tmp_path / FILE_NAME, 8)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_what_is_acknowledged_survives_a_hundred_kills(tmp_path: Path) -> None:
    kill_while_rating(tmp_path / FILE_NAME, 100)
