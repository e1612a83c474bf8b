"""Predictions that somebody brings: of any method, from a table, set beside ours in the report.

A table has a column of image ids (or file names) and a score, a class, or a share per vote level. Every id
must be one of the data set's; images without a prediction are counted, never filled in.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.evidence.bootstrap import Prediction, bootstrap_metrics
from analysis.evidence.labels import high_from_targets, targets_mos
from analysis.results.methods import METRICS, MethodResult
from analysis.results.predictions import Predicted
from store.durable import write_json
from store.errors import StoreError
from store.json_files import read_json
from store.rows import align
from store.shapes import Bool, Float
from store.targets import Targets

SCHEMA = "iaa.own_results"
ID_COLUMNS = ("imageid", "id", "imgname", "imagename", "filename", "file", "image", "path", "img")
SCORE_COLUMNS = ("score", "prediction", "predicted", "pred", "mos", "mean", "meanscore", "rating")
CLASS_COLUMNS = ("class", "high", "ishigh", "label", "predictedclass")
_CLASSES = {"1": True, "high": True, "true": True, "0": False, "low": False, "false": False}


class OwnResultsError(StoreError):
    """A table of predictions that cannot be taken as it is; the text says what to change."""


@dataclass(frozen=True)
class OwnResults:
    """Predictions of one method, by image id."""

    name: str
    split: str
    """The split that the method was made on; only on the data set's own is it compared."""
    image_id: np.ndarray
    score: Float[np.ndarray, " n"] | None
    high: Bool[np.ndarray, " n"] | None
    remarks: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Its key among results, and the name under which its predictions are found."""
        return f"own.{self.name}"


def parse(
    columns: Sequence[str],
    cells: dict[str, Sequence[str]],
    targets: Targets,
    name: str,
    split: str,
    where: str,
) -> OwnResults:
    """Predictions from the columns of a table (cells are text), checked against the data set.

    Scores on the scale of the votes give a class by the threshold, too. Raises OwnResultsError for ids that
    are unknown or doubled, cells that are no finite number, and tables without the columns that are needed.
    """
    named = {"".join(c for c in column.casefold() if c.isalnum()): column for column in columns}
    id_column = next((named[n] for n in ID_COLUMNS if n in named), None)
    if id_column is None:
        raise OwnResultsError(
            f"{where} has no column of image ids: expected image_id or file, got {', '.join(columns)}"
        )
    ids, remarks = _known_ids(list(cells[id_column]), targets, where)
    score_column = next((named[n] for n in SCORE_COLUMNS if n in named), None)
    class_column = next((named[n] for n in CLASS_COLUMNS if n in named), None)
    shares = _share_columns(columns, targets)
    others = [c for c in columns if c not in (id_column, class_column)]
    if score_column is None and not shares and class_column is None and len(others) == 1:
        score_column = others[0]  # a metric's own name, as pyiqa writes it
    score = high = None
    if shares:
        table = np.stack([_numbers(cells[c], c, ids, where) for c in shares], axis=1)
        total = table.sum(axis=1)
        if (table < 0).any() or (total <= 0).any():
            row = int(np.flatnonzero((table < 0).any(axis=1) | (total <= 0))[0])
            raise OwnResultsError(
                f"{where}: the shares of {ids[row]} are {table[row].tolist()}, expected none "
                "negative and a positive sum"
            )
        assert targets.levels is not None
        score = table @ targets.levels / total
        remarks.append(f"the score is the mean of {len(shares)} shares per image")
    elif score_column is not None:
        score = _numbers(cells[score_column], score_column, ids, where)
    if class_column is not None:
        high = _classes(cells[class_column], class_column, ids, where)
    elif score is not None and _is_on_scale(score, targets):
        high = score > targets.threshold
        remarks.append(f"the class is high above {targets.threshold:g}")
    if score is None and high is None:
        raise OwnResultsError(
            f"{where} has neither score nor class nor a share per vote level: got "
            f"{', '.join(columns)}. Name a column "
            "score, class, or p_1, p_2, ..."
        )
    if high is None:
        remarks.append(
            "no accuracy: the scores are not on the scale of the votes, and there is no column class"
        )
    return OwnResults(name, split, ids, score, high, tuple(remarks))


def evaluate_own(
    own: OwnResults, targets: Targets, n_boot: int = 1000, seed: int = 0
) -> tuple[MethodResult, Predicted | None]:
    """The result on the data set's test images that have a prediction, and the predictions for paired tests:
    None where the method was made on another split, which is shown and never compared.

    Of another split's method all rated images that it predicts are taken: which of them it was trained on is
    not known.
    """
    rows = align(targets.image_id, own.image_id)
    same = own.split == targets.split_name
    taken = (targets.split[rows] == "test") if same else np.ones(len(rows), bool)
    at = rows[taken]
    y, is_high = targets_mos(targets)[at], high_from_targets(targets)[at]
    prediction = Prediction(
        None if own.score is None else own.score[taken], None if own.high is None else own.high[taken]
    )
    measured = bootstrap_metrics(y, is_high, prediction, n_boot, np.random.default_rng(seed), METRICS)
    n_test = int(np.count_nonzero(targets.split == "test"))
    detail = {
        "n_boot": n_boot,
        "n_missing_test": n_test - int(taken.sum()) if same else 0,
        "remarks": list(own.remarks),
    }
    result = MethodResult(
        own.key,
        own.name,
        "",
        "",
        targets.dataset,
        own.split,
        0,
        len(at),
        seed,
        **measured,
        detail=detail,
        digests={"targets": targets.digest},
    )
    return result, Predicted(targets.image_id[at], y, is_high, prediction) if same else None


def write_own(path: Path, own: OwnResults) -> None:
    """Keep predictions as one JSON file, complete or not at all. Raises SpaceError."""
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "schema_version": 1,
        "name": own.name,
        "split": own.split,
        "remarks": list(own.remarks),
    }
    content["image_id"] = own.image_id.tolist()
    content["score"] = None if own.score is None else own.score.tolist()
    content["high"] = None if own.high is None else own.high.tolist()
    content["sha256"] = _digest(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, content)


def read_own(path: Path) -> OwnResults:
    """Kept predictions. Raises OwnResultsError for a file that is damaged or something else."""
    content = read_json(path, "Add it again: iaa results add")
    try:
        said = content.pop("sha256")
        if content["schema"] != SCHEMA or said != _digest(content):
            raise ValueError("its digest is another, or it holds something else")
        score, high = content["score"], content["high"]
        return OwnResults(
            content["name"],
            content["split"],
            np.array(content["image_id"], str),
            None if score is None else np.array(score, np.float64),
            None if high is None else np.array(high, bool),
            tuple(content["remarks"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise OwnResultsError(
            f"{path} is damaged ({error}). Remove it and add it again: iaa results add"
        ) from error


def _digest(content: dict[str, Any]) -> str:
    digest = hashlib.sha256()
    for key in sorted(content):
        digest.update(f"{key}={content[key]!r};".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _known_ids(given: list[str], targets: Targets, where: str) -> tuple[np.ndarray, list[str]]:
    """The data set's ids of the names given: ids as they are, else by file, else by the file's name alone."""
    known = targets.image_id.tolist()
    ways = (
        ("", dict(zip(known, known, strict=True))),
        ("by file", dict(zip(targets.path.tolist(), known, strict=True))),
        (
            "by file name",
            _unique(((Path(p).name, i) for p, i in zip(targets.path.tolist(), known, strict=True))),
        ),
        (
            "by file name without ending",
            _unique(((Path(p).stem, i) for p, i in zip(targets.path.tolist(), known, strict=True))),
        ),
    )
    said, names = max(ways, key=lambda way: sum(g in way[1] for g in given))
    unknown = [g for g in given if g not in names]
    if not given or unknown:
        raise OwnResultsError(
            f"{where}: {len(unknown):,} of {len(given):,} ids are not of data set {targets.dataset} (first: "
            f"{', '.join(map(repr, unknown[:3])) or 'none given'}); its ids look like "
            f"{', '.join(map(repr, known[:3]))}. "
            "Take those rows out, or write the data set's ids"
        )
    ids = [names[g] for g in given]
    listed, counts = np.unique(np.array(ids, dtype=str), return_counts=True)
    if (counts > 1).any():
        twice = listed[counts > 1]
        raise OwnResultsError(
            f"{where}: {len(twice):,} images are there more than once (first: {twice[0]!r}). "
            "Keep one row each"
        )
    return np.array(ids, dtype=str), [f"images are known {said}"] if said else []


def _unique(pairs: Any) -> dict[str, str]:
    """Names that stand for one image only."""
    found: dict[str, str] = {}
    twice = set()
    for name, image in pairs:
        twice.add(name) if name in found else found.setdefault(name, image)
    return {name: image for name, image in found.items() if name not in twice}


def _numbers(cells: Sequence[str], column: str, ids: np.ndarray, where: str) -> Float[np.ndarray, " n"]:
    found = np.empty(len(cells))
    for row, cell in enumerate(cells):
        try:
            found[row] = float(cell)
        except ValueError:
            found[row] = np.nan
        if not np.isfinite(found[row]):
            raise OwnResultsError(
                f"{where}: {column} of {ids[row]} is {cell!r}, expected a finite number. Take "
                "out rows without one"
            )
    return found


def _classes(cells: Sequence[str], column: str, ids: np.ndarray, where: str) -> Bool[np.ndarray, " n"]:
    wrong = next((row for row, cell in enumerate(cells) if str(cell).casefold() not in _CLASSES), None)
    if wrong is not None:
        raise OwnResultsError(
            f"{where}: {column} of {ids[wrong]} is {cells[wrong]!r}, expected high or low, 1 or 0"
        )
    return np.array([_CLASSES[str(cell).casefold()] for cell in cells])


def _share_columns(columns: Sequence[str], targets: Targets) -> list[str]:
    """The columns of a distribution, one per vote level, whatever stands before the level."""
    if targets.levels is None:
        return []
    for start in ("p", "p_", "share_", "votes_", "vote_", "prob_"):
        wanted = [f"{start}{level}" for level in targets.levels.tolist()]
        if all(w in columns for w in wanted):
            return wanted
    return []


def _is_on_scale(score: Float[np.ndarray, " n"], targets: Targets) -> bool:
    """Whether scores can be mean votes: within the levels, or the data set's own scores, a tenth to spare,
    and on both sides of the threshold."""
    mean = targets_mos(targets)
    low, high = (
        (mean.min(), mean.max()) if targets.levels is None else (targets.levels[0], targets.levels[-1])
    )
    room = 0.1 * (high - low)
    inside = bool(score.min() >= low - room and score.max() <= high + room)
    return inside and bool(score.min() <= targets.threshold < score.max())
