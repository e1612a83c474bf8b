"""Weights as people give them on the command line: bad files are told, several sets in one are told apart."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from embed.backbones.registry import DEMO_WEIGHTS
from iaa.library.backbones import weight_files
from store import open_features


class Planted:
    def __reduce__(self):
        return (Path.touch, (Path("planted"),))


@pytest.fixture
def photographs(run, tmp_path):
    (tmp_path / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (4, 64, 64, 3), dtype=np.uint8)
    for i in range(4):
        Image.fromarray(pixels[i]).save(tmp_path / "photos" / f"{i}.png")
    assert run("dataset", "add", "mine", "--kind", "folder", "--images", tmp_path / "photos")[0] == 0
    return run


def test_files_that_are_no_weights_are_told_without_a_traceback(photographs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, content in {
        "zero.pt": b"",
        "lfs.pt": b"version https://git-lfs.github.com/spec/v1\n",
        "page.bin": b"<!doctype html>",
        "huge.safetensors": struct.pack("<Q", 2**60) + b"{}",
        "text.txt": b"hello",
    }.items():
        (tmp_path / name).write_bytes(content)
    torch.save({"state_dict": Planted()}, "evil.ckpt")
    torch.jit.script(torch.nn.Linear(2, 2)).save("script.pt")
    for name, message in {
        "zero.pt": "is empty (0 bytes)",
        "lfs.pt": "Git LFS pointer",
        "page.bin": "web page",
        "huge.safetensors": "declares a header",
        "text.txt": "of an unknown kind",
        "evil.ckpt": "objects besides tensors",
        "script.pt": "TorchScript archive",
        ".": "does not exist or is no file",
    }.items():
        code, out, err = photographs("embed", "-d", "mine", "-b", "demo_clip", "--weights", name)
        err = " ".join(err.split())
        assert (code, out) == (1, "") and message in err
        assert "Traceback" not in err and "weights_only" not in err
    assert not (tmp_path / "planted").exists()


def test_averaged_weights_are_said_and_make_another_file_than_plain_ones(photographs, tmp_path, monkeypatch):
    state = load_file(DEMO_WEIGHTS / "demo_clip.safetensors")
    torch.save(
        {"state_dict": {k: v * 0.5 for k, v in state.items()}, "state_dict_ema": state}, tmp_path / "e.pth"
    )
    embed = ("embed", "-d", "mine", "-b", "demo_clip")
    code, _, err = photographs(*embed, "--weights", tmp_path / "e.pth")
    assert code == 0 and "state_dict_ema is taken" in " ".join(err.split())
    with open_features(tmp_path / "data/mine/features/demo_clip.h5") as features:
        assert features.identity["weights_entry"] == "state_dict_ema"
        assert features.provenance["weights"]["entry"] == "state_dict_ema"
        averaged = features.read("embedding").copy()
    code, out, _ = photographs("search", "a dog", "-d", "mine", "--weights", tmp_path / "e.pth", "--json")
    assert code == 0
    # Without the file: by the text tower of these very weights, which was kept.
    code, by_kept, _ = photographs("search", "a dog", "-d", "mine", "--json")
    shown = [json.loads(each)["shown"] for each in (out, by_kept)]
    cosines = [{row["image_id"]: row["cosine"] for row in rows} for rows in shown]
    assert code == 0 and cosines[0] == pytest.approx(cosines[1], abs=1e-5)
    monkeypatch.setenv("IAA_CACHE", str(tmp_path / "empty"))
    code, _, err = photographs("search", "a cat", "-d", "mine")
    assert code == 1 and "(e.pth, its state_dict_ema)" in " ".join(err.split())
    assert photographs(*embed, "--overwrite")[0] == 0
    with open_features(tmp_path / "data/mine/features/demo_clip.h5") as features:
        assert "weights_entry" not in features.identity
        np.testing.assert_array_equal(features.read("embedding"), averaged)


def test_weights_of_ones_own_have_a_name_of_their_own(photographs, tmp_path):
    import timm

    torch.manual_seed(0)
    state = {f"model.{k}": v for k, v in timm.create_model("test_vit", num_classes=3).state_dict().items()}
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.4.0"}, tmp_path / "run=3.ckpt")
    own = ("embed", "-d", "mine", "-b", "timm:test_vit/birds")
    code, out, err = photographs(*own, "--weights", tmp_path / "run=3.ckpt", "--json")
    assert code == 0 and "'birds' is none of timm's weights for test_vit" in " ".join(err.split())
    with open_features(tmp_path / "data/mine/features/timm_test_vit_birds.h5") as features:
        assert features.backbone == "timm:test_vit/birds"
        assert features.provenance["weights"]["file"] == "run=3.ckpt"
    assert json.loads(out)
    code, _, err = photographs(*own)
    assert code == 1 and "Weights of your own: --backbone timm:test_vit/birds --weights FILE" in err


def test_a_path_may_hold_the_sign_that_names_backbones(tmp_path):
    file = tmp_path / "run=3.pt"
    file.touch()
    assert weight_files(["demo_clip"], [str(file)]) == {"demo_clip": file}
    assert weight_files(["demo_clip"], [f"demo_clip={file}"]) == {"demo_clip": file}
