"""The one reader of weights: every layout that people have, and files that are not what they say."""

import argparse
import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from embed.backbones.checkpoints import TorchScriptError, read_checkpoint
from store.tensor_files import TensorFileError

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}
ZEROS = {name: torch.zeros_like(tensor) for name, tensor in STATE.items()}


def read(tmp_path, content, name="w.pth"):
    torch.save(content, tmp_path / name)
    return read_checkpoint(tmp_path / name)


def is_state(tensors):
    return tensors.keys() == STATE.keys() and all(torch.equal(tensors[k], v) for k, v in STATE.items())


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.bin", "w.ckpt", "w.pth.tar", "w", "w.safetensors.bak"])
def test_the_ending_does_not_matter(tmp_path, name):
    assert is_state(read(tmp_path, STATE, name).tensors)
    save_file(STATE, tmp_path / name)
    assert is_state(read_checkpoint(tmp_path / name).tensors)
    torch.save(STATE, tmp_path / name, _use_new_zipfile_serialization=False)
    assert is_state(read_checkpoint(tmp_path / name).tensors)


LIGHTNING = {
    "epoch": 3, "global_step": 12, "pytorch-lightning_version": "2.4.0", "state_dict": STATE,
    "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5)}},
    "optimizer_states": [{"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2)}}}],
    "hparams_name": "kwargs", "hyper_parameters": {"lr": 0.1},
}  # fmt: skip


@pytest.mark.parametrize(
    ("content", "entry"),
    [
        (STATE, ""),
        (OrderedDict(STATE), ""),
        ({"state_dict": STATE, "epoch": 1}, "state_dict"),
        ({"model": STATE, "optimizer": {"state": {}}}, "model"),
        ({"module": STATE}, "module"),
        ({"model_state_dict": STATE}, "model_state_dict"),
        ({"state_dict": {"model": STATE}}, "state_dict/model"),
        ({"model": STATE, "args": argparse.Namespace(lr=0.1)}, "model"),
        (LIGHTNING, "state_dict"),
    ],
)
def test_wrapped_weights_are_found(tmp_path, content, entry):
    found = read(tmp_path, content)
    assert is_state(found.tensors)
    assert (found.entry, found.is_averaged, found.passed_over) == (entry, False, ())


@pytest.mark.parametrize("averaged", ["state_dict_ema", "model_ema", "ema_state_dict", "ema", "params_ema"])
@pytest.mark.parametrize("plain", ["state_dict", "model", "module"])
def test_averaged_weights_come_before_plain_ones_in_either_order(tmp_path, averaged, plain):
    for content in ({averaged: STATE, plain: ZEROS}, {plain: ZEROS, averaged: STATE}):
        found = read(tmp_path, content)
        assert is_state(found.tensors)
        assert (found.entry, found.is_averaged, found.passed_over) == (averaged, True, (plain,))
    nested = read(tmp_path, {averaged: {"module": STATE}, plain: ZEROS, "ema_decay": 0.9, "model_ema": None}
                  if averaged != "model_ema" else {averaged: {"module": STATE}, plain: ZEROS})  # fmt: skip
    assert is_state(nested.tensors) and nested.entry == f"{averaged}/module" and nested.is_averaged


def test_averages_of_a_kind_that_is_not_read_are_told(tmp_path):
    found = read(tmp_path, {"state_dict": STATE, "ema": {"decay": 0.9, "shadow_params": [torch.zeros(2)]}})
    assert is_state(found.tensors) and found.passed_over == ("ema",) and not found.is_averaged
    assert read(tmp_path, {"state_dict": STATE, "cinema": ZEROS}).passed_over == ()


@pytest.mark.parametrize(
    "content", [{"state_dict": STATE, "model": ZEROS}, {"state_dict_ema": STATE, "model_ema": ZEROS}]
)
def test_of_two_sets_of_one_kind_none_is_guessed(tmp_path, content):
    with pytest.raises(TensorFileError, match=r"holds several sets of weights: \w+, \w+\. Save the one"):
        read(tmp_path, content)


@pytest.mark.parametrize(
    "content",
    [{}, [torch.zeros(2)], torch.zeros(2), {"epoch": 3}, {"state_dict": {"a": 1}}, {"student": STATE}, 7],
)
def test_no_tensors_by_name(tmp_path, content):
    with pytest.raises(TensorFileError, match=r"holds no tensors by name .*also looked under state_dict_ema"):
        read(tmp_path, content)


class Planted:
    """A pickle that would run code where it is loaded."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (Path.touch, (self.file,))


def advice(message):
    return "weights_only" in message or "weights only" in message.lower() or "trust" in message.lower()


@pytest.mark.parametrize("is_legacy", [False, True])
@pytest.mark.parametrize(
    "content", [lambda p: p, lambda p: {"state_dict": STATE, "x": p}, lambda p: {"ema": p}]
)
def test_code_in_a_pickle_is_named_and_never_run_nor_advised(tmp_path, is_legacy, content):
    planted = Planted(tmp_path / "planted")
    torch.save(content(planted), tmp_path / "evil.pt", _use_new_zipfile_serialization=not is_legacy)
    with pytest.raises(TensorFileError, match=r"objects besides tensors \(.+\).*would run code") as raised:
        read_checkpoint(tmp_path / "evil.pt")
    assert not planted.file.exists() and not advice(str(raised.value))
    assert raised.value.__cause__ is None and raised.value.__suppress_context__


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({"a": 1}),
        pickle.dumps({"a": bytearray(10)}, protocol=4),
        b"\x80\x02" + b"(" * 1000,
        b"\x80\x02}q\x00.",
        b"\x80\x02cbuiltins\neval\nq\x00X\x04\x00\x00\x001+11q\x01\x85q\x02Rq\x03.",
        b"\x80\xff",
    ],
)
def test_pickles_that_torch_did_not_write(tmp_path, content):
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(TensorFileError, match=r"w\.pt") as raised:
        read_checkpoint(tmp_path / "w.pt")
    assert not advice(str(raised.value))


@pytest.mark.parametrize("is_legacy", [False, True])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.99])
def test_a_file_cut_short_anywhere_is_an_error(tmp_path, is_legacy, share):
    torch.save({"w": torch.ones(3000)}, tmp_path / "w.pt", _use_new_zipfile_serialization=not is_legacy)
    content = (tmp_path / "w.pt").read_bytes()
    (tmp_path / "w.pt").write_bytes(content[: int(share * len(content))])
    with pytest.raises(TensorFileError, match=r"w\.pt.*Fetch it again") as raised:
        read_checkpoint(tmp_path / "w.pt")
    assert not advice(str(raised.value))


def test_a_record_shorter_than_its_tensor_is_an_error(tmp_path):
    torch.save({"w": torch.ones(3000)}, tmp_path / "w.pt")
    with zipfile.ZipFile(tmp_path / "w.pt") as whole, zipfile.ZipFile(tmp_path / "cut.pt", "w") as cut:
        for name in whole.namelist():
            content = whole.read(name)
            cut.writestr(name, content[:100] if name.endswith("data/0") else content)
    with pytest.raises(TensorFileError, match=r"cut\.pt cannot be read as tensors"):
        read_checkpoint(tmp_path / "cut.pt")


def test_tensors_that_claim_more_than_they_store_are_refused(tmp_path):
    """Copied, these would take terabytes."""
    expanded = torch.ones(1).expand(10**6, 10**6)
    with pytest.raises(TensorFileError, match=r"w claims \(1000000, 1000000\) = 4,000,000,000,000 bytes"):
        read(tmp_path, {"w": expanded})
    for strange in (torch.empty(10**6, 10**6, device="meta"), torch.eye(3).to_sparse()):
        with pytest.raises(TensorFileError, match="w is no plain tensor"):
            read(tmp_path, {"w": strange})
    assert read(tmp_path, {"w": torch.ones(4, 5).T, "v": torch.ones(0, 3), "s": torch.tensor(1.0)}).tensors


def test_a_torchscript_archive_is_not_loaded(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "w.pt")
    with pytest.raises(TorchScriptError, match="TorchScript archive, a program"):
        read_checkpoint(tmp_path / "w.pt")


def test_a_bomb_is_not_unpacked(tmp_path):
    whole, bomb = io.BytesIO(), tmp_path / "bomb.pt"
    torch.save({"w": torch.zeros(10_000_000)}, whole)
    with zipfile.ZipFile(whole) as stored, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    assert bomb.stat().st_size < 100_000
    with pytest.raises(TensorFileError, match=r"declares \d+ entries of 40,.* unpacked"):
        read_checkpoint(bomb)
