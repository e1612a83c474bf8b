"""Finding image files: every one once, loops end, nothing that hangs, an order people expect."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed.image_files import list_image_files, natural_key
from embed.tables import DatasetError


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
