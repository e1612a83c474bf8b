"""Where a method works and where it does not: its metrics on groups of test images."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.evidence.bootstrap import Prediction, bootstrap_metrics
from analysis.results.methods import Metric
from store.shapes import Bool, Float

_NUMBERED = re.compile(r"(.+)_\d+")
_NONE = ("", "0")
"""Values of a numbered column that mean none, as in AVA's tags."""


@dataclass(frozen=True)
class GroupResult:
    """A method on one group of test images, such as those whose winning content is the same."""

    name: str
    n_images: int
    mean_mos: float
    share_high: float
    metrics: dict[str, Metric]


def evaluate_groups(
    group: np.ndarray,
    y: Float[np.ndarray, " n_images"],
    is_high: Bool[np.ndarray, " n_images"],
    prediction: Prediction,
    n_boot: int,
    rng: np.random.Generator,
    min_images: int = 20,
    max_groups: int | None = None,
) -> list[GroupResult]:
    """The largest groups first, with metrics and intervals; those below `min_images` are left out.

    `group` names the group of each image, or with a second axis the several groups it belongs to, "" for
    none of them; an image in several counts in each.
    """
    listed = np.asarray(group, dtype=str).reshape(len(y), -1)
    names, member, counts = np.unique(listed, return_inverse=True, return_counts=True)
    member = member.reshape(listed.shape)
    several = listed.shape[1] > 1
    order = [
        i
        for i in np.argsort(-counts, kind="stable").tolist()
        if counts[i] >= max(min_images, 2) and not (several and names[i] == "")
    ]
    found = []
    for i in order[:max_groups]:
        rows = (member == i).any(axis=1)
        part = Prediction(
            None if prediction.score is None else prediction.score[rows],
            None if prediction.high is None else prediction.high[rows],
        )
        measured = bootstrap_metrics(y[rows], is_high[rows], part, n_boot, rng)
        name = str(names[i]) or "(none)"
        n_images = int(np.count_nonzero(rows))
        found.append(
            GroupResult(name, n_images, float(y[rows].mean()), float(is_high[rows].mean()), measured)
        )
    return found


def list_groupings(
    columns: Mapping[str, np.ndarray], names: Mapping[str, Mapping[str, str]] | None = None
) -> dict[str, np.ndarray]:
    """The groupings that a data set's columns offer: string arrays for `evaluate_groups`, by title.

    Columns `tag_1` and `tag_2` are one grouping, `tag`, in which 0 and "" mean none. `names` gives words
    for the values of a grouping where they are numbers.
    """
    together: dict[str, list[str]] = {}
    for column in columns:
        numbered = _NUMBERED.fullmatch(column)
        together.setdefault(numbered.group(1) if numbered else column, []).append(column)
    groupings = {}
    for title, members in together.items():
        values = np.stack([np.asarray(columns[name]).astype(str) for name in members], axis=1)
        if len(members) > 1:
            values[np.isin(values, _NONE)] = ""
        words = (names or {}).get(title, {})
        named = [[words.get(value, value) for value in row] for row in values.tolist()]
        groupings[title] = np.array(named, dtype=str).reshape(values.shape)
    return groupings


def read_group_names(folder: Path) -> dict[str, dict[str, str]]:
    """Words for AVA's tags and challenges from `tags.txt` and `challenges.txt`, where they are there.

    A line is a number and a name. Without the files the numbers stand for themselves.
    """
    found: dict[str, dict[str, str]] = {}
    for title, file in (("tag", folder / "tags.txt"), ("challenge", folder / "challenges.txt")):
        if file.is_file():
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            pairs = [line.split(maxsplit=1) for line in lines]
            found[title] = {p[0]: p[1].strip() for p in pairs if len(p) == 2 and p[0].isdigit()}
    return found
