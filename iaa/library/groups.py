"""Photographs that belong together."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from iaa.library.capture import Capture
from iaa.library.errors import UsageError
from iaa.library.layout import Layout
from iaa.library.opening import existing_head, open_embedded, open_photographs
from iaa.library.progress import Progress, show_progress
from iaa.library.table import Table
from store import Features, StoreError, open_targets
from store.rows import unit_rows

if TYPE_CHECKING:
    from analysis.grouping.groups import Group, Kind, Shots
    from analysis.grouping.thresholds import Chosen

_EPOCH = datetime.datetime(1970, 1, 1)


class Groups(Table):
    """Groups of photographs, a row per photograph.

    Columns: group (from 1), kind (copies, near, burst, bracket, panorama), order (1: suggested best; None
    where the members are not ranked against each other), image_id, score, sharpness, taken (the camera's
    clock), cosine (with the group's first picture), file, sha256.
    """

    def __init__(
        self, title: str, columns: Mapping[str, Sequence[Any]], groups: "list[Group]", chosen: "Chosen | None"
    ) -> None:
        super().__init__(title, columns)
        self.groups = groups
        """The same as rows of the feature file."""
        self.chosen = chosen
        """The thresholds and where they come from; None where vectors played no part."""

    @property
    def counts(self) -> dict[str, int]:
        """Groups of each kind that there is."""
        from analysis.grouping.groups import KINDS

        kinds = [group.kind for group in self.groups]
        return {kind: kinds.count(kind) for kind in KINDS if kind in kinds}


def group_photographs(
    layout: Layout,
    backbone: str | None = None,
    output: str | None = None,
    threshold: float | None = None,
    seconds: float | None = None,
    kinds: "Sequence[Kind] | Kind | None" = None,
    head: str | None = None,
    vectors: np.ndarray | None = None,
    progress: Progress | None = None,
) -> Groups:
    """The groups of a data set's photographs, from stored vectors, their looks and the files' headers.

    `threshold` is the cosine of near-duplicates (default: what was measured, docs/groups.md); `seconds` how
    far the moments of a burst lie apart (default 10). A `head`'s score puts the best first, then sharpness.
    Kinds that are not asked for are not looked for: copies alone need no vectors. `vectors` are the output's
    unit rows where they are in memory already.

    Raises UsageError for kinds, thresholds and seconds that make no sense, SchemaError for an unknown output,
    StoreError where copies alone are asked for and the file has no hashes, MissingFileError where nothing is
    embedded.
    """
    from analysis.grouping import groups as grouping
    from analysis.grouping.thresholds import choose_thresholds

    wanted = check_kinds(kinds)
    seconds = grouping.SECONDS if seconds is None else seconds
    if not 0 <= seconds <= 86_400:
        raise UsageError(f"{seconds} seconds: a burst lasts from 0 seconds to a day")
    if threshold is not None and not 0.01 <= threshold <= 1:
        raise UsageError(f"a threshold is a cosine from 0.01 to 1, not {threshold}")
    show = progress or show_progress
    with open_embedded(layout, backbone) as features:
        sha256 = _hashes(features)
        files = _files(layout, features)
        names = features.image_id.tolist()
        if wanted == ("copies",):
            if sha256 is None:
                raise StoreError(f"{features.path} has no hashes of its images, so copies cannot be told")
            shots = grouping.Shots(sha256, name=names)
            found = grouping.group_photographs(None, shots, grouping.Thresholds(1, 1, 1, 1, 1), kinds=wanted)
            return _table(layout, files, found, shots, None)
        output = output or min(features.outputs, key=lambda name: name != "embedding")
        score = None if head is None else _scores(layout, features, head)
        if vectors is None:
            vectors = _unit_vectors(features, output)
        chosen = choose_thresholds(features.backbone, output, vectors, threshold)
        with Capture(layout, open_photographs(layout, features.path), files, sha256) as capture:
            shots = replace(capture.shots(show), score=score, name=names)
            found = grouping.group_photographs(
                vectors, shots, chosen.thresholds, seconds, wanted, capture.small
            )
            shots = capture.with_sharpness(found, shots, show)
        return _table(layout, files, grouping.order_anew(found, shots, len(names)), shots, chosen)


def check_kinds(kinds: Sequence[str] | str | None) -> "tuple[Kind, ...]":
    """The kinds asked for, all by default. Raises UsageError for one that there is not."""
    from analysis.grouping.groups import KINDS

    if kinds is None:
        return KINDS
    given = [kinds] if isinstance(kinds, str) else list(kinds)
    if not given or set(given) - set(KINDS):
        raise UsageError(f"groups are of these kinds: {', '.join(KINDS)}; not {', '.join(map(str, given))}")
    return tuple(kind for kind in KINDS if kind in given)


def _table(
    layout: Layout, files: list[str], groups: "list[Group]", shots: "Shots", chosen: "Chosen | None"
) -> Groups:
    assert shots.name is not None
    flat = [
        (number, group, place, int(row), float(group.cosine[place]))
        for number, group in enumerate(groups, start=1)
        for place, row in enumerate(group.rows.tolist())
    ]
    columns: dict[str, list[Any]] = {
        "group": [number for number, *_ in flat],
        "kind": [group.kind for _, group, *_ in flat],
        "order": [place + 1 if group.is_ranked else None for _, group, place, *_ in flat],
        "image_id": [shots.name[row] for *_, row, _ in flat],
        "score": [_known(shots.score, row) for *_, row, _ in flat],
        "sharpness": [_known(shots.sharpness, row) for *_, row, _ in flat],
        "taken": [_clock(_known(shots.taken, row)) for *_, row, _ in flat],
        "cosine": [None if np.isnan(cosine) else min(cosine, 1.0) for *_, cosine in flat],
        "file": [files[row] for *_, row, _ in flat],
        "sha256": [_hex(shots.sha256, row) for *_, row, _ in flat],
    }
    return Groups(f"{layout.dataset}: photographs that belong together", columns, groups, chosen)


def _known(column: np.ndarray | None, row: int) -> float | None:
    return None if column is None or not np.isfinite(column[row]) else float(column[row])


def _clock(taken: float | None) -> str:
    """The camera's clock, to the millisecond; '' where it is not known."""
    if taken is None:
        return ""
    moment = _EPOCH + datetime.timedelta(milliseconds=round(taken * 1000))
    return moment.isoformat(" ", "milliseconds" if moment.microsecond else "seconds")


def _hex(sha256: np.ndarray | None, row: int) -> str:
    return sha256[row].tobytes().hex() if sha256 is not None and sha256[row].any() else ""


def _hashes(features: Features) -> np.ndarray | None:
    if "source_sha256" not in features.file.arrays:
        return None
    return np.asarray(features.file.view("source_sha256"))


def _files(layout: Layout, features: Features) -> list[str]:
    """File of each row, '' where it is not known."""
    if not layout.targets.exists():
        return [""] * features.n_images
    targets = open_targets(layout.targets)
    file_of = dict(zip(targets.image_id.tolist(), targets.path.tolist(), strict=True))
    return [file_of.get(name, "") for name in features.image_id.tolist()]


def _unit_vectors(features: Features, output: str) -> np.ndarray:
    """All rows of an output at unit length; NaN for those without a vector."""
    vectors: np.ndarray | None = None
    for start, rows in features.blocks(output):
        if vectors is None:
            vectors = np.full((features.n_images, rows.shape[1]), np.nan, np.float32)
        vectors[start : start + len(rows)] = unit_rows(rows)
    if vectors is None:
        return np.zeros((0, 1), np.float32)
    vectors[~features.ok] = np.nan
    return vectors


def _scores(layout: Layout, features: Features, head: str) -> np.ndarray:
    """A head's score of each photograph. Raises HeadError for a head of another backbone."""
    from analysis.probing.heads import load_head, score_features

    return score_features(load_head(existing_head(layout.root, head)), features)
