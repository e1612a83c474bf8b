"""AVA's own files: labels in file order, splits by name, and nothing dropped without a word."""

import json
import logging
import os
import time

import numpy as np
import pytest

from embed.images.datasets import DatasetConfig, build_table
from embed.images.errors import DatasetError
from embed.images.kinds.ava import paths_by_id, read_ava_labels, read_id_list, split_from_lists

VOTES = (0, 1, 5, 17, 38, 36, 15, 6, 5, 1)


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def write_labels(path, ids):
    rows = [[i, image_id, *VOTES, 1, 22, 1396] for i, image_id in enumerate(ids, start=1)]
    return write(path, "".join(" ".join(map(str, row)) + "\n" for row in rows))


def test_labels_keep_the_order_of_the_file(tmp_path):
    labels = read_ava_labels(write_labels(tmp_path / "AVA.txt", [953619, 7, 10]))
    assert labels.image_id.tolist() == ["953619", "7", "10"]
    assert labels.votes.tolist() == [list(VOTES)] * 3
    assert labels.columns["tag_1"].tolist() == [1] * 3 and labels.columns["tag_2"].tolist() == [22] * 3
    assert labels.columns["challenge"].tolist() == [1396] * 3


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s.replace(" 1396\n2", "\n2"), r"line 1: expected 15 whole numbers .* got '1 11 "),
        (lambda s: s.replace("2 12", "2 x12"), "line 2"),
        (lambda s: s.replace("2 12 0", "2 12 0.5"), "line 2"),
        (lambda s: s.replace("2 12 0 1 5", "2 12 0 1 -5"), "line 2"),
        (lambda s: "\n\n" + s.replace("3 13", "3 13 13"), "line 5"),
        (lambda s: s.replace("2 12", "2 99999999999999999999"), "line 2"),
        (lambda s: "".join(line + " 1\n" for line in s.splitlines()), "line 1"),
        (lambda s: "\n", "no label rows"),
    ],
)
def test_damaged_labels_name_the_line_that_is_wrong(tmp_path, damage, message):
    text = write_labels(tmp_path / "AVA.txt", [11, 12, 13]).read_text()
    with pytest.raises(DatasetError, match=message):
        read_ava_labels(write(tmp_path / "AVA.txt", damage(text)))


def split_of(tmp_path, name, ids, train, test):
    options = {"train_list": "train.jpgl", "test_list": ["test.jpgl"]}
    write(tmp_path / "train.jpgl", "".join(f"{i}\n" for i in train))
    write(tmp_path / "test.jpgl", "".join(f"{i}\n" for i in test))
    return split_from_lists(np.array(ids), options, lambda p: tmp_path / p, name)


def test_what_the_lists_and_the_labels_do_not_share_is_said(tmp_path):
    split, notes = split_of(tmp_path, "official", ["1", "2", "3"], ["1", "1", "8"], ["2", "9"])
    assert split.tolist() == ["train", "test", ""]
    assert notes == [
        "1 label rows are in neither list: 3",
        "1 ids of train_list have no label row: 8",
        "1 ids are repeated in train_list: 1",
        "1 ids of test_list have no label row: 9",
    ]


def test_the_papers_split_is_known_by_its_size(tmp_path):
    _, notes = split_of(tmp_path, "paper", ["1", "2"], ["1"], ["2"])
    assert notes == [
        "the lists name 1 train and 1 test images; the paper's split has 229,971 and 25,551",
    ]
    assert split_of(tmp_path, "official", ["1", "2"], ["1"], ["2"])[1] == []


def test_notes_are_logged_and_kept_in_the_table(tmp_path, caplog):
    labels = write_labels(tmp_path / "AVA.txt", [1, 2, 3])
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.jpg").write_bytes(b"x")
    lists = {f"{s}_list": str(write(tmp_path / f"{s}.txt", i)) for s, i in (("train", "1"), ("test", "2 9"))}
    options = {"images": str(tmp_path / "images"), "ratings": str(labels), "split": "official", **lists}
    with caplog.at_level(logging.WARNING):
        table = build_table(DatasetConfig("ava", "ava", options, tmp_path))
    assert table.missing_files == ["2", "3"]
    assert "1 ids of test_list have no label row: 9" in table.notes
    assert "1 ids of test_list have no label row: 9" in caplog.text


def test_two_files_for_one_image_are_not_chosen_between(tmp_path):
    with pytest.raises(DatasetError, match=r"image 5 has two files .*: a/5\.jpg and b/5\.JPG"):
        paths_by_id(tmp_path, ["b/5.JPG", "a/5.jpg", "a/7.jpg", "b/7.jpg"], ["5", "6"])
    assert paths_by_id(tmp_path, ["a.b/5.jpg", "7.jpg", "b/7.jpg"], ["5"]) == {"5": "a.b/5.jpg"}


def test_lists_of_idealo_and_of_ava_name_the_same_images(tmp_path):
    ids = ["231893", "746672"]
    entries = [{"image_id": i, "label": list(VOTES)} for i in ids]
    assert read_id_list(write(tmp_path / "a.json", json.dumps(entries))) == ids
    assert read_id_list(write(tmp_path / "a.jpgl", "231893\r\n746672\r\n")) == ids
    with pytest.raises(DatasetError, match=r"a\.json is no list of image ids"):
        read_id_list(write(tmp_path / "a.json", json.dumps({"231893": 1})))
    with pytest.raises(DatasetError, match=r"a\.txt is no list of image ids: .*'train' is no image id"):
        read_id_list(write(tmp_path / "a.txt", "231893 train\n"))


@pytest.mark.shared_data
def test_the_authors_csvs_are_read_as_lists(shared_data):
    train = read_id_list(shared_data / "ava" / "train_subset_fractions.csv")
    test = read_id_list(shared_data / "ava" / "test_votes.csv")
    assert (len(set(train)), len(set(test))) == (22_998, 25_551)
    assert not set(train) & set(test)


@pytest.mark.slow
def test_all_of_ava_is_listed_in_seconds(tmp_path, rng):
    n = 255_530
    ids = rng.permutation(960_000)[:n] + 1
    labels = write_labels(tmp_path / "AVA.txt", ids.tolist())
    (tmp_path / "images").mkdir()
    for i in ids[:-20].tolist():
        os.close(os.open(tmp_path / "images" / f"{i}.jpg", os.O_CREAT))
    options = {"images": str(tmp_path / "images"), "ratings": str(labels)}
    began = time.process_time()  # what a busy machine does besides is not ours
    table = build_table(DatasetConfig("ava", "ava", options, tmp_path))
    assert time.process_time() - began < 20
    assert (len(table), len(table.missing_files), len(table.unlabelled_files)) == (255_510, 20, 0)
    assert 0.098 < (table.split == "test").mean() < 0.102
