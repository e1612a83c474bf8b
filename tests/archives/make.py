"""What the archived files hold, and how they were written (`python -m tests.archives.make FOLDER`).

The files in `v1/` were written once, by the writer of that day, and are never written again: a program that
cannot read them has lost somebody's data.
"""

import sys
from pathlib import Path

import numpy as np

from store import Status, Targets, save_derived, write_targets
from store.features import FEATURES_SCHEMA
from store.parts import Plan, begin, merge_parts, write_part
from store.prompts import PROMPTS_SCHEMA
from store.sealed import write_sealed

N = 23
IDENTITY = {
    "backbone": "b.1",
    "images": "12ab",
    "n_images": N,
    "preprocessing": {"resize": 224},
    "precision": "float32",
}
IDS = np.array([f"ordner/bild ü {i}.jpg" for i in range(N)])
FAILED = {4: "empty file", 17: "cannot read: No such file or directory"}
DERIVED_KEY = {"digest": "feed", "alpha": [1, 2]}
TARGETS = Targets(
    image_id=IDS,
    path=np.array([f"{i}.jpg" for i in range(N)]),
    votes=np.arange(N * 10, dtype=np.int64).reshape(N, 10),
    scores=None,
    levels=np.arange(1, 11, dtype=np.int64),
    threshold=5.0,
    split=np.array(["train", "test", ""] * 8)[:N],
    split_name="paper",
    dataset="old",
    columns={"year": np.arange(1990, 1990 + N), "who": np.array([f"é{i % 3}" for i in range(N)])},
)


def matrix(dim: int) -> np.ndarray:
    """Float32 values that are exact in any arithmetic: eighths, with both zeros."""
    values = (np.arange(N * dim, dtype=np.float32).reshape(N, dim) - 11) / 8
    values[0, 0] = -0.0
    return values


def feature_arrays() -> dict[str, np.ndarray]:
    """One part, which is the whole file."""
    status = np.full(N, Status.OK, np.uint8)
    status[list(FAILED)] = Status.FAILED
    outputs = {"pre_projection": matrix(5), "embedding": matrix(3)}
    for values in outputs.values():
        values[list(FAILED)] = np.nan
    return {
        "status": status,
        "failures/row": np.array(list(FAILED), np.int64),
        "failures/reason": np.array(list(FAILED.values())),
        "source_sha256": np.arange(N * 32, dtype=np.uint8).reshape(N, 32),
        "source_size": np.arange(N, dtype=np.int64) * 1000,
        **{f"outputs/{name}": values for name, values in outputs.items()},
    }


def prompt_arrays() -> dict[str, np.ndarray]:
    """Three texts, one of them with a newline."""
    return {
        "text": np.array(["a great picture", "an ugly picture", "zeile\nzwei"]),
        "label": np.array(["great", "ugly", ""]),
        "polarity": np.array([1, -1, 0], np.int8),
        "content": np.array(["", "", "goldfish"]),
        "template": np.array(["a", "b", "c"]),
        "outputs/embedding": matrix(4)[:3],
    }


def write_archive(folder: Path) -> dict[str, str]:
    """Write one file of each kind; the content digest of each."""
    ids = {"image_id": IDS}
    plan = Plan(folder / "features.h5", FEATURES_SCHEMA, IDENTITY, {"torch": "2"}, N, ids)
    begin(plan)
    digests = {"part.h5": write_part(plan, 0, feature_arrays())}
    part = plan.part_path(0).read_bytes()
    digests["features.h5"] = merge_parts(plan)
    (folder / "part.h5").write_bytes(part)
    identity = {"prompt_set": "s", "backbone": "b.1", "n_prompts": 3}
    digests["prompts.h5"] = write_sealed(folder / "prompts.h5", PROMPTS_SCHEMA, identity, {}, prompt_arrays())
    digests["targets.h5"] = write_targets(folder / "targets.h5", TARGETS, {"images": "12ab"}, {})
    arrays = {"gram": np.eye(4), "labels": np.array(["x", "yy"])}
    digests["derived.h5"] = save_derived(folder / "derived.h5", arrays, DERIVED_KEY)
    return digests


if __name__ == "__main__":
    print(write_archive(Path(sys.argv[1])))
