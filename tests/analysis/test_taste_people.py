"""Many people's taste: planted raters are recovered, answers at random are not predictable, nothing leaks."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.evidence.metrics import srcc
from analysis.report.taste import people
from analysis.taste.findings import difference_cells, sentences, srcc_cells
from analysis.taste.fitting import ALPHAS, fit_taste
from analysis.taste.generic import fit_generic
from analysis.taste.gram import Gram, Scaling
from analysis.taste.opinions import Opinions
from analysis.taste.path import StarsPath
from analysis.taste.people import BOTH, GENERIC, OTHERS, PERSONAL, REPEAT, RESIDUAL, evaluate_people
from analysis.taste.protocols import PROTOCOLS, Protocol, can_be_tested
from analysis.taste.raters import Raters, people_of

N, DIM = 160, 20
PROTOCOL = Protocol("small", "", (10, 60), 3, fewest_tested=40)


@pytest.fixture(scope="module")
def features():
    return np.random.default_rng(0).normal(size=(N, DIM)).astype(np.float32)


def say(columns: np.ndarray, names: str = "abcdefghijklmnop") -> Raters:
    """Everybody scores everything; a column per person."""
    n, n_people = columns.shape
    person, row = np.repeat(np.arange(n_people), n), np.tile(np.arange(n), n_people)
    return Raters(tuple(names[:n_people]), person, row, columns.T.ravel())


def planted(features: np.ndarray, own: float, noise: float, n_people: int = 6) -> np.ndarray:
    """A common taste, each one's own beside it, and noise."""
    rng = np.random.default_rng(1)
    common = features @ rng.normal(size=(DIM, 1)) / np.sqrt(DIM)
    apart = features @ rng.normal(size=(DIM, n_people)) / np.sqrt(DIM)
    return common + own * apart + noise * rng.normal(size=(len(features), n_people))


def test_planted_raters_are_recovered_and_each_method_does_what_it_can(features) -> None:
    apart = evaluate_people(features, say(planted(features, 3.0, 0.1)), PROTOCOL)
    assert apart.metric(PERSONAL, 60).low > 0.95 and apart.metric(RESIDUAL, 60).low > 0.95
    assert apart.metric(GENERIC, 60).high < 0.8
    assert apart.difference(PERSONAL, OTHERS, 60)[0].low > 0
    assert all(own.low > 0 for own in apart.of_each(PERSONAL, 60))
    alike = evaluate_people(features, say(planted(features, 0.0, 1.0)), PROTOCOL)
    assert alike.difference(RESIDUAL, PERSONAL, 10)[0].low > 0.1  # who agrees with all keeps what all say
    assert alike.difference(GENERIC, PERSONAL, 10)[0].low > 0.1
    assert alike.difference(OTHERS, PERSONAL, 60)[0].value > 0
    assert alike.metric(BOTH, 10).value > alike.metric(PERSONAL, 10).value


def test_who_answers_at_random_is_not_predictable(features) -> None:
    said = np.random.default_rng(2).integers(1, 6, (N, 60)).astype(float)
    names = "".join(chr(0x4E00 + at) for at in range(60))
    found = evaluate_people(features, say(said, names), replace(PROTOCOL, shots=(60,), n_draws=2, n_folds=4))
    holds = [own.low <= 0 <= own.high for own in found.of_each(PERSONAL, 60)]
    assert np.mean(holds) >= 0.9
    assert abs(found.metric(PERSONAL, 60).value) < 0.05
    assert "cannot be told from answers at random" in " ".join(sentences(found))


def test_the_generic_score_is_of_a_fit_without_the_photograph(features) -> None:
    rows, y = np.arange(5, 105), planted(features, 1.0, 0.5)[5:105, :1]
    standard = features.astype(np.float64)
    scores = fit_generic(standard, rows, y)[:, 0]
    linear = pytest.importorskip("sklearn.linear_model")
    alphas = np.array(ALPHAS)
    left = []
    for alpha in alphas:
        centred = standard[rows] - standard[rows].mean(axis=0)
        hat = centred @ np.linalg.solve(centred.T @ centred + alpha * np.eye(DIM), centred.T) + 1 / len(rows)
        left.append(np.mean(((y[:, 0] - hat @ y[:, 0]) / (1 - np.diag(hat))) ** 2))
    model = linear.Ridge(alpha=alphas[int(np.argmin(left))])
    for out in (0, 40, 99):
        rest = np.delete(np.arange(100), out)
        model.fit(standard[rows[rest]], y[rest, 0])
        assert scores[rows[out]] == pytest.approx(model.predict(standard[rows[[out]]])[0], abs=1e-6)
    model.fit(standard[rows], y[:, 0])
    np.testing.assert_allclose(scores[120:], model.predict(standard[120:]), atol=1e-6)


def test_one_decomposition_gives_the_fits_of_every_penalty(features) -> None:
    rng, n = np.random.default_rng(3), 30
    start, stars = rng.normal(size=N), rng.normal(size=n)
    gram = Gram(features, Scaling(np.zeros(DIM), np.ones(DIM)))
    unshrunk = np.stack([np.ones(n), start[:n]], axis=1)
    path = StarsPath(gram.of(np.arange(n)), unshrunk, np.array(ALPHAS))
    left_out = path.left_out(stars[:, None])[0]
    for place in (0, 12, 24):
        taste = fit_taste(gram, Opinions(np.arange(n), stars), start, alphas=(ALPHAS[place],))
        dual, free = path.fit(stars[:, None], np.array([place]))
        np.testing.assert_allclose(gram.rows(np.arange(n)).T @ dual[:, 0], taste.weights, atol=1e-9)
        np.testing.assert_allclose(free[:, 0], [taste.bias, taste.slope], atol=1e-9)
        np.testing.assert_allclose(stars - left_out[place], taste.left_out, atol=1e-9)


def test_nobody_is_in_the_generic_model_that_she_is_tested_with(features) -> None:
    said = planted(features, 1.0, 0.3)
    turned = said.copy()
    turned[:, 2] *= -1
    before, after = (evaluate_people(features, say(some), PROTOCOL) for some in (said, turned))
    for method in (GENERIC, OTHERS):  # hers turn, the others' change
        np.testing.assert_allclose(after.srcc[method][:, 2], -before.srcc[method][:, 2], atol=1e-9)
        assert not np.allclose(after.srcc[method][:, 3], before.srcc[method][:, 3])


def test_scores_given_again_are_averaged_and_tell_the_ceiling(features) -> None:
    first, last = (np.random.default_rng(seed).normal(size=N) for seed in (4, 5))
    row = np.concatenate([np.arange(N), np.arange(N)[::-1]])
    raters = Raters(("a",), np.zeros(2 * N, int), row, np.concatenate([first, last[::-1]]))
    (person,) = people_of(raters, N)
    np.testing.assert_allclose(person.score, (first + last) / 2)
    assert person.n_repeated == N and person.repeat == pytest.approx(srcc(first, last))
    found = evaluate_people(features, say(planted(features, 1.0, 0.1)), PROTOCOL)
    assert np.isnan(found.metric(REPEAT, 10).value)
    assert "own repeat" not in str(srcc_cells(found))
    drawn, table = people({"m": found})
    assert len(table) == len(drawn.lines) == 6 and table.headings[2] == PERSONAL and len(table.rows[0]) == 7


def test_the_same_people_at_every_k_and_who_is_left_out(features) -> None:
    said = planted(features, 1.0, 0.3)
    raters = say(said)
    few = (raters.person == 1) & (raters.row >= 60)  # 60 photographs: enough for 10, not for 60
    alike = raters.person == 2
    raters = replace(raters, score=np.where(alike, 3.0, raters.score)).take(~few)
    failed = features.copy()
    failed[7] = np.nan
    found = evaluate_people(failed, raters, PROTOCOL)
    assert found.names == ("a", "d", "e", "f") and found.n_left_out == 2 and found.n_others == 5
    assert set(found.n_rated) == {N - 1} and found.shots == (10, 60)
    named = evaluate_people(failed, raters, PROTOCOL, people=["b"])
    assert named.names == ("b",) and named.shots == (10,)
    drawn = evaluate_people(features, say(said), replace(PROTOCOL, n_people=3, n_folds=1))
    assert len(drawn.names) == 3 and drawn.n_others == 3
    with pytest.raises(ValueError, match="nobody is called 'z'"):
        evaluate_people(features, raters, PROTOCOL, people=["z"])
    with pytest.raises(ValueError, match="the most is 160"):
        evaluate_people(features, say(said), replace(PROTOCOL, shots=(150,)))
    with pytest.raises(ValueError, match="nobody is left"):
        evaluate_people(features, say(said), replace(PROTOCOL, n_folds=1))
    assert can_be_tested(say(said), PROTOCOL) and not can_be_tested(say(said[:40]), PROTOCOL)
    assert not can_be_tested(say(said[:, :1]), PROTOCOL)


def test_the_protocols_are_those_of_their_data_sets() -> None:
    flickr, para = PROTOCOLS["flickr-aes"], PROTOCOLS["para"]
    assert (flickr.n_people, flickr.shots[-1], flickr.n_draws) == (37, 100, 10)
    assert (para.n_people, para.shots, para.n_folds) == (40, (10, 100), 4)


def test_sentences_turn_with_the_numbers(features) -> None:
    found = evaluate_people(features, say(planted(features, 3.0, 0.1)), PROTOCOL)
    ahead, worse = found.srcc[GENERIC] * 0 + 0.3, found.srcc[GENERIC] * 0 + 0.1
    spread = np.linspace(0, 0.01, 6)[None, :, None]
    for own, generic, expected in (
        (ahead + spread, worse, "better than the generic model at every number"),
        (worse + spread, ahead, "not better than the generic model with up to 60 photographs"),
        (np.stack([worse[0] - 0.05, ahead[1]]) + spread, worse, "from 60 photographs on"),
    ):
        turned = replace(found, srcc={**found.srcc, PERSONAL: own, GENERIC: generic})
        first = sentences(turned)[0]
        assert expected in first and ("worse at 10 and 60" in first) == ("up to" in expected)
        assert ("worse at 10." in first) == ("from 60" in expected)
    assert len(difference_cells(found)[1]) == 5
