"""Whose taste travels? A probe fitted on one rated data set, applied to the photographs of another.

Ranks alone are compared: what one group of people calls 5 another calls 3. Beside it, on the same
photographs, a probe of the data set's own (each photograph predicted by a fit on other folds), and the
ceiling that its votes allow. Photographs that both data sets have, by their bytes, are left out of what is
measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from analysis.evidence.bootstrap import Prediction, bootstrap_replicates, interval
from analysis.evidence.folds import assign_folds
from analysis.evidence.labels import RatingsError
from analysis.evidence.metrics import srcc
from analysis.probing.distribution import noise_ceiling
from analysis.probing.probes import JoinedRows, fit_probes, join_rows
from analysis.results.methods import Metric
from store import StoreError, open_features, open_targets
from store.features import Features
from store.rows import align
from store.shapes import Bool, Float
from store.targets import Targets

N_FOLDS = 10
SAME = ("backbone", "weights_sha256", "outputs", "precision")
"""What two feature files must agree in for one probe to mean something on both."""


@dataclass(frozen=True)
class Rated:
    """A data set's features by one backbone, with its ratings."""

    features: Features
    targets: Targets

    @property
    def name(self) -> str:
        """The data set's name."""
        return self.targets.dataset


@dataclass(frozen=True)
class Transfer:
    """What a probe of one data set is worth on another."""

    source: str
    target: str
    backbone: str
    output: str
    srcc: Metric
    """Of the foreign probe with the ratings, over the target's photographs."""
    own: Metric
    """Of the target's own probe, each photograph predicted from other folds."""
    difference: Metric
    """Foreign less own, on shared resamples."""
    ceiling: Metric | None
    """What the votes allow; None where there are scores only."""
    n_source: int
    n_target: int
    n_shared: int
    """Photographs of the target left out because the source has them, too."""


def transfer(source: Rated, target: Rated, output: str, n_boot: int = 1000, seed: int = 0) -> Transfer:
    """Ridge fitted on all rated photographs of one data set, measured on all of another.

    Raises ValueError where the two were made by other weights or outputs, RatingsError where there is
    nothing to learn from.
    """
    if wrong := differing(source.features, target.features):
        raise ValueError(
            f"{source.features.path} and {target.features.path} differ in {', '.join(wrong)}: a probe of the "
            "one means nothing on the other. Embed one of them again: iaa embed --overwrite"
        )
    learned = everything(source)
    fit = fit_probes(source.features, source.targets, output, rows=learned, seed=seed)
    rows = everything(target)
    used = np.flatnonzero((rows.split != "") & ~shared_images(target.features, source.features))
    n_shared = int((rows.split != "").sum()) - len(used)
    if len(used) < N_FOLDS:
        raise RatingsError(
            f"{target.name} has {len(used)} rated photographs that {source.name} has not: at least {N_FOLDS} "
            "are needed to measure anything"
        )
    foreign = fit.ridge.predict(target.features.read(output, used).astype(np.float64))
    own = predict_folds(target, rows, output, seed)[used]
    y = rows.y[used, 0]
    return Transfer(
        source.name, target.name, target.features.backbone, output,
        *compare_scores(y, foreign, own, n_boot, seed), _ceiling(target, used, seed),
        len(learned.train), len(used), n_shared,
    )  # fmt: skip


def compare_scores(
    y: Float[np.ndarray, " n"], foreign: Float[np.ndarray, " n"], own: Float[np.ndarray, " n"],
    n_boot: int, seed: int,
) -> tuple[Metric, Metric, Metric]:  # fmt: skip
    """SRCC of both scores with the ratings and their difference, with intervals over the same resamples."""
    both = {"foreign": Prediction(foreign, None), "own": Prediction(own, None)}
    drawn = bootstrap_replicates(y, None, both, n_boot, np.random.default_rng(seed), ("srcc",))
    values = {name: srcc(y, each.score) for name, each in both.items() if each.score is not None}
    found = [Metric(values[name], *interval(drawn[name]["srcc"])) for name in both]
    apart = drawn["foreign"]["srcc"] - drawn["own"]["srcc"]
    return found[0], found[1], Metric(values["foreign"] - values["own"], *interval(apart))


def everything(rated: Rated) -> JoinedRows:
    """The join of features and ratings in which every usable photograph is a training image.

    Raises RatingsError for a data set without ratings.
    """
    every = np.where(np.arange(rated.targets.n_images) % 2, "train", "test")  # join_rows wants both
    rows = join_rows(rated.features, replace(rated.targets, split=every))
    return replace(rows, split=np.where(rows.split == "", "", "train"))


def predict_folds(
    rated: Rated, rows: JoinedRows, output: str, seed: int = 0
) -> Float[np.ndarray, " n_images"]:
    """The rating of each photograph as predicted by ridge on the other folds; NaN for those without."""
    fold = np.full(rated.features.n_images, -1)
    fold[rows.train] = assign_folds(rated.features.image_id[rows.train], N_FOLDS, seed)
    score = np.full(rated.features.n_images, np.nan)
    for left_out in range(N_FOLDS):
        split = np.where(fold == left_out, "test", rows.split)
        fit = fit_probes(rated.features, rated.targets, output, rows=replace(rows, split=split), seed=seed)
        score[fold == left_out] = fit.predictions["ridge"]
    return score


def shared_images(features: Features, others: Features) -> Bool[np.ndarray, " n_images"]:
    """True where an image has the same bytes as one of the other file."""
    if not {"source_sha256"} <= features.file.arrays.keys() & others.file.arrays.keys():
        return np.zeros(features.n_images, bool)
    there = {bytes(row) for row in others.file.view("source_sha256")} - {bytes(32)}
    return np.array([bytes(row) in there for row in features.file.view("source_sha256")], bool)


def differing(features: Features, others: Features) -> list[str]:
    """What keeps two feature files from being read by one probe."""
    return [name for name in SAME if features.identity.get(name) != others.identity.get(name)]


def find_partners(dataset_dir: Path | str, features: Features) -> list[Rated]:
    """Other rated data sets of the same data root whose photographs went through the same weights; damaged
    ones are passed over, as `iaa verify` names them."""
    folder = Path(dataset_dir).resolve()
    found = []
    for path in sorted(folder.parent.glob("*/targets.h5")):
        other = path.parent / "features" / features.path.name
        if path.parent == folder or not other.exists():
            continue
        try:
            rated = Rated(open_features(other), open_targets(path))
            rated.features.check_images(rated.targets.images)
        except StoreError:
            continue
        if rated.targets.is_rated and not differing(features, rated.features):
            found.append(rated)
    return found


def transfer_all(
    dataset_dir: Path | str, backbones: Sequence[str], n_boot: int = 1000, seed: int = 0
) -> list[Transfer]:
    """Both ways between a data set and every partner, for the output of each of the backbones (none named:
    all) that the paper's probe reads: the one before a projection."""
    folder = Path(dataset_dir)
    targets = open_targets(folder / "targets.h5")
    found: list[Transfer] = []
    for path in sorted((folder / "features").glob("*.h5")) if targets.is_rated else ():
        features = open_features(path)
        if backbones and features.backbone not in backbones:
            continue
        partners = find_partners(folder, features)
        output = next((name for name in features.outputs if name != "embedding"), "embedding")
        found += both_ways(Rated(features, targets), partners, [output], n_boot, seed)
    return found


def has_partner(dataset_dir: Path | str, backbones: Sequence[str]) -> bool:
    """True if a rated data set shares one of the backbones with another rated one."""
    folder = Path(dataset_dir)
    if not (folder / "targets.h5").exists() or not open_targets(folder / "targets.h5").is_rated:
        return False
    opened = [open_features(path) for path in sorted((folder / "features").glob("*.h5"))]
    return any(find_partners(folder, each) for each in opened if each.backbone in backbones)


def both_ways(
    here: Rated, partners: Sequence[Rated], outputs: Sequence[str], n_boot: int = 1000, seed: int = 0
) -> list[Transfer]:
    """Every partner's probe here and this data set's probe there, for some outputs."""
    return [
        transfer(*pair, output, n_boot, seed)
        for output in outputs
        for partner in partners
        for pair in ((here, partner), (partner, here))
    ]


def _ceiling(target: Rated, used: np.ndarray, seed: int) -> Metric | None:
    votes = target.targets.votes
    if votes is None:
        return None
    levels = target.targets.levels
    assert levels is not None
    at = align(target.targets.image_id, target.features.image_id[used])
    return noise_ceiling(votes[at], levels, 20, np.random.default_rng(seed)).srcc
