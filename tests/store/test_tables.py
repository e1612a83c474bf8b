"""Tables and lists as people's programs write them: cells are text, rows are right or named in an error."""

import csv
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store import MissingFileError, StoreError
from store.errors import TableError
from store.tables import column_text, read_table
from store.text import read_lines, read_text, read_toml


def table_of(tmp_path, content, name="t.csv", encoding=None):
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(data)
    table = read_table(tmp_path / name, encoding)
    return table.column_names, [list(row.values()) for row in table.to_pylist()]


PLAIN = (["file", "score"], [["0001.jpg", "1.10"], ["é 2.jpg", "2"]])


@pytest.mark.parametrize(
    "content",
    [
        "file,score\n0001.jpg,1.10\né 2.jpg,2\n",
        "file;score\r\n0001.jpg;1.10\r\né 2.jpg;2\r\n",
        "file\tscore\n0001.jpg\t1.10\né 2.jpg\t2",
        "file|score\n0001.jpg|1.10\né 2.jpg|2\n",
        "file=score\n0001.jpg=1.10\né 2.jpg=2\n",
        '"file","score"\n"0001.jpg","1.10"\n"é 2.jpg","2"\n',
        "file,score\r0001.jpg,1.10\ré 2.jpg,2\r",  # an old Macintosh's line ends
        "sep=;\nfile;score\n0001.jpg;1.10\né 2.jpg;2\n",
        'SEP=|\r\n\r\nfile|score\r\n"0001.jpg"|1.10\r\né 2.jpg|2\r\n',
        "\n  \n\nfile,score\n0001.jpg,1.10\né 2.jpg,2\n",
        "file,score\n0001.jpg,1.10\n\né 2.jpg,2\n\n\n   \n",
        "file,score,,\n0001.jpg,1.10,,\né 2.jpg,2,,\n,,,\n,,,\n",
        "file,score\n0001.jpg,1.10,\né 2.jpg,2,\n",
        ("\ufefffile,score\n0001.jpg,1.10\né 2.jpg,2\n").encode(),
        ("\ufefffile\tscore\r\n0001.jpg\t1.10\r\né 2.jpg\t2\r\n").encode("utf-16-le"),
        ("\ufefffile\tscore\r\n0001.jpg\t1.10\r\né 2.jpg\t2\r\n").encode("utf-16-be"),
        ("\ufefffile,score\n0001.jpg,1.10\né 2.jpg,2\n").encode("utf-32-le"),
    ],
)
def test_one_table_in_many_dialects(tmp_path, content):
    assert table_of(tmp_path, content) == PLAIN


def test_the_encoding_can_be_named_and_a_mark_wins(tmp_path):
    text = "file,score\n0001.jpg,1.10\né 2.jpg,2\n"
    assert table_of(tmp_path, text.encode("cp1252"), encoding="cp1252") == PLAIN
    assert table_of(tmp_path, ("\ufeff" + text).encode(), encoding="cp1252") == PLAIN
    with pytest.raises(TableError, match="encoding 'nope' is not known"):
        table_of(tmp_path, text, encoding="nope")


def test_parquet_whatever_its_name(tmp_path):
    pq.write_table(pa.table({"id": ["007"], " n ": [1]}), tmp_path / "x.csv")
    table = read_table(tmp_path / "x.csv")
    assert table.column_names == ["id", "n"] and column_text(table, "n") == ["1"]


@pytest.mark.parametrize(
    ("header", "rows", "n_columns"),
    [
        ('file;"score";note (a, b, c, d)', ["0001.jpg;3;x", "0002.jpg;5;y"], 3),
        ("file;score", ["a,b,c.jpg;3", "d,e,f.jpg;4"], 2),
        ("file,note", ["a.jpg,x;y", "b.jpg,z"], 2),
        ("file;score", ["a.jpg;4,5", "b.jpg;3,5"], 2),
        ("file", ["a, b.jpg", "c.jpg"], None),
        ("url,n", ["http://x/?a=1,2", "http://x/?a=2,3"], 2),
    ],
)
def test_the_separator_is_the_one_that_fits_all_lines(tmp_path, header, rows, n_columns):
    text = "\n".join([header, *rows]) + "\n"
    if n_columns is None:
        with pytest.raises(TableError, match="line 2 has 2 cells, its header 1"):
            table_of(tmp_path, text)
    else:
        names, cells = table_of(tmp_path, text)
        assert len(names) == n_columns and len(cells) == len(rows)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        # Two lone quotes: read as CSV, the rows between them are one cell.
        (['1.jpg,"Sunset,2', "2.jpg,b,3", '3.jpg,"Dawn,5', "4.jpg,d,6"], r"line 2 .*'1\.jpg,\"Sunset,2'"),
        (['1.jpg,"Sunset,2', "2.jpg,b,3", '3.jpg,Dawn",5'], r"lines 2 to 4 can be read as one row"),
        (['1.jpg,"Sunset,2,', "2.jpg,b,3,", '3.jpg,Dawn",5,'], r"lines 2 to 4 can be read as one row"),
        (["0.jpg,x,1", '1.jpg,"Sunset,2', "2.jpg,b,3"], r"line 3 .*quote opens a cell.*'1\.jpg,\"Sunset,2'"),
        (['1.jpg,"5" lens",2'], r"line 2 .*quote"),
        (["1.jpg,a,2", "2.jpg,b"], r"line 3 has 2 cells, its header 3"),
        (["1.jpg,a,2", "2.jpg,b,c,4", "3.jpg,a,2"], r"line 3 has 4 cells, its header 3.*separated by comma"),
        (['1.jpg,"two\nlines",2', "2.jpg,b"], r"line 4 has 2 cells"),
    ],
)
def test_rows_that_can_be_read_in_two_ways_are_named(tmp_path, rows, message):
    with pytest.raises(TableError, match=message):
        table_of(tmp_path, "\n".join(["file,title,score", *rows]) + "\n")


def test_cells_over_lines_and_quotes_in_text_stay_as_they_are(tmp_path):
    text = 'file,title,score\na.jpg,"Sun\nset, ""red""",2\nb.jpg,5" lens,3\nc.jpg,"x, ""y""",4\n'
    assert table_of(tmp_path, text)[1] == [
        ["a.jpg", 'Sun\nset, "red"', "2"],
        ["b.jpg", '5" lens', "3"],
        ["c.jpg", 'x, "y"', "4"],
    ]
    whole = text.replace('5" lens', "lens")  # without the stray quote the fast way is taken
    assert table_of(tmp_path, whole)[1][0] == ["a.jpg", 'Sun\nset, "red"', "2"]


def test_very_long_cells(tmp_path):
    for long in ("x" * 9_000_000, '"' + "y," * 4_000_000 + '"'):
        _, rows = table_of(tmp_path, f"file,title,score\na.jpg,{long},1\nb.jpg,z,2\n")
        assert rows[0][1] == long.strip('"') and rows[1] == ["b.jpg", "z", "2"]
    with pytest.raises(TableError, match="line 2 "):
        table_of(tmp_path, 'file,title,score\na.jpg,"' + "x" * 200_000 + ',1\nb.jpg,5" z,2\n')


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(
        st.lists(st.text("ab \"\n,;é0'=", max_size=5), min_size=3, max_size=3), min_size=1, max_size=6
    ),
    delimiter=st.sampled_from(",;\t"),
)
def test_what_is_written_by_the_rules_comes_back_or_is_an_error(tmp_path_factory, rows, delimiter):
    rows = [[f"{i}.jpg", *row] for i, row in enumerate(rows)]
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    writer.writerows([["file", "a", "b", "c"], *rows])
    folder = tmp_path_factory.mktemp("t")
    try:
        _, cells = table_of(folder, stream.getvalue())
    except TableError as error:
        assert "can be read as one row" in str(error)
        return
    assert [[c.strip() for c in row] for row in cells] == [[c.strip() for c in row] for row in rows]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04rest", r"t\.csv is a workbook \(\.xlsx, .*Save it there as CSV UTF-8"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", r"old kind \(\.xls\)"),
        (b"\x1f\x8b\x08", "compressed by gzip.*gunzip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html><html>", "a web page"),
        ("file,score\n".encode("utf-16-le") * 20, "UTF-16 without a byte order mark"),
        (b"file,score\na\0.jpg,1\n", "line 2 holds a NUL character"),
        (
            "file,score\na.jpg,1\nJürgen.jpg,2\n".encode("cp1252"),
            r"line 3 .*not UTF-8.*\(cp1252\) it would read 'Jürgen.jpg,2'",
        ),
        (b"\xff\xfea", "not UTF-16-LE"),
        (b"", "is empty"),
        (b"\n \n\n", "is empty"),
        (b"sep=;\n", "below its 'sep=' line"),
        (b"file,score\n", "column names and no rows"),
        (b"file,score\n,,\n", "column names and no rows"),
        (b"file,file\na,b\n", "two columns of one name: 'file'"),
        (b"file, file\na,b\n", "two columns of one name: 'file'"),
        (b"," * 20_000 + b"\n" + b"," * 20_000, "20,001 columns, more than 10,000"),
    ],
)
def test_what_is_no_table_is_named(tmp_path, content, message):
    with pytest.raises(TableError, match=message):
        table_of(tmp_path, content)


def test_no_file_and_no_parquet(tmp_path):
    with pytest.raises(MissingFileError, match="does not exist"):
        read_table(tmp_path / "gone.csv")
    with pytest.raises(MissingFileError, match="is no file"):
        read_table(tmp_path)
    with pytest.raises(TableError, match="is no Parquet file"):
        table_of(tmp_path, b"PAR1 and nothing", "x.parquet")
    with (tmp_path / "huge.csv").open("wb") as file:
        file.truncate((1 << 31) + 1)
    with pytest.raises(TableError, match="2,147,483,649 bytes, more than"):
        read_table(tmp_path / "huge.csv")


def test_lines_end_where_an_editor_ends_them(tmp_path):
    names = ["a\u2028b", "c\x0bd", "e\x85f", "g"]
    (tmp_path / "l.txt").write_bytes(("\ufeff" + "\r\n".join(names) + "\r\n\r\n").encode())
    assert read_lines(tmp_path / "l.txt") == names
    (tmp_path / "e.txt").write_bytes(b"\xef\xbb\xbf")
    assert read_lines(tmp_path / "e.txt") == []
    assert read_text(tmp_path / "l.txt").startswith("a")


def test_toml_of_notepad(tmp_path):
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "x.toml").write_bytes('high = ["é"]\r\n'.encode(encoding))
        assert read_toml(tmp_path / "x.toml") == {"high": ["é"]}
    (tmp_path / "x.toml").write_bytes(b"a = [" * 50_000)
    with pytest.raises(StoreError, match="is not valid TOML"):
        read_toml(tmp_path / "x.toml")


def test_fast_and_strict_reading_agree(tmp_path, rng):
    words = rng.integers(0, 10**6, (5000, 3)).astype(str)
    quoted = "\n".join(f'{a},"{b}",{c}' for a, b, c in words)
    fast = table_of(tmp_path, f"a,b,c\n{quoted}\n")
    strict = table_of(tmp_path, f'a,b,c\n{quoted}\nx,5" y,z\n')  # a stray quote at the end
    assert strict[1][:-1] == fast[1] == words.tolist() and strict[1][-1] == ["x", '5" y', "z"]
    assert np.array(fast[1]).shape == (5000, 3)


@settings(max_examples=300, deadline=None)
@given(
    titles=st.lists(st.text('ab" ', max_size=4), min_size=1, max_size=6),
    ending=st.sampled_from(["", ","]),
    place=st.integers(0, 2),
)
def test_stray_quotes_never_give_one_row_the_score_of_another(tmp_path_factory, titles, ending, place):
    """Titles as they were typed, with no thought of quoting, before, between or behind the other cells."""
    rows = [[f"{i}.jpg", str(i + 10)] for i in range(len(titles))]
    names = ["file", "score"]
    names.insert(place, "title")
    for row, title in zip(rows, titles, strict=True):
        row.insert(place, title)
    text = "".join(",".join(row) + ending + "\n" for row in [names, *rows])
    try:
        found, cells = table_of(tmp_path_factory.mktemp("q"), text)
    except TableError as error:
        assert "line" in str(error)
        return
    at = found.index("file"), found.index("score")
    read = [(row[at[0]], row[at[1]]) for row in cells]
    assert read == [(f"{i}.jpg", str(i + 10)) for i in range(len(rows))]
