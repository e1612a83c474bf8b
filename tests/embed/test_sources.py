"""Images in tar files and behind URLs: listed once, in a stable order, read as the bytes they are."""

import io
import os
import pickle
import tarfile

import fsspec
import numpy as np
import pytest
from PIL import Image

from embed.changes import ChangedImagesError
from embed.datasets import add_dataset, build_table
from embed.loading import load_backbone
from embed.pipeline import Options, embed_images
from embed.reading import load_row
from embed.sources import expand_braces, open_source
from embed.tables import DatasetError
from embed.tars import list_members
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
        tables[name] = build_table(config, tmp_path / "data")
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
    table = build_table(config, tmp_path / "data")
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
    table = build_table(config, tmp_path / "data")
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
    row = load_row(source.at("0.jpg"), [], False, 10**6, False)
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
    table = build_table(config, tmp_path / "data")
    assert table.path.tolist() == ["2.jpg", "10.jpg", "s/x.PNG"]
    assert table.absolute(1).read_bytes() == b"ten"
    if scheme == "memory":
        assert table.absolute(1).size_and_time() == (3, 0)
    for pattern in ("*.tar", "{00..01}.tar"):
        source = open_source(f"{scheme}://{root}/tars/{pattern}", "d")
        assert sorted(source.files) == ["2.png", "a/1.jpg"] and "2 tar members repeat" in source.notes[0]
        assert source.at("a/1.jpg").read_bytes() == jpeg(1)
    filesystem.rm(f"{root}/10.jpg")
    row = load_row(table.absolute(1), [], False, 10**6, False)
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
        table = build_table(config, tmp_path / "data")
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
        tables.append(build_table(config, tmp_path / "data"))
    assert [len(t) for t in tables] == [7, 7] and tables[0].digest == tables[1].digest
    assert tables[0].notes[0].startswith("4 tar members repeat the name and the bytes of another")
    every = add_dataset(tmp_path / "data", "all", "folder", images=f"{folder}/tars/*.tar", shard_in_id=True)
    assert len(build_table(every, tmp_path / "data")) == 11
    backbone = load_backbone("demo_clip")
    for table in tables:
        outcome = embed_images(table, [backbone], tmp_path / table.dataset, Options(n_threads=2))[0]
        assert (outcome.n_images, outcome.n_failed) == (7, 0)
    one, other = (open_features(tmp_path / t.dataset / "demo_clip.h5") for t in tables)
    assert one.identity == other.identity
    for output in one.outputs:
        assert one.read(output).tobytes() == other.read(output).tobytes()
