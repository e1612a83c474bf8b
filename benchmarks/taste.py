"""Learning curves of one's taste: `python benchmarks/taste.py FEATURES RATINGS [--choose [--picture FILE]]`.

FEATURES is a feature file (`iaa embed`), RATINGS a CSV with the columns rater, file, rating (several
ratings of one photograph by one person are averaged). Every person who rated all photographs counts; the
intervals are over people. k photographs are rated, the test is on the rest.

Without --choose: own ratings only; the mean of all others' real ratings; both (one's own residual learned);
a person's first block against the last. With it: k chosen by what they teach against k at random, from the
same few to begin with; as a picture, too. Data without single raters: give the mean votes as one person; then
the intervals are over draws.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.evidence.metrics import srcc
from analysis.taste.choosing import choose_next
from analysis.taste.fitting import ALPHAS, fit_taste
from analysis.taste.gram import Gram, scaling_of
from analysis.taste.opinions import Opinions
from store import open_features

SIZES = (10, 25, 50, 100)
N_FIRST = 5
"""Photographs rated at random before anything is chosen."""


def read(features: Path, ratings: Path, output: str | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features at unit length, ratings (people, photographs), and first block against last."""
    with open_features(features) as file:
        ids = file.image_id.tolist()
        rows = np.array(file.read(output or next(iter(file.outputs)), unit_norm=True))
    said = pd.read_csv(ratings)
    table = said.groupby(["rater", "file"]).rating.mean().unstack("rater").reindex(ids)
    table = table.loc[:, table.notna().all()]
    ceiling = np.full(table.shape[1], np.nan)
    if "block" in said:
        first, last = (said[said.block == block] for block in (said.block.min(), said.block.max()))
        for at, rater in enumerate(table.columns):
            one, other = (x[x.rater == rater].set_index("file").rating.reindex(ids) for x in (first, last))
            ceiling[at] = srcc(one.to_numpy(float), other.to_numpy(float))
    return rows, table.to_numpy().T, ceiling


def error_of(values: np.ndarray) -> float:
    """Half of the 95 % interval of a mean over people."""
    return float(1.96 * values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def over_people(values: np.ndarray) -> str:
    """Mean over people with its 95 % interval."""
    mean, error = values.mean(), error_of(values)
    return f"{mean:.3f} [{mean - error:.3f}, {mean + error:.3f}]" if error else f"{mean:.3f}"


def curve(rows: np.ndarray, ratings: np.ndarray, ceiling: np.ndarray, n_draws: int) -> None:
    """SRCC on the photographs that were not rated, by how many were."""
    gram = Gram(rows, scaling_of(rows))
    gram.of(np.arange(len(rows)))
    n_people, n = ratings.shape
    for k in SIZES:
        if k > n - 20:
            continue
        own, others, both = (np.zeros((n_people, n_draws)) for _ in range(3))
        for person, stars in enumerate(ratings):
            general = np.delete(ratings, person, axis=0).mean(axis=0) if n_people > 1 else np.zeros(n)
            for draw in range(n_draws):
                order = np.random.default_rng([person, draw]).permutation(n)
                rated, rest = order[:k], order[k:]
                said = Opinions(rated, stars[rated])
                own[person, draw] = order_of(fit_taste(gram, said), gram, rest, stars, None)
                if n_people > 1:
                    others[person, draw] = srcc(stars[rest], general[rest])
                    taste = fit_taste(gram, said, general)
                    both[person, draw] = order_of(taste, gram, rest, stars, general)
        line = f"k = {k}: own {over_people(own.mean(axis=1))}"
        if n_people > 1:
            line += f"; others {over_people(others.mean(axis=1))}; both {over_people(both.mean(axis=1))}"
            line += f"; both - others {over_people((both - others).mean(axis=1))}"
            line += f"; own - others {over_people((own - others).mean(axis=1))}"
        print(line, flush=True)
    if np.isfinite(ceiling).any():
        print(f"first block against last: {over_people(ceiling)}")


def order_of(taste, gram: Gram, rest: np.ndarray, stars: np.ndarray, general: np.ndarray | None) -> float:
    """SRCC on some rows; 0 for a taste that is the same everywhere."""
    score = taste.predict(gram.rows(rest), None if general is None else general[rest])
    value = srcc(stars[rest], score)
    return 0.0 if np.isnan(value) else value


def choose(rows: np.ndarray, ratings: np.ndarray, n_draws: int, picture: Path | None = None) -> None:
    """The same from k photographs that were chosen, or drawn; tested on a part that nobody may choose."""
    scaling = scaling_of(rows)
    gram, standard = Gram(rows, scaling), scaling.apply(rows)
    gram.of(np.arange(len(rows)))
    n_people, n = ratings.shape
    rules = ("random", "typical", "total", "single")
    reached = {rule: np.zeros((len(SIZES), n_people, n_draws)) for rule in rules}
    sizes = [k for k in SIZES if k <= n // 2]
    for draw in range(n_draws):
        order = np.random.default_rng([7, draw]).permutation(n)
        test, pool = order[: n // 3], order[n // 3 :]
        may_be_asked = np.zeros(n, dtype=bool)
        may_be_asked[pool] = True
        first = pool[:N_FIRST]
        for rule in rules:
            if rule == "random":
                chosen = pool
            else:  # what is chosen depends on the features and alpha alone, not on the stars
                more = choose_next(standard, first, max(sizes), may_be_asked, rule=rule, alpha=ALPHAS[12])
                chosen = np.concatenate([first, more])
            for person, stars in enumerate(ratings):
                for at, k in enumerate(sizes):
                    taste = fit_taste(gram, Opinions(chosen[:k], stars[chosen[:k]]))
                    reached[rule][at, person, draw] = order_of(taste, gram, test, stars, None)
    for at, k in enumerate(sizes):
        by = {rule: values[at] for rule, values in reached.items()}
        unit = 1 if n_people > 1 else 0  # intervals over people, or over draws where there is one
        said = [f"{rule} {over_people(values.mean(axis=unit))}" for rule, values in by.items()]
        said += [
            f"{rule} - random {over_people((by[rule] - by['random']).mean(axis=unit))}" for rule in rules[1:]
        ]
        print(f"k = {k}: " + "; ".join(said), flush=True)
    if picture is not None:
        unit = 2 if n_people > 1 else 1
        draw_curves({rule: reached[rule][: len(sizes)].mean(axis=unit) for rule in rules}, sizes, picture)


def draw_curves(reached: dict[str, np.ndarray], sizes: list[int], path: Path) -> None:
    """SRCC by the number of ratings, a line per rule, and what each rule has over chance draws."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    whole, ahead = figure.subplots(1, 2)
    for at, (rule, values) in enumerate(reached.items()):
        for axes, shown in ((whole, values), (ahead, values - reached["random"])):
            if axes is ahead and rule == "random":
                continue
            x = np.array(sizes) * 1.03 ** (at - 1.5)
            bars = [error_of(each) for each in shown]
            axes.errorbar(x, shown.mean(axis=1), bars, fmt="o-", color=f"C{at}", label=rule)
    ahead.axhline(0, color="grey", linestyle=":")
    for axes, what in ((whole, "SRCC with the other ratings"), (ahead, "less that of random draws")):
        axes.set(xscale="log", xlabel="ratings", ylabel=what)
        axes.set_xticks(sizes, list(map(str, sizes)))
        axes.minorticks_off()
        axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Parse, read, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("features", type=Path)
    parser.add_argument("ratings", type=Path)
    parser.add_argument("--output")
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--picture", type=Path, help="with --choose: learning curves, as PNG, SVG or PDF")
    given = parser.parse_args()
    rows, ratings, ceiling = read(given.features, given.ratings, given.output)
    print(f"{ratings.shape[0]} people, {ratings.shape[1]} photographs, {given.draws} draws")
    if given.choose:
        choose(rows, ratings, given.draws, given.picture)
    else:
        curve(rows, ratings, ceiling, given.draws)


if __name__ == "__main__":
    main()
