"""Ratings files as people really have them: what is kept, what is matched, what is refused."""

import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.evidence.labels import is_high
from embed.images.datasets import DatasetConfig, build_table
from embed.images.errors import DatasetError
from embed.images.ratings.tables import match_files, read_ratings


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def make_folder(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def build(tmp_path, names, text, **options):
    images = make_folder(tmp_path / "images", names)
    options = {"images": str(images), "ratings": str(write(tmp_path / "r.csv", text)), **options}
    return build_table(DatasetConfig("t", "table", options, tmp_path))


def test_all_other_columns_are_kept_as_what_they_are(tmp_path):
    text = (
        "file,score,code,year,depth,who,w/h,,long\n"
        "a.jpg,1,007,1999,1.5,ann,3:2,p,12345678901234567890\n"
        "b.jpg,2,008,2001,,,1:1,q,12345678901234567891\n"
    )
    columns = read_ratings(write(tmp_path / "r.csv", text), {}).columns
    assert columns["code"].tolist() == ["007", "008"]
    assert columns["year"].tolist() == [1999, 2001] and columns["year"].dtype == np.int64
    assert columns["depth"][0] == 1.5 and np.isnan(columns["depth"][1])
    assert columns["who"].tolist() == ["ann", ""]
    assert columns["w_h"].tolist() == ["3:2", "1:1"]
    assert columns["column_8"].tolist() == ["p", "q"]
    assert columns["long"][0] != columns["long"][1]


def test_kept_columns_survive_the_store(tmp_path):
    from iaa.library.embedding import targets_of
    from store import open_targets, write_targets

    text = "file,votes_1,votes_2,who,w/h,depth\na.jpg,1,2,ä,3:2,1\nb.jpg,2,1,,1:1,\n"
    table = build(tmp_path, ["a.jpg", "b.jpg"], text)
    write_targets(tmp_path / "t.h5", targets_of(table), {"images": table.digest}, {})
    columns = open_targets(tmp_path / "t.h5").columns
    assert columns["who"].tolist() == ["ä", ""] and columns["w_h"].tolist() == ["3:2", "1:1"]
    assert np.isnan(columns["depth"][1])


def test_an_id_column_of_any_name_keeps_leading_zeros(tmp_path):
    ratings = read_ratings(write(tmp_path / "r.csv", "file,nr,score\na.jpg,007,1\n"), {"id_column": "nr"})
    assert ratings.image_id.tolist() == ["007"]
    with pytest.raises(DatasetError, match="row 2: nr is '', expected an id"):
        read_ratings(write(tmp_path / "r.csv", "file,nr,score\na.jpg,1,1\nb.jpg,,1\n"), {"id_column": "nr"})
    with pytest.raises(DatasetError, match="rows 1 and 2: the same id '1'"):
        read_ratings(write(tmp_path / "r.csv", "file,nr,score\na.jpg,1,1\nb.jpg,1,1\n"), {"id_column": "nr"})


def test_the_ending_stays_in_the_id_only_where_it_is_needed(tmp_path):
    ratings = read_ratings(write(tmp_path / "r.csv", "file,score\na.jpg,1\na.png,1\ns/b.v2.jpg,1\n"), {})
    assert ratings.image_id.tolist() == ["a.jpg", "a.png", "s/b.v2"]


def test_one_file_has_one_spelling(tmp_path):
    with pytest.raises(DatasetError, match=r"rows 1 and 2: the same file 'a\.jpg'"):
        read_ratings(write(tmp_path / "r.csv", "file,score\n./a.jpg,1\na.jpg,2\n"), {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,score\ns\\a.jpg,1\n", "row 1: file .* forward slashes"),
        ("file,score\nC:/a.jpg,1\n", "row 1: file 'C:/a.jpg' must be a path below"),
        ("file,score\na.jpg,1\n,2\n", "row 2: file '' must be a path below"),
        ("file;score\na.jpg;1\nb.jpg;4,5\n", "score is not all numbers: row 2 has '4,5'.* 4.5"),
        ("file,score\na.jpg,1\nb.jpg,inf\n", "row 2: score is inf"),
        ("file,votes_1,votes_2\na.jpg,1,\n", "votes_2 is not all numbers: row 1 has ''"),
        ("file,votes_1\na.jpg,1\n", "without gaps"),
        ("file,score\na.jpg,1,2\n", "cannot be read as a table: .*[Ee]xpected 2 columns, got 3"),
        ("file,score\n", "no rows"),
        ("file,score,split\na.jpg,1,train\nb.jpg,1,validation\n", "row 2: split is 'validation'"),
    ],
)
def test_bad_cells_are_named_with_their_row(tmp_path, text, message):
    with pytest.raises(DatasetError, match=message):
        read_ratings(write(tmp_path / "r.csv", text), {})


def test_a_file_that_is_not_utf_8_is_refused(tmp_path):
    (tmp_path / "r.csv").write_bytes("file,score\nä.jpg,1\n".encode("latin-1"))
    with pytest.raises(DatasetError, match=r"r\.csv cannot be read as a table: .*[Uu][Tt][Ff]-?8"):
        read_ratings(tmp_path / "r.csv", {})


def test_parquet_gives_what_the_csv_gives(tmp_path):
    from decimal import Decimal

    cells = {
        "file": ["b.jpg", "a.jpg"],
        "votes_1": pa.array([1, 0], pa.int32()),
        "votes_2": pa.array([0.0, 3.0]),
        "split": pa.array(["train", None]).dictionary_encode(),
        "price": pa.array([Decimal("1.50"), None]),
        "n": pa.array([1, None], pa.int16()),
        "tag": ["1", "2"],
    }
    pq.write_table(pa.table(cells), tmp_path / "r.parquet")
    ratings = read_ratings(tmp_path / "r.parquet", {})
    assert ratings.votes.tolist() == [[1, 0], [0, 3]] and ratings.votes.dtype == np.int64
    assert ratings.split.tolist() == ["train", ""]
    assert ratings.columns["price"][0] == 1.5 and np.isnan(ratings.columns["price"][1])
    assert ratings.columns["n"][0] == 1 and np.isnan(ratings.columns["n"][1])
    assert ratings.columns["tag"].tolist() == ["1", "2"]
    (tmp_path / "x.parquet").write_bytes(b"no such thing")
    with pytest.raises(DatasetError, match=r"x\.parquet cannot be read as a table"):
        read_ratings(tmp_path / "x.parquet", {})


def test_accents_written_by_another_system_still_find_their_file(tmp_path):
    composed = unicodedata.normalize("NFC", "müde é.jpg")
    decomposed = unicodedata.normalize("NFD", composed)
    assert composed != decomposed
    table = build(tmp_path, [decomposed], f"file,score\n{composed},1\n")
    assert table.path.tolist() == [decomposed]
    assert not table.missing_files and not table.unlabelled_files
    # Two files that answer to the name: neither is guessed, and exact names win.
    both = [composed, decomposed]
    assert match_files(tmp_path / "none", both, both) == (both, [])
    assert match_files(tmp_path / "none", both, [decomposed])[0] == [None, decomposed]


def test_gaps_on_both_sides_are_listed_and_order_is_the_files(tmp_path):
    text = "file,score\nz.jpg,1\ngone.jpg,2\na.jpg,3\nodd.dat,4\n"
    table = build(tmp_path, ["a.jpg", "z.jpg", "new10.jpg", "new2.jpg", "odd.dat"], text)
    assert table.path.tolist() == ["z.jpg", "a.jpg", "odd.dat"]
    assert table.scores.tolist() == [1, 3, 4]
    assert table.missing_files == ["gone.jpg"]
    assert table.unlabelled_files == ["new2.jpg", "new10.jpg"]


def test_scores_are_cut_at_the_median_of_the_train_images(tmp_path):
    text = "file,score,split\na.jpg,1,train\nb.jpg,2,train\nc.jpg,9,train\nd.jpg,100,test\n"
    names = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert build(tmp_path, names, text).threshold == 2.0
    assert build(tmp_path, names, text.replace("100,test", "-100,test")).threshold == 2.0
    assert build(tmp_path, names, text, threshold=5).threshold == 5.0
    assert build(tmp_path, names, text, split="none").threshold == 5.5


def test_the_split_can_be_the_files_or_drawn_or_none(tmp_path):
    names = [f"{i}.jpg" for i in range(60)]
    text = "file,score,split\n" + "".join(f"{n},1,test\n" for n in names)
    given_split = build(tmp_path, names, text)
    assert given_split.split_name == "given" and set(given_split.split) == {"test"}
    drawn = build(tmp_path, names, text, split="random", test_share=0.5)
    assert drawn.split_name == "random" and 15 < (drawn.split == "test").sum() < 45
    again = build(tmp_path, names, text, split="random", test_share=0.5, split_seed=1)
    assert again.split.tolist() != drawn.split.tolist()
    none = build(tmp_path, names, text, split="none")
    assert none.split_name == "none" and set(none.split) == {""}
    with pytest.raises(DatasetError, match="test_share and split_seed are for a random split"):
        build(tmp_path, names, text, test_share=0.5)
    with pytest.raises(DatasetError, match="no column split"):
        build(tmp_path, names, text.replace("split", "part"), split="given")


@settings(max_examples=40, deadline=None)
@given(votes=st.lists(st.lists(st.integers(0, 10**9), min_size=3, max_size=3).filter(any), min_size=1))
def test_votes_come_back_as_they_were_written(tmp_path_factory, votes):
    rows = "".join(f"{i}.jpg,{','.join(map(str, v))}\n" for i, v in enumerate(votes))
    path = write(tmp_path_factory.mktemp("v") / "r.csv", "file,votes_1,votes_2,votes_3\n" + rows)
    assert read_ratings(path, {}).votes.tolist() == votes


@pytest.mark.shared_data
def test_the_labels_of_avas_test_images_are_exact(shared_data):
    ratings = read_ratings(shared_data / "ava" / "test_votes.csv", {"file_column": "image_id"})
    high = is_high(ratings.votes, 5.0)
    assert (len(high), int(high.sum())) == (25_551, 17_952)
    assert round(100 * high.mean(), 2) == 70.26
    assert int((ratings.votes @ np.arange(1, 11) == 5 * ratings.votes.sum(axis=1)).sum()) == 62
