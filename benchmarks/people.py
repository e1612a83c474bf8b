"""How long personalised aesthetics takes at the size of FLICKR-AES: `python benchmarks/people.py [--all]`.

Features, people and scores are made by a program: 40,000 photographs, 210 people, 5 of whom score each
photograph, and among them 37 who score about 130 each and are tested with 100, 10 draws. With --all the 37
score every one of the 40,000 photographs (1.5 million scores). Printed are seconds of the wall and of the
processor, and what was found: the residual is ahead of the generic model, because taste was planted.
"""

import argparse
import time
from dataclasses import replace

import numpy as np

from analysis.results.markup import to_markdown
from analysis.taste.findings import sentences, srcc_cells
from analysis.taste.people import evaluate_people
from analysis.taste.protocols import PROTOCOLS
from analysis.taste.raters import Raters
from store.system import n_cores

N_OTHERS, N_TESTED, N_EACH = 173, 37, 5


def make(n_images: int, dim: int, is_all: bool) -> tuple[np.ndarray, Raters, list[str]]:
    """Features, scores 1 to 5 from a common taste, one's own and noise, and who is tested."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(n_images, 40)).astype(np.float32)
    features = hidden @ rng.normal(size=(40, dim)).astype(np.float32)
    features += rng.normal(size=(n_images, dim)).astype(np.float32)
    n_people = N_TESTED if is_all else N_OTHERS + N_TESTED
    taste = (rng.normal(size=(40, 1)) + 0.7 * rng.normal(size=(40, n_people))) / np.sqrt(40)
    if is_all:
        person, row = np.repeat(np.arange(N_TESTED), n_images), np.tile(np.arange(n_images), N_TESTED)
        tested = 0
    else:  # 37 people score 4,810 photographs among them, five of all people each of the others
        mine = np.arange(N_TESTED * 130).reshape(N_TESTED, 130)
        others = np.arange(N_TESTED * 130, n_images)
        row = np.concatenate([mine.ravel(), np.repeat(others, N_EACH), np.repeat(mine.ravel(), N_EACH - 1)])
        person = np.concatenate(
            [N_OTHERS + np.repeat(np.arange(N_TESTED), 130), rng.integers(0, N_OTHERS, len(row) - mine.size)]
        )
        tested = N_OTHERS
    score = np.einsum("ij,ij->i", hidden[row], taste.T[person].astype(np.float32))
    score = np.clip(np.round(3 + score + 0.7 * rng.normal(size=len(row))), 1, 5)
    names = tuple(f"p{at:03d}" for at in range(n_people))
    return features, Raters(names, person, row, score), list(names[tested:])


def main() -> None:
    """Make, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--dim", type=int, default=1280)
    parser.add_argument("--all", action="store_true")
    given = parser.parse_args()
    features, raters, people = make(given.images, given.dim, given.all)
    wall, processor = time.perf_counter(), time.process_time()
    # Where all are tested, the generic model is of those of the other parts.
    protocol = replace(PROTOCOLS["flickr-aes"], n_folds=4 if given.all else 1)
    found = evaluate_people(features, raters, protocol, people)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    print(f"{given.images:,} photographs of {given.dim} features, {len(raters.score):,} scores, ", end="")
    print(f"{len(found.names)} people: {wall:.1f} s, {processor:.1f} s of {n_cores()} cores\n")
    print(to_markdown(*srcc_cells(found)))
    print("\n".join(sentences(found)))


if __name__ == "__main__":
    main()
