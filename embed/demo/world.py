"""The demo world: a seeded table of small scenes with looks, a taste, and votes, and its JPEGs.

A synthetic world that shows the machinery; it is no evidence for the paper's claim. Looks are drawn
independently of the subject; `taste` maps looks to a number and `mean_vote` that to a mean vote;
about 200 integer votes per image are drawn around it with spread and skew as in AVA
(docs/demo-world.md has the comparison). Everything about image j of a split depends on
(seed, split, j) alone, so any subset of a world has the same rows and the same bytes.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from embed.demo.scenes import SUBJECTS, draw_scene, expose
from store.shapes import Float, Int
from store.system import n_cores

#: Seed of the world that is shown, and of the other one, in which the demo backbones were trained.
DEMO_SEED = 20220
TRAINING_SEED = 976235
#: Raise when any pixel or vote changes: a folder rendered by another version is then refused.
WORLD_VERSION = 1
SPLITS = ("train", "test")
LEVELS = np.arange(1, 11)
JPEG_QUALITY = 90
MARKER = "world.json"

_ROWS, _PIXELS = 0, 1  # streams of random numbers of one image
_IMAGES_PER_TASK = 20


class WorldError(ValueError):
    """A demo world that cannot be made as asked, or a folder that holds something else."""


@dataclass(frozen=True)
class Look:
    """One visible quality: uniform on [low, high], liked best at `best`, with a weight in taste.

    Its appeal falls with |value - best| ** power.
    """

    low: float
    high: float
    best: float
    power: float
    weight: float
    unit: str


LOOKS: dict[str, Look] = {
    "exposure": Look(-1.8, 0.9, 0.0, 2.0, 0.50, "stops"),
    "contrast": Look(0.30, 1.35, 1.25, 1.0, 0.45, "factor about mid grey"),
    "harmony": Look(0.0, 1.0, 1.0, 1.0, 0.25, "0 accidental hues, 1 one of four moods"),
    "saturation": Look(0.0, 1.45, 1.25, 1.0, 0.50, "factor about grey"),
    "blur": Look(0.0, 5.0, 0.0, 1.0, 0.30, "pixels, Gaussian radius"),
    "grain": Look(0.0, 0.14, 0.0, 1.0, 0.45, "standard deviation, white = 1"),
    "tilt": Look(-16.0, 16.0, 0.0, 1.0, 0.15, "degrees, anticlockwise"),
    "placement": Look(0.0, 0.28, 0.08, 1.0, 0.15, "short edges from the centre"),
}


@dataclass(frozen=True)
class World:
    """The table of a world: one row per image, train before test.

    `path` is relative to the folder of the images; `columns` holds the subject, every look, the
    taste and the mean vote it stands for, under the names `subject`, `look_<name>`, `true_taste`,
    `true_mean_vote`.
    """

    image_id: np.ndarray
    path: np.ndarray
    votes: Int[np.ndarray, "n_images 10"]
    split: np.ndarray
    columns: dict[str, np.ndarray]
    seed: int

    def __len__(self) -> int:
        return len(self.image_id)

    def looks_of(self, row: int) -> dict[str, float]:
        """The looks of one image, in the units of `LOOKS`."""
        return {name: float(self.columns[f"look_{name}"][row]) for name in LOOKS}


@cache
def _appeal_moments(look: Look) -> tuple[float, float]:
    grid = np.linspace(look.low, look.high, 20_001)
    appeal = -(np.abs(grid - look.best) ** look.power)
    return float(appeal.mean()), float(appeal.std())


def taste(looks: Mapping[str, np.ndarray]) -> Float[np.ndarray, " n_images"]:
    """How pleasing each image is, mean 0 and standard deviation 1 over the world.

    taste = sum_i w_i z_i / sqrt(sum_i w_i^2) with z_i the appeal -|x_i - best_i|^power_i of look i,
    standardised over its range; looks are independent, so the variances of the terms add to 1.
    """
    total: Float[np.ndarray, " n_images"] = np.zeros(len(looks["exposure"]))
    for name, look in LOOKS.items():
        mean, std = _appeal_moments(look)
        appeal = -(np.abs(np.asarray(looks[name]) - look.best) ** look.power)
        total += look.weight * (appeal - mean) / std
    total /= np.sqrt(sum(look.weight**2 for look in LOOKS.values()))
    return total


def mean_vote(taste_values: Float[np.ndarray, " n_images"]) -> Float[np.ndarray, " n_images"]:
    """The mean of the votes an image would get from everybody, 2 to 9: 5.38 + 0.73 taste."""
    return np.clip(5.38 + 0.73 * taste_values, 2.0, 9.0)


def vote_probabilities(
    mean: Float[np.ndarray, " n_images"], scale: Float[np.ndarray, " n_images"]
) -> Float[np.ndarray, "n_images 10"]:
    """Probability of each vote 1 to 10, rows summing to 1 with the given means.

    p_k is proportional to sech^2((k - m) / 2s), a logistic density with the tails AVA's votes have;
    s is 22 % wider above m than below, which gives their slight positive skew. m is moved until the
    mean is right, since the ends of the scale and the skew shift it.
    """
    centre = mean.copy()
    probabilities = np.empty((len(mean), len(LEVELS)))
    for _ in range(12):
        distance = LEVELS - centre[:, None]
        side = np.where(distance > 0, 1.10, 0.90) * scale[:, None]
        weights = 1.0 / np.cosh(distance / (2 * side)) ** 2
        probabilities = weights / weights.sum(axis=1, keepdims=True)
        centre += mean - probabilities @ LEVELS
    return probabilities


def _image_rng(seed: int, split: str, index: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([seed, SPLITS.index(split), index, stream])


def world_table(n_train: int = 2000, n_test: int = 500, seed: int = DEMO_SEED) -> World:
    """Ids, paths, votes, splits, subjects and looks of a world; renders nothing.

    A larger world with the same seed begins each split with the same images.
    """
    if n_train < 0 or n_test < 0 or n_train + n_test == 0:
        raise WorldError(f"n_train={n_train}, n_test={n_test}: expected at least one image")
    split = np.array(["train"] * n_train + ["test"] * n_test)
    index = np.concatenate([np.arange(n_train), np.arange(n_test)])
    rngs = [_image_rng(seed, str(s), int(j), _ROWS) for s, j in zip(split, index, strict=True)]
    subject = np.array([SUBJECTS[rng.integers(len(SUBJECTS))] for rng in rngs])
    draws = np.array([rng.uniform(size=len(LOOKS)) for rng in rngs])
    looks = {
        name: look.low + (look.high - look.low) * draws[:, i] for i, (name, look) in enumerate(LOOKS.items())
    }
    taste_values = taste(looks)
    mean = mean_vote(taste_values)
    n_votes = np.array([max(60, round(rng.normal(210, 60))) for rng in rngs])
    # People agree less about what they like or dislike strongly, as in AVA.
    spread = np.array([rng.normal(0.0, 0.13) for rng in rngs])
    scale = 0.795 * np.exp(spread + 0.035 * (mean - 5.0) ** 2)
    probabilities = vote_probabilities(mean, scale)
    votes = np.array(
        [rng.multinomial(n, p) for rng, n, p in zip(rngs, n_votes, probabilities, strict=True)],
        dtype=np.int64,
    )
    image_id = np.array([f"{s}-{j:05d}" for s, j in zip(split, index, strict=True)])
    path = np.array([f"{s}/{i}.jpg" for s, i in zip(split, image_id, strict=True)])
    columns = {
        "subject": subject,
        **{f"look_{name}": values for name, values in looks.items()},
        "true_taste": taste_values,
        "true_mean_vote": mean,
    }
    return World(image_id, path, votes, split, columns, seed)


def render_image(world: World, row: int) -> Image.Image:
    """The RGB photograph of one row, shorter edge `SHORT_EDGE` pixels."""
    split, index = str(world.split[row]), int(str(world.image_id[row]).rsplit("-", 1)[1])
    rng = _image_rng(world.seed, split, index, _PIXELS)
    looks = world.looks_of(row)
    return expose(draw_scene(rng, str(world.columns["subject"][row]), looks), rng, looks)


def render_file(world: World, folder: Path, row: int) -> None:
    """Write the JPEG of one row: under a temporary name first, so a kill leaves no half image."""
    target = folder / str(world.path[row])
    partial_file = target.with_suffix(f".{os.getpid()}.partial")
    with partial_file.open("wb") as file:
        render_image(world, row).save(file, format="JPEG", quality=JPEG_QUALITY)
    partial_file.replace(target)


def _render_files(world_args: tuple[int, int, int], folder: Path, rows: list[int]) -> int:
    world = _cached_table(*world_args)
    for row in rows:
        render_file(world, folder, row)
    return len(rows)


@cache
def _cached_table(n_train: int, n_test: int, seed: int) -> World:
    return world_table(n_train, n_test, seed)


@contextmanager
def _workers(n_workers: int) -> Iterator[Callable[..., Iterator[int]]]:
    """A map over tasks: in this process for one worker, else in spawned ones (threads are safe)."""
    if n_workers == 1:
        yield map
        return
    pool: Executor = ProcessPoolExecutor(n_workers, mp_context=get_context("spawn"))
    with pool:
        yield pool.map


def _check_marker(folder: Path, marker: dict[str, int]) -> bool:
    """Whether the folder already holds this world complete; raises when it holds another one."""
    path = folder / MARKER
    if not path.exists():
        if folder.exists() and any(folder.iterdir()):
            raise WorldError(
                f"{folder}: holds files but no {MARKER}; expected an empty or missing folder, or "
                "one rendered before. Remove the files or choose another folder."
            )
        return False
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        complete = bool(found.pop("complete"))
    except (ValueError, KeyError, AttributeError) as error:
        raise WorldError(f"{path}: not a marker of a demo world. Remove {folder}.") from error
    if found != marker:
        raise WorldError(
            f"{folder}: holds the demo world {found}, expected {marker}. "
            "Remove the folder to render it anew, or choose another one."
        )
    return complete


def _write_marker(folder: Path, marker: dict[str, int], complete: bool) -> None:
    partial_file = folder / f"{MARKER}.partial"
    partial_file.write_text(json.dumps({**marker, "complete": complete}, indent=2) + "\n", encoding="utf-8")
    partial_file.replace(folder / MARKER)


def render_world(
    folder: Path | str,
    n_train: int = 2000,
    n_test: int = 500,
    seed: int = DEMO_SEED,
    n_workers: int | None = None,
    progress: bool = False,
) -> World:
    """The table of a world whose JPEGs are all in `folder` afterwards.

    Renders only what is missing: an interrupted rendering is completed, a complete one costs no
    time. A folder that holds another world, or anything else, is refused.
    """
    folder = Path(folder)
    world = world_table(n_train, n_test, seed)
    marker = {"version": WORLD_VERSION, "seed": seed, "n_train": n_train, "n_test": n_test}
    complete = _check_marker(folder, marker)
    missing = [row for row, p in enumerate(world.path) if not (folder / str(p)).exists()]
    if complete and not missing:
        return world
    for split in SPLITS:
        (folder / split).mkdir(parents=True, exist_ok=True)
    _write_marker(folder, marker, complete=False)
    for leftover in folder.glob("*/*.partial"):
        leftover.unlink()
    tasks = [missing[i : i + _IMAGES_PER_TASK] for i in range(0, len(missing), _IMAGES_PER_TASK)]
    if n_workers is None:
        n_workers = min(n_cores(), 8, 1 + len(tasks) // 4)
    render = partial(_render_files, (n_train, n_test, seed), folder)
    with _workers(n_workers) as run, _progress_bar(len(missing), progress) as advance:
        for n_done in run(render, tasks):
            advance(n_done)
    _write_marker(folder, marker, complete=True)
    return world


@contextmanager
def _progress_bar(total: int, shown: bool) -> Iterator[Callable[[int], object]]:
    from tqdm import tqdm

    # None: only on a terminal, so that a log or a pipe is not filled with bars.
    with tqdm(total=total, unit="image", desc="rendering", disable=None if shown else True) as bar:
        yield bar.update
