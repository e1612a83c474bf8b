"""The reference on Vessel's photographs: what a person's own ratings predict of her others."""

from pathlib import Path

import numpy as np
import pytest

from analysis.evidence.metrics import srcc
from analysis.taste.fitting import fit_taste
from analysis.taste.gram import Gram, scaling_of
from analysis.taste.opinions import Opinions

OWN = {10: 0.235, 25: 0.328, 50: 0.397, 100: 0.446}
OTHERS = {10: 0.335, 25: 0.342, 50: 0.332, 100: 0.344}
N_DRAWS = 20


@pytest.mark.slow
@pytest.mark.shared_data
def test_own_ratings_and_the_others_mean_as_published(shared_data: Path, tmp_path: Path) -> None:
    vessel = shared_data / "vessel"
    pd = pytest.importorskip("pandas")
    import iaa

    dataset = iaa.add_dataset("vessel", "folder", vessel / "images", data=tmp_path)
    dataset.embed("efficientnet_lite0.in1k")
    with dataset.features() as features:
        rows, ids = np.array(features.read("pooled")), features.image_id.tolist()
    said = pd.read_csv(vessel / "ratings_by_rater.csv")
    table = said.groupby(["rater", "file"]).rating.mean().unstack("rater").reindex(ids)
    people = table.loc[:, table.notna().all()].to_numpy().T
    assert len(people) == 17
    gram = Gram(rows, scaling_of(rows))
    gram.of(np.arange(len(rows)))
    for k, published in OWN.items():
        own, others = [], []
        for person, stars in enumerate(people):
            general = np.delete(people, person, axis=0).mean(axis=0)
            for draw in range(N_DRAWS):
                order = np.random.default_rng([0, person, draw]).permutation(len(rows))
                rated, rest = order[:k], order[k:]
                score = fit_taste(gram, Opinions(rated, stars[rated])).predict(gram.rows(rest))
                own.append(np.nan_to_num(srcc(stars[rest], score)))
                others.append(srcc(stars[rest], general[rest]))
        assert np.mean(own) == pytest.approx(published, abs=0.01), k
        # It does not depend on k: what differs among the published values is what was drawn.
        assert np.mean(others) == pytest.approx(OTHERS[k], abs=0.02), k
