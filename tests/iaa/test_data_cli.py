"""`iaa dataset` and the CSV files of all commands."""

import csv

from embed.images.datasets import load_config
from iaa.library.table import Table
from store.csv_files import unsafe_cell
from store.tables import column_text, read_table


def test_settings_stay_text_unless_they_are_numbers(run, tmp_path):
    (tmp_path / "images").mkdir()
    for name in "ab":
        (tmp_path / f"images/{name}.jpg").write_bytes(b"x")
    (tmp_path / "r.csv").write_text("file,2020,Ben\na.jpg,1,2\nb.jpg,3,3\n")
    words = ["dataset", "add", "y", "--kind", "table", "--images", tmp_path / "images", "--ratings"]
    code, _, err = run(*words, tmp_path / "r.csv", "-o", "score_column=2020", "-o", "threshold=2")
    assert code == 0 and "-o rater_columns=2020,Ben" in " ".join(err.split())
    options = load_config(tmp_path / "data", "y").options
    assert (options["score_column"], options["threshold"], options["ids"]) == ("2020", 2, "path")
    code, _, err = run(*words, tmp_path / "r.csv", "-o", "rater_columns=2020,Ben", "--overwrite")
    assert code == 0 and "2 columns" in err


def test_rankings_are_safe_in_a_spreadsheet_and_come_back(tmp_path):
    rows = [
        {"rank": 1, "score": -0.5, "file": "=cmd|' /C calc'!A0.jpg"},
        {"rank": 2, "score": -1.5, "file": '-é, "x".jpg'},
        {"rank": 3, "score": 1e-9, "file": "'=x"},
    ]
    for name, delimiter in (("r.csv", ","), ("r.tsv", "\t")):
        columns = {key: [row[key] for row in rows] for key in ("rank", "score", "file")}
        Table("ranking", columns).to_csv(tmp_path / name)
        with (tmp_path / name).open(newline="", encoding="utf-8") as file:
            cells = list(csv.reader(file, delimiter=delimiter))[1:]
        assert [row[2][0] for row in cells] == ["'"] * 3
        assert [float(row[1]) for row in cells] == [-0.5, -1.5, 1e-9]
        table = read_table(tmp_path / name)
        assert [unsafe_cell(c) for c in column_text(table, "file")] == [row["file"] for row in rows]
