"""A worker process with a backbone that costs nothing: `python toy_worker.py FOLDER OUT N I/M [KILL_AFTER]`.

Everything but the numbers of the forward pass is the real thing. With KILL_AFTER the process kills itself
with SIGKILL when that many rows are done and part 0 is written.
"""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from embed.backbones.loading import Backbone, load_backbone
from embed.images.datasets import ImageTable
from embed.pipeline import Options, Outcome, embed_images

N_FILES = 40


def toy_table(folder: Path, n_images: int) -> ImageTable:
    """Many ids on few files."""
    ids = np.array([f"{i:05d}" for i in range(n_images)])
    files = np.array([f"{i:04d}.png" for i in range(N_FILES)])
    return ImageTable("toy", folder, ids, files[np.arange(n_images) % N_FILES])


def toy_backbone() -> Backbone:
    """demo_vit whose forward pass is the mean colour of three rows of pixels."""
    backbone = load_backbone("demo_vit")
    ((name, dim),) = backbone.outputs.items()
    backbone.encode_images = lambda x: {  # type: ignore[method-assign]
        name: x[:, :, :3].mean(3).flatten(1).repeat(1, dim)[:, :dim]
    }
    return backbone


def run(folder: Path, out: Path, n_images: int, worker: tuple[int, int] | None, on_rows=None) -> Outcome:
    """One worker's run."""
    options = Options(batch_size=256, n_threads=1, worker=worker)
    return embed_images(toy_table(folder, n_images), [toy_backbone()], out, options, on_rows)[0]


def main() -> None:
    """The command line."""
    folder, out, n_images, worker, *kill_after = sys.argv[1:]
    number, _, n_workers = worker.partition("/")
    n_done = 0

    def on_rows(n_rows, n_failed, is_new):
        nonlocal n_done
        n_done += n_rows
        if kill_after and n_done >= int(kill_after[0]):
            while not list(Path(out).glob("*.parts/part-00000.h5")):  # it is written beside encoding
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)

    outcome = run(Path(folder), Path(out), int(n_images), (int(number), int(n_workers)), on_rows)
    print(outcome.digest, outcome.n_new, outcome.n_left)


if __name__ == "__main__":
    main()
