"""A data set keeps the engine of its rows, whoever asks and however often a run was stopped."""

import json

import numpy as np
import pytest
from PIL import Image

from embed.backbones import exports
from embed.backbones.engines import Session
from embed.backbones.exports import EngineUnavailable
from iaa.cli.app import app
from iaa.library.dataset import add_dataset
from iaa.library.embedding import How, embed
from iaa.library.searching import search_like
from store import IdentityError, open_features
from tests.engines import CONVOLUTIONAL, write_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return {CONVOLUTIONAL: write_weights(tmp_path_factory.mktemp("weights"))}


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for i in range(9):
        paint(folder, i)
    return folder


def paint(folder, i):
    pixels = np.random.default_rng(i).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((190, 170)).save(folder / f"{i}.png")


@pytest.fixture
def layout(tmp_path, photographs):
    return add_dataset("mine", kind="folder", images=photographs, data=tmp_path / "data").layout


@pytest.fixture
def run(layout, weights):
    """Embeds with these settings; what was said is kept."""

    def run(engine="auto", update=False, on_rows=None, **more):
        run.said = []
        how = How(weights=weights, engine=engine, batch_size=4, threads=1, **more)
        return embed(layout, [CONVOLUTIONAL], how, update, say=run.said.append, on_rows=on_rows)

    return run


def engine_of(layout):
    with open_features(layout.features_of(CONVOLUTIONAL)) as features:
        return features.identity.get("engine")


def test_auto_takes_the_fastest_and_says_and_notes_it(layout, run):
    done = run()
    (said,) = [line for line in run.said if "computes" in line]
    assert said.startswith(f"{CONVOLUTIONAL}: onnxruntime 1.") and said.endswith("of torch)")
    assert engine_of(layout) == done.how["engine"][CONVOLUTIONAL]["name"] == "onnxruntime"
    assert done.how["engine"][CONVOLUTIONAL]["difference"] < 1e-5
    logged = json.loads((layout.logs / "runs.jsonl").read_text().splitlines()[-1])
    assert logged["engine"] == done.how["engine"]
    for engine in ("auto", "onnxruntime"):
        again = run(engine)
        assert again.n_new == 0 and again.how["engine"][CONVOLUTIONAL]["name"] == "onnxruntime"
        assert not any("computes" in line for line in run.said), "known without loading anything"
    with pytest.raises(IdentityError, match="engine: the file has 'onnxruntime', asked for 'torch'"):
        run("torch")
    assert run("torch", overwrite=True).n_new == 9 and engine_of(layout) is None


def test_a_file_of_before_goes_on_with_torch(layout, run, photographs):
    run("torch")
    before = layout.features_of(CONVOLUTIONAL).read_bytes()
    assert run().n_new == 0
    (layout.finished / next(layout.finished.iterdir())).unlink()  # so that the run itself looks
    assert run().n_new == 0 and layout.features_of(CONVOLUTIONAL).read_bytes() == before
    with pytest.raises(IdentityError, match="engine: the file has 'torch', asked for 'onnxruntime'"):
        run("onnxruntime")
    paint(photographs, 9)
    with pytest.raises(IdentityError) as refused:
        run()
    assert any("--update" in note for note in refused.value.__notes__), "only the images differ"
    assert run(update=True).n_new == 1 and engine_of(layout) is None
    assert run(overwrite=True).n_new == 10 and engine_of(layout) == "onnxruntime"


class Killed(BaseException):
    pass


def stop(n_rows, n_failed, is_new):
    if is_new:
        raise Killed


@pytest.mark.parametrize("begun, other", [("torch", "onnxruntime"), ("onnxruntime", "torch")])
def test_a_begun_run_goes_on_with_its_engine_or_is_refused_by_name(layout, run, begun, other):
    with pytest.raises(Killed):
        run(begun, on_rows=stop)
    with pytest.raises(IdentityError, match=f"engine: the file has '{begun}', asked for '{other}'"):
        run(other)
    assert run().how["engine"][CONVOLUTIONAL]["name"] == begun
    resumed = layout.features_of(CONVOLUTIONAL).read_bytes()
    layout.features_of(CONVOLUTIONAL).unlink()
    run(begun)
    assert layout.features_of(CONVOLUTIONAL).read_bytes() == resumed


def test_an_update_keeps_the_engine_also_when_it_was_stopped(layout, run, photographs, monkeypatch):
    run()
    paint(photographs, 9)
    with pytest.raises(Killed):
        run(update=True, on_rows=stop)
    with monkeypatch.context() as patch:
        patch.setitem(exports.OLDEST, "onnxruntime", (99, 0))
        with pytest.raises(EngineUnavailable, match="too old: pip install") as refused:
            run(update=True)
        assert "--overwrite --engine torch" in refused.value.__notes__[0]
    assert run(update=True).n_new == 1 and engine_of(layout) == "onnxruntime"


def test_without_it_torch_is_taken_said_once_and_noted(layout, run, monkeypatch):
    monkeypatch.setitem(exports.OLDEST, "onnxruntime", (99, 0))
    done = run()
    (said,) = [line for line in run.said if "computes" in line]
    assert "torch computes, which is slower here: onnxruntime 1." in said
    assert engine_of(layout) is None
    assert "too old" in done.how["engine"][CONVOLUTIONAL]["why_not"]
    assert "too old" in (layout.logs / "runs.jsonl").read_text()


@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
def test_a_new_picture_goes_through_the_engine_of_the_file(
    layout, run, weights, tmp_path, engine, monkeypatch
):
    run(engine)
    paint(tmp_path, 3)  # the picture of row 3 in other bytes
    picture = tmp_path / "new.png"
    Image.open(tmp_path / "3.png").save(picture, compress_level=1)
    ran = []
    outputs = Session.outputs
    monkeypatch.setattr(Session, "outputs", lambda self, images: ran.append(1) or outputs(self, images))
    found = search_like(layout, picture, weights=weights[CONVOLUTIONAL])
    assert found.rows()[0]["image_id"] == "3.png" and found.rows()[0]["cosine"] > 0.9999
    assert bool(ran) == (engine == "onnxruntime")


def test_the_command_passes_it_on(layout, weights, capsys):
    asked = ["embed", "-d", "mine", "-b", CONVOLUTIONAL, "--data", str(layout.root), "--engine", "torch"]
    asked += ["--weights", str(weights[CONVOLUTIONAL]), "--json"]
    for worker in ("1/2", "2/2"):
        app([*asked, "--worker", worker], standalone_mode=False)
        answer = json.loads(capsys.readouterr().out)
        assert answer["engine"] == {CONVOLUTIONAL: {"name": "torch"}}
    assert engine_of(layout) is None
