"""Which cosine tells a variant of a photograph from another photograph: precision and recall per threshold.

    python benchmarks/grouping/measure.py --photographs DIR [DIR ...] [--backbone B ...] [--scratch DIR]

Variants are made of every JPEG below the folders (benchmarks/grouping/variants.py) and embedded, in all a
dozen times the photographs. A photograph is compared with the variants of all photographs: its own is right,
all others are wrong. Names that differ in their number alone (Lake1.jpg to Lake17.jpg) are the same subject.
docs/groups.md has what came out.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

import iaa
from analysis.grouping.thresholds import by_rule, high_cosine
from benchmarks.grouping.variants import CHANGES, folder_of, make_variants

PRECISION = 0.99
TWINS = ({"aip_052.jpg", "aip_069.jpg"}, {"Lightning6.jpg", "Thunderstorm8.jpg"})
"""Pairs of the two data sets that are the same photograph, as one sees; they are neither right nor wrong."""
USUAL = [name for name in CHANGES if "2 EV" not in name]
"""What comes back of a photograph; two EV are what brackets do."""


def embed(photographs: list[Path], scratch: Path, backbones: list[str]) -> iaa.Dataset:
    """The photographs and their variants, embedded below `scratch`; what is there is kept."""
    folder = scratch / "files"
    (folder / "original").mkdir(parents=True, exist_ok=True)
    for file in photographs:
        if not (target := folder / "original" / file.name).exists():
            target.write_bytes(file.read_bytes())
    make_variants(photographs, folder)
    dataset = iaa.add_dataset("variants", "folder", folder, data=scratch / "data", overwrite=True)
    dataset.embed(backbones)
    return dataset


def vectors_of(dataset: iaa.Dataset, backbone: str, output: str, names: list[str]) -> dict[str, np.ndarray]:
    """Unit vectors (n, dim) of the photographs, by folder."""
    with dataset.features(backbone) as features:
        rows = {name: row for row, name in enumerate(features.image_id.tolist())}
        matrix = features.read(output, unit_norm=True)
        folders = {name.rpartition("/")[0] for name in rows}
        return {folder: matrix[[rows[f"{folder}/{name}"] for name in names]] for folder in folders}


def cosines(vectors: dict[str, np.ndarray], change: str) -> np.ndarray:
    """Photographs (or what a change starts from) by variants."""
    base = vectors.get(f"base/{folder_of(change)}", vectors["original"])
    found: np.ndarray = base @ vectors[f"variant/{folder_of(change)}"].T
    return found


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photographs", type=Path, nargs="+", required=True)
    parser.add_argument("--backbone", nargs="+", default=["efficientnet_lite0.in1k"])
    parser.add_argument("--scratch", type=Path, help="keep what is made here; default: a temporary folder")
    arguments = parser.parse_args()
    photographs = sorted(file for folder in arguments.photographs for file in folder.rglob("*.jpg"))
    with tempfile.TemporaryDirectory() as temporary:
        dataset = embed(photographs, arguments.scratch or Path(temporary), arguments.backbone)
        for backbone in arguments.backbone:
            with dataset.features(backbone) as features:
                outputs = list(features.outputs)
            for output in outputs:
                report(dataset, backbone, output, [file.name for file in photographs])


def report(dataset: iaa.Dataset, backbone: str, output: str, names: list[str]) -> None:
    """The table of one output."""
    vectors = vectors_of(dataset, backbone, output, names)
    subject = np.array([re.sub(r"[ \d]*\.jpg$", "", name) for name in names])
    other = ~np.eye(len(names), dtype=bool)
    for twins in TWINS:
        at = [row for row, name in enumerate(names) if name in twins]
        other[np.ix_(at, at)] = False
    same = (subject[:, None] == subject) & other & np.char.isalpha(subject)
    by_change = {change: cosines(vectors, change) for change in CHANGES}
    right = {change: np.diag(cosine) for change, cosine in by_change.items()}
    wrong = np.sort(np.concatenate([by_change[change][other] for change in USUAL]))
    wrong_same = np.sort(np.concatenate([by_change[change][same] for change in USUAL]))
    all_right = np.sort(np.concatenate([right[change] for change in USUAL]))

    def precision(threshold: float, among: np.ndarray = wrong) -> float:
        hits, misses = above(all_right, threshold), above(among, threshold)
        return hits / (hits + misses) if hits + misses else 1.0

    print(f"\n{backbone} / {output}: {len(names)} photographs, {len(USUAL)} changes,", end=" ")
    print(f"{len(wrong):,} wrong pairs, {len(wrong_same):,} of one subject;", end=" ")
    print(f"median cosine of wrong pairs {np.median(wrong):.3f}\n")
    heads = ["cosine", "precision", "against one subject", "wrong per million", "recall", *CHANGES]
    print(f"| {' | '.join(heads)} |\n{'| ---: ' * len(heads)}|")
    best = first_with(lambda t: precision(t) >= PRECISION)
    for threshold in sorted({*np.round(np.arange(0.6, 1, 0.05), 2), 0.92, 0.98, best}):
        cells = [
            f"{threshold:.3f}",
            f"{precision(threshold):.4f}",
            f"{precision(threshold, wrong_same):.4f}",
            f"{above(wrong, threshold) / len(wrong) * 1e6:,.1f}",
            f"{above(all_right, threshold) / len(all_right):.3f}",
            *(f"{(right[change] >= threshold).mean():.3f}" for change in CHANGES),
        ]
        print("| " + " | ".join(cells) + " |")
    high = high_cosine(vectors["original"])
    found = {
        "near": best,
        "burst": first_with(lambda t: above(wrong_same, t) <= 0.01 * len(wrong_same)),
        "bracket": first_with(lambda t: above(wrong, t) <= 0.01 * len(wrong)),
        "highest of the wrong": float(wrong[-1]),
    }
    print(f"\n1 % of pairs of photographs reach {high:.3f}; thresholds and their share of that distance:")
    print(", ".join(f"{name} {value:.3f} ({(1 - value) / (1 - high):.3f})" for name, value in found.items()))
    rule = by_rule(high)
    for name in ("near", "later"):
        limit = rule[name]
        print(
            f"by the rule {name} is {limit}: precision {precision(limit):.4f}, recall "
            f"{above(all_right, limit) / len(all_right):.3f}, "
            f"wrong per million {above(wrong, limit) / len(wrong) * 1e6:.1f}"
        )


def above(ascending: np.ndarray, threshold: float) -> int:
    """How many values are at least the threshold."""
    return len(ascending) - int(np.searchsorted(ascending, threshold))


def first_with(is_enough: Callable[[float], bool]) -> float:
    """The lowest threshold, in thousandths, from which on something holds."""
    found = 1.0
    for threshold in np.arange(999, 0, -1) / 1000:
        if not is_enough(threshold):
            break
        found = float(threshold)
    return found


if __name__ == "__main__":
    main()
