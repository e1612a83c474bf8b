"""Personalised aesthetics: how well each of many people's scores are predicted from some of them.

For every person, every draw and every k: k of her photographs are learned from, and what is predicted of all
her others is compared with her scores (SRCC). The methods see the same photographs:

- generic: ridge on the mean scores of other people, of whom she is none, always without the photograph asked
- personal: ridge on her k scores
- generic + residual: the generic score, and ridge for what she differs in (the formulas of
  analysis.taste.fitting; the weight b1 of the start is 1 where leaving out does not prefer another)
- others' mean: what everybody else really said of the photograph (her mean of it where nobody did)
- others' mean + residual: the same as a start

Her own repeat (first against last scores of photographs that she scored again) is about what can be reached.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import rankdata
from scipy.stats import t as student

from analysis.parallel import map_threads, n_workers
from analysis.results.methods import Metric
from analysis.taste.fitting import ALPHAS
from analysis.taste.generic import fit_generic
from analysis.taste.gram import scaling_of
from analysis.taste.path import StarsPath
from analysis.taste.protocols import Protocol
from analysis.taste.raters import Person, Raters, people_of, total_of
from store.shapes import Float, Int

GENERIC, PERSONAL, RESIDUAL = "generic", "personal", "generic + residual"
OTHERS, BOTH, REPEAT = "others' mean", "others' mean + residual", "own repeat"
METHODS = (GENERIC, PERSONAL, RESIDUAL, OTHERS, BOTH)
_ALPHAS = np.array(ALPHAS)
START_SHARE = 0.03
"""How much of all features' variance the start counts for, where its weight is shrunk towards 1."""


@dataclass(frozen=True)
class PeopleResult:
    """SRCC by method, k, person and draw, and what it was measured on."""

    protocol: Protocol
    seed: int
    names: tuple[str, ...]
    """People who were tested."""
    n_rated: Int[np.ndarray, " n_people"]
    """Photographs that each scored and that have features."""
    n_others: int
    """People behind each generic model, at most."""
    n_left_out: int
    """People who scored too few photographs, or all alike."""
    covered: float
    """Share of the tested people's photographs that somebody else scored, too."""
    srcc: dict[str, Float[np.ndarray, "n_shots n_people n_draws"]]
    """NaN where all of the photographs tested have one score."""
    repeat: Float[np.ndarray, " n_people"]
    """SRCC of a person's first scores with her last; NaN where she scored nothing again."""

    @property
    def shots(self) -> tuple[int, ...]:
        """The numbers of photographs that were learned from."""
        return self.protocol.shots

    def per_person(self, method: str, k: int) -> Float[np.ndarray, " n_people"]:
        """Mean over draws."""
        return _mean(self.srcc[method][self.shots.index(k)])

    def metric(self, method: str, k: int) -> Metric:
        """Mean over people, with an interval over people."""
        return over_people(self.repeat if method == REPEAT else self.per_person(method, k))

    def difference(self, method: str, other: str, k: int) -> tuple[Metric, int, int]:
        """How far a method is ahead of another, person by person: mean with interval, people for whom it is
        ahead, people compared."""
        ahead = self.per_person(method, k) - self.per_person(other, k)
        ahead = ahead[np.isfinite(ahead)]
        return over_people(ahead), int((ahead > 0).sum()), len(ahead)

    def of_each(self, method: str, k: int) -> list[Metric]:
        """Each person's own SRCC. The interval is what answers at random leave: 1.96 / root(n - 1) of the n
        photographs tested, as of one draw, since draws share them."""
        reach = 1.96 / np.sqrt(np.maximum(self.n_rated - k - 1, 1))
        values = self.per_person(method, k)
        return [Metric(float(v), float(v - r), float(v + r)) for v, r in zip(values, reach, strict=True)]

    def n_people(self, k: int) -> int:
        """People who were tested with k."""
        return int(np.isfinite(self.per_person(PERSONAL, k)).sum())


def over_people(values: Float[np.ndarray, " n_people"]) -> Metric:
    """Mean with its 95 % interval (Student's t) over people; those without a value do not count."""
    values = values[np.isfinite(values)]
    if not len(values):
        return Metric(math.nan)
    mean = float(values.mean())
    if len(values) < 2:
        return Metric(mean)
    reach = float(student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return Metric(mean, mean - reach, mean + reach)


def evaluate_people(
    features: Float[np.ndarray, "n_images dim"],
    raters: Raters,
    protocol: Protocol,
    people: Sequence[str] | None = None,
    seed: int = 0,
    on_person: Callable[[int, int], None] | None = None,
) -> PeopleResult:
    """A protocol on people's scores. `people` names those who are tested, in place of drawing them;
    photographs without features (rows that are not finite) take no part. `on_person(done, of)` is called as
    they are finished.

    Raises ValueError where nobody scored enough, for an unknown name, and where nobody is left for the
    generic model.
    """
    has_features = np.isfinite(features).all(axis=1)
    everybody = people_of(raters.take(has_features[raters.row]), len(features))
    tested, shots, n_left_out = _tested(everybody, protocol, people, np.random.default_rng([seed, 0]))
    protocol = replace(protocol, shots=shots)
    scaling = scaling_of(np.where(has_features[:, None], features, np.nan))
    shift, scale = scaling.mean.astype(np.float32), scaling.scale.astype(np.float32)
    standard = np.where(has_features[:, None], (features - shift) / scale, np.float32(0.0))
    n_folds = protocol.n_folds or len(tested)
    generic = _generic_scores(standard, everybody, tested, n_folds)
    total, n_said = total_of(everybody, len(features))
    shape = (len(protocol.shots), len(tested), protocol.n_draws)
    found = {method: np.full(shape, np.nan) for method in METHODS}
    n_done = 0

    def measure(place: int) -> float:
        nonlocal n_done
        person = everybody[tested[place]]
        n_others = n_said[person.row] - 1
        is_covered = n_others > 0
        others = (total[person.row] - person.score) / np.maximum(n_others, 1)
        others[~is_covered] = others[is_covered].mean() if is_covered.any() else 0.0
        starts = {GENERIC: generic[place], OTHERS: others}
        for method, values in _measure(standard, person, starts, protocol, [seed, 1, tested[place]]).items():
            found[method][:, place] = values
        n_done += 1
        if on_person is not None:
            on_person(n_done, len(tested))
        return float(is_covered.mean())

    covered = map_threads(measure, range(len(tested)), n_workers(len(tested)))
    return PeopleResult(
        protocol,
        seed,
        tuple(everybody[at].name for at in tested),
        np.array([len(everybody[at].row) for at in tested]),
        sum(1 for person in everybody if len(person.row)) - len(tested) // min(n_folds, len(tested)),
        n_left_out,
        float(np.mean(covered)),
        found,
        np.array([everybody[at].repeat for at in tested]),
    )


def _tested(
    everybody: Sequence[Person], protocol: Protocol, people: Sequence[str] | None, rng: np.random.Generator
) -> tuple[list[int], tuple[int, ...], int]:
    """Places of the people who are tested, the same with every k: those who scored enough for the largest k
    that half of them reach who reach the smallest. These k, and how many scored too few or all alike."""
    if people is not None:
        place = {person.name: at for at, person in enumerate(everybody)}
        if unknown := [name for name in people if name not in place]:
            raise ValueError(f"nobody is called {unknown[0]!r}; there are {', '.join(list(place)[:5])}, ...")
        wanted = sorted({place[name] for name in people})
    else:
        wanted = [at for at, person in enumerate(everybody) if len(person.row)]
    varied = [at for at in wanted if len(everybody[at].row) > 1 and np.ptp(everybody[at].score) > 0]
    able = [
        [at for at in varied if len(everybody[at].row) >= k + protocol.fewest_tested] for k in protocol.shots
    ]
    if not able[0]:
        k, most = protocol.shots[0], max((len(everybody[at].row) for at in varied), default=0)
        raise ValueError(
            f"nobody scored the {k + protocol.fewest_tested} photographs that {protocol.name} needs at least "
            f"({k} to learn from, {protocol.fewest_tested} to be tested on); the most is {most}"
        )
    last = max(at for at, those in enumerate(able) if 2 * len(those) >= len(able[0]))
    chosen = able[last]
    n_left_out = len(wanted) - len(chosen)
    if people is None and protocol.n_people is not None and len(chosen) > protocol.n_people:
        chosen = sorted(rng.choice(chosen, protocol.n_people, replace=False).tolist())
    return chosen, protocol.shots[: last + 1], n_left_out


def _generic_scores(
    standard: Float[np.ndarray, "n_images dim"],
    everybody: Sequence[Person],
    tested: Sequence[int],
    n_folds: int,
) -> list[Float[np.ndarray, " n_rated"]]:
    """For each tested person the generic model's scores of her photographs: of the people of other parts,
    and of those who are not tested."""
    n_images = len(standard)
    total, n_said = total_of(everybody, n_images)
    n_folds = min(n_folds, len(tested))
    by_rows: dict[bytes, list[tuple[int, np.ndarray, np.ndarray]]] = {}
    for fold in range(n_folds):
        out = [everybody[at] for at in tested[fold::n_folds]]
        of_part, n_part = total_of(out, n_images)
        n = n_said - n_part
        rows = np.flatnonzero(n > 0)
        if len(rows) < 3:
            raise ValueError(
                "nobody is left whose scores a generic model could be learned from: test fewer people, or in "
                "more parts"
            )
        means = (total - of_part)[rows] / n[rows]
        by_rows.setdefault(rows.tobytes(), []).append((fold, rows, means))
    found: dict[int, np.ndarray] = {}
    for same in by_rows.values():  # one decomposition for all parts with the same photographs
        scores = fit_generic(standard, same[0][1], np.stack([means for *_, means in same], axis=1))
        for column, (fold, *_) in enumerate(same):
            for place in range(fold, len(tested), n_folds):
                found[place] = scores[everybody[tested[place]].row, column]
    return [found[place] for place in range(len(tested))]


def _measure(
    standard: Float[np.ndarray, "n_images dim"],
    person: Person,
    starts: dict[str, Float[np.ndarray, " n_rated"]],
    protocol: Protocol,
    seed: Sequence[int],
) -> dict[str, Float[np.ndarray, "n_shots n_draws"]]:
    """SRCC of each method on one person's photographs."""
    n = len(person.row)
    rows = standard[person.row]
    found = {method: np.full((len(protocol.shots), protocol.n_draws), np.nan) for method in METHODS}
    fits: list[tuple[int, int, np.ndarray]] = []
    weights, slopes = [], []
    for draw in range(protocol.n_draws):
        order = np.random.default_rng([*seed, draw]).permutation(n)
        known = rows[order[: protocol.shots[-1]]].astype(np.float64)
        gram = known @ known.T
        for at, k in enumerate(protocol.shots):
            rated, rest = order[:k], order[k:]
            fits.append((at, draw, rest))
            stars = person.score[rated]
            for start in (None, starts[GENERIC][rated], starts[OTHERS][rated]):
                dual, slope = _fit(gram[:k, :k], stars, start)
                weights.append(known[:k].T @ dual)
                slopes.append(slope)
    learned = rows @ np.stack(weights, axis=1).astype(np.float32)
    for number, (at, draw, rest) in enumerate(fits):
        own, residual, both = (learned[rest, 3 * number + which].astype(np.float64) for which in range(3))
        generic, others = starts[GENERIC][rest], starts[OTHERS][rest]
        scores = {
            GENERIC: generic,
            PERSONAL: own,
            RESIDUAL: slopes[3 * number + 1] * generic + residual,
            OTHERS: others,
            BOTH: slopes[3 * number + 2] * others + both,
        }
        for method, value in zip(scores, _srcc(person.score[rest], list(scores.values())), strict=True):
            found[method][at, draw] = value
    return found


def _fit(
    gram: Float[np.ndarray, "k k"], stars: Float[np.ndarray, " k"], start: Float[np.ndarray, " k"] | None
) -> tuple[Float[np.ndarray, " k"], float]:
    """Dual coefficients, and the weight of the start: y - g = b0 + b g + w'z, b shrunk as w is."""
    if start is None:
        path = StarsPath(gram, np.ones((len(stars), 1)), _ALPHAS)
        return path.fit(stars[:, None], path.choose(stars[:, None]))[0][:, 0], 0.0
    away = start - start.mean()
    square = START_SHARE * np.trace(gram) / max(float(away @ away), 1e-12)
    path = StarsPath(gram + square * np.outer(away, away), np.ones((len(stars), 1)), _ALPHAS)
    left = (stars - start)[:, None]
    dual = path.fit(left, path.choose(left))[0][:, 0]
    return dual, 1.0 + square * float(away @ dual)


def _srcc(
    stars: Float[np.ndarray, " n"], scores: Sequence[Float[np.ndarray, " n"]]
) -> Float[np.ndarray, " n_scores"]:
    """SRCC of each score; 0 for one that is the same everywhere, which orders nothing; NaN where all stars
    are the same."""
    ranks = rankdata(np.stack([stars, *scores]), axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    size = np.sqrt((ranks**2).sum(axis=1))
    if size[0] == 0:
        return np.full(len(scores), np.nan)
    return np.asarray(ranks[1:] @ ranks[0] / np.where(size[1:] > 0, size[0] * size[1:], np.inf))


def _mean(values: Float[np.ndarray, "n_people n_draws"]) -> Float[np.ndarray, " n_people"]:
    is_known = np.isfinite(values)
    n = is_known.sum(axis=1)
    total = np.where(is_known, values, 0.0).sum(axis=1)
    return np.asarray(np.where(n > 0, total / np.maximum(n, 1), np.nan))
