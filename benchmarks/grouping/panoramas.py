"""Which correlation tells the next frame of a panorama from another photograph.

    python benchmarks/grouping/panoramas.py --photographs DIR [DIR ...] [--n 200]

Frames are cut out of photographs as a camera on a pivot would see them: three directions 10 to 16 degrees
apart, 31 degrees wide, up to 1 degree up or down and askew, up to 0.15 EV apart, with grain. What is compared
are their thumbnails. Against them: other photographs, and photographs of the same subject (names that differ
in their number alone). docs/groups.md has what came out.
"""

import argparse
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from PIL import Image

from analysis.grouping.groups import MAX_DRIFT, MIN_CORRELATION, STEP
from analysis.grouping.overlap import EDGE, Overlap, find_overlap

_WIDE, _NARROW = 66.0, 31.0
"""Degrees that the photograph and a frame of it are taken to be wide."""


def small(image: Image.Image) -> np.ndarray:
    """Grey, long edge EDGE."""
    scale = EDGE / max(image.size)
    size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    return np.asarray(image.convert("L").resize(size, Image.Resampling.BOX), np.float32)


def frame(
    image: Image.Image, yaw: float, pitch: float, roll: float, ev: float, rng: np.random.Generator
) -> Image.Image:
    """What a camera turned by so many degrees sees of a photograph."""
    width, height = image.width // 2, round(image.height * 0.6)
    of_image = image.width / 2 / np.tan(np.radians(_WIDE / 2))
    of_frame = width / 2 / np.tan(np.radians(_NARROW / 2))
    a, b, c = np.radians([yaw, pitch, roll])
    turn = (
        np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
        @ np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
        @ np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    )
    to_ray = np.linalg.inv(np.array([[of_frame, 0, width / 2], [0, of_frame, height / 2], [0, 0, 1]]))
    to_image = np.array([[of_image, 0, image.width / 2], [0, of_image, image.height / 2], [0, 0, 1]])
    found = to_image @ turn @ to_ray
    coefficients = (found / found[2, 2]).ravel()[:8].tolist()
    seen = image.transform(
        (width, height), Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BICUBIC
    )
    pixels = np.asarray(seen, np.float32) * 2 ** (ev / 2.2) + rng.normal(0, 4, (height, width, 1))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def panorama(image: Image.Image, rng: np.random.Generator) -> list[np.ndarray]:
    """Three frames from left to right."""
    step = rng.uniform(10, 16)
    return [
        small(frame(image, yaw, rng.uniform(-1, 1), rng.uniform(-1, 1), rng.uniform(-0.15, 0.15), rng))
        for yaw in (-step, 0, step)
    ]


def is_step(overlap: Overlap, correlation: float) -> bool:
    """As `analysis.grouping.groups` has it, to the left or right."""
    across, drift = abs(overlap.right), abs(overlap.down)
    return overlap.correlation >= correlation and STEP[0] <= across <= STEP[1] and drift <= MAX_DRIFT


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photographs", type=Path, nargs="+", required=True)
    parser.add_argument("--n", type=int, default=200)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    files = sorted(file for folder in arguments.photographs for file in folder.rglob("*.jpg"))
    subject = [re.sub(r"[ \d]*\.jpg$", "", file.name) for file in files]
    opened = [Image.open(file).convert("RGB") for file in files]
    wide = [at for at, image in enumerate(opened) if image.width > image.height]
    right, other, same = [], [], []
    for at in rng.permutation(wide)[: arguments.n].tolist():
        a, b, c = panorama(opened[at], rng)
        right.append((find_overlap(a, b), find_overlap(b, c)))
    by_shape = {}
    for at in wide:
        by_shape.setdefault(opened[at].size, []).append(at)
    alike = max(by_shape.values(), key=len)
    while len(other) < 10 * arguments.n:
        i, j = rng.choice(alike, 2, replace=False)
        other.append(find_overlap(small(opened[i]), small(opened[j])))
    for i in alike:
        same += [
            find_overlap(small(opened[i]), small(opened[j]))
            for j in alike
            if i < j and subject[i] == subject[j] and subject[i].isalpha()
        ]
    print(f"{len(right)} panoramas of three, {len(other):,} pairs of other photographs,", end=" ")
    print(f"{len(same):,} of one subject\n")
    print("| correlation | steps found | panoramas found | others taken for a step | of one subject |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for limit in sorted({0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8, MIN_CORRELATION}):
        steps = np.array([[is_step(overlap, limit) for overlap in pair] for pair in right])
        shares = [
            steps.mean(),
            steps.all(axis=1).mean(),
            *(np.mean([is_step(o, limit) for o in w]) for w in (other, same)),
        ]
        print(f"| {limit:.2f} | " + " | ".join(f"{share:.4f}" for share in shares) + " |")


if __name__ == "__main__":
    main()
