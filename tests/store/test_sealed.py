"""Sealed files: what is read is what was written, and every damage is found."""

import hashlib
import time

import h5py
import numpy as np
import pytest

import store.digests
from store.digests import BLOCK_ROWS, decode_strings, digest_of_strings, encode_strings
from store.errors import IntegrityError, MissingFileError, SchemaError, SpaceError
from store.sealed import SealedFile, write_sealed
from store.verify import verify_file

N_ROWS = BLOCK_ROWS + 300


@pytest.fixture
def arrays(rng):
    return {
        "image_id": np.array([f"bild ü {i}" for i in range(N_ROWS)]),
        "status": np.ones(N_ROWS, np.uint8),
        "failures/row": np.zeros(0, np.int64),
        "failures/reason": np.array([], dtype=str),
        "outputs/embedding": rng.standard_normal((N_ROWS, 7)).astype(np.float32),
    }


@pytest.fixture
def sealed(tmp_path, arrays):
    path = tmp_path / "x.h5"
    write_sealed(path, "test", {"a": 1, "b": {"c": [1, 2]}}, {"p": "é"}, arrays)
    return path


def test_what_is_read_is_what_was_written(sealed, arrays):
    with SealedFile(sealed, "test") as file:
        for name, values in arrays.items():
            stored = file.strings(name) if values.dtype.kind == "U" else file.view(name)
            np.testing.assert_array_equal(stored, values)
        assert file.identity == {"a": 1, "b": {"c": [1, 2]}}
        assert file.provenance == {"p": "é"}


def test_equal_input_gives_equal_bytes(sealed, arrays, tmp_path):
    """Also in another second: HDF5 would keep the time of creation."""
    time.sleep(1.1)
    other = tmp_path / "y.h5"
    write_sealed(other, "test", {"b": {"c": [1, 2]}, "a": 1}, {"p": "é"}, arrays)
    assert other.read_bytes() == sealed.read_bytes()


def test_plain_h5py_reads_the_matrix(sealed, arrays):
    with h5py.File(sealed) as file:
        np.testing.assert_array_equal(file["outputs/embedding"][()], arrays["outputs/embedding"])
        assert file["outputs/embedding"].chunks is None


def test_arrays_are_read_only(sealed):
    with SealedFile(sealed) as file, pytest.raises(ValueError, match="read-only"):
        file.view("outputs/embedding")[0, 0] = 1


def test_a_flipped_bit_in_rows_is_not_served_and_verify_names_the_rows(sealed):
    with h5py.File(sealed) as file:
        offset = file["outputs/embedding"].id.get_offset()
    data = bytearray(sealed.read_bytes())
    data[offset + (BLOCK_ROWS + 5) * 7 * 4] ^= 1
    sealed.write_bytes(data)
    with SealedFile(sealed) as file:
        file.view("outputs/embedding", 0, 10)  # the first block is intact
        with pytest.raises(IntegrityError, match=f"/outputs/embedding rows {BLOCK_ROWS} to {N_ROWS - 1}"):
            file.view("outputs/embedding", BLOCK_ROWS)
    assert f"/outputs/embedding rows {BLOCK_ROWS} to {N_ROWS - 1}" in verify_file(sealed).problems[0]


def test_rows_taken_by_index_or_mask_are_checked_in_their_blocks_alone(sealed, arrays):
    matrix, last = arrays["outputs/embedding"], N_ROWS - 1
    mask = np.arange(N_ROWS) % 50 == 1
    with SealedFile(sealed) as file:
        for rows in (np.array([last, 3, 3]), np.array([-1]), mask, np.zeros(0, int)):
            np.testing.assert_array_equal(file.take("outputs/embedding", rows), matrix[rows])
        with pytest.raises(IndexError):
            file.take("outputs/embedding", np.array([N_ROWS]))
    with h5py.File(sealed) as file:
        offset = file["outputs/embedding"].id.get_offset()
    data = bytearray(sealed.read_bytes())
    data[offset + (BLOCK_ROWS + 5) * 7 * 4] ^= 1
    sealed.write_bytes(data)
    for damaged in (np.array([0, -1]), mask, np.array([BLOCK_ROWS])):
        with SealedFile(sealed) as file:
            file.take("outputs/embedding", np.array([0, BLOCK_ROWS - 1]))
            with pytest.raises(IntegrityError, match=f"/outputs/embedding rows {BLOCK_ROWS} to {last}"):
                file.take("outputs/embedding", damaged)


def test_random_bit_flips_are_found_or_change_nothing(sealed, arrays, rng):
    """A flip anywhere either is reported or leaves every array, identity and digest as they were."""
    original = sealed.read_bytes()
    n_found = 0
    for position in rng.integers(0, len(original) * 8, 150):
        data = bytearray(original)
        data[position // 8] ^= 1 << (position % 8)
        sealed.write_bytes(data)
        if verify_file(sealed).problems:
            n_found += 1
            continue
        with SealedFile(sealed, "test") as file:
            assert file.identity == {"a": 1, "b": {"c": [1, 2]}}
            np.testing.assert_array_equal(file.view("outputs/embedding"), arrays["outputs/embedding"])
            np.testing.assert_array_equal(file.strings("image_id"), arrays["image_id"])
    assert n_found > 100


@pytest.mark.parametrize("keep", [0, 10, 600, 3000, 0.5, 0.99])
def test_truncation_is_found(sealed, keep):
    data = sealed.read_bytes()
    sealed.write_bytes(data[: keep if isinstance(keep, int) else int(keep * len(data))])
    assert verify_file(sealed).problems


@pytest.mark.parametrize("key", ["schema", "identity", "provenance", "digest"])
def test_an_edited_attribute_is_found(sealed, key):
    with h5py.File(sealed, "r+") as file:
        value = bytes(file.attrs[key])
        file.attrs[key] = np.bytes_(value.replace(value[2:3], b"9" if value[2:3] != b"9" else b"8", 1))
    with pytest.raises(IntegrityError, match="damaged"):
        SealedFile(sealed)


def test_a_missing_or_added_attribute_is_found(sealed):
    with h5py.File(sealed, "r+") as file:
        file.attrs["note"] = "hello"
    with pytest.raises(IntegrityError, match="attributes"):
        SealedFile(sealed)


def test_swapped_ids_are_found(sealed):
    with h5py.File(sealed, "r+") as file:
        ids = file["image_id"][()]
        file["image_id"][0], file["image_id"][1] = ids[1], ids[0]
    with SealedFile(sealed) as file, pytest.raises(IntegrityError, match="/image_id rows 0"):
        file.strings("image_id")


def test_an_added_array_is_found(sealed):
    with h5py.File(sealed, "r+") as file:
        file["extra"] = np.zeros(3)
    with pytest.raises(IntegrityError, match="do not correspond"):
        SealedFile(sealed)


def test_wrong_kind_missing_file_and_foreign_file_say_so(sealed, tmp_path):
    with pytest.raises(SchemaError, match="kind 'test', expected 'iaa/features'"):
        SealedFile(sealed, "iaa/features")
    with pytest.raises(MissingFileError, match="nowhere"):
        SealedFile(tmp_path / "nowhere.h5")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["x"] = np.zeros(2)
    with pytest.raises(SchemaError, match="none of this project's files"):
        SealedFile(tmp_path / "foreign.h5")
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(IntegrityError, match="HDF5 cannot read"):
        SealedFile(tmp_path / "text.h5")


def test_another_version_is_refused(sealed):
    with h5py.File(sealed, "r+") as file:
        file.attrs["schema_version"] = np.int64(2)
    with pytest.raises(SchemaError, match="version 2, this program reads 1"):
        SealedFile(sealed)


def test_no_room_is_a_clear_error_and_leaves_nothing(tmp_path, monkeypatch, arrays):
    monkeypatch.setattr("store.sealed.free_bytes", lambda folder: 4096)
    with pytest.raises(SpaceError, match="MiB needed"):
        write_sealed(tmp_path / "x.h5", "test", {}, {}, arrays)
    assert not (tmp_path / "x.h5").exists()


def test_a_place_that_is_no_folder_is_a_clear_error(tmp_path, arrays):
    (tmp_path / "file").write_text("")
    with pytest.raises(SpaceError, match="cannot write"):
        write_sealed(tmp_path / "file" / "x.h5", "test", {}, {}, arrays)


def test_strings_survive_and_tables_have_distinct_digests():
    for values in (np.array(["", "a\nb", "日本", "x\udcff"]), np.array(["", "a\nb "]), np.zeros(0, str)):
        np.testing.assert_array_equal(decode_strings(encode_strings(values)), values)
    with pytest.raises(ValueError, match="NUL"):
        encode_strings(np.array(["a\0b"]))
    assert digest_of_strings(np.array(["ab", "c"])) != digest_of_strings(np.array(["a", "bc"]))
    assert digest_of_strings(np.array(["a"]), np.array(["b"])) != digest_of_strings(np.array(["a", "b"]))


def encoded_one_by_one(values):
    cells = [str(value).encode("utf-8", "surrogateescape") for value in values.tolist()]
    return np.array(cells, dtype=f"S{max(1, *map(len, cells))}")


@pytest.mark.parametrize(
    "values",
    [
        ["a", "", "bcd"], ["", ""], ["x" * 300, "y"], ["straße", "a"], ["\udce4.jpg", "b"],
        np.array(["ab", "c"], dtype="U40"), np.array(["ab", "c"], dtype=object), ["日本"],
    ],
    ids=str,
)  # fmt: skip
def test_strings_are_encoded_at_once_as_one_by_one(values):
    values = np.array(values)
    found, expected = encode_strings(values), encoded_one_by_one(values)
    assert found.dtype == expected.dtype and found.tobytes() == expected.tobytes()


def test_a_string_that_holds_a_nul_is_refused_wherever_it_stands():
    for values in (["a\0b"], ["a", "\0a"], ["ä", "a\0b"]):
        with pytest.raises(ValueError, match="NUL"):
            encode_strings(np.array(values))


def test_the_digest_of_strings_is_over_lengths_and_cells(monkeypatch):
    """Over chunks of any size, of cells of any length, equal to the definition."""
    columns = [np.array(["a", "", "straße", "\udce4"] * 5), np.array(["x" * n for n in range(0, 9000, 450)])]
    hasher = hashlib.sha256((2).to_bytes(8, "little"))
    for column in columns:
        hasher.update((20).to_bytes(8, "little"))
        for cell in column.tolist():
            encoded = cell.encode("utf-8", "surrogateescape")
            hasher.update(len(encoded).to_bytes(8, "little") + encoded)
    for n_at_once in (1, 7, 4096):
        monkeypatch.setattr(store.digests, "_CELLS_AT_ONCE", n_at_once)
        assert digest_of_strings(*columns) == hasher.hexdigest()
