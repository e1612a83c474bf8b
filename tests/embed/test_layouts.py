"""Ratings in the layouts that people have: the unmistakable is understood, the rest asks for an option."""

from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.evidence.labels import is_high
from embed.images.datasets import DatasetConfig, add_dataset, build_table, load_config
from embed.images.errors import DatasetError
from embed.images.kinds.ava import read_ava_labels, read_id_list
from embed.images.ratings.tables import read_ratings


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(tmp_path, text, **options):
    return read_ratings(write(tmp_path / "r.csv", text), {"ids": "path", **options})


def build(tmp_path, names, text, **options):
    for name in names:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(b"x")
    more = {
        "images": str(tmp_path / "images"),
        "ratings": str(write(tmp_path / "r.csv", text)),
        "ids": "path",
    }
    return build_table(DatasetConfig("t", "table", {**more, **options}, tmp_path))


KAGGLE = (
    "image_num," + ",".join(f"vote_{i}" for i in range(1, 11)) + "\n"
    "953619,0,1,5,17,38,36,15,6,5,1\n953958,10,7,15,26,26,21,10,8,1,2\n"
)


def test_ava_as_on_kaggle_by_either_kind(tmp_path):
    table = build(tmp_path, ["953619.jpg", "sub/953958.JPG"], KAGGLE)
    assert table.image_id.tolist() == ["953619", "953958"]
    assert table.path.tolist() == ["953619.jpg", "sub/953958.JPG"]
    assert table.votes.tolist()[0] == [0, 1, 5, 17, 38, 36, 15, 6, 5, 1] and table.threshold == 5.0
    options = {"images": str(tmp_path / "images"), "ratings": str(tmp_path / "r.csv"), "split": "paper"}
    write(tmp_path / "train.txt", "953619 1\n")
    write(tmp_path / "test.txt", "953958 0\n")
    options |= {"train_list": str(tmp_path / "train.txt"), "test_list": str(tmp_path / "test.txt")}
    table = build_table(DatasetConfig("a", "ava", options, tmp_path))
    assert table.image_id.tolist() == ["953619", "953958"] and table.split.tolist() == ["train", "test"]
    with pytest.raises(DatasetError, match="no ten columns of vote counts"):
        read_ava_labels(write(tmp_path / "x.csv", "image_id,votes_1,votes_2\n1,2,3\n"))
    with pytest.raises(DatasetError, match="'x.jpg' is no image id; AVA's are numbers"):
        read_ava_labels(write(tmp_path / "x.csv", KAGGLE.replace("953619", "x.jpg")))


def test_koniq_counts_its_votes(tmp_path):
    text = "image_name,c1,c2,c3,c4,c5,c_total,MOS\n1.jpg,0,0,25,73,7,105,3.8\n2.jpg,5,0,0,0,0,5,1.0\n"
    ratings = read(tmp_path, text)
    assert ratings.votes.tolist() == [[0, 0, 25, 73, 7], [5, 0, 0, 0, 0]]
    assert ratings.columns["MOS"].tolist() == [3.8, 1.0]
    assert any("c1 to c5 are read as counts" in note for note in ratings.notes)
    by_mos = read(tmp_path, text, score_column="mos")
    assert by_mos.scores.tolist() == [3.8, 1.0] and "votes_prefix=c" in by_mos.notes[0]
    # Numbered columns that are no counts are no votes.
    features = read(tmp_path, "file,c1,c2,MOS\na.jpg,0.5,1,3\n")
    assert features.scores.tolist() == [3] and not features.notes


def test_eva_has_one_row_per_vote(tmp_path):
    text = "image_id=user_id=score=difficulty\n0001=7=5=2\n0001=8=6=1\n0002=7=3=2\n0002=9=4=3\n0001=9=6=1\n"
    ratings = read(tmp_path, text)
    assert ratings.image_id.tolist() == ["0001", "0002"]
    assert ratings.votes.tolist() == [[0, 0, 0, 0, 1, 2], [0, 0, 1, 1, 0, 0]]
    assert any("-o n_levels=K" in note for note in ratings.notes)
    assert any("differ between the rows of an image: difficulty" in note for note in ratings.notes)
    assert read(tmp_path, text, n_levels=10).votes.shape == (2, 10)
    with pytest.raises(DatasetError, match="row 1: a vote is 5, expected a whole number from 1 to 4"):
        read(tmp_path, text, n_levels=4)
    half = read(tmp_path, text.replace("=3=2", "=3.5=2"))
    assert half.votes is None and half.scores.tolist() == [17 / 3, 3.75]


def test_an_image_rated_twice_asks_what_a_row_is(tmp_path):
    text = "file,score,group\na.jpg,1,x\nb.jpg,3,y\na.jpg,2,x\n"
    with pytest.raises(DatasetError, match=r"rows 1 and 3: the same file 'a\.jpg'.*-o rows=votes"):
        read(tmp_path, text)
    ratings = read(tmp_path, text, rows="votes")
    assert ratings.votes.tolist() == [[1, 1, 0], [0, 0, 1]] and ratings.columns["group"].tolist() == [
        "x",
        "y",
    ]
    with pytest.raises(DatasetError, match=r"rows 1 and 3: the same file"):
        read(tmp_path, text.replace("group", "rater"), rows="images")
    assert read(tmp_path, "file,score\na.jpg,2\nb.jpg,1\n", rows="votes").votes.tolist() == [[0, 1], [1, 0]]
    split = "file,score,rater,split\na.jpg,1,x,train\na.jpg,2,y,test\n"
    with pytest.raises(
        DatasetError, match=r"rows 1 and 2: rows of one image, but its split is 'train' and 'test'"
    ):
        read(tmp_path, split)


def test_raters_side_by_side_are_all_used(tmp_path):
    header = "file," + ",".join(f"Rater_{i}" for i in range(1, 13))
    text = (
        header + "\na.jpg," + ",".join(["1", "2", "3"] * 4) + "\nb.jpg," + ",".join(["3"] * 11 + [""]) + "\n"
    )
    assert read(tmp_path, text).votes.tolist() == [[4, 4, 4], [0, 0, 11]]
    named = "file,Anna,Ben,Cleo,iso\na.jpg,1,2,3,100\nb.jpg,2,NA,5,200\n"
    with pytest.raises(
        DatasetError, match=r"its first row is 'a\.jpg', '1'.*rater_columns=Anna,Ben,Cleo,iso"
    ):
        read(tmp_path, named)
    for columns in ("Anna,ben,Cleo", ["Anna", "Ben", "Cleo"]):
        assert read(tmp_path, named, rater_columns=columns).votes.tolist() == [
            [1, 1, 1, 0, 0],
            [0, 1, 0, 0, 1],
        ]
    starred = "file,r_x,r_y,other\na.jpg,1,2,3\n"
    assert read(tmp_path, starred, rater_columns="r_*").votes.tolist() == [[1, 1]]
    for columns, message in [
        ("Anna", "two people or more"),
        ("Zoe,Anna", "no column 'Zoe'"),
        ("z*", "no column 'z"),
    ]:
        with pytest.raises(DatasetError, match=message):
            read(tmp_path, named, rater_columns=columns)
    with pytest.raises(DatasetError, match="row 2: no votes at all"):
        read(tmp_path, "file,rater_1,rater_2\na.jpg,1,2\nb.jpg,,\n")


def test_columns_that_look_like_ratings_are_not_dropped_in_silence(tmp_path):
    text = "file,Anna,Ben,Cleo,iso\na.jpg,1,2,3,400\nb.jpg,2,4,5,200\n"
    (note,) = read(tmp_path, text, score_column="Anna").notes
    assert "only Anna is used" in note and "-o rater_columns=Anna,Ben,Cleo" in note and "iso" not in note
    twelve = (
        "file,"
        + ",".join(f"rater_{i}" for i in range(1, 13))
        + "\na.jpg"
        + ",3" * 12
        + "\nb.jpg"
        + ",4" * 12
        + "\n"
    )
    (note,) = read(tmp_path, twelve, score_column="rater_3").notes
    assert "11 more columns look like ratings" in note
    table = build(tmp_path, ["a.jpg", "b.jpg"], twelve, score_column="rater_3")
    assert any("11 more columns" in note for note in table.notes)


def test_shares_of_votes_become_their_mean(tmp_path):
    ratings = read(tmp_path, "image_id,p_1,p_2,p_3\n52662.0,0,0.5,0.5\n7.0,0.25,0.75,0\n")
    assert ratings.image_id.tolist() == ["52662", "7"]
    assert ratings.scores.tolist() == [2.5, 1.75] and ratings.n_levels == 3
    table = build(tmp_path, ["52662.jpg"], "image_id,p_1,p_2,p_3\n52662.0,0,0.5,0.5\n7.0,0.25,0.75,0\n")
    assert table.threshold == 2.0 and table.missing_files == ["7"]


@pytest.mark.shared_data
def test_the_authors_fractions_give_the_mean_votes(shared_data):
    ratings = read_ratings(shared_data / "ava" / "train_subset_fractions.csv", {"ids": "path"})
    assert len(ratings.scores) == 22_998 and 1 < ratings.scores.min() < ratings.scores.max() < 10
    by_hand = np.loadtxt(shared_data / "ava" / "train_subset_fractions.csv", delimiter=",", skiprows=1)[:, 1:]
    np.testing.assert_allclose(ratings.scores, by_hand @ np.arange(1, 11), atol=0.02)


@pytest.mark.shared_data
def test_votes_by_rater_are_counted(shared_data):
    ratings = read_ratings(shared_data / "vessel" / "ratings_by_rater.csv", {"ids": "path"})
    assert ratings.votes.shape == (226, 7) and int(ratings.votes.sum()) == 12_174
    assert is_high(ratings.votes, 4.0).any()


def test_train_and_test_in_two_files(tmp_path):
    test = write(tmp_path / "test.csv", "score,file\n3,c.jpg\n")
    ratings = read_ratings(write(tmp_path / "train.csv", "file,score\na.jpg,1\nb.jpg,2\n"), {}, test)
    assert ratings.path.tolist() == ["a.jpg", "b.jpg", "c.jpg"] and ratings.scores.tolist() == [1, 2, 3]
    assert ratings.split.tolist() == ["train", "train", "test"]
    write(test, "score,file\n3,b.jpg\n")
    with pytest.raises(DatasetError, match=r"train\.csv row 2 and .*test\.csv row 1: the same file 'b\.jpg'"):
        read_ratings(tmp_path / "train.csv", {}, test)
    write(test, "score,file\nx,c.jpg\n")
    with pytest.raises(DatasetError, match=r"test\.csv row 1 has 'x'"):
        read_ratings(tmp_path / "train.csv", {}, test)
    write(test, "score,name\n3,c.jpg\n")
    with pytest.raises(DatasetError, match=r"must have the same columns; only one has \['file', 'name'\]"):
        read_ratings(tmp_path / "train.csv", {}, test)
    write(test, "score,file\n3,c.jpg\n")
    with pytest.raises(DatasetError, match="leave out split and split_column"):
        add_dataset(
            tmp_path, "x", "table", images=tmp_path, ratings=tmp_path / "train.csv", test_ratings=test,
            split="random",
        )  # fmt: skip


def test_column_names_and_split_words_in_any_case(tmp_path):
    ratings = read(tmp_path, "Image Name,MOS,Set\na.jpg,1,Train\nb.jpg,2,TEST\nc.jpg,2,\n")
    assert ratings.path.tolist() == ["a.jpg", "b.jpg", "c.jpg"]
    assert ratings.scores.tolist() == [1, 2, 2] and ratings.split.tolist() == ["train", "test", ""]
    assert read(tmp_path, "Filename,Score\na.jpg,1\n").scores.tolist() == [1]
    assert read(tmp_path, "file,score,set\na.jpg,1,spring\n").split is None
    with pytest.raises(DatasetError, match="'MOS' and 'Mos' may both be the score column"):
        read(tmp_path, "file,MOS,Mos\na.jpg,1,2\n")
    val = "Filename,score,split\na.jpg,1,train\nb.jpg,2,Val\nc.jpg,3,valid\n"
    with pytest.raises(DatasetError, match="row 2: split is 'Val', .*-o validation=train"):
        read(tmp_path, val)
    for side, word in (("train", "train"), ("test", "test"), ("none", "")):
        assert read(tmp_path, val, validation=side).split.tolist() == ["train", word, word]


def test_tables_of_raters_with_spaces_after_commas(tmp_path):
    text = "worker, imagePair, score\nA1, x_1.jpg, 3\nA1, x_2.jpg, 2\nA2, x_1.jpg, 5\n"
    assert read(tmp_path, text).votes.tolist() == [[0, 0, 1, 0, 1], [0, 1, 0, 0, 0]]
    para = "sessionId,imageName,userId,aestheticScore\ns1,i.jpg,u1,3.5\ns1,i.jpg,u2,4.0\n"
    ratings = read(tmp_path, para)
    assert ratings.scores.tolist() == [3.75] and ratings.columns["sessionId"].tolist() == ["s1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "file;score\na.jpg;4,5\nb.jpg;3,5\n",
            "row 1 has '4,5', expected a number such as 4.5, with a point",
        ),
        ("a.jpg,4.5\nb.jpg,3.5\n", "Its first line looks like a row"),
        ("name score\na.jpg 1\n", "separated by spaces: put commas"),
        (
            "file,beauty\na.jpg,x\n",
            r"its columns are file, beauty; its first row is 'a\.jpg', 'x'.*score_column",
        ),
        ('file,score\n"a\nb.jpg",1\n', "row 1: file 'a\\\\nb.jpg' must be a path"),
        ("file,score\na.jpg,1_000\n", "row 1 has '1_000'"),
    ],
)
def test_what_is_not_understood_says_what_was_seen_and_what_mends_it(tmp_path, text, message):
    with pytest.raises(DatasetError, match=message):
        read(tmp_path, text)


def test_two_settings_for_one_thing(tmp_path):
    with pytest.raises(DatasetError, match="score_column and votes_prefix both say"):
        read(tmp_path, "file,c1,c2,s\na.jpg,1,2,3\n", score_column="s", votes_prefix="c")
    with pytest.raises(DatasetError, match="no column 'nope' .score_column."):
        read(tmp_path, "file,s\na.jpg,1\n", score_column="nope")


def test_ids_are_the_same_in_a_folder_and_in_a_table(tmp_path):
    table = build(tmp_path, ["Chip.jpg", "s/B.JPEG"], "file,score\nchip.JPG,1\ns/B,2\n", split="none")
    folder = build_table(DatasetConfig("f", "folder", {"images": str(tmp_path / "images")}, tmp_path))
    assert sorted(table.image_id.tolist()) == sorted(folder.image_id.tolist()) == ["Chip.jpg", "s/B.JPEG"]
    assert any("'chip.JPG' is 'Chip.jpg'" in note for note in table.notes)
    assert any("without ending" in note for note in table.notes)


def test_names_that_could_mean_two_files_are_not_guessed(tmp_path):
    table = build(tmp_path, ["a.jpg", "a.png", "b.jpg"], "file,score\na,1\nb,2\n")
    assert table.path.tolist() == ["b.jpg"] and table.missing_files == ["a"]
    assert any("could mean several files" in note for note in table.notes)


def test_a_file_the_table_names_exactly_is_that_file(tmp_path):
    (tmp_path / "images/.thumbs").mkdir(parents=True)
    write(tmp_path / "images/.thumbs/a.jpg", "x")
    table = build(tmp_path, ["a.jpg"], "file,score\n.thumbs/a.jpg,1\n")
    assert table.path.tolist() == [".thumbs/a.jpg"]


def test_names_that_match_nothing_are_shown_beside_the_nearest(tmp_path):
    names = [f"IMG_{i:04d}.jpg" for i in range(50)]
    with pytest.raises(DatasetError, match=r"Rated: 'IMG-0031\.jpg', \.\.\. Files: 'IMG_0031\.jpg'"):
        build(tmp_path, names, "file,score\nIMG-0031.jpg,1\n")


def test_the_rule_for_ids_is_written_down_and_that_of_before_stays(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    write(images / "a.jpg", "x")
    ratings = write(tmp_path / "r.csv", "file,Image_ID,score,Split\na.jpg,7,1,test\n")
    new = add_dataset(tmp_path, "new", "table", images=images, ratings=ratings)
    assert new.options["ids"] == "path" and load_config(tmp_path, "new") == new
    assert build_table(new).image_id.tolist() == ["7"]
    # A dataset.toml of before does not say; its ids and its split stay, also when it is written again.
    (tmp_path / "old").mkdir()
    write(tmp_path / "old/dataset.toml", f'kind = "table"\nimages = "{images}"\nratings = "{ratings}"\n')
    before = build_table(load_config(tmp_path, "old"))
    assert before.image_id.tolist() == ["a"] and before.split_name == "random"
    for overwrite in (False, True):
        again = add_dataset(tmp_path, "old", "table", overwrite, images=images, ratings=ratings)
        assert build_table(again).digest == before.digest
    other = add_dataset(tmp_path, "old", "table", True, images=images, ratings=ratings, ids="path")
    assert build_table(other).image_id.tolist() == ["7"]
    write(tmp_path / "r2.csv", "file,score\na.jpg,1\n")
    stem = add_dataset(tmp_path, "stem", "table", images=images, ratings=tmp_path / "r2.csv", ids="stem")
    assert build_table(stem).image_id.tolist() == ["a"]


def test_a_settings_file_with_a_byte_order_mark(tmp_path):
    (tmp_path / "d/photos").mkdir(parents=True)
    write(tmp_path / "d/photos/a.jpg", "x")
    write(tmp_path / "d/dataset.toml", '\ufeffkind = "folder"\r\nimages = "photos"\r\n')
    assert len(build_table(load_config(tmp_path, "d"))) == 1


@pytest.mark.parametrize(
    ("name", "text", "ids"),
    [
        ("a.txt", "953619 1\n953958 0\n", ["953619", "953958"]),
        ("a.txt", "953619,6.3\r\n953958,4.1\r\n", ["953619", "953958"]),
        ("a.txt", "\ufeff953619.jpg\r\n953958.JPG\r\n", ["953619", "953958"]),
        ("a.txt", "953619 953958\n", ["953619", "953958"]),
        ("a.csv", "953619\n953958\n", ["953619", "953958"]),
        ("a.csv", "Image_ID;label\n953619.0;1\n953958.0;0\n", ["953619", "953958"]),
        ("a.csv", "\ufeffimage_num,x\n953619,1\n", ["953619"]),
        ("a.json", '\ufeff[{"image_id": 953619.0}, {"image_id": "953958"}]', ["953619", "953958"]),
        ("a.jpgl", "[953619, 953958]", ["953619", "953958"]),
    ],
)
def test_lists_of_a_split_in_their_forms(tmp_path, name, text, ids):
    assert read_id_list(write(tmp_path / name, text)) == ids


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "953619 1\n953958\n", r"line 2: '953958', where other lines are an id and its label"),
        ("a.txt", "953619 1\n\n953958 12\n", r"line 3: '953958 12', where other"),
        ("a.json", "[true]", "True is no image id"),
        ("a.json", "[" * 100_000, "is no list of image ids"),
        ("a.csv", "x,y\n1,2\n", "no image_id column; it has x, y"),
        ("a.csv", 'image_id,t\n1,"a\n2,b\n3,"c\n', "line 2 .*quote"),
        ("a.txt", b"PK\x03\x04", "is a workbook"),
        ("a.txt", b"95\0", "NUL"),
    ],
)
def test_lists_that_could_be_misread_are_refused(tmp_path, name, text, message):
    with pytest.raises(DatasetError, match=message):
        read_id_list(write(tmp_path / name, text))


def test_parquet_names_that_are_no_text(tmp_path):
    pq.write_table(pa.table({"file": [b"a.jpg"], "score": [1.0]}), tmp_path / "r.parquet")
    assert read_ratings(tmp_path / "r.parquet", {}).path.tolist() == ["a.jpg"]
    pq.write_table(pa.table({"file": [b"\xff.jpg"], "score": [1.0]}), tmp_path / "r.parquet")
    with pytest.raises(DatasetError, match=r"r\.parquet: column file is not UTF-8 text"):
        read_ratings(tmp_path / "r.parquet", {})


_PIECES = [
    b'"',
    b",",
    b";",
    b"\n",
    b"\r",
    b"\0",
    b"=",
    b"\xff",
    b"1e400",
    b"nan",
    b"-1",
    b"..",
    b"[",
    b"sep=;\n",
    b"\xef\xbb\xbf",
]
_SEEDS = [
    b"file,rater,score,split\na.jpg,x,1,train\na.jpg,y,2,train\nb.jpg,x,3,test\n",
    b"image_id,p_1,p_2\n1.0,0.5,0.5\n2.0,1,0\n",
    b'file,t,votes_1,votes_2\na,"x\ny",1,0\nb,"z",2,5\n',
    b'[{"image_id": 1}, {"image_id": "2"}]',
    "\ufefffile\trater_1\trater_2\na\t1\t2\n".encode("utf-16-le"),
]


@settings(max_examples=150, deadline=None)
@given(
    seed=st.sampled_from(_SEEDS),
    edits=st.lists(st.tuples(st.integers(0, 90), st.sampled_from(_PIECES), st.integers(0, 3)), max_size=5),
    name=st.sampled_from(["x.csv", "x.txt", "x.json", "x.parquet"]),
)
def test_damaged_files_are_errors_of_ours(tmp_path_factory, seed, edits, name):
    data = bytearray(seed)
    for at, piece, n_removed in edits:
        data[at : at + n_removed] = piece
    path = write(tmp_path_factory.mktemp("d") / name, bytes(data))
    for read_it in (
        lambda: read_ratings(path, {"ids": "path"}),
        lambda: read_id_list(path),
        lambda: read_ava_labels(path),
    ):
        with suppress(DatasetError):
            read_it()
