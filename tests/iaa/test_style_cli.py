"""`iaa style` and `iaa probe --apply-to`, as people type them."""

import json

import numpy as np
import pytest
from PIL import Image

import iaa
from iaa.library.plain import json_text
from store import open_features


@pytest.fixture
def shots(run, tmp_path):
    """A data set of a few photographs, one of which cannot be read, embedded with demo_vit."""
    folder = tmp_path / "shots"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for i in range(6):
        Image.fromarray(rng.integers(0, 255, (40, 50, 3)).astype(np.uint8)).save(folder / f"{i}.png")
    (folder / "5.png").write_bytes(b"broken")
    run("dataset", "add", "shots", "--kind", "folder", "--images", folder)
    run("embed", "-d", "shots", "-b", "demo_vit", "--engine", "torch")
    return folder


def test_style_makes_measures_and_goes_on(run, shots, tmp_path):
    asked = ("style", "-d", "shots", "-c", "exposure", "-c", "crop", "--n-boot", "20")
    code, out, err = run(*asked, "--json")
    assert code == 0, err
    assert "6 of 6 photographs of shots, 9 versions of each: 54 rows" in err and "that takes about" in err
    (found,) = json.loads(out)["backbones"]
    assert found["n_photographs"] == 6 and found["n_failed"] == 9 and found["shares"] == {}
    path = tmp_path / "data" / "shots" / "style" / "features" / "demo_vit.h5"
    digest = open_features(path).digest
    code, out, err = run(*asked)
    assert code == 0 and "9 rows failed" in err and "that takes about" not in err
    assert open_features(path).digest == digest
    twin = iaa.open_dataset("shots").style(changes=["exposure", "crop"], n_boot=20)
    assert json_text(twin.to_dict()) == json_text({"dataset": "shots", "backbones": [found]})
    code, _, err = run("style", "-d", "shots", "-c", "tilt")
    assert code == 2 and "holds variants of other photographs or alterations" in err and "--overwrite" in err
    Image.new("RGB", (50, 40)).save(shots / "0.png")
    code, _, err = run(*asked)
    assert code == 2 and "photographs:" in err


def test_typical_mistakes_are_told(run, shots):
    code, _, err = run("style", "-d", "shots", "-c", "expsure")
    assert code == 2 and "Did you mean exposure?" in err
    code, _, err = run("probe", "-d", "shots", "--apply-to", "all")
    assert code == 1 and "neither votes nor scores" in err
