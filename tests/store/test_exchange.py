"""Ways in and out: bytes survive the round trip, failed rows stay failed, wrong counts are refused."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from store import MissingFileError, SchemaError, Status, StoreError, open_features, unit_rows, verify_file
from store.exports import export_clip_retrieval, export_parquet, export_safetensors
from store.features import FEATURES_SCHEMA
from store.imports import join, measure_lengths, read_clip_retrieval, read_npy, write_imported
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


@pytest.mark.parametrize("rows_per_file", [1_000_000, 999, 200])
def test_there_and_back_through_clip_retrievals_layout(features, tmp_path, rows_per_file):
    folder = tmp_path / "cr"
    assert export_clip_retrieval(features, folder, "embedding", rows_per_file=rows_per_file) == N
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
    export_clip_retrieval(features, tmp_path / "cr", "embedding", unit_norm=True, only_ok=True)
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
        export_clip_retrieval(features, tmp_path / "there", "embedding")
    assert not (tmp_path / "x.parquet").exists()
