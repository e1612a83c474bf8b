"""Files that somebody made to do harm: each is refused with a clear error, before memory is taken for it.

A hostile writer knows the format, so the content digest is right wherever the attack leaves it a meaning.
"""

import json
import os
import resource
import struct
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from store import (
    StoreError,
    load_derived,
    open_features,
    open_prompts,
    open_targets,
    save_derived,
    verify_file,
)
from store.digests import canonical_json, digest_blocks
from store.durable import make_folder, remove_folder, write_json
from store.errors import IntegrityError, SchemaError, SpaceError
from store.features import FEATURES_SCHEMA
from store.json_files import parse_json, read_json
from store.parts import begun_plan, begun_provenance
from store.prompts import PROMPTS_SCHEMA
from store.sealed import SealedFile, write_sealed
from store.sealed_file import root_digest
from store.targets import TARGETS_SCHEMA
from store.verify import stored_files
from tests.archives import make
from tests.faults.conftest import REPOSITORY

N = 5
OUT = "outputs/embedding"
TARGETS_IDENTITY = {"dataset": "d", "split_name": "s", "threshold": 5.0}


def arrays_of_features() -> dict[str, np.ndarray]:
    return {
        "image_id": np.array([f"i{n}" for n in range(N)]),
        "status": np.ones(N, np.uint8),
        "failures/row": np.zeros(0, np.int64),
        "failures/reason": np.array([], dtype=str),
        OUT: np.ones((N, 4), np.float32),
    }


@pytest.fixture
def features(tmp_path) -> Path:
    path = tmp_path / "x.h5"
    write_sealed(path, FEATURES_SCHEMA, {"backbone": "x"}, {}, arrays_of_features())
    return path


def refused(path: Path, what: str) -> None:
    """By opening and by verify, in one clear sentence."""
    with pytest.raises(StoreError, match=what) as caught:
        open_features(path)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 1000
    problems = verify_file(path).problems
    assert problems and what in problems[0]


def elsewhere(file: h5py.File, folder: Path) -> Path:
    path = folder / "secret.h5"
    with h5py.File(path, "w") as other:
        other["rows"] = np.ones((N, 4), np.float32)
    return path


ADDED = {
    "soft link": (
        lambda f, d: f.__setitem__("outputs/x", h5py.SoftLink("/outputs/embedding")),
        "a soft link",
    ),
    "dangling link": (lambda f, d: f.__setitem__("x", h5py.SoftLink("/nowhere")), "a soft link"),
    "loop": (lambda f, d: f["outputs"].__setitem__("again", f["/"]), "second name"),
    "second name": (lambda f, d: f.__setitem__("outputs/x", f[OUT]), "second name"),
    "external link": (
        lambda f, d: f.__setitem__("outputs/x", h5py.ExternalLink(str(elsewhere(f, d)), "/rows")),
        "a link to another file",
    ),
    "external link among digests": (
        lambda f, d: f.__setitem__("digests/x", h5py.ExternalLink("/etc/passwd", "/")),
        "a link to another file",
    ),
    "type": (lambda f, d: f.__setitem__("t", np.dtype("f4")), "is no array"),
    "empty group": (lambda f, d: f.create_group("hidden/deep"), "empty group"),
    "array": (lambda f, d: f.create_dataset("more", data=np.ones(3)), "do not correspond"),
    "array in a group": (lambda f, d: f.create_dataset("outputs/x/y", data=np.ones(3)), "do not correspond"),
    "digests without array": (
        lambda f, d: f.create_dataset("digests/x", data=np.zeros((1, 32), np.uint8)),
        "do not correspond",
    ),
    "attribute of a group": (lambda f, d: f["outputs"].attrs.__setitem__("x", 1), "has attributes"),
    "attribute of an array": (lambda f, d: f["image_id"].attrs.__setitem__("x", 1), "has attributes"),
    "root attribute": (lambda f, d: f.attrs.__setitem__("x", 1), "attributes are"),
    "thousand attributes": (
        lambda f, d: [f.attrs.__setitem__(f"x{i}", 1) for i in range(1000)],
        "attributes are",
    ),
    "deep groups": (lambda f, d: f.create_dataset("g/" * 40 + "x", data=np.ones(1)), "in one another"),
    "text of variable length": (lambda f, d: f.attrs.__setitem__("schema", "iaa/features"), "no single text"),
    "list of texts": (lambda f, d: f.attrs.__setitem__("digest", np.array([b"a", b"b"])), "no single text"),
    "number as text": (lambda f, d: f.attrs.__setitem__("block_rows", np.bytes_("2048")), "no single number"),
}


@pytest.mark.parametrize("name", ADDED)
def test_what_no_digest_covers_is_not_passed(features, tmp_path, name):
    add, what = ADDED[name]
    with h5py.File(features, "r+") as file:
        add(file, tmp_path)
    refused(features, what)


def create(file: h5py.File, name: str, **how) -> None:
    """Replace an array and its digests by one that is stored or declared in another way."""
    for old in (name, f"digests/{name}"):
        if old in file:
            del file[old]
    n_rows = (how.get("shape") or how["data"].shape)[0]
    file.create_dataset(name, **how)
    if "data" in how:
        file.create_dataset(f"digests/{name}", data=digest_blocks(np.ascontiguousarray(how["data"])))
    else:
        shape = (min(-(-n_rows // 2048), 2), 32)
        file.create_dataset(f"digests/{name}", data=np.zeros(shape, np.uint8))


def virtual(file: h5py.File, folder: Path) -> None:
    layout = h5py.VirtualLayout((N, 4), np.float32)
    layout[:] = h5py.VirtualSource(elsewhere(file, folder), "rows", (N, 4))
    del file[OUT]
    file.create_virtual_dataset(OUT, layout)


def late(file: h5py.File, name: str, shape: tuple[int, ...], dtype: object) -> None:
    """An array that is declared and never given a place."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.CONTIGUOUS)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
    space = h5py.h5s.create_simple(shape)
    del file[name]
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(np.dtype(dtype)), space, creation)


def single(file: h5py.File, value: object) -> None:
    del file["status"]
    file.create_dataset("status", data=value)


def overflow(file: h5py.File) -> None:
    """A shape of 2^64 values, which wraps to none in 64 bits; HDF5 itself writes no such."""
    late(file, OUT, (7919, 6007), "f4")
    path = Path(file.filename)
    file.close()
    content = path.read_bytes()
    assert content.count(struct.pack("<QQ", 7919, 6007)) == 2  # dimensions, and the largest they may grow to
    path.write_bytes(content.replace(struct.pack("<QQ", 7919, 6007), struct.pack("<QQ", 2**32, 2**32)))


ROWS = np.ones((N, 4), np.float32)
STORED = {
    "chunked": (lambda f, d: create(f, OUT, data=ROWS, chunks=(1, 4)), "not contiguous"),
    "filtered": (
        lambda f, d: create(f, OUT, data=ROWS, compression="gzip"),
        "not contiguous",
    ),
    "checksummed": (
        lambda f, d: create(f, OUT, data=ROWS, fletcher32=True),
        "not contiguous",
    ),
    "virtual": (virtual, "not contiguous but virtual"),
    "external rows": (
        lambda f, d: create(f, OUT, shape=(N, 4), dtype="f4", external=[("/etc/passwd", 0, 80)]),
        "in another file",
    ),
    "big-endian": (lambda f, d: create(f, OUT, data=ROWS.astype(">f4")), "little-endian"),
    "compound": (
        lambda f, d: create(f, "status", data=np.zeros(N, [("a", "i4"), ("b", "f8")])),
        "little-endian",
    ),
    "variable strings": (
        lambda f, d: create(f, "image_id", shape=(N,), dtype=h5py.string_dtype()),
        "little-endian",
    ),
    "references": (lambda f, d: create(f, "status", shape=(N,), dtype=h5py.ref_dtype), "little-endian"),
    "opaque": (lambda f, d: create(f, "status", data=np.zeros(N, "V5")), "little-endian"),
    "scalar": (
        lambda f, d: (f.__delitem__("status"), f.create_dataset("status", data=np.uint8(1))),
        "no rows",
    ),
    "no extent": (lambda f, d: single(f, h5py.Empty("u1")), "no rows"),
    "10^12 rows": (lambda f, d: late(f, OUT, (10**12, 4), "f4"), "ends at byte"),
    "overflow to 0": (lambda f, d: overflow(f), "is damaged"),
    "overflow to few": (lambda f, d: late(f, OUT, (2**62 + 5, 4), "u1"), "ends at byte"),
    "empty and wide": (lambda f, d: late(f, OUT, (0, 2**60), "f4"), "declares the shape"),
    "long and empty": (lambda f, d: late(f, OUT, (10**12, 0), "f4"), "declares the shape"),
    "wide text": (lambda f, d: late(f, "image_id", (0,), "S2147483647"), "declares values"),
    "10^9 digests": (lambda f, d: late(f, "digests/status", (10**9, 32), "u1"), "ends at byte"),
    "digests of no place": (lambda f, d: late(f, "digests/status", (1, 32), "u1"), "no place"),
    "digests of another type": (
        lambda f, d: (
            f.__delitem__("digests/status"),
            f.create_dataset("digests/status", data=np.zeros((1, 32), "i4")),
        ),
        "/digests/status is",
    ),
}


@pytest.mark.parametrize("name", STORED)
def test_rows_that_are_not_plain_rows_of_this_file(features, tmp_path, name):
    change, what = STORED[name]
    with h5py.File(features, "r+") as file:
        change(file, tmp_path)
    refused(features, what)


def test_nothing_large_is_taken_for_a_small_file(features):
    """Under a limit of memory that the declared sizes exceed by far."""
    with h5py.File(features, "r+") as file:
        late(file, OUT, (10**11, 4), "f4")
        late(file, "digests/outputs/embedding", (10**11 // 2048 + 1, 32), "u1")
    script = (
        "import sys, resource; from store import verify_file; from pathlib import Path\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (2**30, 2**30))\n"
        "print(verify_file(Path(sys.argv[1])).problems)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, features], capture_output=True, text=True, cwd=REPOSITORY, timeout=120
    )
    assert done.returncode == 0 and "ends at byte" in done.stdout, done.stderr
    assert resource.getrlimit(resource.RLIMIT_DATA)[0] != 2**30


def reseal(path: Path, **texts: str) -> None:
    """Write attributes as they are given, with the digest that an honest program would compute of them."""
    with SealedFile(path) as file:
        described = {name: file.described(name) for name in file.arrays}
        kind, identity, provenance = file.schema, file.identity, file.provenance
    values = {"identity": identity, "provenance": provenance}
    try:
        values |= {name: json.loads(text) for name, text in texts.items()}
        digest = root_digest(kind, values["identity"], values["provenance"], described)
    except (ValueError, RecursionError):
        digest = "0" * 64
    with h5py.File(path, "r+") as file:
        for name, text in {**texts, "digest": digest}.items():
            del file.attrs[name]
            file.attrs[name] = np.bytes_(text.encode("utf-8", "surrogateescape"))


JSON = {
    "deep": ('{"backbone":' + "[" * 20000 + "]" * 20000 + "}", "deeper than 64"),
    "too deep for comparing": ('{"backbone":' + "[" * 200 + "]" * 200 + "}", "deeper than 64"),
    "a key twice": ('{"backbone":"a","backbone":"x"}', "a key twice"),
    "a list": ("[]", "no JSON object"),
    "a number": ("1", "no JSON object"),
    "null": ("null", "no JSON object"),
    "nothing": ("", "no JSON"),
    "not a number": ('{"backbone":NaN}', "structure|digest"),
    "spaces": ('{"backbone": "x"}', "content digest"),
    "a number of 5,000 digits": ('{"backbone":' + "1" * 5000 + "}", "no JSON"),
    "backbone is a list": ('{"backbone":["x"]}', "needs 'backbone'"),
    "no backbone": ("{}", "needs 'backbone'"),
}


@pytest.mark.parametrize("name", JSON)
def test_identities_that_are_none(features, name):
    text, what = JSON[name]
    reseal(features, identity=text)
    with pytest.raises(StoreError, match=what):
        open_features(features)
    assert verify_file(features).problems


def test_provenance_is_read_within_the_same_bounds(features):
    reseal(features, provenance='{"a":' * 5000 + "1" + "}" * 5000)
    refused(features, "deeper than 64")


WRONG = {
    "status of another length": {"status": np.ones(N + 1, np.uint8)},
    "status as text": {"status": np.array(["a"] * N)},
    "ids as numbers": {"image_id": np.arange(N)},
    "ids as a matrix": {"image_id": np.array([[b"a", b"b"]] * N)},
    "vectors of another length": {OUT: np.ones((N + 1, 4), np.float32)},
    "vectors without width": {OUT: np.ones(N, np.float32)},
    "vectors as text": {OUT: np.array([["a"]] * N)},
    "reasons without rows": {"failures/reason": np.array(["x"])},
    "rows as fractions": {"failures/row": np.zeros(0)},
    "hashes of another width": {"source_sha256": np.ones((N, 31), np.uint8)},
    "sizes of another length": {"source_size": np.ones(N + 1, np.int64)},
}


@pytest.mark.parametrize("name", WRONG)
def test_features_with_a_right_digest_and_wrong_columns(tmp_path, name):
    path = tmp_path / "x.h5"
    write_sealed(path, FEATURES_SCHEMA, {"backbone": "x"}, {}, arrays_of_features() | WRONG[name])
    refused(path, "not what files of kind")


def test_failures_that_name_no_row(tmp_path):
    arrays = arrays_of_features()
    arrays |= {"failures/row": np.array([-1, 99]), "failures/reason": np.array(["a", "b"])}
    write_sealed(tmp_path / "x.h5", FEATURES_SCHEMA, {"backbone": "x"}, {}, arrays)
    refused(tmp_path / "x.h5", "rows marked failed and recorded failures differ")


def test_targets_and_prompts_with_a_right_digest_and_wrong_columns(tmp_path):
    ids = {name: np.array(["a", "b"]) for name in ("image_id", "path", "split")}
    for number, (identity, arrays) in enumerate(
        [
            ({}, ids),
            (TARGETS_IDENTITY | {"threshold": "5"}, ids),
            (TARGETS_IDENTITY, {"image_id": ids["image_id"]}),
            (TARGETS_IDENTITY, ids | {"path": np.array(["a"])}),
            (TARGETS_IDENTITY, ids | {"votes": np.ones((2, 3), np.int64)}),
            (TARGETS_IDENTITY, ids | {"votes": np.ones((2, 3), np.int64), "levels": np.arange(4)}),
            (TARGETS_IDENTITY, ids | {"votes": np.ones((2, 3)), "levels": np.arange(3)}),
            (TARGETS_IDENTITY, ids | {"scores": np.ones(3)}),
            (TARGETS_IDENTITY, ids | {"scores": np.array(["1", "2"])}),
            (TARGETS_IDENTITY, ids | {"columns/x": np.ones((2, 2))}),
        ]
    ):
        path = tmp_path / f"{number}.h5"
        write_sealed(path, TARGETS_SCHEMA, identity, {}, arrays)
        with pytest.raises(SchemaError):
            open_targets(path)
        assert verify_file(path).problems
    for number, change in enumerate(
        [
            {"text": np.arange(2)},
            {"polarity": np.array(["a"])},
            {OUT: np.ones((1, 4), np.int8)},
        ]
    ):
        path = tmp_path / f"p{number}.h5"
        identity = {"prompt_set": "s", "backbone": "b"}
        write_sealed(path, PROMPTS_SCHEMA, identity, {}, make.prompt_arrays() | change)
        with pytest.raises(SchemaError):
            open_prompts(path)
        assert verify_file(path).problems


@pytest.mark.parametrize(
    "names",
    [["a", "a/b"], ["a//b"], ["/a"], ["a/"], ["."], ["a/./b"], [""], ["digests/a"], ["a\udcff"], ["a\0b"],
     ["a/" * 40 + "b"]],
)  # fmt: skip
def test_arrays_that_hdf5_would_call_otherwise_are_not_written(tmp_path, names):
    """Columns of a table are arrays, under the names that somebody gave them."""
    with pytest.raises(SchemaError, match="Rename it"):
        write_sealed(tmp_path / "x.h5", "test", {}, {}, {name: np.ones(1) for name in names})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("names", [["a/b", "a/c"], [".."], ["a/../b"], ["x\ny"], ["é"], ["a b"]])
def test_all_other_names_come_back_as_they_were(tmp_path, names):
    write_sealed(tmp_path / "x.h5", "test", {}, {}, {name: np.ones(1) for name in names})
    assert list(SealedFile(tmp_path / "x.h5").arrays) == names
    assert verify_file(tmp_path / "x.h5").is_intact


def test_small_json_files_are_read_within_bounds(tmp_path):
    for text in (
        "[" * 100_000,
        '{"a":' * 70 + "1" + "}" * 70,
        "{",
        "",
        "\0",
        '{"a":1,"a":2}',
        "[]",
        "7",
        '"x"',
    ):
        (tmp_path / "x.h5.parts").mkdir(exist_ok=True)
        (tmp_path / "x.h5.parts" / "plan.json").write_text(text)
        with pytest.raises(IntegrityError, match="--overwrite"):
            begun_plan(tmp_path / "x.h5", {})
        assert begun_provenance(tmp_path / "x.h5") == {}
    with pytest.raises(StoreError, match="cannot be read"):
        read_json(tmp_path, "")
    assert parse_json(canonical_json({"a": [{"b": 1}]})) == {"a": [{"b": 1}]}


def test_a_damaged_cache_is_made_again_and_said(tmp_path, caplog):
    path, key = tmp_path / "derived" / "c.h5", {"k": 1}
    save_derived(path, {"gram": np.eye(300)}, key)
    whole = path.read_bytes()
    with SealedFile(path) as file:
        position = next(file.extents("gram"))[2]
    flipped = bytearray(whole)
    flipped[position] ^= 1
    for damage in (b"", b"not HDF5", whole[:-100], bytes(flipped)):
        path.write_bytes(damage)
        caplog.clear()
        assert load_derived(path, key) is None
        assert "computed again" in caplog.text and str(path) in caplog.text
    write_sealed(path, FEATURES_SCHEMA, {"backbone": "x"}, {}, arrays_of_features())
    assert load_derived(path, key) is None
    save_derived(path, {"gram": np.eye(300)}, key)
    np.testing.assert_array_equal(load_derived(path, key)["gram"], np.eye(300))


def test_a_cache_that_cannot_be_kept_costs_nothing_but_time(tmp_path, caplog):
    (tmp_path / "derived").write_text("a file")
    assert save_derived(tmp_path / "derived" / "c.h5", {"gram": np.eye(3)}, {}) == ""
    assert "computed again" in caplog.text


def test_links_are_not_written_through_or_emptied(tmp_path):
    """A data root that somebody sent may hold links to files of its reader."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "diary.txt").write_text("dear diary")
    root = tmp_path / "root"
    make_folder(root)
    (root / "x.h5.partial").symlink_to(mine / "diary.txt")
    (root / "x.json.partial").symlink_to(mine / "diary.txt")
    with pytest.raises(SpaceError, match="is a link"):
        write_sealed(root / "x.h5", "test", {}, {}, {"a": np.ones(1)})
    with pytest.raises(SpaceError, match="is a link"):
        write_json(root / "x.json", {})
    (root / "y.h5.parts").symlink_to(mine)
    remove_folder(root / "y.h5.parts")
    assert os.listdir(mine) == ["diary.txt"] and (mine / "diary.txt").read_text() == "dear diary"
    assert not (root / "y.h5.parts").is_symlink()
    (root / "z.h5").symlink_to(mine / "diary.txt")
    write_sealed(root / "z.h5", "test", {}, {}, {"a": np.ones(1)})  # the name is replaced, not what it led to
    assert (mine / "diary.txt").read_text() == "dear diary" and not (root / "z.h5").is_symlink()


def test_a_data_set_on_another_disk_is_verified_too(tmp_path, features):
    (tmp_path / "disk" / "set" / "features.h5.parts").mkdir(parents=True)
    for path in ("disk/set/a.h5", "disk/set/features.h5.parts/p.h5"):
        (tmp_path / path).write_bytes(features.read_bytes())
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "set").symlink_to(tmp_path / "disk" / "set")
    (tmp_path / "disk" / "set" / "loop").symlink_to(tmp_path / "root")
    assert [path.name for path in stored_files(tmp_path / "root")] == ["a.h5"]
