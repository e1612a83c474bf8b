"""The reference on Vessel's photographs: what a person's own ratings predict of her others."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.taste.people import OTHERS, PERSONAL, REPEAT, evaluate_people
from analysis.taste.protocols import PROTOCOLS

OWN = {10: 0.235, 25: 0.328, 50: 0.397, 100: 0.446}
OTHER_PEOPLE = {10: 0.335, 25: 0.342, 50: 0.332, 100: 0.344}
REPEATED = 0.690


@pytest.mark.slow
@pytest.mark.shared_data
def test_own_ratings_the_others_mean_and_the_repeat_as_published(shared_data: Path, tmp_path: Path) -> None:
    import iaa
    from iaa.library.rating.raters import read_raters

    vessel = shared_data / "vessel"
    dataset = iaa.add_dataset("vessel", "folder", vessel / "images", data=tmp_path)
    dataset.embed("efficientnet_lite0.in1k")
    with dataset.features() as features:
        raters = read_raters(vessel / "ratings_by_rater.csv", features).raters
        rows = np.array(features.read("pooled"))
    n_rated = [len(np.unique(raters.row[raters.person == at])) for at in range(len(raters.names))]
    complete = raters.take(np.isin(raters.person, np.flatnonzero(np.array(n_rated) == len(rows))))
    found = evaluate_people(rows, complete, replace(PROTOCOLS["curve"], n_draws=20))
    assert len(found.names) == 17 and found.n_others == 16
    for k, published in OWN.items():
        assert found.metric(PERSONAL, k).value == pytest.approx(published, abs=0.01), k
        # It does not depend on k: what differs among the published values is what was drawn.
        others = np.mean(list(OTHER_PEOPLE.values()))
        assert found.metric(OTHERS, k).value == pytest.approx(others, abs=0.01), k
    assert found.metric(REPEAT, 10).value == pytest.approx(REPEATED, abs=0.001)
