"""A rated data set with two backbones, drawn around a planted quality axis, for tests of probes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store import Targets, write_targets
from store.features import FEATURES_SCHEMA
from store.sealed import write_sealed

N_IMAGES = 700
FAILED = (3, 650)


def write_features(
    path: Path,
    backbone: str,
    image_id: np.ndarray,
    outputs: dict[str, np.ndarray],
    provenance: dict[str, Any] | None = None,
) -> None:
    """A feature file in which the FAILED rows are failed."""
    status = np.ones(len(image_id), np.uint8)
    status[list(FAILED)] = 2
    for rows in outputs.values():
        rows[list(FAILED)] = np.nan
    write_sealed(
        path,
        FEATURES_SCHEMA,
        {"backbone": backbone},
        provenance or {},
        {
            "image_id": image_id,
            "status": status,
            "failures/row": np.array(FAILED, np.int64),
            "failures/reason": np.array(["truncated file"] * len(FAILED)),
            **{f"outputs/{name}": rows.astype(np.float32) for name, rows in outputs.items()},
        },
    )


@pytest.fixture(scope="session")
def rated_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the data set: targets.h5, features/sharp.h5 (sees quality) and features/dull.h5 (less)."""
    folder = tmp_path_factory.mktemp("rated") / "planted"
    rng = np.random.default_rng(11)
    quality = rng.normal(size=N_IMAGES)
    votes = np.zeros((N_IMAGES, 10), np.int64)
    for row, q in enumerate(quality):
        drawn = np.clip(np.round(rng.normal(5.4 + 0.7 * q, 1.4, 80)), 1, 10).astype(int)
        votes[row] = np.bincount(drawn, minlength=11)[1:]
    image_id = np.array([f"photo{i:04d}" for i in range(N_IMAGES)])
    write_targets(
        folder / "targets.h5",
        Targets(
            image_id=image_id,
            path=np.array([f"{name}.jpg" for name in image_id]),
            votes=votes,
            scores=None,
            levels=np.arange(1, 11),
            threshold=5.0,
            split=np.where(np.arange(N_IMAGES) % 5 == 0, "test", "train"),
            split_name="random",
            dataset="planted",
        ),
        {},
        {},
    )
    for backbone, noise in (("sharp", 0.6), ("dull", 1.5)):
        hidden = rng.normal(size=(N_IMAGES, 12))
        hidden[:, 0] = quality + noise * rng.normal(size=N_IMAGES)
        features = 4 + hidden @ rng.normal(size=(12, 24)) + 0.2 * rng.normal(size=(N_IMAGES, 24))
        shuffled = rng.permutation(N_IMAGES) if backbone == "dull" else np.arange(N_IMAGES)
        outputs = {"pooled": features[shuffled], "embedding": features[shuffled, :16] * 10}
        write_features(folder / "features" / f"{backbone}.h5", backbone, image_id[shuffled], outputs)
    return folder
