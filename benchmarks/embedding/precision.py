"""What fewer bits cost: cosine to float32 per image, and a probe's rank correlation on rated photographs."""

import csv
import tempfile
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.embedding.models import load_random
from embed.backbones.device import pick_device
from embed.backbones.loading import Backbone, load_backbone
from embed.images.datasets import ImageTable
from embed.pipeline import Options, embed_images, feature_path
from store import open_features

PRECISIONS = ("float32", "bfloat16", "float16")


def rated_photographs(oasis: Path) -> tuple[ImageTable, np.ndarray, np.ndarray]:
    """The photographs of the folder of OASIS, their mean ratings, and which are for training."""
    with (oasis / "ratings.csv").open(newline="") as handle:
        rated = list(csv.DictReader(handle))
    votes = np.array([[int(row[f"votes_{level}"]) for level in range(1, 8)] for row in rated])
    mos = votes @ np.arange(1, 8) / votes.sum(axis=1)
    is_train = np.array([row["split"] == "train" for row in rated])
    files = np.array([row["file"] for row in rated])
    table = ImageTable("oasis", oasis / "images", files, files)
    return table, mos, is_train


def measure(oasis: Path, scratch: Path) -> None:
    """Print both for the folder of OASIS (images/, ratings.csv)."""
    table, mos, is_train = rated_photographs(oasis)
    device = str(pick_device())
    print(f"\nprecision on {device}, {len(table)} photographs")
    for id, output, few in (("vit_b32.openai", "embedding", 64), ("efficientnet_lite0.in1k", "pooled", None)):
        some = ImageTable("oasis", table.root, table.image_id[:few], table.path[:few])
        rows = {}
        for precision in PRECISIONS:
            if id == "vit_b32.openai":
                backbone = load_random(id, scratch, device, precision)
            else:
                backbone = load_backbone(id, device=device, precision=precision)
            rows[precision] = _rows(some, backbone, output)
        for precision, values in rows.items():
            a, b = rows["float32"], values
            cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
            line = f"  {id} {precision}: cosine to float32 at least {cosine.min():.6f} ({len(some)} images)"
            if few is None:
                line += f", SRCC of a ridge probe {_srcc(values, mos, is_train):.4f}"
            print(line, flush=True)


def _rows(table: ImageTable, backbone: Backbone, output: str) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        embed_images(table, [backbone], Path(folder), Options())
        with open_features(feature_path(Path(folder), backbone.id)) as features:
            return np.array(features.read(output), np.float64)


def _srcc(x: np.ndarray, y: np.ndarray, is_train: np.ndarray) -> float:
    """On the test photographs; the regularisation is chosen on the training ones."""
    probe = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 6, 25)))
    predicted = probe.fit(x[is_train], y[is_train]).predict(x[~is_train])
    return float(spearmanr(predicted, y[~is_train]).statistic)
