"""Ratings of a data set: by content, whatever a file is called; tables in and out; `iaa rate`."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from iaa.library.dataset import Dataset, add_dataset
from iaa.library.errors import UsageError
from iaa.library.rating.tables import export_ratings, import_ratings
from store.ratings import RatingError

NAMES = ["a.jpg", "b.jpg", "c.jpg", "lake/d.jpg"]


@pytest.fixture
def mine(tmp_path: Path) -> Dataset:
    """A folder of four photographs, never embedded."""
    folder = tmp_path / "photographs"
    for number, name in enumerate(NAMES):
        picture(folder / name, number)
    return add_dataset("mine", "folder", folder, data=tmp_path / "data")


def picture(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((32, 32)).save(path)


def folder_of(mine: Dataset) -> Path:
    return mine.layout.root.parent / "photographs"


def held(mine: Dataset, kind: str = "stars", rater: str = "me") -> dict[str, float]:
    frame = mine.ratings.to_frame(rater)
    frame = frame[frame.kind == kind]
    return dict(zip(frame.image_id, frame.value, strict=True))


def test_rate_compare_and_undo(mine: Dataset) -> None:
    mine.ratings.add(["a.jpg", "b.jpg"], stars=[2, 5], flag=1)
    mine.ratings.compare("b.jpg", "c.jpg", 1)
    mine.ratings.add("lake/d.jpg", stars=1, rater="you")
    assert held(mine) == {"a.jpg": 2, "b.jpg": 5} and held(mine, "flag") == {"a.jpg": 1, "b.jpg": 1}
    present = mine.ratings.present("me")
    assert present.rows()[-1]["kind"] == "pair" and present.rows()[-1]["other_id"] == "c.jpg"
    assert mine.ratings.raters() == ["me", "you"]
    assert mine.ratings.undo().rows()[0]["image_id"] == "b.jpg"
    assert len(mine.ratings.undo()) == 4
    assert held(mine) == {} and held(mine, rater="you") == {"lake/d.jpg": 1}
    assert len(mine.ratings.undo()) == 0


def test_what_cannot_be_rated_says_why(mine: Dataset) -> None:
    with pytest.raises(UsageError, match=r"no photograph e\.jpg.*Did you mean"):
        mine.ratings.add("e.jpg", stars=2)
    with pytest.raises(UsageError, match="2 photographs, but 1 values"):
        mine.ratings.add(["a.jpg", "b.jpg"], stars=[2])
    with pytest.raises(UsageError, match="stars=4"):
        mine.ratings.add("a.jpg")
    with pytest.raises(RatingError, match="0 or 1 to 5"):
        mine.ratings.add("a.jpg", stars=7)
    assert len(mine.ratings.present()) == 0 and not mine.ratings.path.exists()
    assert mine.ratings.raters() == [] and len(mine.ratings.undo()) == 0


def test_a_rating_follows_its_photograph_and_not_its_name(mine: Dataset) -> None:
    mine.ratings.add(["a.jpg", "b.jpg", "c.jpg"], stars=[1, 2, 3])
    folder = folder_of(mine)
    (folder / "a.jpg").rename(folder / "lake" / "z.jpg")
    (folder / "b.jpg").rename(folder / "a.jpg")
    picture(folder / "b.jpg", 77)
    assert held(mine) == {"lake/z.jpg": 1, "a.jpg": 2, "c.jpg": 3}
    assert not any(mine.ratings.present().columns["is_changed"])


def test_an_edited_file_keeps_its_rating_and_is_said_to_be_changed(mine: Dataset) -> None:
    mine.ratings.add(["a.jpg", "b.jpg"], stars=[1, 2])
    path = folder_of(mine) / "a.jpg"
    path.write_bytes(path.read_bytes() + b"metadata")
    rows = {row["image_id"]: row for row in mine.ratings.present().rows()}
    assert rows["a.jpg"]["value"] == 1 and rows["a.jpg"]["is_changed"] and not rows["b.jpg"]["is_changed"]
    mine.ratings.add("a.jpg", stars=4)
    assert held(mine) == {"a.jpg": 4, "b.jpg": 2}
    assert not any(mine.ratings.present().columns["is_changed"])


def test_copies_share_their_rating(mine: Dataset) -> None:
    folder = folder_of(mine)
    (folder / "copy.jpg").write_bytes((folder / "a.jpg").read_bytes())
    mine.ratings.add("a.jpg", stars=1)
    mine.ratings.add("copy.jpg", stars=4)
    assert held(mine) == {"a.jpg": 4, "copy.jpg": 4}


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_of_files_and_stars(mine: Dataset, tmp_path: Path) -> None:
    table = write(
        tmp_path, "File Name;Stars;Flag\nA.JPG;3;pick\nb;0;\nd.jpg;4.5;\nelsewhere.jpg;2;\nc.jpg;-1;\n"
    )
    found = import_ratings(mine.ratings, table)
    assert held(mine) == {"a.jpg": 3, "lake/d.jpg": 4.5} and held(mine, "flag") == {"a.jpg": 1, "c.jpg": -1}
    assert (found.n_added, found.n_rated, found.unknown) == (4, 3, ["elsewhere.jpg"])
    assert any("last part of the path" in line for line in found.notes)
    mine.ratings.undo("me", found.acts["me"])
    assert held(mine) == {}


def test_a_row_per_rating_and_a_column_per_rater(mine: Dataset, tmp_path: Path) -> None:
    rows = write(tmp_path, "rater,file,block,rating\nr1,a.jpg,1,1\nr1,a.jpg,2,7\nr2,b.jpg,1,4\n")
    with pytest.raises(UsageError, match="--scale LOWEST HIGHEST"):
        import_ratings(mine.ratings, rows)
    assert import_ratings(mine.ratings, rows, scale=(1, 7)).n_again == 1
    assert held(mine, rater="r1") == {"a.jpg": 5} and held(mine, rater="r2") == {"b.jpg": 3}
    wide = write(tmp_path, "image,anna,bert\na.jpg,1,2\nb.jpg,,5\n")
    assert set(import_ratings(mine.ratings, wide).acts) == {"anna", "bert"}
    assert held(mine, rater="anna") == {"a.jpg": 1} and held(mine, rater="bert") == {"a.jpg": 2, "b.jpg": 5}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,stars\nx.jpg,3\n", "no photograph of mine is meant"),
        ("file,camera,anna\na.jpg,Leica,3\n", "--column NAME"),
        ("file\na.jpg\n", "no ratings"),
        ("rater,file,stars\n,a.jpg,3\n", "by nobody"),
        ("file,stars,flag\na.jpg,3,perhaps\n", "is no flag"),
        ("file,stars,Stars \na.jpg,3,4\n", "may both be meant"),
        ("a.jpg,3\nb.jpg,4\n", "such as: file,stars"),
        ("file,stars\na.jpg,6\n", "--scale LOWEST HIGHEST"),
        ('file,stars\na.jpg,"1,234"\n', "is no rating"),
    ],
)
def test_tables_that_can_be_read_in_two_ways(mine: Dataset, tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        import_ratings(mine.ratings, write(tmp_path, text))
    assert len(mine.ratings.present()) == 0


def test_tables_as_spreadsheets_save_them(mine: Dataset, tmp_path: Path) -> None:
    """Excel's "Unicode text", and its CSV where commas are in numbers; paths as Windows writes them."""
    table = tmp_path / "table.csv"
    table.write_bytes("File\tStars\r\nC:\\my\\lake\\d.jpg\t4\r\na.jpg\t2,5\r\n".encode("utf-16"))
    assert import_ratings(mine.ratings, table).unknown == [] and held(mine) == {"lake/d.jpg": 4, "a.jpg": 2.5}
    table.write_bytes("Datei;Sterne\r\nb.jpg;1,5\r\nC:\\my\\sea\\d.jpg;1\r\n".encode("utf-8-sig"))
    with pytest.raises(UsageError, match="--column NAME"):
        import_ratings(mine.ratings, table, rater="me")
    found = import_ratings(mine.ratings, table, columns=["Sterne"])
    assert found.unknown == ["C:\\my\\sea\\d.jpg"]
    assert held(mine) == {"lake/d.jpg": 4, "a.jpg": 2.5, "b.jpg": 1.5}


def test_what_is_exported_can_be_imported(mine: Dataset, tmp_path: Path) -> None:
    mine.ratings.add(["a.jpg", "b.jpg"], stars=[2, 4.5])
    mine.ratings.add("b.jpg", flag=-1)
    mine.ratings.add("a.jpg", stars=5, rater="you")
    table = export_ratings(mine.ratings).to_csv(tmp_path / "out.csv")
    before = [held(mine, kind, who) for kind in ("stars", "flag") for who in ("me", "you")]
    mine.layout.ratings.unlink()
    import_ratings(mine.ratings, table)
    assert [held(mine, kind, who) for kind in ("stars", "flag") for who in ("me", "you")] == before


def test_the_commands(mine: Dataset, run, tmp_path: Path) -> None:
    table = write(tmp_path, "file,stars\na.jpg,3\nb.jpg,5\n")
    code, _, said = run("rate", "import", table, "-d", "mine")
    assert code == 0 and "2 ratings of 2 photographs by me" in said and "undo --rater me --act 1" in said
    code, out, _ = run("rate", "show", "-d", "mine")
    assert code == 0 and "5 stars" in out
    mine.ratings.add("c.jpg", stars=1)
    assert "1 star " in run("rate", "show", "-d", "mine")[1] and len(mine.ratings.undo()) == 1
    code, out, _ = run("rate", "show", "-d", "mine", "--json")
    assert [row["value"] for row in json.loads(out)["ratings"]] == [3, 5]
    assert run("rate", "export", tmp_path / "out.csv", "-d", "mine")[0] == 0
    assert (
        (tmp_path / "out.csv")
        .read_text(encoding="utf-8")
        .startswith("file,rater,stars,flag,time\na.jpg,me,3,")
    )
    code, out, _ = run("verify", mine.layout.folder, "--json")
    assert code == 0 and json.loads(out)["files"][0]["schema"] == "iaa/ratings"
    assert "taken back: 3 stars of a.jpg and 1 more" in run("rate", "undo", "-d", "mine")[2]
    assert "nothing of me is left" in run("rate", "undo", "-d", "mine")[2]
