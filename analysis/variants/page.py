"""Everything about the altered photographs of one backbone, from the stored files: what page and command
show."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.probing.heads import find_heads
from analysis.probing.probes import ProbeFit, fit_probes, join_rows
from analysis.results.methods import Metric
from analysis.variants.directions import (
    N_PERMUTED,
    Share,
    along,
    clusters,
    fit_whitening,
    shares_of,
    style_slopes,
)
from analysis.variants.moving import Move, moves_of
from analysis.variants.reading import Reading, read_change
from analysis.variants.scoring import PROMPTING, score_by_all
from analysis.variants.stored import Variants, open_variants, variants_folder
from store import open_features, open_targets
from store.errors import MissingFileError, hinting
from store.features import Features
from store.prompts import Prompts, open_prompts
from store.rows import align
from store.shapes import Float
from store.targets import Targets

MIN_TRAIN = 20
"""Training photographs below which no probe is fitted here."""
MIN_UNSEEN = 10
"""Photographs that a probe has not learned from, below which no direction is taken from them."""
_MAX_CONTENTS = 50


@dataclass(frozen=True)
class StyleResults:
    """What the altered photographs say about one backbone."""

    backbone: str
    n_photographs: int
    n_versions: int
    n_failed: int
    """Rows that failed."""
    readings: dict[str, dict[str, Reading]]
    """By output and alteration."""
    moves: list[Move]
    shares: dict[str, list[Share]]
    """By output: how much of the ridge probe's direction lies along what."""
    cosines: dict[str, dict[str, Metric]]
    """By output and alteration: cosine of the probe's direction with the alteration's."""
    fitted: list[str]
    """Outputs on which a probe was fitted."""
    kept: dict[str, dict[str, float]]
    """By output: rank of the whitened space, and the share of the probe's variance on train within it."""

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, without the photographs' own predictions."""
        return {
            "backbone": self.backbone,
            "n_photographs": self.n_photographs,
            "n_failed": self.n_failed,
            "readings": {
                output: {change: asdict(r.r2) | {"n_left_out": r.n_left_out} for change, r in of.items()}
                for output, of in self.readings.items()
            },
            "moves": [asdict(move) for move in self.moves],
            "shares": {output: [asdict(share) for share in of] for output, of in self.shares.items()},
            "cosines": {o: {change: asdict(m) for change, m in of.items()} for o, of in self.cosines.items()},
            "kept": self.kept,
        }


def study(
    dataset_dir: Path | str, features: Features, targets: Targets, n_boot: int = 1000, seed: int = 0
) -> StyleResults:
    """Everything about the variants of one backbone. Probes, where the data set has ratings, are ridge on raw
    features of the training images; prompt pairs are of the sets `paper_fixed` and `paper_context` where they
    are encoded.

    Raises MissingFileError where no variants were made.
    """
    folder = Path(dataset_dir)
    variants = open_variants(folder, features)
    if variants is None:
        error = MissingFileError(
            f"there are no altered photographs of {targets.dataset} by {features.backbone}"
        )
        raise hinting(error, f"iaa style --dataset {targets.dataset} --backbone {features.backbone}")
    outputs = list(features.outputs)
    readings: dict[str, dict[str, Reading]] = {}
    for output in outputs:
        spread = spread_of(features, targets, output)
        read = {name: read_change(variants, output, name, spread, n_boot, seed) for name in variants.changes}
        readings[output] = {name: reading for name, reading in read.items() if reading is not None}
    n_train = int(np.count_nonzero(targets.split == "train"))
    can_fit = targets.is_rated and n_train >= MIN_TRAIN and np.count_nonzero(targets.split == "test") >= 2
    fits: list[ProbeFit] = []
    if can_fit:
        rows = join_rows(features, targets)
        cache = folder / "derived"
        fits = [fit_probes(features, targets, each, seed=seed, cache=cache, rows=rows) for each in outputs]
    heads, _ = find_heads(folder.parent / "heads", features)
    scored = score_by_all(features, variants, targets, fits, heads, _prompts(folder, features))
    moves = [move for each in scored for move in moves_of(each, variants, n_boot=n_boot, seed=seed)]
    shares, cosines, kept = {}, {}, {}
    n = len(variants.photograph_id)
    for fit in fits:
        found = _directions(fit, features, targets, variants, seed)
        if found is not None:
            shares[fit.output], cosines[fit.output], kept[fit.output] = found
    return StyleResults(
        features.backbone, n, len(variants.change) // n, int((~variants.ok).sum()),
        readings, moves, shares, cosines, [fit.output for fit in fits], kept,
    )  # fmt: skip


def spread_of(features: Features, targets: Targets, output: str) -> Float[np.ndarray, " dim"]:
    """Standard deviation of each feature over the training photographs, or all where none are; 0 for one that
    is constant but for rounding."""
    split = targets.split[align(targets.image_id, features.image_id)]
    rows = np.flatnonzero((split == "train") & features.ok)
    x = features.read(output, rows if len(rows) >= MIN_TRAIN else np.flatnonzero(features.ok))
    spread = x.std(axis=0, dtype=np.float64)
    return np.where(spread > 1e-6 * np.abs(x).max(initial=0.0), spread, 0.0)


def content_labels(targets: Targets) -> dict[str, np.ndarray]:
    """Columns of a data set that name what is on its photographs: texts, of which several have many."""
    found = {}
    for name, values in targets.columns.items():
        if values.dtype.kind == "U" and 2 <= len(np.unique(values)) <= min(_MAX_CONTENTS, len(values) // 5):
            found[name] = values
    return found


def _directions(
    fit: ProbeFit, features: Features, targets: Targets, variants: Variants, seed: int
) -> tuple[list[Share], dict[str, Metric], dict[str, float]] | None:
    """Shares, cosines and what the space keeps; None where too few photographs are left that the probe did
    not learn from."""
    train, test = fit.rows.train, fit.rows.test
    x, y = (values.astype(np.float64) for values in (features.read(fit.output, train), fit.rows.y[train, 0]))
    whitening = fit_whitening(x)
    changes, slopes = style_slopes(variants, fit.output, whitening, variants.split != "train")
    if len(slopes) < MIN_UNSEEN or len(test) < MIN_UNSEEN or whitening.rank <= len(changes):
        return None
    points = whitening.points(features.read(fit.output, test).astype(np.float64))
    at = align(targets.image_id, features.image_id[test])
    contents = {name: values[at] for name, values in content_labels(targets).items()}
    k = len(changes) + 1  # so many groups lie in as many directions as there are alterations
    spread = whitening.values / np.sqrt(whitening.n)
    contents[f"{k} clusters"] = clusters(whitening.points(x) * spread, points * spread, k, seed)
    rng = np.random.default_rng(seed)
    dealt = np.stack([rng.permutation(y) for _ in range(N_PERMUTED)], axis=1)
    u, unlearned = whitening.probe(fit.ridge.weights), whitening.ridge(dealt, fit.ridge.alpha)
    shares = shares_of(u, unlearned, slopes, points, contents, seed=seed)
    cosines = dict(zip(changes, along(u, slopes, seed=seed), strict=True))
    held = float((u**2).sum() / np.var(fit.ridge.predict(x)))
    return shares, cosines, {"rank": whitening.rank, "held": held, "dim": x.shape[1]}


def _prompts(folder: Path, features: Features) -> dict[str, Prompts]:
    """The paper's prompts as far as they are encoded, by method."""
    found = {}
    for method in PROMPTING:
        name = "paper_fixed" if method == "fixed" else "paper_context"
        path = folder / "prompts" / name / features.path.name
        if path.exists():
            found[method] = open_prompts(path, {"backbone": features.backbone})
    return found


def study_all(
    dataset_dir: Path | str, backbones: Sequence[str], n_boot: int = 1000, seed: int = 0
) -> list[StyleResults]:
    """What the altered photographs say about each of the backbones they went through (none named: all)."""
    folder = Path(dataset_dir)
    found = []
    for path in sorted((variants_folder(folder) / "features").glob("*.h5")):
        own = folder / "features" / path.name
        if own.exists() and (not backbones or open_features(path).backbone in backbones):
            found.append(study(folder, open_features(own), open_targets(folder / "targets.h5"), n_boot, seed))
    return found
