"""Data sets: what is counted, what is refused, and splits that do not move."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.evidence.labels import is_high
from embed.images.datasets import (
    ImageTable,
    add_dataset,
    build_table,
    default_threshold,
    hash_split,
    list_datasets,
    load_config,
)
from embed.images.errors import DatasetError
from embed.images.kinds import KINDS
from embed.images.kinds.ava import read_ava_labels, read_id_list
from embed.images.ratings.tables import read_ratings


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def images(tmp_path):
    return touch(tmp_path / "img", "a.jpg", "b.jpg", "sub/c.JPG", "extra.png")


VOTES = (
    "file,votes_1,votes_2,votes_3,split,kind\na.jpg,1,2,3,train,x\nb.jpg,0,0,4,test,y\nsub/c.JPG,1,0,0,,z\n"
)


def test_a_table_is_named_once_and_read_by_name(tmp_path, images):
    ratings = write(tmp_path / "r.csv", VOTES + "gone.jpg,1,1,1,train,w\n")
    add_dataset(tmp_path / "data", "mine", "table", images=images, ratings=ratings)
    table = build_table(load_config(tmp_path / "data", "mine"))
    assert table.image_id.tolist() == ["a.jpg", "b.jpg", "sub/c.JPG"]
    assert table.votes.tolist() == [[1, 2, 3], [0, 0, 4], [1, 0, 0]]
    assert table.split.tolist() == ["train", "test", ""]
    assert (table.split_name, table.threshold) == ("given", 2.0)
    assert table.missing_files == ["gone.jpg"]
    assert table.unlabelled_files == ["extra.png"]
    assert table.columns["kind"].tolist() == ["x", "y", "z"]
    assert table.absolute(2).name == "c.JPG"
    assert [c.name for c in list_datasets(tmp_path / "data")] == ["demo", "mine"]


def test_ids_that_look_like_numbers_stay_text(tmp_path):
    ratings = read_ratings(
        write(tmp_path / "r.csv", "file,image_id,score\n007.jpg,007,1\n08.jpg,08,2.5\n"), {}
    )
    assert ratings.image_id.tolist() == ["007", "08"]
    assert ratings.scores.tolist() == [1, 2.5]


@pytest.mark.parametrize("text", ["\ufefffile;score\nä ö.jpg;3\n", "file\tscore\nä ö.jpg\t3\n"])
def test_byte_order_mark_semicolons_tabs_and_unicode(tmp_path, text):
    ratings = read_ratings(write(tmp_path / "r.csv", text), {})
    assert ratings.path.tolist() == ["ä ö.jpg"]


def test_parquet_and_named_columns(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"name": ["a.jpg", "b.jpg"], "beauty": [1.5, 2.0]}), tmp_path / "r.parquet")
    options = {"file_column": "name", "score_column": "beauty"}
    assert read_ratings(tmp_path / "r.parquet", options).scores.tolist() == [1.5, 2.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,score\na.jpg,1\n", r"no file column .*its columns are name, score"),
        ("file,beauty\na.jpg,1\n", "neither votes_1..votes_k nor a score"),
        ("file,votes_1,votes_2\na.jpg,1,-2\n", "row 1: votes_2 is -2"),
        ("file,votes_1,votes_2\na.jpg,1,1.5\n", "row 1: votes_2 is 1.5"),
        ("file,votes_1,votes_3\na.jpg,1,1\n", "without gaps"),
        ("file,votes_1,votes_2\na.jpg,1,1\nb.jpg,0,0\n", "row 2: no votes"),
        ("file,score\na.jpg,\n", "row 1: score is nan|not all numbers"),
        ("file,score\na.jpg,x\n", "score is not all numbers"),
        ("file,score\na.jpg,1\na.jpg,2\n", "rows 1 and 2: the same file 'a.jpg'"),
        ("file,score,split\na.jpg,1,val\n", "row 1: split is 'val', expected 'train', 'test'"),
        ("file,score\n../a.jpg,1\n", "row 1: file '../a.jpg' must be a path below"),
        ("file,score\n/a.jpg,1\n", "below the image folder"),
        ("file,file,score\na.jpg,a.jpg,1\n", "two columns of one name"),
        ("", "is empty"),
    ],
)
def test_bad_ratings_say_where_and_what(tmp_path, text, message):
    with pytest.raises(DatasetError, match=message):
        read_ratings(write(tmp_path / "r.csv", text), {})


def test_bad_data_sets_are_refused_before_anything_is_written(tmp_path, images):
    data = tmp_path / "data"
    ratings = write(tmp_path / "r.csv", "file,score\nnone.jpg,1\n")
    for name, kind, options, message in [
        ("../x", "table", {}, "cannot name"),
        ("demo", "table", {}, "demo is built in"),
        ("x", "tabel", {}, "kind 'tabel' is unknown"),
        ("x", "table", {"images": images}, "needs 'ratings'"),
        ("x", "folder", {"images": images, "colour": 1}, "unknown settings"),
        ("x", "folder", {"images": tmp_path / "nowhere"}, "is no folder"),
        ("x", "table", {"images": images, "ratings": ratings}, "none of the 1 rated images"),
    ]:
        with pytest.raises(DatasetError, match=message):
            add_dataset(data, name, kind, **options)
    assert not list(data.glob("*"))
    with pytest.raises(DatasetError, match=r"no data set 'nope'.*there are: demo"):
        load_config(data, "nope")


def test_a_name_is_not_reused_by_accident(tmp_path, images):
    data = tmp_path / "data"
    add_dataset(data, "mine", "folder", images=images)
    add_dataset(data, "mine", "folder", images=images)
    other = touch(tmp_path / "other", "z.jpg")
    with pytest.raises(DatasetError, match="names another data set"):
        add_dataset(data, "mine", "folder", images=other)
    assert len(build_table(add_dataset(data, "mine", "folder", True, images=other))) == 1


def test_a_folder_is_sorted_naturally_without_hidden_files_or_loops(tmp_path):
    root = touch(tmp_path / "f", "img10.jpg", "img2.jpg", ".hidden.jpg", ".git/x.jpg", "s/a.webp", "note.txt")
    os.symlink(root, root / "s" / "loop")
    (root / "dir.jpg").mkdir()
    data = tmp_path / "data"
    table = build_table(add_dataset(data, "f", "folder", images=root))
    assert table.path.tolist() == ["img2.jpg", "img10.jpg", "s/a.webp"]
    assert load_config(data, "f").exif_rotate
    with pytest.raises(DatasetError, match="holds no images"):
        add_dataset(data, "e", "folder", images=root / "dir.jpg")


def ava_line(index, image, votes=(0, 1, 5, 17, 38, 36, 15, 6, 5, 1)):
    return " ".join(map(str, [index, image, *votes, 1, 22, 1396]))


@pytest.fixture
def ava(tmp_path):
    labels = write(tmp_path / "AVA.txt", "\n".join(ava_line(i, 100 + i) for i in range(1, 7)) + "\n")
    files = touch(tmp_path / "ava", *[f"part{i % 2}/{100 + i}.jpg" for i in range(2, 7)], "999.jpg")
    return labels, files


def test_ava_counts_what_is_missing_on_either_side(tmp_path, ava):
    labels, files = ava
    train = write(
        tmp_path / "train.json", json.dumps([{"image_id": str(i), "label": []} for i in (102, 103, 105)])
    )
    test = write(tmp_path / "test.json", json.dumps([{"image_id": "104", "label": []}]))
    data = tmp_path / "data"
    config = add_dataset(
        data, "ava", "ava", images=files, ratings=labels, split="paper", train_list=train, test_list=test
    )
    table = build_table(config)
    assert table.image_id.tolist() == ["102", "103", "104", "105", "106"]
    assert table.path[0] == "part0/102.jpg"
    assert table.missing_files == ["101"]
    assert table.unlabelled_files == ["999.jpg"]
    assert table.split.tolist() == ["train", "train", "test", "train", ""]
    assert (table.split_name, table.threshold) == ("paper", 5.0)
    assert table.columns["challenge"].tolist() == [1396] * 5
    assert not config.exif_rotate


def test_ava_splits_by_list_of_any_form(tmp_path):
    assert read_id_list(write(tmp_path / "a.jpgl", "954113.jpg\n12\n")) == ["954113", "12"]
    assert read_id_list(write(tmp_path / "a.csv", "image_id,mean\n7,5.1\n8.jpg,4\n")) == ["7", "8"]
    with pytest.raises(DatasetError, match="no image_id column"):
        read_id_list(write(tmp_path / "b.csv", "x,y\n1,2\n"))


def test_an_image_on_both_sides_is_an_error(tmp_path, ava):
    labels, files = ava
    both = write(tmp_path / "l.txt", "102\n")
    with pytest.raises(DatasetError, match="both train and test, the first 102"):
        add_dataset(
            tmp_path, "a", "ava", images=files, ratings=labels, split="paper", train_list=both, test_list=both
        )
    with pytest.raises(DatasetError, match="needs train_list and test_list"):
        add_dataset(tmp_path, "a", "ava", images=files, ratings=labels, split="official")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ava_line(1, 5) + "\n1 2 3\n", "line 2: expected 15 whole numbers"),
        (ava_line(1, 5) + "\n" + ava_line(2, 5), "image 5 stands 2 times"),
        (ava_line(1, 5, [0] * 10), "image 5 has no votes"),
        (ava_line(1, 5).replace("17", "-17"), "line 1"),
        ("", "no label rows"),
    ],
)
def test_malformed_ava_labels_name_the_line(tmp_path, text, message):
    with pytest.raises(DatasetError, match=message):
        read_ava_labels(write(tmp_path / "AVA.txt", text))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(min_size=1), min_size=1, max_size=40, unique=True))
def test_the_random_split_does_not_move_when_images_are_added(ids):
    whole = hash_split(np.array(ids, dtype=object))
    half = hash_split(np.array(ids[: len(ids) // 2 + 1], dtype=object))
    assert whole[: len(half)].tolist() == half.tolist()


def test_the_random_split_has_the_share_asked_for():
    split = hash_split(np.array([str(i) for i in range(20_000)]))
    assert 0.09 < (split == "test").mean() < 0.11


def test_the_digest_moves_with_ids_and_paths_and_not_with_votes(tmp_path, images):
    data = tmp_path / "data"
    first = add_dataset(data, "a", "table", images=images, ratings=write(tmp_path / "r.csv", VOTES))
    other = add_dataset(
        data, "b", "table", images=images, ratings=write(tmp_path / "s.csv", VOTES.replace("1,2,3", "9,9,9"))
    )
    fewer = add_dataset(
        data, "c", "table", images=images, ratings=write(tmp_path / "t.csv", VOTES.rsplit("sub", 1)[0])
    )
    digests = [build_table(c).digest for c in (first, other, fewer)]
    assert digests[0] == digests[1] != digests[2]


def test_thresholds_are_the_middle_vote():
    assert [default_threshold(k) for k in (10, 7, 5)] == [5.0, 4.0, 3.0]


@pytest.mark.shared_data
def test_the_labels_of_the_papers_test_split_are_exact(shared_data):
    rows = np.loadtxt(shared_data / "ava" / "test_votes.csv", delimiter=",", skiprows=1, dtype=np.int64)
    votes = rows[:, 1:]
    high = is_high(votes, 5.0)
    assert (len(high), int(high.sum())) == (25_551, 17_952)
    assert round(100 * high.mean(), 2) == 70.26
    assert int(((votes @ np.arange(1, 11)) == 5 * votes.sum(axis=1)).sum()) == 62


@pytest.mark.shared_data
def test_oasis_is_read_as_it_is(shared_data, tmp_path):
    oasis = shared_data / "oasis"
    config = add_dataset(tmp_path, "oasis", "table", images=oasis / "images", ratings=oasis / "ratings.csv")
    table = build_table(config)
    assert (len(table), (table.split == "train").sum(), (table.split == "test").sum()) == (484, 363, 121)
    assert table.threshold == 4.0 and table.votes.shape == (484, 7)
    assert not table.missing_files and not table.unlabelled_files


@pytest.mark.parametrize(
    ("kind", "settings_text", "message"),
    [
        ("folder", 'exif_rotate = "false"', "exif_rotate is 'false', expected true or false"),
        ("folder", "images = 3", "images is 3, expected a name in quotes"),
        ("table", "test_share = 10", "test_share is 10, expected a share between 0 and 1"),
        ("table", 'threshold = "5"', "threshold is '5', expected a number"),
        ("table", 'split = "paper"', "split is 'paper', expected one of given, random, none"),
        ("table", 'split = "given"\ntest_share = 0.2', "test_share is for split"),
        ("ava", 'train_list = "x"', "train_list is given, but split is random"),
        ("ava", 'split = "paper"\ntrain_list = []', r"train_list is \[\], expected file names"),
        ("table", "threshold =", "is not valid TOML"),
    ],
)
def test_a_hand_edited_file_is_checked(tmp_path, kind, settings_text, message):
    (tmp_path / "mine").mkdir()
    known = "" if "images" in settings_text else 'images = "photos"\n'
    ratings = "" if kind == "folder" else 'ratings = "r.csv"\n'
    write(tmp_path / "mine" / "dataset.toml", f'kind = "{kind}"\n{known}{ratings}{settings_text}\n')
    with pytest.raises(DatasetError, match=message) as caught:
        load_config(tmp_path, "mine")
    assert "dataset.toml" in str(caught.value)


def test_the_written_file_explains_every_setting_and_reads_back(tmp_path):
    images = touch(tmp_path / 'a "quoted" \\ ä folder', "a.jpg")
    added = add_dataset(tmp_path, "mine", "folder", images=images, exif_rotate=False)
    text = (tmp_path / "mine" / "dataset.toml").read_text(encoding="utf-8")
    assert load_config(tmp_path, "mine") == added
    assert not added.exif_rotate
    assert [line for line in text.splitlines() if line.startswith("# folder of the photographs")]
    assert not list((tmp_path / "mine").glob("*.partial"))


def test_relative_paths_start_from_the_file(tmp_path):
    touch(tmp_path / "mine" / "photos", "a.jpg")
    write(tmp_path / "mine" / "dataset.toml", 'kind = "folder"\nimages = "photos"\n')
    table = build_table(load_config(tmp_path, "mine"))
    assert table.absolute(0) == tmp_path / "mine" / "photos" / "a.jpg"


def test_a_table_refuses_rows_that_do_not_belong_together(tmp_path):
    ids = np.array(["a", "b"])
    with pytest.raises(DatasetError, match=r"2 image ids, but other lengths: \{'votes': 1\}"):
        ImageTable("t", tmp_path, ids, ids, votes=np.ones((1, 10), dtype=np.int64))
    with pytest.raises(DatasetError, match="two images have the id 'a'"):
        ImageTable("t", tmp_path, np.array(["a", "a"]), ids)
    assert ImageTable("t", tmp_path, ids, ids).split.tolist() == ["", ""]


_NAMES = st.lists(st.text(min_size=1, max_size=4), min_size=2, max_size=5, unique=True)


@settings(max_examples=50, deadline=None)
@given(_NAMES, _NAMES)
def test_digests_are_equal_only_for_equal_rows(ids, others):
    def digest(names, paths):
        return ImageTable("t", Path("."), np.array(names, object), np.array(paths, object)).digest

    same = digest(ids, ids)
    assert digest(list(ids), list(ids)) == same
    assert digest(ids[::-1], ids[::-1]) != same
    assert digest(ids, ids[1:] + ids[:1]) != same
    assert (digest(others, others) == same) == (others == ids)


def test_the_command_line_reads_data_sets_without_torch():
    code = "import sys, embed.images.datasets; sys.exit('torch' in sys.modules or 'PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_paths_given_to_add_start_from_the_working_directory(tmp_path, ava, monkeypatch):
    write(tmp_path / "train.txt", "102\n")
    write(tmp_path / "test.txt", "103\n")
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    more = {"train_list": ["../train.txt"], "test_list": "../test.txt"}
    config = add_dataset(
        Path("data"),
        "ava",
        "ava",
        images=Path("../ava"),
        ratings="../AVA.txt",
        split="official",
        **more,
    )
    monkeypatch.chdir(tmp_path)
    table = build_table(load_config(tmp_path / "sub" / "data", "ava"))
    assert table.split.tolist() == ["train", "test", "", "", ""]
    assert config.options["train_list"] == [str((tmp_path / "train.txt").resolve())]


def test_every_example_of_the_documentation_is_accepted(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")
    examples = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    kinds = []
    for number, example in enumerate(examples):
        (tmp_path / f"d{number}").mkdir()
        write(tmp_path / f"d{number}" / "dataset.toml", example)
        kinds.append(load_config(tmp_path, f"d{number}").kind)
    assert kinds == ["table", "folder", "ava"]
    for kind, known in KINDS.items():
        assert all(f"{key} =" in text for key in known.options), kind
