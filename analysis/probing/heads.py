"""Heads: fitted probes as files, bound to the features they were fitted on.

A head is two files: `NAME.safetensors` with `layers.<i>.weight` (n_out, n_in) and `layers.<i>.bias`
(n_out,), and `NAME.json` that says which backbone, output and scaling it expects and where it comes from.
Layers follow each other without activations, as in LAION's improved aesthetic predictor; a linear probe has
one.
"""

import hashlib
import os
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save as save_tensors

from analysis.evidence.bootstrap import Prediction, bootstrap_metrics
from analysis.probing.gram import accumulate
from analysis.probing.probes import JoinedRows, Probe, ProbeFit
from analysis.results.methods import METRICS, MethodResult
from analysis.twins import first_equal_rows, tie
from store.durable import whole_file, write_json
from store.errors import StoreError
from store.features import Features
from store.json_files import read_note
from store.shapes import Float
from store.targets import Targets
from store.tensor_files import read_safetensors

HEAD_SCHEMA = "iaa/head"
HEAD_VERSION = 1
SHIPPED = Path(__file__).parent / "shipped"
"""Folder of the heads that come with the project; one of the same name in the data root goes before."""


class HeadError(Exception):
    """A head's files are damaged, or it is asked to score features it was not made for."""


Layers = tuple[tuple[Float[np.ndarray, "n_out n_in"], Float[np.ndarray, " n_out"]], ...]


@dataclass(frozen=True)
class Head:
    """A linear function of one backbone's features, possibly in several layers.

    Raises HeadError unless each layer is a matrix of finite real numbers with a bias per row, takes what the
    one before gives, and the last gives one score.
    """

    layers: Layers
    backbone: str
    output: str
    unit_norm: bool
    about: dict[str, Any] = field(default_factory=dict)
    """Where it comes from: data set, split, alpha, metrics, digests, licence."""
    name: str = ""
    """Name of its files."""

    def __post_init__(self) -> None:
        if problem := _problem(self.layers):
            raise HeadError(f"head {self.name or 'without a name'}: {problem}")

    @property
    def origin(self) -> str:
        """What it was fitted on, in a few words."""
        if self.is_of_all:
            return f"{self.about['dataset']}, all {self.about.get('n_train', 0):,} rated photographs"
        if "dataset" in self.about:
            return f"{self.about['dataset']}, split {self.about.get('split', 'unknown')}"
        return str(self.about.get("origin", "not said"))

    @property
    def is_of_all(self) -> bool:
        """It was fitted on every rated photograph of its data set, so its measurements are of folds."""
        return "dataset" in self.about and self.about.get("fit_on") == "all"

    @property
    def reaches(self) -> str:
        """SRCC with its interval and on what it was measured, in a few words; '' where nobody measured."""
        if (found := self._srcc()) is None:
            return ""
        value, low, high, by = found
        return f"SRCC {value:.3f} [{low:.3f}, {high:.3f}] {by}"

    @property
    def srcc(self) -> float | None:
        """SRCC with people on photographs that it was not fitted on, None where nobody measured."""
        found = self._srcc()
        return None if found is None else found[0]

    def _srcc(self) -> tuple[float, float, float, str] | None:
        measured, by = self.about.get("metrics"), "on test images"
        if self.is_of_all:
            by = "by folds"
        srcc = measured.get("srcc") if isinstance(measured, dict) else None
        if srcc is None:
            srcc, by = self.about.get("held_back_srcc"), "on ratings held back"
        try:
            value, low, high = map(float, srcc)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return None
        return value, low, high, by

    @property
    def agreements(self) -> list[tuple[str, float]]:
        """SRCC with people on photographs of other kinds than it was fitted on, by their kind, as its card
        has them; none where nobody measured."""
        others = self.about.get("elsewhere")
        found = []
        for kind, measured in others.items() if isinstance(others, dict) else ():
            try:
                found.append((str(kind), float(measured["srcc"][0])))
            except (TypeError, ValueError, KeyError, IndexError):
                continue  # what the photographs are, and what others have written there
        return found

    def score(self, features: Float[np.ndarray, "n_images dim"]) -> Float[np.ndarray, " n_images"]:
        """Scores of features of the right kind, which is not checked here: see `score_features`."""
        values = np.asarray(features, dtype=np.float64)
        for weight, bias in self.layers:
            values = values @ weight.T + bias
        return np.asarray(values[:, 0])


def head_of(fit: ProbeFit, probe: Probe, result: MethodResult | None = None) -> Head:
    """A fitted probe as a head; the standardisation is already folded into its weights."""
    measured = {
        name: [metric.value, metric.low, metric.high]
        for name in ("accuracy", "srcc", "plcc")
        if result is not None and (metric := getattr(result, name)) is not None
    }
    about = {
        "dataset": fit.dataset,
        "fit_on": "all" if fit.n_folds else "train",
        "split": fit.split_name,
        "n_train": fit.path.basis.n,
        "threshold": fit.threshold,
        "alpha": probe.alpha,
        "metrics": measured,
        "digests": fit.digests,
    }
    if fit.n_folds:
        kept = ", those that belong together in one" if fit.is_grouped else ""
        about["metrics_of"] = f"each photograph by fits on other folds ({fit.n_folds}{kept})"
    layer = (probe.weights[None, :], np.array([probe.bias]))
    return Head((layer,), fit.backbone, fit.output, probe.unit_norm, about)


def collapse(head: Head) -> Head:
    """The same head in one layer: without activations, layers multiply out to one vector and one bias, to
    which Figure 3 applies."""
    weight, bias = head.layers[0]
    weight, bias = weight.astype(np.float64), bias.astype(np.float64)
    for next_weight, next_bias in head.layers[1:]:
        weight, bias = next_weight @ weight, next_weight @ bias + next_bias
    return replace(head, layers=((weight, bias),))


def head_importance(head: Head, std: Float[np.ndarray, " dim"]) -> Float[np.ndarray, " dim"]:
    """|weight x standard deviation of the feature| of a head, as Figure 3 draws it for probes."""
    ((weight, _),) = collapse(head).layers
    return np.asarray(np.abs(weight[0] * std))


def score_features(head: Head, features: Features) -> Float[np.ndarray, " n_images"]:
    """Scores of all images of a feature file, NaN for failed rows; equal vectors have equal scores.

    Raises HeadError unless backbone and output are the head's, and where scores are not finite; features are
    brought to unit length if, and only if, the head expects that. A head on other features gives numbers that
    mean nothing.
    """
    check_features(head, features)
    scores = np.full(features.n_images, np.nan)
    for start, rows in features.blocks(head.output, head.unit_norm):
        scores[start : start + len(rows)] = head.score(rows)
    scores[~features.ok] = np.nan
    if n_wrong := np.count_nonzero(~np.isfinite(scores[features.ok])):
        raise HeadError(
            f"head {head.name or 'without a name'} gives {n_wrong:,} of {np.count_nonzero(features.ok):,} "
            f"images of {features.path} a score that is not finite: its weights are too large, or features "
            "are not finite. Fit or import it again; check the file: iaa verify"
        )
    return tie(scores, first_equal_rows(partial(features.read, head.output), features.n_images))


def check_features(head: Head, features: Features) -> None:
    """Raise HeadError unless backbone, output and width are the head's."""
    dim = features.outputs.get(head.output)
    expected = head.layers[0][0].shape[1]
    if features.backbone != head.backbone or dim != expected:
        there = ", ".join(f"{name} ({width})" for name, width in features.outputs.items())
        raise HeadError(
            f"this head belongs to {head.backbone}/{head.output} ({expected} features), {features.path} "
            f"holds {features.backbone} with {there}. Embed the images with its backbone: "
            f"iaa embed --backbone {head.backbone}"
        )


def feature_std(features: Features, output: str, unit_norm: bool) -> Float[np.ndarray, " dim"]:
    """Standard deviation of each feature over the images that have features."""
    ok = features.ok
    group = np.where(ok, 0, -1)
    none = np.zeros((features.n_images, 0))
    blocks = (
        (rows, none[start : start + len(rows)], group[start : start + len(rows)])
        for start, rows in features.blocks(output, unit_norm)
    )
    (moments,) = accumulate(blocks, 1)
    return np.asarray(np.sqrt(np.maximum(np.diag(moments.xx), 0.0) / max(moments.n, 1)))


def may_have_seen_test(head: Head, targets: Targets) -> bool:
    """True if the head was fitted on another split of this data set, which may hold its test images."""
    about = head.about
    is_other = head.is_of_all or about.get("split") != targets.split_name
    return about.get("dataset") == targets.dataset and is_other


def evaluate_head(
    head: Head, features: Features, rows: JoinedRows, targets: Targets, n_boot: int = 1000, seed: int = 0
) -> MethodResult:
    """A head on the test images of a data set, with bootstrap intervals: SRCC and PLCC; accuracy, recalls and
    (in the detail) RMSE only where it was fitted to this data set's ratings, since elsewhere its numbers
    are on another scale. `rows` joins features and targets (probes.join_rows).

    Raises HeadError for features that are not the head's, and where it was fitted to another split of
    this data set, which may have shown it the test images.
    """
    about = head.about
    same = about.get("dataset") == targets.dataset
    if may_have_seen_test(head, targets) and head.is_of_all:
        raise HeadError(
            f"this head was fitted on {head.origin}, so no image is left to measure it on. What it is worth "
            f"was measured when it was fitted: {head.reaches or 'not kept'}"
        )
    if may_have_seen_test(head, targets):
        raise HeadError(
            f"this head was fitted on split {about.get('split')!r} of {targets.dataset!r}, which now has the "
            f"split {targets.split_name!r}: test images may have been among its training images. Fit it "
            f"again: iaa probe --dataset {targets.dataset} --backbone {head.backbone} --save NAME"
        )
    score = score_features(head, features)[rows.test]
    prediction = Prediction(score, score > targets.threshold if same else None)
    names = (*METRICS, "rmse") if same else ("srcc", "plcc")
    y, is_high = rows.y[rows.test, 0], rows.is_high[rows.test]
    measured = bootstrap_metrics(y, is_high, prediction, n_boot, np.random.default_rng(seed), names)
    rmse = measured.pop("rmse", None)
    detail = {"fitted_on": head.origin, "unit_norm": head.unit_norm, "n_layers": len(head.layers)}
    return MethodResult(
        key="head",
        method=f"head {head.name or 'without a name'}",
        backbone=head.backbone,
        output=head.output,
        dataset=targets.dataset,
        split_name=targets.split_name,
        n_train=int(about.get("n_train", 0)),
        n_test=len(rows.test),
        seed=seed,
        **measured,
        detail=detail
        | {"n_boot": n_boot}
        | ({} if rmse is None else {"rmse": [rmse.value, rmse.low, rmse.high]}),
        digests={"features": features.digest, "targets": targets.digest},
    )


def head_files(folder: Path | str) -> list[Path]:
    """The cards of the heads in a folder, and of those that come with the project, in the order of names."""
    by_name = {path.stem: path for place in (SHIPPED, Path(folder)) for path in place.glob("*.json")}
    return [by_name[name] for name in sorted(by_name)]


def find_heads(folder: Path | str, features: Features) -> tuple[list[Head], list[str]]:
    """The heads in a folder, and of those that come with the project, that were made for these features, in
    the order of their names; and what is wrong with those files that are no readable heads."""
    found, problems = [], []
    for path in head_files(folder):
        try:
            head = load_head(path)
        except HeadError as error:
            problems.append(str(error))
            continue
        if head.backbone == features.backbone and head.output in features.outputs:
            found.append(head)
    return found, problems


def save_head(path: Path | str, head: Head) -> Path:
    """Write NAME.safetensors and NAME.json and return the path of the latter, which is written last and has
    the other's SHA-256."""
    path = _base(path)
    tensors = {}
    for index, (weight, bias) in enumerate(head.layers):
        tensors[f"layers.{index}.weight"] = np.ascontiguousarray(weight, dtype=np.float64)
        tensors[f"layers.{index}.bias"] = np.ascontiguousarray(bias, dtype=np.float64)
    content = save_tensors(tensors)
    weights = _with_suffix(path, ".safetensors")
    weights.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(weights) as partial:
        partial.write_bytes(content)
    described = {
        "schema": HEAD_SCHEMA,
        "schema_version": HEAD_VERSION,
        "backbone": head.backbone,
        "output": head.output,
        "unit_norm": head.unit_norm,
        "sha256": hashlib.sha256(content).hexdigest(),
        "about": head.about,
    }
    write_json(_with_suffix(path, ".json"), described)
    return _with_suffix(path, ".json")


def load_head(path: Path | str) -> Head:
    """A head from its two files; either may be named. Raises HeadError if they are not a pair."""
    base = _base(path)
    try:
        described = read_note(_with_suffix(base, ".json"))
        tensors, content = read_safetensors(_with_suffix(base, ".safetensors"))
        kind = (described["schema"], described["schema_version"])
        if kind != (HEAD_SCHEMA, HEAD_VERSION):
            raise ValueError(f"{base}.json is {kind}, expected {(HEAD_SCHEMA, HEAD_VERSION)}")
        if hashlib.sha256(content).hexdigest() != described["sha256"]:
            raise ValueError(
                f"{base}.safetensors is not the file that {base}.json describes (SHA-256 differs). "
                "Restore the pair, or fit or import the head again"
            )
        for key, types in _DESCRIBED.items():
            if not isinstance(value := described[key], types):
                raise ValueError(f"its {key} is {value!r:.80}, expected {types.__name__}")
        about = described.get("about", {})
        _check_about(about)
        backbone, output, unit_norm = (described[key] for key in _DESCRIBED)
        return Head(_layers(tensors), backbone, output, unit_norm, about, base.name)
    except (OSError, ValueError, KeyError, StoreError, HeadError) as error:
        said = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise HeadError(
            f"{base}: no readable head ({said}). A head is NAME.json and NAME.safetensors."
        ) from error


_DESCRIBED: dict[str, type] = {"backbone": str, "output": str, "unit_norm": bool}
_ABOUT: dict[str, type] = {
    "dataset": str, "split": str, "origin": str, "n_train": int, "threshold": float,
    "fit_on": str, "metrics_of": str,
}  # fmt: skip


def _check_about(about: Any) -> None:
    """Raise ValueError for a description of the head's origin that could not be used later."""
    if not isinstance(about, dict):
        raise ValueError(f"its about is {about!r:.80}, expected an object")
    for key, kind in _ABOUT.items():
        allowed = (int, float) if kind is float else kind
        if key in about and (not isinstance(about[key], allowed) or isinstance(about[key], bool)):
            raise ValueError(f"its about.{key} is {about[key]!r:.80}, expected {kind.__name__}")
    if "checkpoint" in about and "relu" in str(about["checkpoint"]).lower():
        raise ValueError(
            f"it was imported from {about['checkpoint']!r:.80}, by its name with activations between its "
            "layers; a former version took it for linear: its scores mean nothing. Import a linear one"
        )


def _layers(tensors: dict[str, np.ndarray]) -> Layers:
    names = [(f"layers.{i}.weight", f"layers.{i}.bias") for i in range((len(tensors) + 1) // 2)]
    if not names or set(tensors) != {name for pair in names for name in pair}:
        raise ValueError(f"its tensors are {sorted(tensors)[:8]}, expected layers.0.weight, layers.0.bias")
    return tuple((tensors[weight], tensors[bias]) for weight, bias in names)


def _problem(layers: Layers) -> str:
    """What keeps layers from being a head; '' if nothing does."""
    for index, (weight, bias) in enumerate(layers):
        if any(array.dtype.kind != "f" for array in (weight, bias)):
            return f"layer {index} is of {weight.dtype} and {bias.dtype}, expected floating point"
        if weight.ndim != 2 or bias.shape != weight.shape[:1] or 0 in weight.shape:
            shapes = f"a weight of shape {weight.shape} and a bias of {bias.shape}"
            return f"layer {index} has {shapes}, expected (n_out, n_in) and (n_out,)"
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            return f"layer {index} holds NaN or infinity: no image would get a score"
    widths = [weight.shape for weight, _ in layers]
    if not layers or any(a[0] != b[1] for a, b in pairwise(widths)) or widths[-1][0] != 1:
        return f"layers of shapes {widths} do not lead from features to one score"
    return ""


def _base(path: Path | str) -> Path:
    path = Path(path)
    return path.with_suffix("") if path.suffix in (".json", ".safetensors") else path


def _with_suffix(base: Path, suffix: str) -> Path:
    """Appended, not replaced: backbone ids in names contain dots."""
    return Path(os.fspath(base) + suffix)
