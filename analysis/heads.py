"""Heads: fitted probes as files, bound to the features they were fitted on.

A head is two files: `NAME.safetensors` with `layers.<i>.weight` (n_out, n_in) and `layers.<i>.bias`
(n_out,), and `NAME.json` that says which backbone, output and scaling it expects and where it comes from.
Layers follow each other without activations, as in LAION's improved aesthetic predictor; a linear probe has
one.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from analysis.bootstrap import Prediction, bootstrap_metrics
from analysis.gram import accumulate
from analysis.probes import Probe, ProbeFit, Rows
from analysis.results import METRICS, MethodResult
from analysis.twins import first_equal_rows, tie
from store.features import Features
from store.sealed import publish, write_json
from store.targets import Targets

HEAD_SCHEMA = "iaa/head"
HEAD_VERSION = 1


class HeadError(Exception):
    """A head's files are damaged, or it is asked to score features it was not made for."""


@dataclass(frozen=True)
class Head:
    """A linear function of one backbone's features, possibly in several layers."""

    layers: tuple[tuple[Float[np.ndarray, "n_out n_in"], Float[np.ndarray, " n_out"]], ...]
    backbone: str
    output: str
    unit_norm: bool
    about: dict[str, Any] = field(default_factory=dict)
    """Where it comes from: data set, split, alpha, metrics, digests, licence."""
    name: str = ""
    """Name of its files."""

    @property
    def origin(self) -> str:
        """What it was fitted on, in a few words."""
        if "dataset" in self.about:
            return f"{self.about['dataset']}, split {self.about.get('split', 'unknown')}"
        return str(self.about.get("origin", "not said"))

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
        "split": fit.split_name,
        "n_train": fit.path.basis.n,
        "threshold": fit.threshold,
        "alpha": probe.alpha,
        "metrics": measured,
        "digests": fit.digests,
    }
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

    Raises HeadError unless backbone and output are the head's; features are brought to unit length if, and
    only if, the head expects that. A head on other features gives numbers that mean nothing.
    """
    check_features(head, features)
    scores = np.full(features.n_images, np.nan)
    for start, rows in features.blocks(head.output, head.unit_norm):
        scores[start : start + len(rows)] = head.score(rows)
    scores[~features.ok] = np.nan
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
    return about.get("dataset") == targets.dataset and about.get("split") != targets.split_name


def evaluate_head(
    head: Head, features: Features, rows: Rows, targets: Targets, n_boot: int = 1000, seed: int = 0
) -> MethodResult:
    """A head on the test images of a data set, with bootstrap intervals: SRCC and PLCC; accuracy, recalls and
    (in the detail) RMSE only where it was fitted to this data set's ratings, since elsewhere its numbers
    are on another scale. `rows` joins features and targets (probes.join_rows).

    Raises HeadError for features that are not the head's, and where it was fitted to another split of
    this data set, which may have shown it the test images.
    """
    about = head.about
    same = about.get("dataset") == targets.dataset
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


def find_heads(folder: Path | str, features: Features) -> list[Head]:
    """The heads in a folder that were made for these features, in the order of their names.

    Raises HeadError for a head that is there but damaged.
    """
    found = [load_head(path) for path in sorted(Path(folder).glob("*.json"))]
    return [head for head in found if head.backbone == features.backbone and head.output in features.outputs]


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
    partial = weights.with_name(weights.name + ".partial")
    partial.write_bytes(content)
    publish(partial, weights)
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
        described = json.loads(_with_suffix(base, ".json").read_text(encoding="utf-8"))
        content = _with_suffix(base, ".safetensors").read_bytes()
        kind = (described["schema"], described["schema_version"])
        if kind != (HEAD_SCHEMA, HEAD_VERSION):
            raise HeadError(f"{base}.json is {kind}, expected {(HEAD_SCHEMA, HEAD_VERSION)}")
        if hashlib.sha256(content).hexdigest() != described["sha256"]:
            raise HeadError(
                f"{base}.safetensors is not the file that {base}.json describes (SHA-256 differs). "
                "Restore the pair, or fit or import the head again."
            )
        layers = _layers(load_tensors(content))
        about = described.get("about", {})
        backbone, output, unit_norm = (described[key] for key in ("backbone", "output", "unit_norm"))
        return Head(layers, backbone, output, bool(unit_norm), about, base.name)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HeadError(
            f"{base}: no readable head ({error}). A head is NAME.json and NAME.safetensors."
        ) from error


def _layers(
    tensors: dict[str, np.ndarray],
) -> tuple[tuple[Float[np.ndarray, "n_out n_in"], Float[np.ndarray, " n_out"]], ...]:
    indices = sorted({int(name.split(".")[1]) for name in tensors})
    layers = tuple((tensors[f"layers.{i}.weight"], tensors[f"layers.{i}.bias"]) for i in indices)
    widths: Sequence[tuple[int, ...]] = [weight.shape for weight, _ in layers]
    chained = all(a[0] == b[1] for a, b in pairwise(widths))
    if not layers or not chained or widths[-1][0] != 1:
        raise ValueError(f"layers of shapes {widths} do not lead from features to one score")
    return layers


def _base(path: Path | str) -> Path:
    path = Path(path)
    return path.with_suffix("") if path.suffix in (".json", ".safetensors") else path


def _with_suffix(base: Path, suffix: str) -> Path:
    """Appended, not replaced: backbone ids in names contain dots."""
    return Path(os.fspath(base) + suffix)
