"""XMP: sidecars of both names, ratings inside photographs, and what must never happen to either."""

import hashlib
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("lxml")
from iaa.exchange.xmp.files import sidecars_of, write_sidecar
from iaa.exchange.xmp.packet import LABEL, MAX_BYTES, OURS, RATING, STARS, WORDS, Packet
from iaa.library.dataset import Dataset, add_dataset
from iaa.library.errors import UsageError
from iaa.library.table import Table
from iaa.library.xmp import read_xmp, stars_of_rater, write_xmp
from iaa.library.xmp_marks import Marks, marks_of, parse_rules
from store.durable import sole_writer

N = 12
HEAD = {"Score": "0.5", "Percentile": "50.0", "Head": "taste", "Backbone": "b/pooled"}
DARKTABLE = """<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:darktable="http://darktable.sf.net/" xmlns:dc="http://purl.org/dc/elements/1.1/"
   RATING darktable:xmp_version="5" darktable:history_end="2">
   <dc:subject><rdf:Bag><rdf:li>Grüße &amp; more</rdf:li></rdf:Bag></dc:subject>
   <darktable:history><rdf:Seq><rdf:li darktable:num="0" darktable:params="gz02eJz"/></rdf:Seq>
   </darktable:history>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""


def darktable(rating: str = "") -> bytes:
    return DARKTABLE.replace("RATING", f'xmp:Rating="{rating}"' if rating else "").encode()


def properties(data: bytes) -> dict[str, str | None]:
    packet = Packet(data)
    return {name: packet.get(name) for name in (RATING, STARS)}


@pytest.fixture
def mine(tmp_path: Path) -> Dataset:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number in range(N):
        pixels = np.random.default_rng(number).integers(0, 255, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((16, 16)).save(folder / f"{number:02}.jpg")
    return add_dataset("mine", "folder", folder, data=tmp_path / "data")


def folder_of(mine: Dataset) -> Path:
    return mine.layout.root.parent / "photographs"


def by_head(stars: float, n: int = N) -> dict[str, dict]:
    return {f"{number:02}.jpg": {"stars": stars, **HEAD} for number in range(n)}


def held(mine: Dataset) -> dict[str, tuple[str, float]]:
    return {row["image_id"]: (row["kind"], row["value"]) for row in mine.ratings.present().rows()}


def snapshot(mine: Dataset) -> dict[str, tuple[bytes, int]]:
    files = sorted(folder_of(mine).iterdir())
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_a_dry_run_writes_nothing_and_a_second_run_changes_nothing(mine: Dataset) -> None:
    before = snapshot(mine)
    assert {each.what for each in write_xmp(mine.layout, by_head(4), False)} == {"new"}
    assert snapshot(mine) == before
    write_xmp(mine.layout, by_head(4), False, is_written=True)
    after = snapshot(mine)
    assert len(after) == 2 * N and {name: after[name] for name in before} == before
    assert {each.what for each in write_xmp(mine.layout, by_head(4), False, is_written=True)} == {"same"}
    assert snapshot(mine) == after
    assert {each.what for each in write_xmp(mine.layout, by_head(2), False, is_written=True)} == {"changed"}
    assert properties((folder_of(mine) / "00.jpg.xmp").read_bytes()) == {RATING: "2", STARS: "2"}


def test_everything_else_in_a_sidecar_is_kept(mine: Dataset) -> None:
    path = folder_of(mine) / "00.jpg.xmp"
    path.write_bytes(darktable())
    write_xmp(mine.layout, by_head(5), False, is_written=True)
    data = path.read_bytes()
    assert properties(data)[RATING] == "5"
    for kept in ("Grüße &amp; more", 'darktable:params="gz02eJz"', 'darktable:xmp_version="5"'):
        assert kept in data.decode()


@pytest.mark.parametrize("rating", ["1", "3", "-1"])
def test_a_persons_rating_is_never_replaced(mine: Dataset, rating: str) -> None:
    path = folder_of(mine) / "00.jpg.xmp"
    path.write_bytes(darktable(rating))
    for _ in range(2):
        (found,) = write_xmp(mine.layout, by_head(5, 1), False, is_written=True)
        assert found.what == "kept" and found.stars == float(rating)
        assert properties(path.read_bytes()) == {RATING: rating, STARS: None}
    assert "iaa:Score" in path.read_text(encoding="utf-8")  # ours goes into our own namespace


def test_what_a_person_makes_of_our_stars_is_hers(mine: Dataset) -> None:
    write_xmp(mine.layout, by_head(4, 1), False, is_written=True)
    path = folder_of(mine) / "00.jpg.xmp"
    path.write_bytes(path.read_bytes().replace(b'xmp:Rating="4"', b'xmp:Rating="2"'))
    (found,) = write_xmp(mine.layout, by_head(5, 1), False, is_written=True)
    assert found.what == "kept" and properties(path.read_bytes()) == {RATING: "2", STARS: None}
    assert read_xmp(mine.layout).n_new == 1 and held(mine) == {"00.jpg": ("stars", 2)}


def test_no_rating_is_no_persons_rating(mine: Dataset) -> None:
    (folder_of(mine) / "00.jpg.xmp").write_bytes(darktable("0"))
    (found,) = write_xmp(mine.layout, by_head(5, 1), False, is_written=True)
    assert found.what == "changed"


def test_ones_own_stars_go_out_change_and_come_in_elsewhere(mine: Dataset) -> None:
    mine.ratings.add(["00.jpg", "01.jpg"], stars=[3, 5])
    mine.ratings.add("02.jpg", flag=-1)
    write = {"by_person": True, "is_written": True}
    write_xmp(mine.layout, stars_of_rater(mine.layout, "me"), **write)
    mine.ratings.add("00.jpg", stars=4)
    assert read_xmp(mine.layout).n_new == 0  # what stands there is older than what was said here
    found = {
        each.image_id: each.what
        for each in write_xmp(mine.layout, stars_of_rater(mine.layout, "me"), **write)
    }
    assert found == {"00.jpg": "changed", "01.jpg": "same", "02.jpg": "same"}
    assert {each.what for each in write_xmp(mine.layout, by_head(1, 3), False, is_written=True)} == {"kept"}
    mine.layout.ratings.unlink()  # another machine
    assert read_xmp(mine.layout).n_new == 3
    assert held(mine) == {"00.jpg": ("stars", 4), "01.jpg": ("stars", 5), "02.jpg": ("flag", -1)}


def test_reading_takes_both_names_and_photographs_once(mine: Dataset) -> None:
    folder = folder_of(mine)
    (folder / "00.jpg.xmp").write_bytes(darktable("3"))
    (folder / "01.XMP").write_bytes(darktable("5"))
    image = Image.open(folder / "02.jpg")
    image.save(folder / "02.jpg", xmp=darktable("2"))
    (folder / "03.jpg.xmp").write_bytes(darktable("-1"))
    (folder / "04.jpg.xmp").write_bytes(darktable("0"))
    found = read_xmp(mine.layout)
    assert held(mine) == {
        "00.jpg": ("stars", 3), "01.jpg": ("stars", 5), "02.jpg": ("stars", 2), "03.jpg": ("flag", -1),
    }  # fmt: skip
    assert found.n_new == 4 and read_xmp(mine.layout).n_new == 0
    mine.ratings.undo("me", found.act)
    assert held(mine) == {}


def test_the_rating_inside_a_photograph_keeps_a_head_from_writing(mine: Dataset) -> None:
    path = folder_of(mine) / "02.jpg"
    Image.open(path).save(path, xmp=darktable("2"))
    found = {
        each.image_id: each.what for each in write_xmp(mine.layout, by_head(5, 3), False, is_written=True)
    }
    assert found == {"00.jpg": "new", "01.jpg": "new", "02.jpg": "kept"}
    assert not (folder_of(mine) / "02.jpg.xmp").exists()


def test_two_places_that_differ_are_a_conflict_unless_the_newest_is_asked_for(mine: Dataset) -> None:
    folder = folder_of(mine)
    (folder / "00.jpg.xmp").write_bytes(darktable("3"))
    (folder / "00.xmp").write_bytes(darktable("5"))
    os.utime(folder / "00.jpg.xmp", (1, 1))
    found = read_xmp(mine.layout)
    assert [name for name, _ in found.conflicts] == ["00.jpg"] and held(mine) == {}
    read_xmp(mine.layout, newest=True)
    assert held(mine) == {"00.jpg": ("stars", 5)}


def test_a_stem_that_two_photographs_share_is_neithers(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.cr2", "a.xmp", "b.jpg", "b.xmp"):
        (tmp_path / name).touch()
    found = sidecars_of([tmp_path / name for name in ("a.jpg", "a.cr2", "b.jpg")], "stem")
    assert [each.write.name for each in found] == ["a.jpg.xmp", "a.cr2.xmp", "b.xmp"]
    assert [len(each.there) for each in found] == [0, 0, 1]


def said_in(path: Path) -> tuple[str | None, list[str], str | None]:
    packet = Packet(path.read_bytes())
    return packet.get(LABEL), packet.keywords(), packet.get(WORDS)


def marked(mine: Dataset, label: str | None, *words: str, stars: float = 4) -> str:
    marks = {"00.jpg": Marks(label, words)}
    (found,) = write_xmp(mine.layout, by_head(stars, 1), False, is_written=True, marks=marks)
    return found.what


def test_labels_and_keywords_of_ours_come_and_go(mine: Dataset) -> None:
    path = folder_of(mine) / "00.jpg.xmp"
    assert marked(mine, "Green", "keep", "ümlaut, & <sign>") == "new"
    assert said_in(path) == ("Green", ["keep", "ümlaut, & <sign>"], '["keep", "ümlaut, & <sign>"]')
    before = path.read_bytes(), path.stat().st_mtime_ns
    assert marked(mine, "Green", "keep", "ümlaut, & <sign>") == "same"
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert marked(mine, "Red", "keep") == "changed" and said_in(path) == ("Red", ["keep"], '["keep"]')
    write_xmp(mine.layout, by_head(4, 1), False, is_written=True)
    assert said_in(path) == ("Red", ["keep"], '["keep"]'), "not asked for, not touched"
    assert marked(mine, "") == "changed" and said_in(path) == (None, [], None)
    assert b"subject" not in path.read_bytes() and read_xmp(mine.layout).labels == {}


def test_a_persons_label_and_keywords_are_never_replaced(mine: Dataset) -> None:
    path = folder_of(mine) / "00.jpg.xmp"
    path.write_bytes(darktable().replace(b'xmp_version="5"', b'xmp_version="5" xmp:Label="Blue"'))
    hers = "Grüße & more"
    assert marked(mine, "Green", "keep", hers) == "changed"
    assert said_in(path) == ("Blue", [hers, "keep"], '["keep"]')
    assert marked(mine, "Green", "keep", hers) == "same"
    assert marked(mine, "", hers) == "changed" and said_in(path) == ("Blue", [hers], None)
    assert read_xmp(mine.layout).labels == {"00.jpg": "Blue"}


def test_what_a_person_makes_of_our_label_and_keywords_is_hers(mine: Dataset) -> None:
    path = folder_of(mine) / "00.jpg.xmp"
    marked(mine, "Green", "keep", "show")
    path.write_bytes(path.read_bytes().replace(b'xmp:Label="Green"', b'xmp:Label="Purple"'))
    path.write_bytes(path.read_bytes().replace(b"<rdf:li>keep</rdf:li>", b"<rdf:li>kept</rdf:li>"))
    assert marked(mine, "Red", "show") == "changed"
    label, words, ours = said_in(path)
    assert label == "Purple" and sorted(words) == ["kept", "show"] and ours == '["show"]'


def test_what_is_inside_the_photograph_is_no_more_hidden_than_replaced(mine: Dataset) -> None:
    """Programs take a sidecar's list for all keywords there are; a label inside is a person's."""
    path = folder_of(mine) / "00.jpg"
    labelled = darktable().replace(b'xmp_version="5"', b'xmp_version="5" xmp:Label="Blue"')
    Image.open(path).save(path, xmp=labelled)
    for what in ("new", "same"):
        assert marked(mine, "Green", "keep") == what
        label, words, ours = said_in(path.with_name("00.jpg.xmp"))
        assert label is None and words == ["Grüße & more", "keep"] and ours == '["keep"]'


@pytest.mark.parametrize(
    ("subject", "said"),
    [
        (b"<dc:subject>loose</dc:subject>", "is not one list"),
        (b"<dc:subject><rdf:Bag/></dc:subject><dc:subject><rdf:Bag/></dc:subject>", "is not one list"),
        (b"<dc:subject><rdf:Bag><rdf:li><rdf:Bag/></rdf:li></rdf:Bag></dc:subject>", "not simple values"),
    ],
)
def test_keywords_that_are_no_list_are_left_as_they_are(mine: Dataset, subject: bytes, said: str) -> None:
    path = folder_of(mine) / "00.jpg.xmp"
    start, _, rest = darktable().partition(b"<dc:subject>")
    path.write_bytes(start + subject + rest.partition(b"</dc:subject>")[2])
    before = path.read_bytes()
    marks = {"00.jpg": Marks(None, ("keep",))}
    (found,) = write_xmp(mine.layout, by_head(4, 1), False, is_written=True, marks=marks)
    assert found.what == "problem" and said in found.why and path.read_bytes() == before


def test_rules_give_marks_by_stars_and_place_in_the_group(
    mine: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Table("groups", {
        "group": [1, 1, 2, 2], "kind": ["burst", "burst", "bracket", "bracket"], "order": [1, 2, None, None],
        "image_id": ["03.jpg", "02.jpg", "05.jpg", "06.jpg"],
    })  # fmt: skip
    monkeypatch.setattr("iaa.library.groups.group_photographs", lambda *_, **__: found)
    monkeypatch.setattr("iaa.library.xmp_marks.embedded_backbones", lambda _: ["b"])
    given = {"02.jpg": 2.0, "03.jpg": 5.0, "05.jpg": -1.0, "06.jpg": 5.0, "07.jpg": 3.0}
    stars = {name: {"stars": value} for name, value in given.items()}
    labels = parse_rules("--label", ["best=Green", "rest=Red", "reject=Purple"])
    words = parse_rules("--keyword", ["5=top", "best=keep", "best=top"])
    marks = marks_of(mine.layout, stars, labels, words, with_group=True)
    assert {name: (each.label, each.keywords) for name, each in marks.items()} == {
        "02.jpg": ("Red", ()), "03.jpg": ("Green", ("top", "keep")), "05.jpg": ("Purple", ()),
        "06.jpg": ("", ("top",)), "07.jpg": ("", ()),
    }  # fmt: skip
    assert marks["03.jpg"].group == {"Group": "02.jpg", "GroupKind": "burst", "GroupPlace": "1"}
    assert marks["05.jpg"].group == {"Group": "05.jpg", "GroupKind": "bracket", "GroupPlace": None}
    assert marks_of(mine.layout, stars) == dict.fromkeys(stars, Marks()), "nothing that was not asked for"
    write_xmp(mine.layout, by_head(4, 4), False, is_written=True, marks=marks)
    path = folder_of(mine) / "03.jpg"
    packet = Packet(path.with_name("03.jpg.xmp").read_bytes())
    assert packet.get(f"{{{OURS}}}Group") == "02.jpg" and packet.get(f"{{{OURS}}}GroupPlace") == "1"
    assert packet.get(f"{{{OURS}}}Digest") == hashlib.sha256(path.read_bytes()).hexdigest()
    gone = marks_of(mine.layout, {"03.jpg": {"stars": 5.0}, "04.jpg": {"stars": 1.0}}, with_group=True)
    assert gone["04.jpg"].group == {"Group": None, "GroupKind": None, "GroupPlace": None}
    for wrong in ("6=Green", "best", "best=", "=Green", "5=a\nb"):
        with pytest.raises(UsageError, match="KEY=TEXT"):
            parse_rules("--label", [wrong])


BOMB = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><x:xmpmeta xmlns:x="adobe:ns:meta/">&c;</x:xmpmeta>"""
FILE = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>
<x:xmpmeta xmlns:x="adobe:ns:meta/">&a;</x:xmpmeta>"""


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (BOMB, "document type"),
        (FILE, "document type"),
        (FILE.decode().replace('<?xml version="1.0"?>', "").encode("utf-16"), "document type"),
        (b"", "no XML"),
        (b"not XML at all", "no XML"),
        (darktable()[:400], "no XML"),
        (b"<html/>", "no rdf:Description"),
        (darktable("many"), "no number"),
        (darktable("17"), "expected -1 to 5"),
        (darktable("nan"), "no number"),
        (darktable("3").replace(b"<dc:subject>", b"<xmp:Rating>4</xmp:Rating><dc:subject>"), "twice"),
        (b" " * (MAX_BYTES + 1), "more than"),
        (darktable().replace(b'encoding="UTF-8"', b'encoding="KLINGON"'), "no XML"),
    ],
)
def test_hostile_and_broken_sidecars_are_left_as_they_are(mine: Dataset, data: bytes, said: str) -> None:
    path = folder_of(mine) / "00.jpg.xmp"
    path.write_bytes(data)
    found = {each.image_id: each for each in write_xmp(mine.layout, by_head(5), False, is_written=True)}
    assert (
        found["00.jpg"].what == "problem" and said in found["00.jpg"].why and str(path) in found["00.jpg"].why
    )
    assert found["01.jpg"].what == "new"
    assert path.read_bytes() == data
    ((place, why),) = read_xmp(mine.layout).problems
    assert place == str(path) and said in why


@pytest.mark.parametrize("encoding", ["utf-16", "iso-8859-1"])
def test_a_sidecar_keeps_its_encoding(mine: Dataset, encoding: str) -> None:
    path = folder_of(mine) / "00.jpg.xmp"
    path.write_bytes(darktable().decode().replace("UTF-8", encoding).encode(encoding))
    write_xmp(mine.layout, by_head(5, 1), False, is_written=True)
    assert "Grüße" in path.read_bytes().decode(encoding)
    assert properties(path.read_bytes())[RATING] == "5"


def test_a_folder_that_cannot_be_written_says_so(mine: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder_of(mine) / "00.jpg.xmp"
    path.write_bytes(darktable())

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("iaa.exchange.xmp.files.write_pieces", refuse)
    (found,) = write_xmp(mine.layout, by_head(5, 1), False, is_written=True)
    assert found.what == "problem" and "cannot be written: Permission denied" in found.why
    assert path.read_bytes() == darktable() and len(list(folder_of(mine).iterdir())) == N + 1


def test_a_killed_writer_leaves_the_old_sidecar_and_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jpg.xmp"
    path.write_bytes(b"old")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    for name in ("iaa.exchange.xmp.files.write_pieces", "store.durable.publish"):
        with monkeypatch.context() as patched:
            patched.setattr(name, stop)
            with pytest.raises(KeyboardInterrupt):
                write_sidecar(path, b"new")
        assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.jpg.xmp"]
    (tmp_path / "a.jpg.xmp.partial").write_bytes(b"ne")  # of one that was killed for good
    write_sidecar(path, b"new")
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["a.jpg.xmp"]


def test_a_second_writer_waits_for_the_first(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg.xmp"
    second = threading.Thread(target=write_sidecar, args=(path, b"second"))
    with sole_writer(tmp_path / "a.jpg.xmp.partial"):
        second.start()
        second.join(0.2)
        assert second.is_alive() and not path.exists()
    second.join(30)
    assert path.read_bytes() == b"second" and os.listdir(tmp_path) == ["a.jpg.xmp"]


def test_a_sidecar_keeps_its_rights_and_its_link(tmp_path: Path) -> None:
    target, link = tmp_path / "elsewhere.xmp", tmp_path / "a.jpg.xmp"
    target.write_bytes(b"old")
    target.chmod(0o640)
    link.symlink_to(target)
    write_sidecar(link, b"new")
    assert link.is_symlink() and target.read_bytes() == b"new" and target.stat().st_mode & 0o777 == 0o640


def test_the_command(mine: Dataset, run) -> None:
    (folder_of(mine) / "00.jpg.xmp").write_bytes(darktable("3"))
    code, out, said = run("xmp", "read", "-d", "mine")
    assert code == 0 and "1 photographs are rated: 1 with 3" in said and "--act 1" in said
    code, out, said = run("xmp", "write", "-d", "mine", "--rater", "me")
    assert code == 0 and "1 same" in said
    mine.ratings.add("01.jpg", stars=5)
    code, out, said = run("xmp", "write", "-d", "mine", "--rater", "me")
    assert "1 new" in said and "--write" in said and not (folder_of(mine) / "01.jpg.xmp").exists()
    assert run("xmp", "write", "-d", "mine", "--rater", "me", "--write")[0] == 0
    assert (folder_of(mine) / "01.jpg.xmp").exists()
    code, out, _ = run("xmp", "write", "-d", "mine", "--rater", "me", "--json")
    assert json.loads(out)["counts"] == {"same": 2}
    assert run("xmp", "write", "-d", "mine")[0] == 2
    (folder_of(mine) / "01.jpg.xmp").write_bytes(BOMB)
    assert run("xmp", "write", "-d", "mine", "--rater", "me", "--write")[0] == 1


def exiftool(*arguments: str | Path) -> str:
    done = subprocess.run(["exiftool", *map(str, arguments)], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.skipif(
    not (shutil.which("exiftool") and shutil.which("exiv2")), reason="needs exiftool and exiv2"
)
def test_exiftool_and_exiv2_read_what_we_write_and_we_what_they_write(tmp_path: Path) -> None:
    """200 photographs; the sidecars of 50 are written by the two programs first, half with a rating."""
    folder, n = tmp_path / "photographs", 200
    folder.mkdir()
    for number in range(n):
        pixels = np.random.default_rng(number).integers(0, 255, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}.jpg")
    for number in range(25):
        path = folder / f"{number:03}.jpg.xmp"
        rating = ["-xmp:Rating=2"] if number % 2 else []
        rating += ["-xmp:Label=Blue", "-xmp:Subject=mine"] if number % 5 == 0 else []
        exiftool("-q", "-o", path, f"-xmp:Title=title {number}", *rating, folder / f"{number:03}.jpg")
    for number in range(25, 50):
        path = folder / f"{number:03}.jpg.xmp"
        path.write_bytes(Packet().to_bytes())
        commands = [
            f"set Xmp.dc.title lang=x-default title {number}",
            *(["set Xmp.xmp.Rating 2"] * (number % 2)),
            *(["set Xmp.xmp.Label Blue", "set Xmp.dc.subject mine"] if number % 5 == 0 else []),
        ]
        options = [part for command in commands for part in ("-M", command)]
        subprocess.run(["exiv2", *options, str(path)], check=True)
    theirs = {f"{number:03}.jpg" for number in range(50) if number % 2}
    mine = add_dataset("mine", "folder", folder, data=tmp_path / "data")
    assert set(read_xmp(mine.layout).found) == theirs and set(held(mine).values()) == {("stars", 2.0)}
    stars = {f"{number:03}.jpg": {"stars": 1.0 + number % 5, **HEAD} for number in range(n)}
    marks = {name: Marks("Green", ("keep", "für später"), {"Group": "000.jpg"}) for name in stars}
    write_xmp(mine.layout, stars, False, is_written=True, marks=marks)
    again = write_xmp(mine.layout, stars, False, is_written=True, marks=marks)
    assert {each.what for each in again} == {"same", "kept"}
    asked = ("-xmp:Rating", "-xmp:Title", "-xmp:Label", "-xmp:Subject", "-xmp:Group")
    read = json.loads(exiftool("-j", "-n", *asked, "-ext", "xmp", folder))
    assert len(read) == n
    for each in read:
        number = int(Path(each["SourceFile"]).name[:3])
        assert each["Rating"] == (2 if f"{number:03}.jpg" in theirs else 1 + number % 5)
        assert each.get("Title") == (f"title {number}" if number < 50 else None)
        has_own = number < 50 and number % 5 == 0
        assert each["Label"] == ("Blue" if has_own else "Green") and each["Group"] == "000.jpg"
        assert each["Subject"] == [*(["mine"] if has_own else []), "keep", "für später"]
    sidecars = [str(folder / f"{number:03}.jpg.xmp") for number in range(n)]
    done = subprocess.run(
        ["exiv2", "-PXkv", "-K", "Xmp.xmp.Rating", *sidecars], capture_output=True, text=True, check=True
    )
    values = [line.split()[-1] for line in done.stdout.splitlines()]
    by_exiv2 = ["exiv2", "-PXkv", "-K", "Xmp.dc.subject", "-K", "Xmp.xmp.Label", str(folder / "025.jpg.xmp")]
    told = subprocess.run(by_exiv2, capture_output=True, text=True, check=True).stdout
    assert "mine, keep, für später" in told and "Blue" in told
    assert values == [str(2 if f"{m:03}.jpg" in theirs else 1 + m % 5) for m in range(n)]
