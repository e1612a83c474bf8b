"""What is added in one file is there for everybody: a kind of data set, and a format of vectors."""

import json

import numpy as np
import pytest
from PIL import Image

import iaa
from embed.images import options as setting
from embed.images.config import Kind
from embed.images.datasets import DatasetError, add_dataset, build_table, list_datasets, load_config
from embed.images.kinds import KINDS
from embed.images.table import ImageTable
from iaa.exchange import FORMATS
from iaa.exchange.formats import Format, write_new
from store import open_features
from store.imports import gather


def by_size(config, source):
    """Images with the size of their file as the score, those of `least` bytes or more."""
    size = {path: len(source.at(path).read_bytes()) for path in sorted(source.files)}
    paths = np.array([p for p, n in size.items() if n >= config.options.get("least", 0)])
    scores = np.array([float(size[p]) for p in paths.tolist()])
    return ImageTable(config.name, config.folder, paths, paths, scores=scores, threshold=100.0)


SIZED = Kind(
    options={
        "images": setting.path("where they are"),
        "least": setting.whole("smallest file", 0, 9999),
        "unit": setting.choice("what sizes are in", "byte", "bit"),
    },
    build=by_size,
    check=lambda given: "bits have no least" if given["unit"] == "bit" and "least" in given else "",
    exif_rotate=True,
    written={"unit": "byte"},
)
PLAIN = Kind(options={"images": setting.path("where they are")}, build=by_size)


def write_lines(features, path, outputs, unit_norm=False, paths=None):
    (output,) = outputs
    rows = zip(features.image_id.tolist(), features.read(output, unit_norm=unit_norm).tolist(), strict=True)
    write_new(path, lambda partial: partial.write_text("".join(f"{json.dumps(row)}\n" for row in rows)))
    return features.n_images


def read_lines(path, id_column=None):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    ids = [image_id for image_id, _ in rows]
    vectors = np.array([vector for _, vector in rows], np.float32)
    return gather("lines", ids, {"0": path}, ["0"], [vectors], [None] * len(ids), {path.name: path}, "")


LINES = Format("lines of JSON", (".jsonl",), write_lines, read_lines, holds_one_output=True)


@pytest.fixture
def photographs(tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 30 + 40 * i, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i}.png")
    return tmp_path / "photos"


def test_a_kind_is_known_by_its_entry_alone(photographs, tmp_path, monkeypatch, invoke):
    data = tmp_path / "data"
    with pytest.raises(DatasetError, match="kind 'plain' is unknown; the kinds are table, ava, folder "):
        add_dataset(data, "mine", "plain", images=photographs)
    monkeypatch.setitem(KINDS, "plain", PLAIN)
    add_dataset(data, "mine", "plain", images=photographs)
    table = build_table(load_config(data, "mine"))
    assert table.path.tolist() == ["0.png", "1.png", "2.png"] and table.root == photographs
    assert table.scores.tolist() == [float((photographs / p).stat().st_size) for p in table.path.tolist()]
    assert [(c.name, c.kind) for c in list_datasets(data)] == [("demo", "demo"), ("mine", "plain")]
    assert not load_config(data, "mine").exif_rotate

    monkeypatch.setitem(KINDS, "sized", SIZED)
    least = (photographs / "1.png").stat().st_size
    words = ["dataset", "add", "big", "--kind", "sized", "--images", photographs, "-o", f"least={least}"]
    code, _, err = invoke(*words, "-o", "unit=bit", "--data", data)
    assert code == 1 and "bits have no least" in " ".join(err.split())
    assert invoke(*words, "--data", data)[0] == 0
    config = load_config(data, "big")
    assert config.options["unit"] == "byte" and config.exif_rotate
    assert "# smallest file\nleast = " in (data / "big" / "dataset.toml").read_text()
    assert build_table(config).path.tolist() == ["1.png", "2.png"]
    for wrong, message in (({"least": 2.5}, "least is 2.5, expected a whole number from 0 to 9999"),
                           ({"ratings": "x"}, "unknown settings .'ratings'. for kind sized")):  # fmt: skip
        with pytest.raises(DatasetError, match=message):
            add_dataset(data, "other", "sized", images=photographs, **wrong)


def test_a_format_is_known_by_its_entry_alone(photographs, tmp_path, monkeypatch, invoke):
    ds = iaa.add_dataset("mine", "folder", photographs, data=tmp_path / "data")
    ds.embed(["demo_clip"])
    out = tmp_path / "vectors.jsonl"
    where = ["-d", "mine", "-b", "demo_clip", "--output", "embedding", "--data", tmp_path / "data"]
    code, _, err = invoke("export", out, *where)
    assert code == 2 and ".jsonl files are not written; there are .parquet" in " ".join(err.split())
    monkeypatch.setitem(FORMATS, "lines", LINES)
    assert invoke("export", out, *where)[0] == 0
    assert invoke("export", tmp_path / "as-said", *where, "--to", "lines")[0] == 0
    assert out.read_bytes() == (tmp_path / "as-said").read_bytes()
    code, _, err = invoke("export", tmp_path / "x.csv", *where, "--to", "lines")
    assert code == 2 and "ends as a file of csv does" in " ".join(err.split())
    code, _, err = invoke("export", tmp_path / "x.jsonl", *where, "--only-ok")
    assert code == 2 and "lines marks failed rows" in " ".join(err.split())
    code, _, err = invoke("export", tmp_path / "x.jsonl", *where[:4], *where[6:])
    assert code == 2 and "lines holds one output: --output embedding" in " ".join(err.split())

    more = ["-d", "mine", "-b", "own", "--data", tmp_path / "data"]
    code, _, err = invoke("import", out, *more, "--ids", out)
    assert code == 2 and "--ids is for a .npy file; lines's file has its own" in " ".join(err.split())
    assert invoke("import", out, *more)[0] == 0
    features = tmp_path / "data" / "mine" / "features"
    with open_features(features / "demo_clip.h5") as made, open_features(features / "own.h5") as back:
        assert np.array_equal(made.read("embedding"), back.read("embedding"))
        assert back.provenance["imported"] == "lines" and back.provenance["joined_on"] == "image_id"
