"""Other ways to the same vectors: a torch DataLoader, the paper authors' code path, thingsvision."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from embed.backbones.loading import Backbone
from embed.images.datasets import ImageTable
from embed.images.geometry import Steps
from embed.options import Decoding
from embed.reading import load_row

AUTHORS_BATCH = 512
THINGSVISION_SCRIPT = Path(__file__).with_name("thingsvision_way.py")


class Photographs(Dataset):
    """The usual way: one file, one transform."""

    def __init__(self, table: ImageTable, transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self.table, self.transform = table, transform

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, row: int) -> torch.Tensor:
        with Image.open(self.table.absolute(row)) as image:
            return self.transform(image)


class FastRows(Dataset):
    """This project's fast path as an item of a DataLoader, to compare processes with threads."""

    def __init__(self, table: ImageTable, steps: Steps) -> None:
        self.table, self.steps = table, steps

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, row: int) -> torch.Tensor:
        pixels = load_row(self.table.absolute(row), Decoding([self.steps], max_pixels=10**9)).pixels
        assert pixels is not None
        return torch.from_numpy(pixels[0])


def load_all(dataset: Dataset, n_workers: int) -> None:
    """Every item through a DataLoader of batches of 32, nothing kept."""
    for _ in DataLoader(dataset, batch_size=32, num_workers=n_workers):
        pass


def authors_way(table: ImageTable, backbone: Backbone, out: Path) -> None:
    """As the paper's authors did: batches of 512 without workers, gathered in memory, saved at the end."""
    gathered: dict[str, list[torch.Tensor]] = {name: [] for name in backbone.outputs}
    loader = DataLoader(Photographs(table, backbone.transform), batch_size=AUTHORS_BATCH)
    with torch.no_grad():
        for images in loader:
            for name, values in backbone.encode_images(images).items():
                gathered[name].append(values)
    torch.save({name: torch.cat(values) for name, values in gathered.items()}, out)


def thingsvision_seconds(
    python: Path, table: ImageTable, model: str, config: Path, out: Path, repeats: int
) -> tuple[list[float], str]:
    """Seconds of thingsvision's extraction per repeat, and its versions; `python` is one that has it.

    Raises RuntimeError with the last lines of its output if it fails.
    """
    arguments = [table.root, str(len(table)), model, config, out, str(repeats)]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [python, THINGSVISION_SCRIPT, *arguments], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        raise RuntimeError(f"thingsvision failed: {done.stderr.strip()[-500:]}")
    answer = json.loads(done.stdout.splitlines()[-1])
    return answer["seconds"], answer["versions"]
