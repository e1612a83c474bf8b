"""One person's taste, learned from her ratings of a data set, with what it is worth."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from iaa.library.errors import UsageError
from iaa.library.layout import Layout, head_path
from iaa.library.names import ME
from iaa.library.opening import check_new_head, existing_head, open_embedded, open_photographs
from iaa.library.probing import before_projection
from iaa.library.ranking import Asked, Ranking
from iaa.library.rating.contents import stored_contents
from iaa.library.rating.placing import Placed, Places
from iaa.library.table import Table
from store import Features, open_targets
from store.errors import did_you_mean
from store.ratings import MAX_STARS, Ratings

if TYPE_CHECKING:
    from analysis.probing.heads import Head
    from analysis.taste.evaluation import Worth
    from analysis.taste.fitting import Taste
    from analysis.taste.gram import Scaling
    from analysis.taste.opinions import Opinions


@dataclass(frozen=True)
class TasteFit:
    """A fitted taste: it scores photographs, says what it is worth, and can be kept as a head."""

    layout: Layout
    rater: str
    head: "Head"
    """The taste as a linear function of the features."""
    taste: "Taste"
    worth: "Worth | None"
    """What it is worth on ratings that were held back; None for too few."""
    n_elsewhere: int
    """Ratings of photographs that have no features, or are gone."""
    started_from: str
    """Name of the general head, or ''."""

    def save(self, name: str, overwrite: bool = False) -> Path:
        """Keep it as a head, for `rank(head=name)` and the page; returns its file. Raises UsageError for a
        name that is taken."""
        from analysis.probing.heads import save_head

        path = head_path(self.layout.root, name)
        check_new_head(path, overwrite)
        return save_head(path, self.head)

    def rank(self) -> Ranking:
        """The photographs by this taste, best first, with the stars that are to be expected (1 to 5) where
        enough was held back to tell."""
        from functools import partial

        from analysis.probing.heads import score_features
        from analysis.prompting.scores import rank_images

        with open_embedded(self.layout, self.head.backbone) as features:
            order = rank_images(score_features(self.head, features))
            targets = open_targets(self.layout.targets)
            calibration = None if self.worth is None else self.worth.calibration
            more = {} if calibration is None else {"stars": calibration.stars(order.score).tolist()}
            facts = {"rater": self.rater, "fitted_on": self.head.origin}
            return Ranking(
                Asked(
                    f"{self.layout.dataset} by the taste of {self.rater}", self.layout.dataset,
                    self.head.backbone, self.head.output, facts,
                ),
                "score", order, features.image_id,
                dict(zip(targets.image_id.tolist(), targets.path.tolist(), strict=True)),
                partial(open_photographs, self.layout, features.path), len(features.failures), more=more,
            )  # fmt: skip

    def table(self) -> Table:
        """What it is worth beside the general head and chance, a row per question: value, low and high."""
        title = f"{self.layout.dataset}: the taste of {self.rater}, {self.head.about['n_stars']} photographs "
        return Table(
            title + f"with stars, {self.head.about['n_pairs']} comparisons",
            {name: [row[at] for row in worth_rows(self.worth)] for at, name in enumerate(_COLUMNS)},
        )

    def shown(self) -> list[Table]:
        """The same for people: each value with its interval in one cell; none without measurements."""
        if self.worth is None:
            return []
        table = self.table()
        given = table.columns
        values = map(_with_bounds, given["value"], given["low"], given["high"])
        shown = {"held back": given["question"], "by": given["by"], "value": [*values], "n": given["n"]}
        return [Table(table.title, shown)]

    def order(self, ranking: Ranking, top: int) -> Table:
        """The first `top` photographs of its ranking, for people."""
        names = ("rank", "image_id", "score", "percentile", "stars")
        columns = {name: ranking.columns[name][:top] for name in names if name in ranking.columns}
        return Table(ranking.title, columns)

    def notes(self) -> list[str]:
        """What it is worth in a sentence, and which ratings it could not use."""
        said = "too few ratings to hold some back: from 10 on it is said what they are worth"
        if self.worth is not None:
            said = f"The taste is {self.worth.sentence}."
        n = f"{self.n_elsewhere:,}"
        more = [f"{n} ratings are about photographs that have no features, or are gone"]
        return [said, *(more if self.n_elsewhere else [])]

    def to_dict(self) -> dict[str, Any]:
        """Whose it is, what it was learned from and what it is worth, as plain values."""
        worth = None if self.worth is None else {**asdict(self.worth), "sentence": self.worth.sentence}
        about = self.head.about
        return {"dataset": self.layout.dataset, "rater": self.rater, "about": about, "worth": worth}

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


_COLUMNS = ("question", "by", "value", "low", "high", "n")


def _with_bounds(value: float, low: float | None, high: float | None) -> str:
    return f"{value:.3f}" + ("" if low is None or low != low else f" [{low:.3f}, {high:.3f}]")


def worth_rows(worth: "Worth | None") -> list[list[Any]]:
    """What a taste is worth as rows: question, by what, value, low, high, number of pairs or photographs."""
    from analysis.taste.evaluation import TASTE

    if worth is None:
        return []
    rows: list[list[Any]] = []
    if worth.n_stars:
        for name, metric in worth.srcc.items():
            rows.append(["SRCC", name, metric.value, metric.low, metric.high, worth.n_stars])
        rows.append(["SRCC", "chance", 0.0, None, None, worth.n_stars])
    for question, found in (
        ("pairs in order", worth.pairwise),
        ("pairs in order, within groups", worth.within),
        ("comparisons", worth.compared),
    ):
        if not found[TASTE].n_pairs:
            continue
        for name, each in found.items():
            metric = each.accuracy
            rows.append([question, name, metric.value, metric.low, metric.high, each.n_pairs])
        rows.append([question, "chance", 0.5, None, None, found[TASTE].n_pairs])
    ahead = worth.ahead
    rows.append(["ahead of " + worth.rival, TASTE, ahead.value, ahead.low, ahead.high, len_of(worth)])
    return rows


def len_of(worth: "Worth") -> int:
    """Ratings and comparisons behind it."""
    return worth.n_stars + worth.n_pairs


def fit_taste(
    layout: Layout,
    rater: str = ME,
    backbone: str | None = None,
    output: str | None = None,
    head: str | None = None,
    within_groups: bool = False,
    seed: int = 0,
    n_boot: int = 1000,
) -> TasteFit:
    """The taste of a rater, from her stars, flags (a photograph without stars that was rejected counts as one
    star, a picked one as five) and comparisons. With a general `head` of the same features it starts from
    that head and learns what she differs in.

    `within_groups`: what it is worth within bursts and near-duplicates (ds.groups()) is measured, too.
    Raises UsageError where nothing was rated, or the head is of other features.
    """
    from analysis.taste.evaluation import FEWEST, evaluate_taste
    from analysis.taste.fitting import fit_taste as fit
    from analysis.taste.gram import Gram, scaling_of

    with open_embedded(layout, backbone) as features:
        output = output or before_projection(features)
        general = None if head is None else _general(layout, head, features, output)
        opinions, n_elsewhere = opinions_of(layout, features, rater)
        unit_norm = True if general is None else general.unit_norm
        rows = features.read(output, unit_norm=unit_norm)
        scaling = scaling_of(np.where(features.ok[:, None], rows, np.nan))
        gram = Gram(rows, scaling)
        start = None if general is None else general.score(rows)
        taste = fit(gram, opinions, start)
        group = np.full(features.n_images, -1)
        if within_groups:
            from iaa.library.groups import group_photographs

            for number, each in enumerate(group_photographs(layout, features.backbone).groups):
                group[each.rows] = number
        worth = None
        if len(opinions) >= FEWEST:
            worth = evaluate_taste(gram, opinions, start, group, n_boot=n_boot, seed=seed)
        fitted = head_of_taste(
            taste, scaling, features, output, unit_norm, general, layout.dataset, rater, worth
        )
    return TasteFit(layout, rater, fitted, taste, worth, n_elsewhere, "" if general is None else general.name)


def head_of_taste(
    taste: "Taste",
    scaling: "Scaling",
    features: Features,
    output: str,
    unit_norm: bool,
    general: "Head | None",
    dataset: str,
    rater: str,
    worth: "Worth | None",
) -> "Head":
    """A taste as a head: its standardisation, and the head it started from, folded into one vector."""
    from analysis.probing.heads import Head

    weight = taste.weights / scaling.scale
    bias = taste.bias - float(weight @ scaling.mean)
    if general is not None:
        ((of_general, bias_of_general),) = general.layers
        weight = weight + taste.slope * np.asarray(of_general[0], np.float64)
        bias += taste.slope * float(bias_of_general[0])
    about: dict[str, Any] = {
        "origin": f"the taste of {rater} in {dataset}: {taste.n_stars} stars, {taste.n_pairs} comparisons",
        "kind": "taste",
        "rater": rater,
        "n_stars": taste.n_stars,
        "n_pairs": taste.n_pairs,
        "alpha": taste.alpha,
        "started_from": "" if general is None else general.name,
        "digests": {"features": features.digest},
    }
    if worth is not None:
        about["worth"] = worth.sentence
        if worth.n_stars:
            metric = worth.srcc["taste"]
            about["held_back_srcc"] = [metric.value, metric.low, metric.high]
    return Head(((weight[None, :], np.array([bias])),), features.backbone, output, unit_norm, about)


def opinions_of(layout: Layout, features: Features, rater: str) -> tuple["Opinions", int]:
    """What a rater said about the photographs of a feature file, and how many ratings are about others.

    Raises UsageError where she said nothing about any of them.
    """
    if not layout.ratings.exists():
        raise UsageError(
            f"{layout.dataset} has no ratings yet: rate in the page (iaa open), or iaa rate import FILE.csv"
        )
    with Ratings(layout.ratings, is_new=False) as file:
        standing, raters = file.standing(rater), file.raters()
    if rater not in raters:
        raise UsageError(
            f"nobody called {rater} has rated {layout.dataset}; there are: {', '.join(raters) or 'nobody'}."
            + did_you_mean(rater, raters)
        )
    placed = Places(features.image_id.tolist(), stored_contents(features)[1]).place(standing)
    opinions = as_opinions(placed, features.ok, lambda row: first_copy(features)[row])
    if not len(opinions):
        raise UsageError(f"{rater} has rated no photograph of {layout.dataset} that has features: iaa embed")
    n_said = len({(e.image_id, e.other_id) for e in standing if e.kind == "pair" or e.value != 0})
    n_used = len({(each.event.image_id, each.event.other_id) for each in placed})
    return opinions, n_said - n_used


def first_copy(features: Features) -> np.ndarray:
    """For each row the first one of the same file."""
    first: dict[bytes, int] = {}
    contents = stored_contents(features)[1]
    return np.array([first.setdefault(c, n) if any(c) else n for n, c in enumerate(contents)], dtype=int)


def as_opinions(placed: Sequence[Placed], ok: np.ndarray, copy_of: Any) -> "Opinions":
    """Ratings of one person as arrays; copies are one photograph, and those without features are left out."""
    from analysis.taste.opinions import Opinions

    stars: dict[int, float] = {}
    flags: dict[int, float] = {}
    pairs: dict[tuple[int, int], tuple[int, int, float]] = {}
    for each in placed:
        row, value = int(copy_of(each.row)), each.event.value
        if not ok[row]:
            continue
        if each.event.kind == "stars":
            stars[row] = value
        elif each.event.kind == "flag":
            flags[row] = 1.0 if value < 0 else MAX_STARS
        else:
            other = int(copy_of(each.other))
            if other != row and ok[other]:
                pairs[min(row, other), max(row, other)] = (row, other, (value + 1) / 2)
    stars = {**flags, **stars}
    said = list(pairs.values())
    return Opinions(
        np.array(list(stars), dtype=int),
        np.array(list(stars.values()), dtype=float),
        np.array([first for first, _, _ in said], dtype=int),
        np.array([second for _, second, _ in said], dtype=int),
        np.array([outcome for *_, outcome in said], dtype=float),
    )


def _general(layout: Layout, head: str, features: Features, output: str) -> "Head":
    from analysis.probing.heads import check_features, collapse, load_head

    general = collapse(load_head(existing_head(layout.root, head)))
    check_features(general, features)
    if general.output != output:
        raise UsageError(f"head {head} is of {general.output}, the taste of {output}: give --output")
    return general
