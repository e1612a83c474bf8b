"""Finding image files: every one once, loops end, nothing that hangs, an order people expect."""

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed.images.errors import DatasetError
from embed.images.files import (
    EXCLUDED,
    Sieve,
    colliding_names,
    counted,
    listing_notes,
    natural_key,
    without_raw_twins,
)
from embed.images.sources.folder import list_image_files


def make_folder(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def test_a_folder_reached_twice_is_listed_once_under_its_real_place(tmp_path):
    root = make_folder(tmp_path / "r", "b/1.jpg", "c/2.jpg")
    outside = make_folder(tmp_path / "outside", "3.JPEG")
    os.symlink(root / "b", root / "a_link")
    os.symlink(root, root / "c" / "up")
    os.symlink(root / "b", root / "c" / "b")
    os.symlink(root / "c", root / "b" / "c")
    os.symlink(outside, root / "more")
    assert sorted(list_image_files(root)) == ["b/1.jpg", "c/2.jpg", "more/3.JPEG"]


def test_dead_links_are_listed_and_pipes_are_not(tmp_path):
    root = make_folder(tmp_path / "r", "a.jpg", "b.txt")
    os.symlink(root / "gone.jpg", root / "dead.jpg")
    os.symlink(root / "self.jpg", root / "self.jpg")
    os.mkfifo(root / "pipe.jpg")
    os.symlink(root / "pipe.jpg", root / "to_pipe.jpg")
    assert sorted(list_image_files(root)) == ["a.jpg", "dead.jpg", "self.jpg"]


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    root = make_folder(tmp_path / "r", "a.jpg", "closed/b.jpg")
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("closed/"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DatasetError, match=r"closed/ cannot be read \(Permission denied\)"):
        list_image_files(root)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "f").write_bytes(b"x")
    with pytest.raises(DatasetError, match="is no folder"):
        list_image_files(tmp_path / "f")


@given(st.lists(st.integers(0, 10**6), unique=True))
def test_numbers_in_names_sort_as_numbers(numbers):
    names = [f"IMG_{n}.jpg" for n in numbers]
    assert sorted(names, key=natural_key) == [f"IMG_{n}.jpg" for n in sorted(numbers)]


@given(st.lists(st.text(st.characters(exclude_characters="\0"), min_size=1)), st.randoms())
def test_the_order_does_not_depend_on_how_the_system_lists(names, random):
    shuffled = names.copy()
    random.shuffle(shuffled)
    assert sorted(shuffled, key=natural_key) == sorted(names, key=natural_key)


@given(st.lists(st.text("aAbßſ/.01٣2 \U0001f600\x7f", min_size=1)))
def test_the_order_of_rows_is_what_it_was(paths):
    """By folders, numbers as numbers, then as it is written; another order would be another data set."""

    def number(found):
        digits = found[0].lstrip("0")
        return f"\x02{chr(len(digits) + 1)}{digits}"

    def key(path):
        return re.sub("[0-9]+", number, path.casefold().replace("/", "\x01")), path

    assert sorted(paths, key=natural_key) == sorted(paths, key=key)


def test_every_name_of_a_photograph_is_found_and_all_others_are_counted(tmp_path):
    found = [f"{i}{ending}" for i, ending in enumerate((
        ".JPG", ".jfif", ".jpe", ".jif", ".mpo", ".jp2", ".j2k", ".jpx", ".jpf",
        ".ppm", ".pgm", ".pbm", ".pnm",
        ".heic", ".HIF", ".avif", ".CR2", ".cr3", ".NEF", ".arw", ".dng", ".raf", ".orf", ".rw2",
    ))]  # fmt: skip
    others = ["a.mov", "b.MOV", "c.xmp", "README", "d.tar.gz", "e.\x1b[31m"]
    root = make_folder(tmp_path / "r", *found, *others, ".hidden.jpg", ".git/x.jpg")
    os.mkfifo(root / "pipe.jpg")
    sieve = Sieve()
    assert sorted(list_image_files(root, sieve)) == sorted(found)
    assert sieve.passed_over == {
        ".mov": 2, ".xmp": 1, ".gz": 1, "no ending": 1, "odd endings": 1, "pipes and devices": 1,
    }  # fmt: skip
    assert counted(sieve.passed_over, 2) == ".mov 2, .gz 1, others 4"


@pytest.mark.parametrize("name", EXCLUDED)
def test_previews_and_waste_are_left_out_in_any_case_and_said(tmp_path, name):
    root = make_folder(
        tmp_path / "r", "a.jpg", f"s/{name}/t.jpg", f"{name.upper()}/deep/u.jpg", "b/Thumbsup.jpg"
    )
    sieve = Sieve()
    assert sorted(list_image_files(root, sieve)) == ["a.jpg", "b/Thumbsup.jpg"]
    if not name.startswith("."):  # hidden ones are not spoken of
        assert set(sieve.left_out) == {name, name.upper()} and sieve.left_out.total() == 2
        assert sieve.notes()[0].startswith("left out by name: ") and name in sieve.notes()[0]
    back = Sieve([f"!{name}"])
    assert len(list_image_files(root, back)) == 4 and not back.notes()
    assert list_image_files(root / "s" / name) == ["t.jpg"], "a folder that is named is meant"


@pytest.mark.parametrize(
    ("exclude", "kept"),
    [
        (["Drafts"], ["a.jpg", "a_small.jpg", "b/c.jpg"]),
        (["*_small.*"], ["a.jpg", "b/c.jpg", "b/drafts/d.jpg"]),
        (["b/*.jpg"], ["a.jpg", "a_small.jpg"]),
        (["b/drafts/"], ["a.jpg", "a_small.jpg", "b/c.jpg"]),
        (["*", "!a*"], ["a.jpg", "a_small.jpg"]),
    ],
)
def test_patterns_of_ones_own(tmp_path, exclude, kept):
    root = make_folder(tmp_path / "r", "a.jpg", "a_small.jpg", "b/c.jpg", "b/drafts/d.jpg")
    files = list_image_files(root, Sieve(exclude))
    assert sorted(files) == kept
    every = ["a.jpg", "a_small.jpg", "b/c.jpg", "b/drafts/d.jpg"]
    sieve = Sieve(exclude)
    assert [path for path in every if sieve.takes_path(path)] == kept, "the same in a tar"


def test_a_raw_file_beside_its_jpeg_is_one_photograph():
    files = ["1.CR2", "1.jpg", "2.cr3", "2.HIF", "3.nef", "a/3.jpg", "4.dng", "4.tif", "IMG.ARW", "img.jpeg"]
    assert without_raw_twins(files) == (
        ["1.jpg", "2.HIF", "3.nef", "a/3.jpg", "4.dng", "4.tif", "img.jpeg"],
        3,
    )


def test_names_that_differ_in_case_or_unicode_form_are_said():
    composed, decomposed = "caf\u00e9.jpg", "cafe\u0301.jpg"
    files = ["a.jpg", "A.JPG", "s/a.jpg", composed, decomposed, "STRASSE.png", "stra\u00dfe.png", "b.jpg"]
    groups = colliding_names(files)
    assert groups == [["A.JPG", "a.jpg"], ["STRASSE.png", "stra\u00dfe.png"], sorted([composed, decomposed])]
    notes = listing_notes(files, Sieve(), 0)
    assert notes[0].startswith("3 names stand several times, different only in case or in the Unicode form")
    assert listing_notes(["a.jpg", "b.jpg"], Sieve(), 0) == ()


def test_raw_files_without_the_extra_are_said(monkeypatch):
    monkeypatch.setattr("embed.images.files.find_spec", lambda name: None)
    notes = listing_notes(["a.CR2", "b.jpg"], Sieve(), 0)
    assert notes == ("1 raw files need rawpy, else they fail: pip install 'image-aesthetics-store[raw]'",)
