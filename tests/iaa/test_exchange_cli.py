"""`iaa export` and `iaa import` as people type them."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from iaa.cli.app import main
from store import open_features


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    """A data root with five images, one of them broken, through one backbone."""
    root = tmp_path_factory.mktemp("exchange")
    (root / "photos").mkdir()
    rng = np.random.default_rng(2)
    for i in range(5):
        pixels = rng.integers(0, 256, (70, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "photos" / f"{i}.png")
    (root / "photos" / "3.png").write_bytes(b"no")
    for words in (
        ["dataset", "add", "mine", "--kind", "folder", "--images", str(root / "photos")],
        ["embed", "-d", "mine", "-b", "demo_clip"],
    ):
        with pytest.raises(SystemExit) as stop:
            main([*words, "--data", str(root / "data")])
        assert stop.value.code == 0
    return root / "data"


@pytest.fixture
def run(embedded, invoke, tmp_path, monkeypatch):
    shutil.copytree(embedded, tmp_path / "data")
    monkeypatch.setenv("IAA_DATA", str(tmp_path / "data"))

    def run_command(*arguments):
        code, out, err = invoke(*arguments)
        return code, out, " ".join(err.split())

    return run_command


def test_an_export_is_replaced_by_a_complete_one_or_not_at_all(run, tmp_path, monkeypatch):
    where = ["-d", "mine", "--output", "embedding"]
    file, folder = tmp_path / "v.parquet", tmp_path / "cr"
    for path, to in ((file, "parquet"), (folder, "clip-retrieval")):
        assert run("export", path, *where, "--to", to)[0] == 0
        before = {p: p.read_bytes() for p in [path, *path.rglob("*")] if p.is_file()}
        with monkeypatch.context() as patched:
            patched.setattr("store.features.Features.read", lambda *a: 1 / 0)
            assert run("export", path, *where, "--to", to, "--unit", "--overwrite")[0] == 1
        code, _, err = run("export", path, *where, "--to", to)
        assert code == 1 and "or replace it: --overwrite" in err
        assert all(p.read_bytes() == content for p, content in before.items())
        assert run("export", path, *where, "--to", to, "--unit", "--overwrite")[0] == 0
        assert any(p.read_bytes() != content for p, content in before.items())
    assert json.loads(run("import", folder, "-d", "other", "-b", "b", "--json")[1])["is_unit_length"] is True
    assert {p.name for p in tmp_path.iterdir()} == {"data", "v.parquet", "cr"}
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    (photographs / "a.jpg").write_bytes(b"mine")
    for path, to in ((photographs, "clip-retrieval"), (photographs / "a.jpg", "parquet")):
        code, _, err = run("export", path, *where, "--to", to, "--overwrite")
        assert code == 2 and "is left as it is" in err
    assert (photographs / "a.jpg").read_bytes() == b"mine"


def test_out_and_in_again(run, tmp_path):
    made = tmp_path / "data/mine/features"
    for to in ("parquet", "safetensors"):
        file = tmp_path / f"v.{to}"
        code, out, _ = run("export", file, "-d", "mine", "-b", "demo_clip", "--to", to, "--json")
        answer = json.loads(out)
        assert code == 0 and (answer["n_rows"], answer["n_failed"]) == (5, 1)
        assert answer["outputs"] == ["embedding", "pre_projection"]
    assert pq.read_table(tmp_path / "v.parquet").column("image_path").to_pylist()[0] == "0.png"
    where = ["-d", "mine", "-b", "demo_clip", "--to", "clip-retrieval"]
    code, _, err = run("export", tmp_path / "cr", *where)
    assert code == 2 and "--output embedding or --output pre_projection" in err
    assert run("export", tmp_path / "cr", *where, "--output", "embedding")[0] == 0
    code, _, err = run("export", tmp_path / "cr", *where, "--output", "embedding")
    assert code == 1 and "exists already and is left alone" in err
    code, out, _ = run("import", tmp_path / "cr", "-d", "mine", "-b", "back", "--json")
    answer = json.loads(out)
    assert code == 0 and (answer["n_ok"], answer["n_failed"], answer["n_unused"]) == (4, 1, 0)
    with open_features(made / "back.h5") as back, open_features(made / "demo_clip.h5") as original:
        assert back.read("embedding").tobytes() == original.read("embedding").tobytes()
        assert back.failures == original.failures
        assert back.provenance["joined_on"] == "image_id"
    assert run("export", tmp_path / "cr2", *where, "--output", "pre_projection")[0] == 0
    assert run("import", tmp_path / "cr2", "-d", "mine", "-b", "two")[0] == 0
    assert run("import", tmp_path / "cr2", "-d", "mine", "-b", "three", "--output", "x")[0] == 0
    for name, output in (("two", "pre_projection"), ("three", "x")):
        with open_features(made / f"{name}.h5") as back:
            assert list(back.outputs) == [output]
    code, _, err = run("import", tmp_path / "cr", "-d", "mine", "-b", "back")
    assert code == 1 and "replace it: --overwrite" in err
    code, out, _ = run("import", tmp_path / "cr", "-d", "mine", "-b", "back", "--overwrite")
    assert code == 0 and "not of unit length" in out
    code, out, _ = run("verify", "--json")
    assert code == 0 and json.loads(out)["n_damaged"] == 0
    code, _, err = run("embed", "-d", "mine", "-b", "demo_clip", "--json")
    assert code == 0
    (made / "back.h5").rename(made / "demo_vit.h5")
    code, _, err = run("embed", "-d", "mine", "-b", "demo_vit")
    assert code == 1 and "weights_sha256: the file has 'imported'" in err


def test_what_clip_retrieval_wrote_without_the_images(run, tmp_path):
    for name in ("img_emb", "metadata"):
        (tmp_path / "cr" / name).mkdir(parents=True)
    vectors = np.eye(6, 8, dtype=np.float16)
    np.save(tmp_path / "cr/img_emb/img_emb_0.npy", vectors)
    ids = [f"/far/away/{i}.png" for i in range(6)]
    pq.write_table(pa.table({"image_path": ids}), tmp_path / "cr/metadata/metadata_0.parquet")
    code, out, _ = run("import", tmp_path / "cr", "-d", "far", "-b", "cr.b32")
    assert code == 0 and "float16, of unit length" in out and "their own ids" in out
    code, out, _ = run("info", tmp_path / "data/far/features/cr.b32.h5", "--json")
    described = json.loads(out)
    assert described["n_ok"] == 6 and described["provenance"]["is_unit_length"]
    code, out, _ = run("import", tmp_path / "cr", "-d", "mine", "-b", "cr.b32", "--json")
    answer = json.loads(out)  # by file name: 0.png to 4.png are there, 5.png is not
    assert code == 0 and (answer["n_ok"], answer["n_failed"], answer["n_unused"]) == (5, 0, 1)
    code, _, err = run("export", tmp_path / "x.parquet", "-d", "mine")
    assert code == 2 and "--backbone cr.b32 or --backbone demo_clip" in err


def test_the_ending_says_what_is_written(run, tmp_path):
    where = ["-d", "mine", "-b", "demo_clip", "--output", "embedding"]
    code, out, _ = run("export", tmp_path / "x.csv", *where, "--json")
    assert code == 0 and json.loads(out)["format"] == "csv"
    lines = (tmp_path / "x.csv").read_text().splitlines()
    assert len(lines) == 6 and lines[0].startswith("image_id,image_path,status,failure,embedding_0,")
    assert run("export", tmp_path / "x.safetensors", *where)[0] == 0
    assert (tmp_path / "x.safetensors").read_bytes()[8:9] == b"{"
    assert run("export", tmp_path / "x", *where)[0] == 0
    assert pq.read_table(tmp_path / "x").num_rows == 5
    code, _, err = run("export", tmp_path / "y.csv", *where, "--to", "parquet")
    assert code == 2 and "ends as a file of csv does, but --to says parquet" in err
    code, _, err = run("export", tmp_path / "y.npy", *where)
    assert code == 2 and ".npy files are not written" in err and "--to clip-retrieval" in err
    assert not (tmp_path / "y.csv").exists() and not (tmp_path / "y.npy").exists()


def test_ids_with_leading_zeros_and_a_gap_in_the_parts(run, tmp_path):
    np.save(tmp_path / "m.npy", np.eye(3, 8, dtype=np.float32))
    (tmp_path / "ids.csv").write_text('"id","x"\n"0001","1"\n"0002","1"\n"0003","1"\n')
    code, _, _ = run("import", tmp_path / "m.npy", "--ids", tmp_path / "ids.csv", "-d", "new", "-b", "m")
    assert code == 0
    with open_features(tmp_path / "data/new/features/m.h5") as features:
        assert features.image_id.tolist() == ["0001", "0002", "0003"]
    (tmp_path / "ids.txt").write_bytes(b"\xef\xbb\xbf0.PNG\r\n1.png\r\n2\r\n")
    code, out, _ = run(
        "import", tmp_path / "m.npy", "--ids", tmp_path / "ids.txt", "-d", "mine", "-b", "m", "--json"
    )
    assert code == 0 and json.loads(out)["n_ok"] == 3
    with open_features(tmp_path / "data/mine/features/m.h5") as features:
        assert "'0.png' is '0.PNG'" in features.provenance["joined_on"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["export", "x", "-d", "mine", "-b", "nope"], 1, "embedded with: demo_clip"),
        (["export", "x", "-d", "mine", "--output", "no"], 1, "has no output 'no'"),
        (["export", "x", "-d", "nope"], 1, "no data set 'nope'"),
        (["export", "x", "-d", "demo"], 1, "embedded with: none. Try: iaa embed --dataset demo"),
        (["export", "x", "-d", "mine", "--only-ok"], 2, "--only-ok is for clip-retrieval"),
        (["import", "nowhere", "-d", "mine", "-b", "x"], 2, "needs --ids FILE"),
        (["import", "nowhere.npy", "--ids", "i", "-d", "mine", "-b", "x"], 1, "nowhere.npy does not exist"),
        (["import", ".", "-d", "mine", "-b", "x"], 1, "has no img_emb_0.npy"),
        (["import", ".", "--ids", "i", "-d", "mine", "-b", "x"], 2, "--ids is for a .npy file"),
    ],
)
def test_mistakes_say_what_to_do(run, arguments, code, message):
    got, out, err = run(*arguments)
    assert (got, out) == (code, "") and message in err and "Traceback" not in err
