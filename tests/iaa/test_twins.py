"""Every verb of the command line has its function in Python, and the reference names it."""

import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

import iaa
from iaa.cli import verbs
from iaa.library.rating.ratings import DatasetRatings

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "verbs.md"
ROW = re.compile(r"^\| `([a-z ]+?)((?: --[a-z-]+)?)` \| `([A-Za-z_.]+)` \|", re.MULTILINE)
ROWS = ROW.findall(REFERENCE.read_text(encoding="utf-8"))
PLACES = {"Dataset.ratings": DatasetRatings, "Dataset": iaa.Dataset, "iaa": iaa}


def words():
    """The verbs, those of two words by both."""
    for verb in verbs.LINES:
        below = getattr(verbs.load(verb), "commands", None)
        yield from [verb] if below is None else (f"{verb} {second}" for second in below)


def function_of(name):
    """The function or class of a name in the reference."""
    place, _, last = name.rpartition(".")
    found = getattr(PLACES[place] if place in PLACES else import_module(place), last)
    assert callable(found) and inspect.getdoc(found), f"{name} is no documented function"
    return found


def test_every_verb_has_its_function():
    assert [verb for verb in words() if verb not in {row[0] for row in ROWS}] == []
    assert [row[0] for row in ROWS if row[0] not in set(words())] == [], "a verb that is none any more"


@pytest.mark.parametrize(("verb", "option", "name"), ROWS, ids=[a + b for a, b, _ in ROWS])
def test_the_function_is_there_and_the_option_too(verb, option, name):
    function_of(name)
    first, _, second = verb.partition(" ")
    command = verbs.load(first)
    known = (command.commands[second] if second else command).params
    assert not option or option.strip() in [each for one in known for each in one.opts]


def test_a_verb_without_a_function_is_seen(monkeypatch):
    monkeypatch.setitem(verbs.LINES, "conjure", "Pictures from nothing.")
    monkeypatch.setattr(verbs, "load", lambda verb: None)
    assert "conjure" in list(words())
    with pytest.raises(AssertionError):
        test_every_verb_has_its_function()
    with pytest.raises(AttributeError):
        function_of("Dataset.conjure")
