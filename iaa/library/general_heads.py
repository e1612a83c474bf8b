"""The heads that come with the project, made anew: `python -m iaa.library.general_heads OASIS [VESSEL]`.

`oasis-beauty`: ridge on what EfficientNet-Lite0 sees (the backbone that needs no download), from the votes of
about a hundred people each on the 484 photographs of OASIS, so that photographs without ratings can be put
into an order at once. Its card has what cross-validation gives, and, with Vessel's photographs of
architecture, what it is worth on photographs of another kind.
"""

import argparse
import logging
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from analysis.probing.probes import JoinedRows
    from store import Features, Targets

logger = logging.getLogger(__name__)

BACKBONE, OUTPUT, NAME = "efficientnet_lite0.in1k", "pooled", "oasis-beauty"
N_FOLDS, N_BOOT = 10, 2000
SOURCE = (
    "Photographs: OASIS, Kurdi, Lozano and Banaji 2017 (doi 10.3758/s13428-016-0715-3). Beauty ratings, "
    "1 to 7: Brielmann and Pelli 2019 (doi 10.3389/fpsyg.2019.02420)"
)
LICENCE = (
    "The photographs and the ratings are open for research and are not part of this file; the weights, "
    "1,280 numbers and a bias fitted to them, come with the project and under its licence, Apache-2.0"
)


def make_beauty_head(oasis: Path, vessel: Path | None, folder: Path) -> Path:
    """Fit the head on all of OASIS, measure it, and write its two files into a folder; returns the card."""
    import iaa
    from analysis.probing.heads import head_of, save_head
    from analysis.probing.probes import fit_probes, join_rows

    with tempfile.TemporaryDirectory() as scratch:
        dataset = iaa.add_dataset(
            "oasis", "table", oasis / "images", oasis / "ratings.csv", data=Path(scratch)
        )
        dataset.embed(BACKBONE)
        with dataset.features(BACKBONE) as features:
            targets = dataset.targets
            rows = join_rows(features, targets)
            rows = replace(rows, split=np.where(rows.split == "", "", "train"))
            measured = cross_validated(features, targets, rows)
            head = head_of(fit := fit_probes(features, targets, OUTPUT, rows=rows), fit.ridge)
        about = {
            **head.about,
            "title": "Beauty, as the voters of OASIS see it",
            "fit_on": "all",
            "split": f"all {len(rows.train)} photographs",
            "metrics": measured,
            "metrics_of": f"the same fit on nine tenths, each tenth left out in turn ({N_FOLDS} folds, "
            f"95 % intervals of {N_BOOT} resamples of the photographs)",
            "source": SOURCE,
            "licence": LICENCE,
        }
        if vessel is not None:
            about["elsewhere"] = measured_on_vessel(head.score, vessel, Path(scratch))
        return save_head(folder / NAME, replace(head, about=about))


def cross_validated(features: "Features", targets: "Targets", rows: "JoinedRows") -> dict[str, list[float]]:
    """Each metric of photographs that were left out, with its interval: [value, low, high]."""
    from analysis.evidence.bootstrap import Prediction, bootstrap_metrics
    from analysis.evidence.folds import assign_folds
    from analysis.probing.crossing import cross_predict

    fold = assign_folds(features.image_id[rows.train], N_FOLDS)
    score = cross_predict(features, targets, OUTPUT, rows, fold)["ridge"]
    y, is_high = rows.y[rows.train, 0], rows.is_high[rows.train]
    found = bootstrap_metrics(
        y, is_high, Prediction(score, score > targets.threshold), N_BOOT, np.random.default_rng(0),
        ("accuracy", "srcc", "plcc"),
    )  # fmt: skip
    return {name: [metric.value, metric.low, metric.high] for name, metric in found.items()}


def measured_on_vessel(score: Any, vessel: Path, scratch: Path) -> dict[str, Any]:
    """SRCC with the mean rating of 19 people, photographs of outsides and of insides apart."""
    import pandas as pd

    import iaa
    from analysis.evidence.bootstrap import Prediction, bootstrap_metrics

    dataset = iaa.add_dataset("vessel", "folder", vessel / "images", data=scratch)
    dataset.embed(BACKBONE)
    ratings = pd.read_csv(vessel / "ratings_by_rater.csv").groupby("file")["rating"].mean()
    with dataset.features(BACKBONE) as features:
        values = score(features.read(OUTPUT))
        found: dict[str, Any] = {}
        for title, start in (("exteriors", "aep"), ("interiors", "aip")):
            row = np.flatnonzero(np.char.startswith(features.image_id, start) & features.ok)
            y = ratings[features.image_id[row]].to_numpy(np.float64)
            metric = bootstrap_metrics(
                y, None, Prediction(values[row], None), N_BOOT, np.random.default_rng(0), ("srcc",)
            )["srcc"]
            found[title] = {"n": len(row), "srcc": [metric.value, metric.low, metric.high]}
    return {"photographs": "architecture, Vessel et al. 2018; mean of 19 people", **found}


def main() -> None:
    """Make the heads and say what they reach."""
    from analysis.probing.heads import SHIPPED, load_head

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("oasis", type=Path, help="folder with images/ and ratings.csv")
    parser.add_argument("vessel", type=Path, nargs="?", help="folder with images/ and ratings_by_rater.csv")
    arguments = parser.parse_args()
    if not (arguments.oasis / "ratings.csv").is_file():
        parser.exit(1, f"{arguments.oasis} has no ratings.csv: name the folder of OASIS\n")
    vessel = arguments.vessel if arguments.vessel and arguments.vessel.is_dir() else None
    card = make_beauty_head(arguments.oasis, vessel, SHIPPED)
    about = load_head(card).about
    logger.info("wrote %s: %s; %s", card, about["metrics"], about.get("elsewhere"))


if __name__ == "__main__":
    main()
