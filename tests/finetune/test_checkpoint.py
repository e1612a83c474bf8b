"""Checkpoints that are not whole, or not this program's, are told; one bad run does not hide the others."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from finetune.checkpoint import best_epoch_of, load_training, put_tensors, read_tensors, save_tensors
from finetune.targets import FinetuneError
from finetune.tuned import find_tuned, read_record

TENSORS = {"w": torch.arange(3.0)}
RECORD = {
    "id": "b+finetuned.0", "sha256": "0", "levels": [1, 2],
    "identity": {"backbone": "b", "dataset": "d", "output": "embedding"},
}  # fmt: skip


def without_note(path: Path) -> None:
    save_file(TENSORS, path)


def odd_note(path: Path) -> None:
    save_file(TENSORS, path, {"note": "[1]"})


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"),
        lambda path: torch.save(TENSORS, path),
        lambda path: path.write_bytes((2**60).to_bytes(8, "little") + b"{}"),
        lambda path: path.mkdir(),
        without_note,
        odd_note,
        lambda path: save_file(TENSORS, path, {"note": "{"}),
        lambda path: save_file(TENSORS, path, {"note": '{"a":' * 50_000}),
    ],
)
def test_files_that_are_no_checkpoints_are_told(tmp_path, write):
    write(tmp_path / "last.safetensors")
    with pytest.raises(FinetuneError, match=r"last\.safetensors is no whole checkpoint .*Delete its folder"):
        read_tensors(tmp_path / "last.safetensors")


def test_values_that_cannot_be_used_are_told(tmp_path):
    path = tmp_path / "best.safetensors"
    save_tensors(path, TENSORS, {"epoch": "three"})
    with pytest.raises(FinetuneError, match="its epoch is 'three'"):
        best_epoch_of(path)
    with pytest.raises(FinetuneError, match="NaN or infinity in w"):
        put_tensors(path, {"w": torch.zeros(3)}, {"w": torch.tensor([0.0, torch.nan, 1.0])})
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.Adam(model.parameters())
    for memory, message in (
        ({"optimizer/gone/exp_avg": torch.zeros(3)}, "belongs to no parameter"),
        ({"optimizer/weight/exp_avg": torch.zeros(7)}, "belongs to no parameter"),
        ({"optimizer/weight": torch.zeros(7)}, "belongs to no parameter"),
    ):
        save_tensors(path, {"weight": model.weight, **memory}, {"epoch": 1})
        with pytest.raises(FinetuneError, match=message):
            load_training(path, model, {"weight": model.weight.detach()}, optimizer)
    save_tensors(path, {"weight": model.weight}, {"epoch": 1, "of_another_version": 2})
    with pytest.raises(FinetuneError, match="its note is of another version"):
        load_training(path, model, {"weight": model.weight.detach()}, optimizer)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"id": 3}', json.dumps(RECORD | {"identity": []}), '{"a":' * 50_000]
)
def test_one_damaged_run_does_not_hide_the_others(tmp_path, text):
    for name, content in (("a", text), ("b", json.dumps(RECORD))):
        (tmp_path / "d/finetuned" / name).mkdir(parents=True)
        (tmp_path / "d/finetuned" / name / "run.json").write_text(content)
    assert find_tuned(tmp_path, RECORD["id"]) == tmp_path / "d/finetuned/b"
    with pytest.raises(FinetuneError, match="no finished fine-tuning 'c'.*Damaged: .*fine-tune again"):
        find_tuned(tmp_path, "c")
    with pytest.raises(FinetuneError, match="fine-tune again"):
        read_record(tmp_path / "d/finetuned/a")
