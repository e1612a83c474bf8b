"""Names matched as people write them: exact first, other forms only where one thing can be meant."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.matching import match_names, without_ending


@pytest.mark.parametrize(
    ("wanted", "there", "form"),
    [
        ("a.jpg", "a.jpg", None),
        ("a.JPG", "a.jpg", "with upper and lower case as one"),
        ("é.jpg", unicodedata.normalize("NFD", "é.jpg"), "with accents encoded in another way"),
        ("0001", "0001.JPEG", "without ending"),
        ("s/b.v2", "s/b.v2.jpg", "without ending"),
        ("0001.jpg", "0001", "without ending"),
        ("a.jpg", "sub/a.jpg", "by the last part of the path"),
        ("images/a.jpg", "a.jpg", "by the last part of the path"),
        ("953619", "part1/953619.jpg", "by the last part of the path, without ending"),
        ("52662.0", "52662.jpg", "as a number without its .0"),
        ("'=x.jpg", "=x.jpg", "without the apostrophe that guards a spreadsheet's cell"),
    ],
)
def test_one_name_in_another_form(wanted, there, form):
    matched = match_names([wanted], ["other.jpg", there])
    assert matched.row.tolist() == [1]
    assert list(matched.forms) == ([form] if form else [])
    assert all(repr(wanted) in note and repr(there) in note for note in matched.notes)


@pytest.mark.parametrize(
    ("wanted", "there", "rows"),
    [
        (["a"], ["a.jpg", "a.png"], [-1]),  # which one?
        (["a", "a.jpg"], ["a.jpg", "a.png"], [-1, 0]),  # the other one is not left over for it
        (["A.jpg", "a.JPG"], ["a.jpg"], [-1, -1]),
        (["x/1.jpg", "y/1.jpg"], ["1.jpg"], [-1, -1]),
        (["1.jpg"], ["x/1.jpg", "y/1.jpg"], [-1]),
        (["1.10"], ["1.jpg", "1"], [-1]),  # a number after a point is no ending
        (["a.png"], ["a.jpg"], [-1]),  # another file
        (["x/a.jpg"], ["y/a.jpg"], [-1]),
        (["/far/x/a.jpg"], ["x/a.jpg"], [0]),
        (["/far/y/a.jpg"], ["x/a.jpg"], [-1]),
        (["1", "1.0"], ["1.jpg"], [0, -1]),
        ([""], [""], [-1]),
    ],
)
def test_what_is_unclear_stays_unmatched(wanted, there, rows):
    assert match_names(wanted, there).row.tolist() == rows


def test_the_ambiguous_are_counted():
    assert match_names(["a", "b", "c"], ["a.jpg", "a.png", "c.jpg"]).n_ambiguous == 1


def test_endings():
    names = ["a.jpg", "a.CR2", "a.b.jpeg", "1.10", ".jpg", "d/.jpg", "a.v2", "a"]
    assert [without_ending(n) for n in names] == ["a", "a", "a.b", "1.10", ".jpg", "d/.jpg", "a.v2", "a"]


@given(st.lists(st.text("aAé.j/0'=", min_size=1, max_size=6), max_size=8, unique=True), st.randoms())
def test_exact_names_always_win_and_nothing_is_given_away_twice(names, random):
    mixed = list(names)
    random.shuffle(mixed)
    matched = match_names(names, [*mixed, "extra"])
    assert [mixed[i] for i in matched.row.tolist()] == names and not matched.forms
    rows = [i for i in match_names([n.upper() for n in names], mixed).row.tolist() if i >= 0]
    assert len(set(rows)) == len(rows)
