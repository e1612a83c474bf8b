"""What each method predicted for each test image, as files: pages compare methods that others ran."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.evidence.bootstrap import Difference, Prediction, paired_differences
from analysis.results.methods import MethodResult
from store.durable import whole_file
from store.rows import align
from store.shapes import Bool, Float


@dataclass(frozen=True)
class Predicted:
    """Predictions of one method beside the ratings of the same test images."""

    image_id: np.ndarray
    y: Float[np.ndarray, " n_test"]
    is_high: Bool[np.ndarray, " n_test"]
    prediction: Prediction


def result_name(result: MethodResult) -> str:
    """The name under which a result's predictions are kept: method, backbone, output, treatment."""
    place = "/".join(part for part in (result.backbone, result.output) if part)
    unit = ", unit norm" if result.detail.get("unit_norm") is True else ""
    return f"{result.key} {place}{unit}".strip()


def write_predictions(path: Path | str, predicted: Mapping[str, Predicted]) -> None:
    """Write the predictions of several methods as one .npz file, complete or not at all. Raises
    SpaceError."""
    arrays: dict[str, np.ndarray] = {}
    for name, found in predicted.items():
        arrays |= {f"{name}|image_id": found.image_id, f"{name}|y": found.y, f"{name}|is_high": found.is_high}
        for part in ("score", "high"):
            if (values := getattr(found.prediction, part)) is not None:
                arrays[f"{name}|{part}"] = values
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def read_predictions(paths: Iterable[Path | str]) -> dict[str, Predicted]:
    """The predictions of all files by method; a later file wins."""
    found: dict[str, Predicted] = {}
    for path in paths:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        for name in dict.fromkeys(key.rsplit("|", 1)[0] for key in arrays):
            prediction = Prediction(arrays.get(f"{name}|score"), arrays.get(f"{name}|high"))
            image_id, y, is_high = (arrays[f"{name}|{part}"] for part in ("image_id", "y", "is_high"))
            found[name] = Predicted(image_id, y, is_high, prediction)
    return found


def compare_methods(
    predicted: Mapping[str, Predicted],
    metric: str,
    n_boot: int | None = None,
    seed: int = 0,
    pairs: Sequence[tuple[str, str]] | None = None,
) -> list[Difference]:
    """Paired differences of one metric between methods (all pairs unless given), Holm-corrected over the
    family, on the test images that all of them have. Methods for which the metric is not defined are left
    out. Without n_boot there are as many resamples as the family needs (`bootstrap.resamples_needed`).

    Raises ValueError where two methods were measured against different ratings.
    """
    part = "score" if metric in ("srcc", "plcc", "rmse") else "high"
    able = {name: p for name, p in predicted.items() if getattr(p.prediction, part) is not None}
    if len(able) < 2:
        return []
    common = np.array(sorted(set.intersection(*(set(p.image_id.tolist()) for p in able.values()))))
    rows = {name: align(p.image_id, common) for name, p in able.items()}
    first = next(iter(able))
    y, is_high = able[first].y[rows[first]], able[first].is_high[rows[first]]
    taken = {}
    for name, p in able.items():
        if not (np.array_equal(p.y[rows[name]], y) and np.array_equal(p.is_high[rows[name]], is_high)):
            raise ValueError(f"{first} and {name} were measured against different ratings: run both again")
        score, high = p.prediction.score, p.prediction.high
        taken[name] = Prediction(
            None if score is None else score[rows[name]], None if high is None else high[rows[name]]
        )
    kept = None if pairs is None else [(a, b) for a, b in pairs if a in taken and b in taken]
    rng = np.random.default_rng(seed)
    return paired_differences(y, is_high, taken, metric, n_boot, rng, kept)
