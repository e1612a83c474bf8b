"""Libraries are imported without torch's compiler, which is there when something needs it."""

import subprocess
import sys

import pytest

COUNTED = """
import sys
{before}
import embed.batching
from embed.uncompiled import library
timm, open_clip = library("timm"), library("open_clip")
model = timm.create_model("resnet18").eval()
import torch
with torch.inference_mode():
    model(torch.zeros(1, 3, 64, 64))
print("torch._dynamo" in sys.modules)
"""
NEEDED = """
import torch, torchvision
assert torch.compiler.disable.__module__ == "torch.compiler"
kept = torchvision.ops.roi_align.__globals__["is_compile_supported"]
assert kept("cpu") in (True, False)
import torch._dynamo.utils
assert kept("cpu") == torch._dynamo.utils.is_compile_supported("cpu")
assert torch._dynamo.utils.__spec__ is not None
boxes = torch.tensor([[0.0, 0.0, 0.0, 7.0, 7.0]])
assert torchvision.ops.roi_align(torch.ones(1, 1, 8, 8), boxes, 2).shape == (1, 1, 2, 2)
"""
ASKED_FOR_MORE = """
import embed.uncompiled
class Poor(embed.uncompiled._StandIn):
    def __setattr__(self, name, value):
        if name != "is_compile_supported":
            super().__setattr__(name, value)
embed.uncompiled._StandIn = Poor
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_compiler_is_loaded_when_it_is_needed_and_not_before():
    assert run(COUNTED.format(before="") + NEEDED) == "False"


@pytest.mark.slow
def test_a_library_that_asks_for_more_of_the_compiler_gets_it():
    assert run(COUNTED.format(before=ASKED_FOR_MORE) + NEEDED) == "True"


@pytest.mark.slow
def test_a_compiler_that_is_loaded_already_stays():
    assert run(COUNTED.format(before="import torch._dynamo") + NEEDED) == "True"


PUT_OFF = """
import sys
from embed.uncompiled import library, load_shapes, put_off_shapes
put_off_shapes()
import torch
library("torchvision.transforms.v2.functional")
print("torch._decomp" in sys.modules)
"""
SHAPES = """
with torch.device("meta"):
    images, weight = torch.empty(2, 3, 20, 20), torch.empty(5, 3, 3, 3)
assert torch.nn.functional.conv2d(images, weight).shape == (2, 5, 18, 18)
assert torch.nn.functional.scaled_dot_product_attention(*[torch.empty(2, 4, 7, 8, device="meta")] * 3).shape
assert sys.modules["torch._meta_registrations"].__file__
"""


LATER = [
    "load_shapes()",
    pytest.param("library('timm')", marks=pytest.mark.slow),
    pytest.param("import torch._meta_registrations as m; m.aten", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("needed", LATER)
def test_shapes_without_data_are_there_when_they_are_needed_and_not_before(needed):
    assert run(f"{PUT_OFF}{needed}\n{SHAPES}") == "False"


@pytest.mark.slow
def test_a_torch_that_is_there_already_is_left_as_it_is():
    assert run(f"import torch{PUT_OFF}{SHAPES}") == "True"
