"""What people have in place of weights is named, and declared sizes are held against the file's."""

import io
import json
import os
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from store.errors import IntegrityError, MissingFileError
from store.json_files import read_note
from store.tensor_files import (
    MAX_HEADER_BYTES,
    TensorFileError,
    check_tensor_file,
    read_safetensors,
)


def header(entries: dict, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file written by hand."""
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(start: int, stop: int, *shape: int, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


def zipped(compression: int = zipfile.ZIP_STORED, **entries: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name.replace("__", "/").replace("_pkl", ".pkl").replace("_npy", ".npy"), data)
    return content.getvalue()


WHOLE = save({"a": np.arange(3, dtype=np.float32)})
TAR = b"\0" * 257 + b"ustar" + b"\0" * 250


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("zero.pt", b"", r"is empty \(0 bytes\)"),
        ("zero.safetensors", b"", r"is empty \(0 bytes\)"),
        ("lfs.pt", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "Git LFS pointer"),
        ("lfs.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("page.pth", b"\n <!DOCTYPE html><html>", "web page"),
        ("page.safetensors", b"<html><body>Sign in", "web page"),
        ("index.bin", b'{"metadata": {}, "weight_map": {}}', "JSON text"),
        ("photo.pt", b"\xff\xd8\xff\xe0" + b"\0" * 40, "a JPEG image"),
        ("keras.pt", b"\x89HDF\r\n\x1a\n" + b"\0" * 40, "an HDF5 file"),
        ("model.gguf", b"GGUF" + b"\3\0\0\0" * 9, "a GGUF file"),
        ("model.pt.gz", b"\x1f\x8b\x08" + b"\0" * 40, "gzip-compressed"),
        ("model.pth.tar", TAR, "tar archive"),
        ("model.onnx", b"\x08\x07\x12\x07pytorch", "of an unknown kind"),
        ("one.pt", b"x", "of an unknown kind"),
        ("text.safetensors", b"hello, these are no weights", "no safetensors file, whatever its name"),
        ("jax.npz", zipped(a_npy=b"x"), "numpy archive"),
        ("photos.pt", zipped(photo=b"x"), r"not one of torch's \(it holds 'photo'\)"),
        ("empty.pt", zipped(), r"it holds nothing"),
        ("cut.pt", zipped(m__data_pkl=b"x" * 1000)[:500], "not a whole archive"),
        ("huge.safetensors", struct.pack("<Q", 2**60) + b'{"a":1}', "header of 1,152,921,504,606,846,976"),
        ("negative.safetensors", struct.pack("<q", -1) + b'{"a":1}', "header of 18,446,744,073,709,551,615"),
        ("huge.pt", struct.pack("<Q", 2**60) + b'{"a":1}', "declares a header"),
        ("short.safetensors", WHOLE[:20], "declares a header"),
    ],
)  # fmt: skip
def test_what_is_no_file_of_tensors_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TensorFileError, match=message) as raised:
        check_tensor_file(tmp_path / name)
    assert name in str(raised.value)


def test_folders_pipes_and_missing_files_are_told_without_opening_them(tmp_path: Path) -> None:
    with pytest.raises(TensorFileError, match="is a folder"):
        check_tensor_file(tmp_path)
    os.mkfifo(tmp_path / "pipe.pt")
    with pytest.raises(TensorFileError, match="no regular file"):
        check_tensor_file(tmp_path / "pipe.pt")
    with pytest.raises(MissingFileError, match="does not exist"):
        read_note(tmp_path / "note.json")


def test_the_content_counts_and_not_the_ending(tmp_path: Path) -> None:
    for name in ("a.pt", "b", "c.SAFETENSORS"):
        (tmp_path / name).write_bytes(WHOLE)
        tensors, content = read_safetensors(tmp_path / name)
        assert content == WHOLE and tensors["a"].tolist() == [0, 1, 2]
    (tmp_path / "d.safetensors").write_bytes(zipped(m__data_pkl=b"x"))
    with pytest.raises(TensorFileError, match="no safetensors file"):
        check_tensor_file(tmp_path / "d.safetensors")


@pytest.mark.parametrize(
    "content",
    [
        header({"a": entry(0, 8, 2), "b": entry(4, 12, 2)}, bytes(12)),  # overlapping
        header({"a": entry(0, 8, 2), "b": entry(12, 20, 2)}, bytes(20)),  # a hole between
        header({"a": entry(0, 800, 200)}, bytes(8)),  # beyond the end
        header({"a": entry(8, 0, 2)}, bytes(8)),
        header({"a": entry(0, 8, 2)}, bytes(9)),  # more bytes than tensors
        header({"a": entry(0, 8, 3)}, bytes(8)),
        header({"a": entry(0, 8, 2**40, 2**40)}, bytes(8)),
        header({"a": entry(0, 8, -2)}, bytes(8)),
        header({"a": entry(0, 8, 2, dtype="F99")}, bytes(8)),
        header({"a": {"dtype": "F32"}}, bytes(8)),
        header({"a": entry(0, 0, 2**62, 0, 2**62)}),
        struct.pack("<Q", 50_000) + (b'{"a":' + b"[" * 50_000)[:50_000],  # nested deep
    ],
)
def test_headers_that_lie_are_damage(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(TensorFileError, match=r"a\.safetensors"):
        read_safetensors(tmp_path / "a.safetensors")


def test_nothing_is_allocated_for_what_a_file_declares(tmp_path: Path) -> None:
    """A header of 100 GB and an archive of 1 TB, in files that are sparse or small."""
    sparse = tmp_path / "sparse.safetensors"
    with sparse.open("wb") as file:
        file.write(struct.pack("<Q", 100 * 10**9) + b"{")
        file.truncate(200 * 10**9)
    big = tmp_path / "big.safetensors"
    with big.open("wb") as file:
        file.write(WHOLE)
        file.truncate(2**31)
    bomb = tmp_path / "bomb.pt"
    bomb.write_bytes(zipped(zipfile.ZIP_DEFLATED, m__data_pkl=bytes(2 * MAX_HEADER_BYTES)))
    overlapping = bytearray(zipped(m__data_pkl=b"x" * 9))
    at = overlapping.rindex(b"PK\x01\x02")
    overlapping[at + 20 : at + 28] = struct.pack("<II", 2**31, 2**31)
    (tmp_path / "liar.pt").write_bytes(overlapping)
    tracemalloc.start()
    with pytest.raises(TensorFileError, match="100,000,000,000 bytes, expected at most"):
        check_tensor_file(sparse)
    with pytest.raises(TensorFileError, match="expected at most 1,073,741,824"):
        read_safetensors(big)
    with pytest.raises(TensorFileError, match="unpacked"):
        check_tensor_file(bomb)
    with pytest.raises(TensorFileError, match="unpacked"):
        check_tensor_file(tmp_path / "liar.pt")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1]", "it holds no JSON object"),
        (b"{", "is no JSON"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b"\xff\xfe{", "is no JSON"),
        (b'{"a":' * 100_000, "is no JSON"),
        (b'{"a": ' + b" " * 5_000_000 + b"1}", "it has more than 4,194,304 bytes"),
    ],
)
def test_notes_that_are_no_small_json_objects(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "note.json").write_bytes(content)
    with pytest.raises(IntegrityError, match=message):
        read_note(tmp_path / "note.json")
    (tmp_path / "note.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_note(tmp_path / "note.json") == {"a": 1}
