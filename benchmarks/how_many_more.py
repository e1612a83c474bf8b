"""How calm and how right is "about N more ratings until better than X"?

    python benchmarks/how_many_more.py FEATURES RATINGS [--to 90] [--head FILE] [--people 17]

FEATURES and RATINGS as in benchmarks/taste.py. Every person rates photographs in a random order; from the
tenth rating on it is said after each how many are missing, against chance or, with a head, against that. It
came true at the first rating from which on five in a row are better. Printed: the share of successive numbers
of which one is at least twice the other, and how far, in doublings, the total that was told lies from the one
at which it came true. Both with the last five standings taken together, and by the present one alone.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np

from analysis.probing.heads import load_head
from analysis.taste.evaluation import FEWEST, RECENT, Standing, count_missing, evaluate_taste
from analysis.taste.gram import Gram, scaling_of
from analysis.taste.opinions import Opinions
from benchmarks.taste import read
from store import open_features


def main() -> None:
    """Rate, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("features", type=Path)
    parser.add_argument("ratings", type=Path)
    parser.add_argument("--head", type=Path)
    parser.add_argument("--to", type=int, default=90)
    parser.add_argument("--people", type=int)
    given = parser.parse_args()
    rows, ratings, _ = read(given.features, given.ratings, None)
    gram = Gram(rows, scaling_of(rows))
    beside = None
    if given.head is not None:
        head = load_head(given.head)
        with open_features(given.features) as file:
            beside = head.score(np.array(file.read(head.output, unit_norm=head.unit_norm), np.float64))
    traces = []
    for person, stars in enumerate(ratings[: given.people]):
        order = np.random.default_rng([person, 0]).permutation(len(rows))
        trace = []
        for n in range(FEWEST, given.to + 1):
            said = Opinions(order[:n], stars[order[:n]])
            trace.append(evaluate_taste(gram, said, None, None, beside, n_boot=50, n_repeats=3).standing)
        traces.append(trace)
        print(f"person {person}: better for good from {came_true(trace) or f'beyond {given.to}'}", flush=True)
    for name, kept in ((f"last {RECENT} together", RECENT), ("present one alone", 1)):
        print(name, tell(traces, kept))


def came_true(trace: list[Standing]) -> int | None:
    """The number of ratings from which on five in a row are better."""
    is_better = [each.is_better for each in trace]
    firsts = [i for i in range(len(trace) - 4) if all(is_better[i : i + 5])]
    return trace[firsts[0]].n if firsts else None


def tell(traces: list[list[Standing]], kept: int) -> str:
    """Jumps and errors of what is told from the last `kept` standings."""
    jumps, away = [], []
    for trace in traces:
        told = [count_missing(trace[max(0, i - kept) : i]) for i in range(1, len(trace) + 1)]
        jumps += [max(a, b) / min(a, b) >= 2 for a, b in itertools.pairwise(told) if a and b]
        if true := came_true(trace):
            away += [np.log2((s.n + m) / true) for s, m in zip(trace, told, strict=True) if m and s.n < true]
    return (
        f"jumps of 2 or more: {np.mean(jumps):.3f} of {len(jumps)}; off by {np.mean(np.abs(away)):.2f} "
        f"doublings (median {np.median(np.abs(away)):.2f}), too late by {np.mean(away):+.2f}, of {len(away)}"
    )


if __name__ == "__main__":
    main()
