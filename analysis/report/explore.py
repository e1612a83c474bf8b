"""What is known of one photograph, from the cached arrays: the photograph, its neighbours, its words, its
votes."""

from collections.abc import Iterator

import numpy as np

from analysis.evidence.labels import targets_mos
from analysis.figures.photographs import PhotoGrid, Shot
from analysis.report.prompting import score_prompts_of
from analysis.report.study import Study
from analysis.results.names import METHODS, name_backbone
from analysis.results.printed import Cell, Number, Printed
from store.rows import align


def look(study: Study, image_id: str, n_near: int = 7) -> Iterator[PhotoGrid | Printed]:
    """Everything about a photograph, for each backbone. Raises IdentityError for an id that is none."""
    yield votes(study, image_id)
    for name in study.features:
        yield neighbours(study, name, image_id, n_near)
        if name in study.prompts:
            yield words(study, name, image_id)


def neighbours(study: Study, name: str, image_id: str, n_near: int = 7) -> PhotoGrid:
    """The photograph and those whose vectors are most like its own, with their cosines."""
    features, targets = study.features[name], study.targets
    output = "embedding" if "embedding" in features.outputs else next(iter(features.outputs))
    vectors = np.where(features.ok[:, None], features.read(output, unit_norm=True), 0.0)
    row = int(align(features.image_id, np.array([image_id]))[0])
    cosine = vectors @ vectors[row]
    order = np.argsort(-np.where(np.arange(len(cosine)) == row, np.inf, cosine), kind="stable")[: n_near + 1]
    at = align(targets.image_id, features.image_id[order])
    mos = targets_mos(targets)[at] if targets.is_rated else None
    shots = []
    for i, (near, place) in enumerate(zip(order, at, strict=True)):
        said = ["this one" if near == row else f"cosine {cosine[near]:.3f}"]
        said += [] if mos is None else [f"mean vote {mos[i]:.2f}"]
        shots.append(Shot(str(features.image_id[near]), str(targets.path[place]), said))
    return PhotoGrid(f"near_{name}", shots, study.images, f"Most like it for {name_backbone(name)}", 4)


def words(study: Study, name: str, image_id: str) -> Printed:
    """How well each label fits the photograph, against all labels, the best first."""
    scores = score_prompts_of(study, name)
    method = "fixed" if "fixed" in scores else next(iter(scores))
    row = int(align(study.features[name].image_id, np.array([image_id]))[0])
    found = scores[method].take(np.array([row]))
    cosine = found.strength[0].astype(np.float64)
    order = np.argsort(-cosine)
    rows: list[list[Cell]] = [
        [
            found.labels[i],
            {1: "high", -1: "low"}[int(found.polarity[i])],
            Number(float(cosine[i] - cosine.mean())),
        ]
        for i in order
    ]
    caption = f"Words that fit it, {name_backbone(name)}, {METHODS[f'prompting.{method}']}"
    return Printed("words", ["label", "listed as", "cosine, less the mean"], rows, caption)


def votes(study: Study, image_id: str) -> Printed:
    """How people voted on it; the score where a data set has scores."""
    targets = study.targets
    row = int(align(targets.image_id, np.array([image_id]))[0])
    if targets.votes is None or targets.levels is None:
        said = f"{targets_mos(targets)[row]:.3f}" if targets.is_rated else "not rated"
        return Printed("votes", ["photograph", "score"], [[image_id, said]])
    counts = targets.votes[row]
    rows: list[list[Cell]] = [
        [str(level), int(n), "█" * round(20 * int(n) / max(int(counts.max()), 1))]
        for level, n in zip(targets.levels, counts, strict=True)
    ]
    return Printed(
        "votes", ["vote", "people", ""], rows, f"{image_id}: mean vote {targets_mos(targets)[row]:.2f}"
    )
