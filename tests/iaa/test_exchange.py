"""Ways in and out: bytes survive the round trip, failed rows stay failed, wrong counts are refused."""

import csv
import json
import os
from pathlib import Path

import duckdb
import lance
import numpy as np
import pyarrow as pa
import pyarrow.dataset as pa_dataset
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from iaa.exchange import FORMATS
from iaa.exchange import safetensors as safetensors_format
from iaa.exchange.clip_retrieval import read as read_clip_retrieval
from iaa.exchange.clip_retrieval import write as export_clip_retrieval
from iaa.exchange.csv import write as export_csv
from iaa.exchange.embedding_atlas import write as export_atlas
from iaa.exchange.lance import write as export_lance
from iaa.exchange.npy import read as read_npy
from iaa.exchange.parquet import write as export_parquet
from iaa.exchange.parquet import write_folder
from iaa.exchange.safetensors import write as export_safetensors
from iaa.library.errors import UsageError
from iaa.library.exchange import _replacing, format_of
from store import MissingFileError, SchemaError, Status, StoreError, open_features, unit_rows, verify_file
from store.csv_files import safe_cell, unsafe_cell
from store.digests import BLOCK_ROWS
from store.features import FEATURES_SCHEMA, Features
from store.imports import join, measure_lengths, write_imported
from store.sealed import write_sealed

N, DIM = 2500, 6  # two blocks
FAILED = {3: "empty file", 2100: "cannot read: gone"}


@pytest.fixture
def features(tmp_path, rng):
    vectors = {"embedding": rng.normal(size=(N, DIM)), "pre_projection": rng.normal(size=(N, 4))}
    vectors = {name: v.astype(np.float32) for name, v in vectors.items()}
    status = np.full(N, Status.OK, np.uint8)
    for v in vectors.values():
        v[list(FAILED)] = np.nan
    status[list(FAILED)] = Status.FAILED
    arrays = {
        "image_id": np.array([f"é {i}" for i in range(N)]),
        "status": status,
        "failures/row": np.array(list(FAILED)),
        "failures/reason": np.array(list(FAILED.values())),
        **{f"outputs/{name}": v for name, v in vectors.items()},
    }
    path = tmp_path / "f.h5"
    write_sealed(path, FEATURES_SCHEMA, {"backbone": "b", "images": "1"}, {"torch": "2"}, arrays)
    with open_features(path) as opened:
        yield opened


def same(one, other):
    return one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()


def vectors_of(column, features, name):
    """The vectors of an Arrow column, whose failed rows must be null."""
    column = pa.chunked_array(column)
    assert [i for i in range(N) if not column[i].is_valid] == list(FAILED)
    kept = column.filter(pa.array(features.ok)).combine_chunks()
    return kept.flatten().to_numpy().reshape(-1, features.outputs[name])


def test_fragments_are_one_table_for_pyarrow_and_duckdb(features, tmp_path):
    folder = tmp_path / "out"
    assert write_folder(features, folder, ["embedding", "pre_projection"], rows_per_fragment=2048) == N
    assert sorted(file.name for file in folder.iterdir()) == ["part-00000.parquet", "part-00001.parquet"]
    table = pa_dataset.dataset(folder).to_table()
    assert table.column("image_id").to_pylist() == features.image_id.tolist()
    for name in features.outputs:
        assert same(vectors_of(table.column(name), features, name), features.read(name, features.ok))
    for file in folder.iterdir():  # each says what it was made from
        assert json.loads(pq.read_schema(file).metadata[b"iaa"])["digest"] == features.digest
    query = "select count(*), count(embedding), count(failure), sum(embedding[2]) from read_parquet(?)"
    n, n_vectors, n_failures, total = duckdb.execute(query, [str(folder / "*.parquet")]).fetchone()
    assert (n, n_vectors, n_failures) == (N, N - 2, 2)
    second = features.read("embedding", features.ok)[:, 1]
    assert total == pytest.approx(second.sum(dtype=np.float64), rel=1e-6)


def test_lance_opens_what_was_exported(features, tmp_path):
    place = tmp_path / "v.lance"
    assert export_lance(features, place, ["embedding"], rows_per_fragment=1000) == N
    opened = lance.dataset(str(place))
    assert len(opened.get_fragments()) == 3 and opened.count_rows() == N
    table = opened.to_table()
    assert table.column("image_id").to_pylist() == features.image_id.tolist()
    assert table.column("status").to_pylist()[3] == "failed"
    found = vectors_of(table.column("embedding"), features, "embedding")
    assert same(found, features.read("embedding", features.ok))
    assert json.loads(opened.schema.metadata[b"iaa"])["digest"] == features.digest
    query = unit_rows(features.read("embedding", slice(7, 8)))[0]
    nearest = opened.to_table(nearest={"column": "embedding", "q": query, "k": 1, "metric": "cosine"})
    assert nearest.column("image_id").to_pylist() == ["é 7"]


def test_embedding_atlas_gets_a_place_for_each_photograph(features, tmp_path):
    file = tmp_path / "atlas.parquet"
    assert export_atlas(features, file, ["embedding"]) == N
    table = pq.read_table(file)
    places = np.array([table.column(name).to_numpy() for name in ("projection_x", "projection_y")]).T
    assert np.isnan(places[list(FAILED)]).all() and table.column("projection_x").null_count == 2
    X = unit_rows(features.read("embedding", features.ok)).astype(np.float64)
    _, _, axes = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    for axis in (0, 1):  # numpy's own principal components, drawn to 0 to 1
        assert abs(np.corrcoef(places[features.ok, axis], X @ axes[axis])[0, 1]) > 0.999
    found = vectors_of(table.column("embedding"), features, "embedding")
    assert same(found, features.read("embedding", features.ok))


def test_what_is_no_export_is_not_replaced(features, tmp_path):
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    (photographs / "a.jpg").write_bytes(b"")
    for name in ("parquet-folder", "lance", "clip-retrieval", "parquet", "embedding-atlas"):
        with pytest.raises(UsageError, match="left as it is"), _replacing(photographs, FORMATS[name]):
            pass
    write_folder(features, tmp_path / "out", ["embedding"])
    with pytest.raises(UsageError, match="left as it is"), _replacing(tmp_path / "out", FORMATS["lance"]):
        pass
    with _replacing(tmp_path / "out", FORMATS["parquet-folder"]) as new:
        write_folder(features, new, ["pre_projection"])
    assert pq.read_schema(tmp_path / "out/part-00000.parquet").names[-1] == "pre_projection"


def test_an_ending_that_several_formats_have():
    assert format_of(Path("v.parquet"), None) == "parquet"
    assert format_of(Path("v.parquet"), "embedding-atlas") == "embedding-atlas"
    assert format_of(Path("v.lance"), None) == "lance"
    with pytest.raises(UsageError, match="ends as a file of parquet"):
        format_of(Path("v.parquet"), "lance")


def test_parquet_holds_every_row_bit_for_bit(features, tmp_path):
    paths = np.array([f"p/{i}.jpg" for i in range(N)])
    file = tmp_path / "out" / "v.parquet"
    assert export_parquet(features, file, ["embedding", "pre_projection"], paths=paths) == N
    table = pq.read_table(file)
    assert table.column_names == [
        "image_id", "image_path", "status", "failure", "embedding", "pre_projection",
    ]  # fmt: skip
    assert table.column("image_id").to_pylist() == features.image_id.tolist()
    assert table.column("image_path").to_pylist() == paths.tolist()
    assert {i: r for i, r in enumerate(table.column("failure").to_pylist()) if r} == FAILED
    for name in features.outputs:
        column = table.column(name)
        assert [i for i in range(N) if not column[i].is_valid] == list(FAILED)
        kept = column.filter(pa.array(features.ok)).combine_chunks()
        vectors = kept.flatten().to_numpy().reshape(-1, features.outputs[name])
        assert same(vectors, features.read(name, features.ok))
    about = json.loads(pq.read_schema(file).metadata[b"iaa"])
    assert (about["digest"], about["is_unit_length"]) == (features.digest, False)
    assert about["provenance"] == features.provenance
    assert not list(tmp_path.rglob("*.partial"))


def test_safetensors_hold_every_row_bit_for_bit(features, tmp_path):
    file = tmp_path / "v.safetensors"
    assert export_safetensors(features, file, ["embedding"]) == N
    tensors = load_file(file)
    assert same(tensors["embedding"], features.read("embedding"))
    assert tensors["status"].tolist() == features.status.tolist()
    with safe_open(file, "np") as opened:
        about = opened.metadata()
    assert json.loads(about["image_id"]) == features.image_id.tolist()
    assert json.loads(about["failures"]) == {str(k): v for k, v in FAILED.items()}


@pytest.mark.parametrize("unit_norm", [False, True])
def test_files_are_those_of_their_libraries_and_made_block_by_block(
    features, tmp_path, monkeypatch, unit_norm
):
    wholes = {name: features.read(name, unit_norm=unit_norm) for name in features.outputs}
    if unit_norm:  # lengths of blocks, whose sums may round otherwise
        wholes = {name: np.concatenate([rows for _, rows in features.blocks(name, True)]) for name in wholes}
    kept = np.concatenate([rows[features.ok[start : start + len(rows)]] for start, rows in
                           features.blocks("embedding", unit_norm)])  # fmt: skip
    asked = []
    read = Features.read

    def counted(self, *given):
        asked.append(len(rows := read(self, *given)))
        return rows

    monkeypatch.setattr(Features, "read", counted)
    export_safetensors(features, tmp_path / "v.safetensors", ["pre_projection", "embedding"], unit_norm)
    export_clip_retrieval(features, tmp_path / "all", ["embedding"], unit_norm)
    export_clip_retrieval(features, tmp_path / "ok", ["embedding"], unit_norm, only_ok=True)
    assert max(asked) == BLOCK_ROWS < N
    for folder, matrix in (("all", wholes["embedding"]), ("ok", kept)):
        np.save(tmp_path / "as_numpy.npy", matrix)
        (file,) = (tmp_path / folder / "img_emb").iterdir()
        assert file.read_bytes() == (tmp_path / "as_numpy.npy").read_bytes()
    with safe_open(tmp_path / "v.safetensors", "np") as opened:
        said = opened.metadata()
    save_file({**wholes, "status": features.status}, tmp_path / "theirs", said)
    ours, theirs = ((tmp_path / name).read_bytes() for name in ("v.safetensors", "theirs"))
    n = int.from_bytes(ours[:8], "little") + 8
    assert ours[:8] == theirs[:8] and ours[n:] == theirs[n:]
    headers = [json.loads(each[8:n]) for each in (ours, theirs)]  # the library shuffles what is said
    assert headers[0] == headers[1] and list(headers[0]) == list(headers[1])


def test_safetensors_say_what_their_header_cannot_hold(features, tmp_path, monkeypatch):
    monkeypatch.setattr(safetensors_format, "MAX_HEADER_BYTES", 20_000)
    with pytest.raises(StoreError, match=r"2,500 ids and failures take .* --to parquet"):
        export_safetensors(features, tmp_path / "v.safetensors", ["embedding"])
    with pytest.raises(SchemaError, match="an output called 'status'"):
        export_safetensors(features, tmp_path / "v.safetensors", ["status"])
    assert not list(tmp_path.glob("v.safetensors*"))


@pytest.mark.skipif(os.name == "nt", reason="no modes")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_every_file_has_the_mode_that_the_umask_leaves(features, tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        for number, write in enumerate((export_safetensors, export_csv, export_parquet)):
            write(features, tmp_path / f"out/{number}", ["embedding"])
        export_clip_retrieval(features, tmp_path / "out/cr", ["embedding"])
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(files) == 5 and {path.stat().st_mode & 0o777 for path in files} == {mode}


@pytest.mark.parametrize("rows_per_file", [1_000_000, 999, 200])
def test_there_and_back_through_clip_retrievals_layout(features, tmp_path, rows_per_file):
    folder = tmp_path / "cr"
    assert export_clip_retrieval(features, folder, ["embedding"], rows_per_file=rows_per_file) == N
    n_files = -(-N // rows_per_file)
    names = sorted(f.name for f in (folder / "img_emb").iterdir())
    assert len(names) == n_files and names[0] == f"img_emb_{'0' * len(str(n_files))}.npy"
    found = read_clip_retrieval(folder)
    assert found.ids.tolist() == features.image_id.tolist() and found.failures == FAILED
    assert found.output == "embedding"
    back = tmp_path / "back.h5"
    write_imported(found, back, "b2", "embedding")
    with open_features(back) as again:
        assert same(again.read("embedding"), features.read("embedding"))
        assert again.failures == features.failures and again.status.tolist() == features.status.tolist()
        assert again.provenance["imported"] == "clip-retrieval" and not again.provenance["is_unit_length"]
        assert again.identity["weights_sha256"] == again.identity["preprocessing"] == "imported"
        assert len(again.identity["imported"]) == 2 * n_files
        first = again.digest
    assert verify_file(back).is_intact
    assert write_imported(read_clip_retrieval(folder), back, "b2", "embedding") == first


def test_unit_vectors_without_failed_rows_are_what_clip_retrieval_writes(features, tmp_path):
    export_clip_retrieval(features, tmp_path / "cr", ["embedding"], unit_norm=True, only_ok=True)
    matrix = np.load(tmp_path / "cr/img_emb/img_emb_0.npy")
    assert len(matrix) == N - 2 and same(matrix, unit_rows(features.read("embedding", features.ok)))
    table = pq.read_table(tmp_path / "cr/metadata/metadata_0.parquet")
    assert table.column_names[0] == "image_path" and set(table.column("status").to_pylist()) == {"ok"}
    lengths = measure_lengths(read_clip_retrieval(tmp_path / "cr"))
    assert lengths["is_unit_length"] and abs(lengths["length_max"] - 1) < 1e-6


def foreign(folder, n=5, dtype=np.float16, number="0", paths=None, scale=1.0):
    """What clip-retrieval itself writes: float16 unit vectors and an image_path, no word of failures."""
    for name in ("img_emb", "metadata"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    vectors = unit_rows(np.random.default_rng(1).normal(size=(n, 8)).astype(np.float32)) * scale
    np.save(folder / "img_emb" / f"img_emb_{number}.npy", vectors.astype(dtype))
    paths = paths or [f"/photos/{number}_{i}.jpg" for i in range(n)]
    pq.write_table(pa.table({"image_path": paths}), folder / "metadata" / f"metadata_{number}.parquet")
    return vectors.astype(dtype)


def test_a_foreign_folder_is_taken_as_it_is(tmp_path):
    parts = [foreign(tmp_path / "cr", number=f"{i:02d}") for i in (0, 1, 10)]
    found = read_clip_retrieval(tmp_path / "cr")
    assert (found.dtype, found.id_column, len(found.ids)) == ("float16", "image_path", 15)
    assert found.output == ""
    assert found.ids[10] == "/photos/10_0.jpg"
    np.testing.assert_array_equal(found.vectors, np.concatenate(parts).astype(np.float32))
    assert measure_lengths(found)["is_unit_length"]
    foreign(tmp_path / "raw", scale=7.0)
    lengths = measure_lengths(read_clip_retrieval(tmp_path / "raw"))
    assert not lengths["is_unit_length"] and 6.9 < lengths["length_min"] <= lengths["length_max"] < 7.1


def test_rows_find_the_images_of_a_data_set(tmp_path):
    foreign(tmp_path / "cr", 4, paths=["/p/c.jpg", "/p/a.jpg", "/p/x.jpg", "/p/d.jpg"])
    found = read_clip_retrieval(tmp_path / "cr")
    ids = np.array(["a", "b", "c", "d"])
    keys = {"image_id": ids, "absolute path": np.array([f"/p/{i}.jpg" for i in ids])}
    rows, joined_on = join(found, ids, keys)
    assert (rows.tolist(), joined_on) == ([1, -1, 0, 3], "absolute path")
    path = tmp_path / "f.h5"
    write_imported(found, path, "b", "embedding", ids, "digest", rows, joined_on)
    with open_features(path) as features:
        assert features.image_id.tolist() == ids.tolist()
        assert features.failures == {1: "not in the imported files"}
        assert np.isnan(features.read("embedding")[1]).all()
        assert features.read("embedding")[0].tolist() == found.vectors[1].tolist()
        assert features.identity["images"] == "digest" and features.provenance["n_without_image"] == 1
    rows, joined_on = join(found, ids, {"file name": np.array(["a.jpg", "b.jpg", "c.jpg", "d.jpg"])})
    assert (rows.tolist(), joined_on) == ([1, -1, 0, 3], "last part of the imported id: file name")
    twice = {"file name": np.array(["a.jpg", "a.jpg", "c.jpg", "d.jpg"])}  # of which "a.jpg" is it?
    with pytest.raises(StoreError, match="none of the 4"):
        join(found, ids, twice)
    with pytest.raises(StoreError, match=r"none of the 4 imported ids .*'/p/c.jpg'.* is an image"):
        join(found, ids, {"image_id": ids})


def test_a_matrix_and_its_ids(tmp_path):
    matrix = np.arange(12, dtype=np.float32).reshape(4, 3)
    matrix[2, 1] = np.inf
    np.save(tmp_path / "m.npy", matrix)
    (tmp_path / "ids.txt").write_text("007\nb\nc d\né\n")
    (tmp_path / "ids.csv").write_text("n,key\n1,007\n2,b\n3,c d\n4,é\n")
    np.save(tmp_path / "ids.npy", np.array(["007", "b", "c d", "é"]))
    pq.write_table(pa.table({"id": ["007", "b", "c d", "é"]}), tmp_path / "ids.parquet")
    for ids in ("ids.txt", "ids.csv", "ids.npy", "ids.parquet"):
        found = read_npy(tmp_path / "m.npy", tmp_path / ids)
        assert found.ids.tolist() == ["007", "b", "c d", "é"]
        assert found.failures == {2: "not finite in the imported file"}
        assert set(found.files) == {"m.npy", ids}
    write_imported(found, tmp_path / "f.h5", "b", "embedding")
    with open_features(tmp_path / "f.h5") as features:
        assert same(features.read("embedding", features.ok), matrix[[0, 1, 3]])
        assert np.isnan(features.read("embedding")[2]).all()


def test_what_does_not_correspond_is_refused(tmp_path, features):
    with pytest.raises(MissingFileError, match="has no img_emb_0.npy"):
        read_clip_retrieval(tmp_path / "nowhere")
    folder = tmp_path / "cr"
    foreign(folder, 5)
    foreign(folder, 5, number="1")
    (folder / "metadata/metadata_1.parquet").unlink()
    with pytest.raises(SchemaError, match=r"2 files in img_emb and 1 in metadata .*number 1"):
        read_clip_retrieval(folder)
    pq.write_table(pa.table({"image_path": ["x"]}), folder / "metadata/metadata_1.parquet")
    with pytest.raises(SchemaError, match=r"img_emb_1.npy has 5 rows, .*metadata_1.parquet has 1"):
        read_clip_retrieval(folder)
    foreign(folder, 5, number="1", dtype=np.float32)
    with pytest.raises(SchemaError, match=r"8 columns of float32, .*8 of float16; one matrix"):
        read_clip_retrieval(folder)
    foreign(folder, 5, number="1", paths=["a", "b", "a", "c", "d"])
    with pytest.raises(SchemaError, match=r"rows 5 and 7 have the same id 'a'"):
        read_clip_retrieval(folder)
    with pytest.raises(SchemaError, match=r"no column url; its columns are image_path. Name it: --id-column"):
        read_clip_retrieval(folder, "url")
    np.save(tmp_path / "m.npy", np.zeros((3, 2), np.float64))
    (tmp_path / "ids").write_text("a\nb\n")
    with pytest.raises(SchemaError, match=r"holds float64 of shape \(3, 2\); expected float16 or float32"):
        read_npy(tmp_path / "m.npy", tmp_path / "ids")
    np.save(tmp_path / "m.npy", np.zeros((3, 2), np.float32))
    with pytest.raises(SchemaError, match=r"has 3 rows, .* has 2 ids"):
        read_npy(tmp_path / "m.npy", tmp_path / "ids")
    (tmp_path / "m.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(SchemaError, match="is no .npy matrix"):
        read_npy(tmp_path / "m.npy", tmp_path / "ids")
    with pytest.raises(SchemaError, match="no output 'x'; it has embedding .6., pre_projection .4."):
        export_parquet(features, tmp_path / "x.parquet", ["x"])
    (tmp_path / "there").mkdir()
    with pytest.raises(StoreError, match="exists already and is left alone"):
        export_clip_retrieval(features, tmp_path / "there", ["embedding"])
    assert not (tmp_path / "x.parquet").exists()


@pytest.mark.parametrize(
    ("name", "content", "ids"),
    [
        ("ids.csv", b'"id","x"\n"0001","1"\n"0002","1"\n', ["0001", "0002"]),
        ("ids.csv", b'"image_id"\n1.10\n2.10\n', ["1.10", "2.10"]),
        ("ids.csv", b"\xef\xbb\xbfImage ID;x\r\n0001;1\r\n0002;1\r\n", ["0001", "0002"]),
        ("ids.CSV", b"key\n007\nNA\n", ["007", "NA"]),
        ("ids.tsv", b"a\tfile\n1\tx, y.jpg\n2\tz.jpg\n", ["x, y.jpg", "z.jpg"]),
        ("ids.txt", b"\xef\xbb\xbf0001.jpg\r\n0002.jpg\r\n\r\n", ["0001.jpg", "0002.jpg"]),
        ("ids.txt", "0001.jpg\na\u2028b.jpg".encode(), ["0001.jpg", "a\u2028b.jpg"]),
        ("ids.txt", "\ufeff0001.jpg\r\né.jpg\r\n".encode("utf-16-le"), ["0001.jpg", "é.jpg"]),
    ],
)
def test_ids_are_text_whoever_wrote_them(tmp_path, name, content, ids):
    np.save(tmp_path / "m.npy", np.eye(2, 4, dtype=np.float32))
    (tmp_path / name).write_bytes(content)
    assert read_npy(tmp_path / "m.npy", tmp_path / name).ids.tolist() == ids


def test_ids_of_typed_files(tmp_path):
    np.save(tmp_path / "m.npy", np.eye(2, 4, dtype=np.float32))
    for column, ids in [
        (pa.array([7, 8], pa.int64()), ["7", "8"]),
        (pa.array([52662.0, 40779.0]), ["52662", "40779"]),
        (pa.array(["007", "8"]).dictionary_encode(), ["007", "8"]),
        (pa.array([b"007", b"8"]), ["007", "8"]),
        (pa.array(["007", "8"], pa.large_string()), ["007", "8"]),
    ]:
        pq.write_table(pa.table({"image_id": column}), tmp_path / "i.parquet")
        assert read_npy(tmp_path / "m.npy", tmp_path / "i.parquet").ids.tolist() == ids
    for column, message in [
        (pa.array([1.5, 2.0]), "holds double; ids must be text or whole numbers"),
        (pa.array([[1], [2]]), "holds list<"),
        (pa.array([True, False]), "holds bool"),
        (pa.array([b"\xff", b"8"]), "is not UTF-8 text"),
        (pa.array(["a", None]), "row 1 has the id ''"),
        (pa.array(["a", "b\nc"]), "row 1 has the id 'b\\\\nc'"),
    ]:
        pq.write_table(pa.table({"image_id": column}), tmp_path / "i.parquet")
        with pytest.raises(SchemaError, match=message):
            read_npy(tmp_path / "m.npy", tmp_path / "i.parquet")
    np.save(tmp_path / "i.npy", np.array([7, 8]))
    assert read_npy(tmp_path / "m.npy", tmp_path / "i.npy").ids.tolist() == ["7", "8"]
    for bad in (np.array([b"a", b"b"]), np.array([1.0, 2.0]), np.array([["a"], ["b"]])):
        np.save(tmp_path / "i.npy", bad)
        with pytest.raises(SchemaError, match="expected one id per row, text or whole numbers"):
            read_npy(tmp_path / "m.npy", tmp_path / "i.npy")
    (tmp_path / "i.csv").write_text("0001.jpg\n0002.jpg\n")
    with pytest.raises(SchemaError, match=r"no column .*its columns are 0001.jpg.*call it i.txt"):
        read_npy(tmp_path / "m.npy", tmp_path / "i.csv")
    (tmp_path / "i.csv").write_text('id,t\na,"x\nb,y\n')
    with pytest.raises(StoreError, match="line 2 .*quote"):
        read_npy(tmp_path / "m.npy", tmp_path / "i.csv")


def test_matrices_of_any_layout_give_the_same_vectors(tmp_path):
    matrix = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    (tmp_path / "ids").write_text("a\nb\nc\n")
    for written in (matrix, np.asfortranarray(matrix), matrix.astype(">f4")):
        np.save(tmp_path / "m.npy", written)
        found = read_npy(tmp_path / "m.npy", tmp_path / "ids")
        assert found.dtype == "float32" and same(found.vectors, matrix)
        assert not measure_lengths(found)["is_unit_length"]
    np.save(tmp_path / "m.npy", matrix.astype(">f2"))
    found = read_npy(tmp_path / "m.npy", tmp_path / "ids")
    assert found.dtype == "float16" and same(found.vectors, matrix.astype(np.float16).astype(np.float32))
    np.save(tmp_path / "m.npy", np.full((3, 4), np.nan, np.float32))
    found = read_npy(tmp_path / "m.npy", tmp_path / "ids")
    assert len(found.failures) == 3 and measure_lengths(found)["length_max"] == 0


class Runs:
    """What runs when it is unpickled."""

    def __reduce__(self):
        return (open, ("/nowhere/ran", "w"))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([[1, Runs()]], object), "Python objects, which are never read, since they can run code"),
        (np.zeros(1, [("a", "f4"), ("b", "O")]), "Python objects"),
        (np.zeros((2, 0), np.float32), "rows of no numbers"),
        (np.zeros((0, 4), np.float32), "has 0 rows"),
        (np.zeros(4, np.float32), r"of shape \(4,\); expected float16 or float32"),
        (np.zeros((2, 2), np.int8), "holds int8"),
        (np.zeros((2, 2), np.complex64), "holds complex64"),
        (np.zeros(2, [("a", "f4")]), "expected float16 or float32"),
        (np.zeros((2, 2, 2), np.float32), "expected float16 or float32"),
    ],
)
def test_matrices_that_hold_no_vectors(tmp_path, array, message):
    np.save(tmp_path / "m.npy", array, allow_pickle=True)
    (tmp_path / "ids").write_text("a\nb\n")
    with pytest.raises(SchemaError, match=message) as caught:
        read_npy(tmp_path / "m.npy", tmp_path / "ids")
    assert "allow_pickle" not in str(caught.value)


def test_npy_headers_that_lie(tmp_path):
    (tmp_path / "ids").write_text("a\nb\n")
    np.savez(tmp_path / "m.npz", a=np.zeros(2))
    (tmp_path / "m.npz").rename(tmp_path / "m.npy")
    with pytest.raises(SchemaError, match="archive of arrays"):
        read_npy(tmp_path / "m.npy", tmp_path / "ids")
    for shape in ("(99999999999999, 512)", "(99999999999999999999, 512)", "(-1, 4)", "(2, 4", "'x'"):
        text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
        (tmp_path / "m.npy").write_bytes(
            b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + b"\0" * 32
        )
        with pytest.raises(SchemaError, match="is no .npy matrix"):
            read_npy(tmp_path / "m.npy", tmp_path / "ids")


def test_folders_that_contradict_themselves(tmp_path):
    for number in ("0", "2", "5"):
        foreign(tmp_path / "gap", number=number)
    (note,) = read_clip_retrieval(tmp_path / "gap").notes
    assert "parts go from 0 to 5, without 1, 3, 4 (3 numbers)" in note
    assert not read_clip_retrieval_notes(tmp_path / "whole")
    foreign(tmp_path / "twice", number="0")
    foreign(tmp_path / "twice", number="00")
    with pytest.raises(SchemaError, match=r"two files of number 0: img_emb_0.npy and img_emb_00.npy"):
        read_clip_retrieval(tmp_path / "twice")
    foreign(tmp_path / "mixed", number="0")
    foreign(tmp_path / "mixed", number="1")
    pq.write_table(
        pa.table({"url": [f"{i}" for i in range(5)]}), tmp_path / "mixed/metadata/metadata_1.parquet"
    )
    with pytest.raises(
        SchemaError, match=r"metadata_1.parquet has no column image_path as metadata_0.parquet has"
    ):
        read_clip_retrieval(tmp_path / "mixed")
    foreign(tmp_path / "about")
    table = pa.table({"image_path": [f"{i}" for i in range(5)]})
    for about in (b"{", b"[]", b'{"output": 7}', b"[" * 100_000):
        file = tmp_path / "about/metadata/metadata_0.parquet"
        pq.write_table(table.replace_schema_metadata({b"iaa": about}), file)
        assert read_clip_retrieval(tmp_path / "about").output == ""


def read_clip_retrieval_notes(folder):
    for number in ("0", "1"):
        foreign(folder, number=number)
    return read_clip_retrieval(folder).notes


def test_images_that_are_left_are_matched_by_other_forms_of_their_path(tmp_path):
    foreign(tmp_path / "cr", 4, paths=["a.jpg", "B.JPG", "c", "elsewhere/d.jpg"])
    found = read_clip_retrieval(tmp_path / "cr")
    paths = np.array(["a.jpg", "b.jpg", "c.png", "here/d.jpg"])
    rows, joined_on = join(found, paths, {"image_id": paths, "path": paths})
    assert rows.tolist() == [0, 1, 2, -1]
    assert joined_on.startswith("image_id; matched with upper and lower case as one: 1, the first: 'b.jpg'")


def test_csv_holds_every_number_exactly(features, tmp_path):
    file = tmp_path / "v.csv"
    paths = np.array([f"=p/{i}.jpg" for i in range(N)])
    assert export_csv(features, file, ["embedding", "pre_projection"], paths=paths) == N
    with file.open(newline="", encoding="utf-8") as opened:
        header, *rows = list(csv.reader(opened))
    assert header[:5] == ["image_id", "image_path", "status", "failure", "embedding_0"] and len(header) == 14
    assert [row[0] for row in rows] == features.image_id.tolist() and rows[7][1] == "'=p/7.jpg"
    assert rows[3][2:5] == ["failed", "empty file", ""]
    numbers = np.array([row[4:10] for i, row in enumerate(rows) if i not in FAILED], np.float32)
    assert same(numbers, features.read("embedding", features.ok))


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+1.jpg", "'+1.jpg"),
        ("-a.jpg", "'-a.jpg"),
        ("@x", "'@x"),
        ("\tx", "'\tx"),
        ("＝x", "'＝x"),
        ("'=x", "''=x"),
        ("'x", "'x"),
        ("a=b", "a=b"),
        ("-1.5e-3", "-1.5e-3"),
        ("+0.01", "+0.01"),
        (-1.5, -1.5),
        (None, None),
    ],
)
def test_cells_that_a_spreadsheet_would_run(cell, written):
    assert safe_cell(cell) == written
    if isinstance(cell, str):
        assert unsafe_cell(written) == cell or cell == written
