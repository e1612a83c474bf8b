"""Images in tar files and behind URLs: listed once, in a stable order, read as the bytes they are."""

import io
import os
import pickle
import tarfile
import tracemalloc

import fsspec
import numpy as np
import pytest
from PIL import Image

from embed.backbones.loading import load_backbone
from embed.images.changes import ChangedImagesError
from embed.images.datasets import add_dataset, build_table
from embed.images.errors import DatasetError
from embed.images.sources import open_source
from embed.images.sources.tars import expand_braces, list_members
from embed.options import Decoding
from embed.pipeline import Options, embed_images
from embed.reading import load_row
from store import open_features


def jpeg(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def make_tar(path, *members, format=tarfile.PAX_FORMAT):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def memory():
    filesystem = fsspec.filesystem("memory")
    yield filesystem
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_members_are_read_where_they_lie(tmp_path, format):
    deep = "/".join(["folder"] * 13) + "/ä.jpg"  # longer than a header's 100 bytes
    members = [("./b.jpg", b"bb"), (deep, b"x" * 1000), ("b.txt", b"caption"), ("empty.png", b"")]
    members += [("._b.jpg", b"mac"), (".hidden/c.jpg", b"c")]
    tar = make_tar(tmp_path / "a.tar", *members, format=format)
    source = open_source(str(tar), "d")
    assert sorted(source.files) == sorted(["b.jpg", deep, "empty.png"])
    assert source.at("b.jpg").read_bytes() == b"bb"
    assert source.at(deep).read_bytes() == b"x" * 1000
    assert source.at("empty.png").read_bytes() == b""
    assert pickle.loads(pickle.dumps(source.at(deep))).read_bytes() == b"x" * 1000


def test_packing_anew_changes_neither_order_nor_digest(tmp_path):
    files = {f"img{i}.jpg": jpeg(i) for i in range(12)}
    for name, data in files.items():
        (tmp_path / "folder").mkdir(exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(data)
    pairs = list(files.items())
    make_tar(tmp_path / "one" / "0.tar", *pairs[::-1])
    make_tar(tmp_path / "two" / "0.tar", *pairs[6:])
    make_tar(tmp_path / "two" / "1.tar", *pairs[:6], *pairs[7:9])
    places = {"f": tmp_path / "folder", "a": tmp_path / "one" / "*.tar", "b": tmp_path / "two" / "{0,1}.tar"}
    tables = {}
    for name, images in places.items():
        config = add_dataset(tmp_path / "data", name, "folder", images=str(images))
        tables[name] = build_table(config)
    assert tables["f"].path.tolist()[:3] == ["img0.jpg", "img1.jpg", "img2.jpg"]
    assert len({table.digest for table in tables.values()}) == 1
    assert "2 tar members repeat" in tables["b"].notes[0] and tables["a"].notes == ()
    for row, data in enumerate(files.values()):
        assert {t.absolute(row).read_bytes() for t in tables.values()} == {data}


def test_one_name_with_two_contents_is_an_error_unless_tars_are_named(tmp_path):
    make_tar(tmp_path / "a.tar", ("0.jpg", jpeg(1)), ("1.jpg", jpeg(2)))
    make_tar(tmp_path / "b.tar", ("0.jpg", jpeg(3)), ("1.jpg", jpeg(2)))
    pattern = str(tmp_path / "*.tar")
    with pytest.raises(DatasetError, match=r"'0.jpg' stands in .*a.tar and in .*b.tar .*-o shard_in_id=true"):
        open_source(pattern, "d")
    config = add_dataset(tmp_path / "data", "d", "folder", images=pattern, shard_in_id=True)
    table = build_table(config)
    assert table.image_id.tolist() == ["a/0.jpg", "a/1.jpg", "b/0.jpg", "b/1.jpg"]
    (tmp_path / "a.tar").rename(tmp_path / "c.tar")
    make_tar(tmp_path / "c.tar", ("0.jpg", b"one"), ("0.jpg", b"two"))
    with pytest.raises(DatasetError, match=r"'0.jpg' stands in .*c.tar and in .*c.tar"):
        open_source(str(tmp_path / "c.tar"), "d")
    with pytest.raises(DatasetError, match="shard_in_id is for tar files"):
        open_source(str(tmp_path), "d", shard_in_id=True)


def test_ratings_find_their_image_in_a_tar(tmp_path):
    make_tar(tmp_path / "a.tar", ("x/1.jpg", jpeg(1)), ("x/2.jpg", jpeg(2)), ("x/3.jpg", jpeg(3)))
    (tmp_path / "r.csv").write_text("file,score\nx/2.jpg,1\nx/1.jpg,2\nx/9.jpg,3\n")
    config = add_dataset(
        tmp_path / "data", "d", "table", images=str(tmp_path / "a.tar"), ratings=tmp_path / "r.csv"
    )
    table = build_table(config)
    assert table.image_id.tolist() == ["x/2.jpg", "x/1.jpg"]
    assert (table.missing_files, table.unlabelled_files) == (["x/9.jpg"], ["x/3.jpg"])
    assert table.absolute(0).read_bytes() == jpeg(2)


def test_patterns_stand_for_every_tar_or_are_an_error(tmp_path):
    assert expand_braces("a{08..10}.tar") == ["a08.tar", "a09.tar", "a10.tar"]
    assert expand_braces("{x,y}/{1..2}") == ["x/1", "x/2", "y/1", "y/2"]
    assert expand_braces("plain") == ["plain"]
    make_tar(tmp_path / "00.tar", ("0.jpg", b"0"))
    make_tar(tmp_path / "01.tar", ("1.jpg", b"1"))
    assert sorted(open_source(str(tmp_path / "{00..01}.tar"), "d").files) == ["0.jpg", "1.jpg"]
    with pytest.raises(DatasetError, match=r"02.tar and 1 more: no such tar file; expected"):
        open_source(str(tmp_path / "{00..03}.tar"), "d")
    with pytest.raises(DatasetError, match="no such tar file"):
        open_source(str(tmp_path / "x*.tar"), "d")
    with pytest.raises(DatasetError, match=r"holds no images but 2 tar files. Say so: --images '.*/\*.tar'"):
        open_source(str(tmp_path), "d")
    make_tar(tmp_path / "t.tar", ("a.txt", b"0"))
    with pytest.raises(DatasetError, match="no images in 1 tar files"):
        open_source(str(tmp_path / "t.tar"), "d")


def test_tars_that_are_not_whole_are_errors(tmp_path):
    members = [("0.jpg", b"0" * 3000), ("1.jpg", b"1" * 3000)]
    whole = make_tar(tmp_path / "a.tar", *members).read_bytes()
    end = 2 * (512 + 3072)
    for n_bytes in [*range(1, end, 97), 512, 3584, end]:
        (tmp_path / "cut.tar").write_bytes(whole[:n_bytes])
        with pytest.raises(DatasetError, match=r"[Cc]ut short"):
            list(list_members(str(tmp_path / "cut.tar")))
    (tmp_path / "cut.tar").write_bytes(whole[: end + 512])
    assert len(list(list_members(str(tmp_path / "cut.tar")))) == 2
    damaged = bytearray(whole)
    damaged[3584 + 20] ^= 1  # in the second header
    (tmp_path / "damaged.tar").write_bytes(damaged)
    with pytest.raises(DatasetError, match=r"no end mark after its 1 members .byte 3,584"):
        list(list_members(str(tmp_path / "damaged.tar")))
    (tmp_path / "joined.tar").write_bytes(whole + whole)
    with pytest.raises(DatasetError, match=r"goes on after its end mark .*several tars joined"):
        list(list_members(str(tmp_path / "joined.tar")))
    with tarfile.open(tmp_path / "z.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "a.tar", "a.jpg")
    with pytest.raises(DatasetError, match="is compressed"):
        open_source(str(tmp_path / "z.tar.gz"), "d")
    (tmp_path / "html.tar").write_bytes(b"<html>" * 500)
    with pytest.raises(DatasetError, match="cannot be listed after 0 members"):
        open_source(str(tmp_path / "html.tar"), "d")


def test_a_tar_that_changes_gives_failed_rows_and_never_other_bytes(tmp_path):
    tar = make_tar(tmp_path / "a.tar", ("0.jpg", jpeg(0)), ("1.jpg", jpeg(0)))
    source = open_source(str(tar), "d")
    make_tar(tar, ("1.jpg", jpeg(0)), ("0.jpg", jpeg(0)))  # same sizes, another order
    for name in ("0.jpg", "1.jpg"):
        with pytest.raises(OSError, match="has changed since it was listed"):
            source.at(name).read_bytes()
    tar.write_bytes(tar.read_bytes()[:700])
    with pytest.raises(OSError, match="ends inside this member"):
        source.at("1.jpg").read_bytes()
    tar.unlink()
    row = load_row(source.at("0.jpg"), Decoding(max_pixels=10**6))
    assert row.pixels is None and row.reason == "cannot read: No such file or directory"
    with tarfile.open(tar, "w") as archive:
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "0.jpg"
        archive.addfile(link)
    with pytest.raises(OSError, match="a link inside the tar"):
        open_source(str(tar), "d").at("link.jpg").read_bytes()


@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_folders_and_tars_behind_urls(tmp_path, memory, scheme):
    root = "/photos" if scheme == "memory" else str(tmp_path / "photos")
    filesystem = fsspec.filesystem(scheme)
    tar = make_tar(tmp_path / "x.tar", ("a/1.jpg", jpeg(1)), ("2.png", b"two")).read_bytes()
    files = {"10.jpg": b"ten", "2.jpg": b"two", "s/x.PNG": b"x", ".h/y.jpg": b"no", "t.txt": b""}
    for name, data in files.items():
        filesystem.makedirs(os.path.dirname(f"{root}/{name}"), exist_ok=True)
        filesystem.pipe_file(f"{root}/{name}", data)
    filesystem.makedirs(f"{root}/tars", exist_ok=True)
    for name in ("00.tar", "01.tar"):
        filesystem.pipe_file(f"{root}/tars/{name}", tar)
    config = add_dataset(tmp_path / "data", "d", "folder", images=f"{scheme}://{root}")
    table = build_table(config)
    assert table.path.tolist() == ["2.jpg", "10.jpg", "s/x.PNG"]
    assert table.absolute(1).read_bytes() == b"ten"
    if scheme == "memory":
        assert table.absolute(1).size_and_time() == (3, 0)
    for pattern in ("*.tar", "{00..01}.tar"):
        source = open_source(f"{scheme}://{root}/tars/{pattern}", "d")
        assert sorted(source.files) == ["2.png", "a/1.jpg"] and "2 tar members repeat" in source.notes[0]
        assert source.at("a/1.jpg").read_bytes() == jpeg(1)
    filesystem.rm(f"{root}/10.jpg")
    row = load_row(table.absolute(1), Decoding(max_pixels=10**6))
    assert row.pixels is None and row.reason.startswith("cannot read: ")
    with pytest.raises(DatasetError, match="no such tar file"):
        open_source(f"{scheme}://{root}/tars/{{00..02}}.tar", "d")


def test_urls_that_cannot_be_opened_say_what_to_do(tmp_path, memory):
    with pytest.raises(DatasetError, match="Protocol not known: nosuch"):
        open_source("nosuch://x/y", "d")
    with pytest.raises(DatasetError, match="memory://nowhere is no folder"):
        open_source("memory://nowhere", "d")


@pytest.mark.parametrize("check_content", [False, True])
def test_an_image_that_is_replaced_in_its_tar_is_found(tmp_path, check_content):
    tar = make_tar(tmp_path / "a.tar", ("0.jpg", jpeg(0)), ("1.jpg", jpeg(1)))
    config = add_dataset(tmp_path / "data", "d", "folder", images=str(tar))
    backbone = load_backbone("demo_vit")
    options = Options(n_threads=2, check_content=check_content)

    def embed_again():
        table = build_table(config)
        return embed_images(table, [backbone], tmp_path / "f", options)[0].n_new

    assert (embed_again(), embed_again()) == (2, 0)
    made = os.stat(tar)
    other = bytearray(jpeg(1))
    other[-3] ^= 1
    make_tar(tar, ("1.jpg", bytes(other)), ("0.jpg", jpeg(0)))  # of the same size, at another place
    if check_content:
        os.utime(tar, ns=(made.st_atime_ns, made.st_mtime_ns))
    with pytest.raises(ChangedImagesError, match=r"1 images are other files .*'1.jpg' .row 1"):
        embed_again()


@pytest.mark.shared_data
def test_vectors_from_tars_are_those_from_files_bit_for_bit(tmp_path, shared_data):
    folder = shared_data / "clip_transform"
    tables = []
    for name, images in [("tars", f"{folder}/tars/*.tar"), ("files", f"{folder}/images")]:
        config = add_dataset(tmp_path / "data", name, "folder", images=images)
        tables.append(build_table(config))
    assert [len(t) for t in tables] == [7, 7] and tables[0].digest == tables[1].digest
    assert tables[0].notes[0].startswith("4 tar members repeat the name and the bytes of another")
    every = add_dataset(tmp_path / "data", "all", "folder", images=f"{folder}/tars/*.tar", shard_in_id=True)
    assert len(build_table(every)) == 11
    backbone = load_backbone("demo_clip")
    for table in tables:
        outcome = embed_images(table, [backbone], tmp_path / table.dataset, Options(n_threads=2))[0]
        assert (outcome.n_images, outcome.n_failed) == (7, 0)
    one, other = (open_features(tmp_path / t.dataset / "demo_clip.h5") for t in tables)
    assert one.identity == other.identity
    for output in one.outputs:
        assert one.read(output).tobytes() == other.read(output).tobytes()


def member(name, data=b"", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def write_tar(path, *members, format=tarfile.GNU_FORMAT):
    with tarfile.open(path, "w", format=format) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return str(path)


def test_member_names_that_lead_elsewhere_are_paths_below(tmp_path):
    tar = write_tar(
        tmp_path / "a.tar",
        member("../../etc/1.jpg", b"1"), member("/abs/2.jpg", b"2"), member("a/../3.jpg", b"3"),
        member("a..b/4..jpg", b"4"), member("..", b""), member("//5.jpg", b"5"),
    )  # fmt: skip
    source = open_source(tar, "d")
    assert sorted(source.files) == ["3.jpg", "5.jpg", "a..b/4..jpg", "abs/2.jpg", "etc/1.jpg"]
    assert source.at("etc/1.jpg").read_bytes() == b"1"
    assert source.notes == ("2 tar members have '..' in their names; they are called by what follows it",)
    write_tar(tmp_path / "a.tar", member("../1.jpg", b"1"), member("1.jpg", b"other"))
    with pytest.raises(DatasetError, match="'1.jpg' stands in .* with different bytes"):
        open_source(tar, "d")


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "a link"),
        ({"type": tarfile.LNKTYPE, "linkname": "0.jpg"}, "a link"),
        ({"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5}, "a device or pipe"),
        ({"type": tarfile.BLKTYPE}, "a device or pipe"),
        ({"type": tarfile.FIFOTYPE}, "a device or pipe"),
    ],
)
def test_members_that_are_no_files_are_failed_rows(tmp_path, fields, what):
    tar = write_tar(tmp_path / "a.tar", member("0.jpg", jpeg(0)), member("1.jpg", **fields))
    row = load_row(open_source(tar, "d").at("1.jpg"), Decoding(max_pixels=10**6))
    assert row.pixels is None and row.reason == f"cannot read: it is {what} inside the tar file, not an image"


def test_a_sparse_member_is_a_failed_row(tmp_path):
    write_tar(
        tmp_path / "a.tar",
        member("1.jpg", b"5\n", pax_headers={"GNU.sparse.map": "0,2", "GNU.sparse.size": "1000000000000"}),
        format=tarfile.PAX_FORMAT,
    )
    with pytest.raises(OSError, match="a sparse member"):
        open_source(str(tmp_path / "a.tar"), "d").at("1.jpg").read_bytes()


def test_names_in_any_bytes_and_another_case(tmp_path):
    odd = os.fsdecode(b"raw\xff.jpg")
    tar = write_tar(tmp_path / "a.tar", member(odd, b"1"), member("A.jpg", b"2"), member("a.JPG", b"3"))
    source = open_source(tar, "d")
    assert sorted(source.files) == sorted([odd, "A.jpg", "a.JPG"])
    assert source.at(odd).read_bytes() == b"1"
    assert "1 names stand several times, different only in case" in source.notes[0]
    nul = write_tar(
        tmp_path / "b.tar", member("a.jpg", pax_headers={"path": "a\0b.jpg"}), format=tarfile.PAX_FORMAT
    )
    with pytest.raises(DatasetError, match="no file can have that name"):
        open_source(nul, "d")


def test_headers_that_would_fill_the_memory_are_refused(tmp_path):
    for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE):
        header = tarfile.TarInfo("x")
        header.type, header.size = kind, 5 * 2**30
        path = tmp_path / "a.tar"
        path.write_bytes(header.tobuf(tarfile.GNU_FORMAT))
        with open(path, "r+b") as file:
            file.truncate(6 * 2**30)  # holes: it takes no room
        with pytest.raises(DatasetError, match="a header says that it has 5,368,709,120 bytes, more than"):
            open_source(str(path), "d")
    chain = b""
    for _ in range(5000):
        pax = tarfile.TarInfo("x")
        pax.type = tarfile.XHDTYPE
        pax.size = 12
        chain += pax.tobuf(tarfile.GNU_FORMAT) + b"12 path=a.a\n".ljust(512, b"\0")
    path.write_bytes(chain + bytes(1024))
    with pytest.raises(DatasetError, match="cannot be listed after 0 members"):
        open_source(str(path), "d")


def test_a_header_that_leads_backwards_ends(tmp_path):
    header = bytearray(member("a.jpg")[0].tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + b"\xfc\0"  # a negative size, base 256
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "a.tar").write_bytes(bytes(header) * 3 + bytes(1024))
    with pytest.raises(DatasetError, match=r"a\.tar (cannot be listed|has no end mark)"):
        open_source(str(tmp_path / "a.tar"), "d")


def test_listing_many_members_keeps_little_of_each(tmp_path):
    block = bytearray()
    for i in range(20_000):
        block += member(f"{i:06}.jpg")[0].tobuf(tarfile.USTAR_FORMAT)
    (tmp_path / "a.tar").write_bytes(bytes(block) + bytes(1024))
    tracemalloc.start()
    try:
        assert len(open_source(str(tmp_path / "a.tar"), "d").files) == 20_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak / 20_000 < 700, "bytes per member: its name and place, not tarfile's 2 KB"


def test_braces_are_bounded_before_they_are_taken_apart():
    with pytest.raises(
        DatasetError, match="stands for 100,000,000,000 names, more than the limit of 1,000,000"
    ):
        expand_braces("x/{00000000000..99999999999}.tar")
    with pytest.raises(DatasetError, match="stands for 1,000,000,000,000 names"):
        expand_braces("{0..9999}/{0..9999}/{0..9999}.tar")
    assert expand_braces("{10..8}") == ["8", "9", "10"]
    assert expand_braces("{" + "9" * 5000 + ".." + "9" * 5000 + "}")[0].startswith("999"), "no number: a name"


def test_excluded_names_and_raw_twins_in_tars(tmp_path):
    tar = make_tar(
        tmp_path / "a.tar", ("a.jpg", b"1"), ("a.CR2", b"2"), ("__MACOSX/b.jpg", b"3"),
        ("x/@eaDir/c.jpg/d.jpg", b"4"),
        ("x/@eaDir/e.jpg", b"5"), ("drafts/f.jpg", b"6"), ("a.json", b"{}"), ("a.txt", b""), ("b.txt", b""),
    )  # fmt: skip
    source = open_source(str(tar), "d", exclude=["drafts"])
    assert source.files == ["a.jpg"]
    assert source.passed_over == {".json": 1, ".txt": 2}
    assert source.notes[0].startswith("left out by name: @eaDir 1, __MACOSX 1, drafts 1")
    assert source.notes[1].startswith("1 raw files lie beside a JPEG")
