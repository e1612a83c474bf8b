"""Altered photographs: worlds whose answers are known, and independent computations."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from analysis.report import style as page
from analysis.report.study import NothingToShowError, open_study
from analysis.variants.directions import (
    along,
    clusters,
    fit_whitening,
    group_means,
    number_groups,
    share_in,
    shares_of,
    span,
    style_slopes,
)
from analysis.variants.moving import Scored, measure_moves, moves_of, places_gained
from analysis.variants.page import study
from analysis.variants.reading import (
    balanced_folds,
    fit_by_groups,
    left_out_error,
    predict_left_out,
    r2_over_photographs,
)
from analysis.variants.scoring import score_by_pairs
from analysis.variants.stored import open_variants
from store import IdentityError, Targets, open_features, open_targets, write_targets
from store.errors import MissingFileError
from store.features import FEATURES_SCHEMA
from store.sealed import write_sealed

N, DIM, N_STYLE, N_CONTENT = 480, 24, 3, 4
STRENGTHS = {"light": (-1.0, 0.0, 1.0), "grain": (0.0, 1.0, 2.0), "unseen": (-1.0, 0.0, 1.0)}
AT_REST = {"light": 0.0, "grain": 0.0, "unseen": 0.0}


def write_rows(path, image_id, values, failed=(), **identity):
    """A feature file with one output; failed rows are NaN."""
    status = np.ones(len(image_id), np.uint8)
    status[list(failed)] = 2
    values = values.astype(np.float32)
    values[list(failed)] = np.nan
    write_sealed(
        path,
        FEATURES_SCHEMA,
        {"backbone": "planted", "weights_sha256": "w", "outputs": {"out": DIM}, **identity},
        {},
        {
            "image_id": image_id,
            "status": status,
            "failures/row": np.array(failed, np.int64),
            "failures/reason": np.array(["unreadable"] * len(failed), dtype="S20"),
            "outputs/out": values,
        },
    )


def make_world(folder, liked, failed=(), **identity):
    """A data set whose features are 3 style factors, 4 contents and noise in a random basis; alterations move
    style factors 0 (light) and 1 (grain), one alteration moves nothing. `liked` gives the ratings from style
    (N, 3) and content (N,)."""
    rng = np.random.default_rng(5)
    style, content = rng.normal(size=(N, N_STYLE)), rng.integers(0, N_CONTENT, N)
    basis = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0]
    hidden = rng.normal(size=(N, DIM))
    hidden[:, :N_STYLE] = style
    hidden[:, N_STYLE : N_STYLE + N_CONTENT] += 6 * np.eye(N_CONTENT)[content]
    image_id = np.array([f"p{i:03d}" for i in range(N)])
    split = np.where(np.arange(N) % 4 == 0, "test", "train")
    ratings = liked(style, content) + 0.01 * rng.normal(size=N)
    named = np.array([f"thing {c}" for c in content])
    targets = Targets(
        image_id, np.array([f"{i}.jpg" for i in image_id]), None, ratings, None, 0.0, split, "own", "planted",
        {"subject": named},
    )  # fmt: skip
    write_targets(folder / "targets.h5", targets, {}, {})
    write_rows(folder / "features" / "planted.h5", image_id, hidden @ basis)
    ids, photograph, change, strength, rows = [], [], [], [], []
    for i in np.flatnonzero(split == "test"):
        altered = [(c, s) for c, strengths in STRENGTHS.items() for s in strengths if s != AT_REST[c]]
        steps = [("", np.nan), *altered]
        for name, value in steps:
            ids.append(f"{name}{value:+g}/{image_id[i]}")
            photograph.append(image_id[i])
            change.append(name)
            strength.append(value)
            moved = hidden[i].copy()
            if name in ("light", "grain"):
                moved[["light", "grain"].index(name)] += 2 * value
            rows.append(moved)
    some = np.repeat("test", len(ids))
    columns = {
        "photograph": np.array(photograph),
        "change": np.array(change),
        "strength": np.array(strength),
    }
    made = {"unchanged_at": AT_REST, "photographs": "p"}
    about = Targets(np.array(ids), np.array(ids), None, None, None, 0.0, some, "own", "planted", columns)
    write_targets(folder / "style" / "targets.h5", about, {}, made)
    order = rng.permutation(len(ids))  # a join goes by ids, never by position
    write_rows(
        folder / "style" / "features" / "planted.h5", np.array(ids)[order],
        (np.array(rows) @ basis)[order], failed, **identity,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def loves_style(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("s") / "d", lambda style, content: style[:, 0] - style[:, 1])


@pytest.fixture(scope="module")
def loves_content(tmp_path_factory):
    folder = tmp_path_factory.mktemp("c") / "d"
    return make_world(folder, lambda style, content: np.array([0.0, 1, 3, 7])[content])


def studied(folder):
    features = open_features(folder / "features" / "planted.h5")
    return study(folder, features, open_targets(folder / "targets.h5"), 60)


@pytest.fixture(scope="module")
def of_style(loves_style):
    return studied(loves_style)


@pytest.fixture(scope="module")
def of_content(loves_content):
    return studied(loves_content)


def test_alterations_that_move_a_feature_are_read_and_one_that_moves_none_is_not(of_style):
    r2 = {change: reading.r2 for change, reading in of_style.readings["out"].items()}
    # light is +-2 on a factor of spread 1: a line reads 8/3 / (8/3 + 1) of its variance from that alone
    assert 0.6 < r2["light"].value < 0.85
    assert r2["light"].low < r2["light"].value < r2["light"].high
    assert r2["unseen"].value < 0.05


def test_scores_move_by_what_the_ratings_like(of_style, of_content):
    found = {m.change: m for m in of_style.moves}
    # the score is factor 0 less factor 1, of spread sqrt 2 or so: light +1 moves it by 2
    assert found["light"].move[2].value == pytest.approx(2**0.5, abs=0.35)
    assert found["light"].move[0].value == pytest.approx(-found["light"].move[2].value, abs=1e-6)
    assert found["grain"].move[2].value == pytest.approx(-2 * 2**0.5, abs=0.7)
    assert found["unseen"].move[0].value == pytest.approx(0, abs=1e-9)
    assert found["light"].order[2].value == pytest.approx(1, abs=1e-9)  # all move alike
    assert found["light"].places[2].low > 20 and found["light"].places[0].high < -20
    assert all(abs(m.value) < 0.2 for move in of_content.moves for m in move.move)


def test_the_direction_lies_where_the_ratings_are(of_style, of_content):
    style, content, *_, both = of_style.shares["out"]
    assert (style.what, content.what) == ("style: the alterations", "content: subject")
    assert style.share.value > 0.9 and style.p_value < 0.01
    assert content.share.value < 0.1 and content.p_value > 0.1
    style, content, *_, both = of_content.shares["out"]
    # of 30 photographs per content: noise in 20 components turns the means, to about 3 / (3 + 17 / 30)
    assert content.share.value > 0.65 and content.p_value < 0.01 and content.n_directions == N_CONTENT - 1
    assert style.share.value < 0.1 and style.p_value > 0.1
    assert both.what == "both: style and 4 clusters" and both.measured > 0.65


def test_cosines_have_the_sign_of_what_is_liked(of_style):
    cosines = of_style.cosines["out"]
    assert cosines["light"].low > 0.5 and cosines["grain"].high < -0.5
    assert np.isnan(cosines["unseen"].value)  # it moves nothing, and has no direction


def test_a_failed_row_costs_its_photograph_in_that_family_alone(tmp_path):
    folder = make_world(tmp_path / "d", lambda style, content: style[:, 0], failed=(0, 1))
    features = open_features(folder / "features" / "planted.h5")
    variants = open_variants(folder, features)
    for change in STRENGTHS:
        family = variants.family(change)
        hit = {int(variants.photograph[row]) for row in (0, 1) if variants.change[row] in ("", change)}
        assert family.n_left_out == len(hit) and not hit & set(family.photographs.tolist())
        assert variants.ok[family.rows].all()
        for column, strength in enumerate(family.strengths):
            found = variants.strength[family.rows[:, column]]
            assert (found == strength).all() or (column == family.at_rest and np.isnan(found).all())


def test_variants_of_other_weights_are_refused_and_missing_ones_named(tmp_path):
    folder = make_world(tmp_path / "d", lambda style, content: style[:, 0], weights_sha256="other")
    features = open_features(folder / "features" / "planted.h5")
    with pytest.raises(IdentityError, match="weights_sha256 differ"):
        open_variants(folder, features)
    (folder / "style" / "features" / "planted.h5").unlink()
    assert open_variants(folder, features) is None
    with pytest.raises(MissingFileError, match="no altered photographs") as stop:
        study(folder, features, open_targets(folder / "targets.h5"))
    assert "iaa style" in stop.value.hint.command


def test_leaving_groups_out_equals_fitting_without_them(rng):
    x, size, alphas = rng.normal(size=(30, 50)), 3, np.array([0.5, 5.0, 50.0])
    y = rng.normal(size=30)
    errors = []
    for alpha in alphas:
        wrong = 0.0
        for start in range(0, 30, size):
            rest = np.delete(np.arange(30), slice(start, start + size))
            a = np.hstack([x[rest], np.ones((len(rest), 1))])
            penalty = alpha * np.diag([1.0] * 50 + [0.0])
            solved = np.linalg.solve(a.T @ a + penalty, a.T @ y[rest])
            out = slice(start, start + size)
            wrong += float(((np.hstack([x[out], np.ones((size, 1))]) @ solved - y[out]) ** 2).sum())
        errors.append(wrong / 30)
    u, s, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    u, s, centred = u[:, s > 1e-9], s[s > 1e-9], y - y.mean()
    found = [left_out_error(u, s, u.T @ centred, centred, size, alpha) for alpha in alphas]
    np.testing.assert_allclose(found, errors, rtol=1e-9)
    best = alphas[int(np.argmin(errors))]
    weights, bias = fit_by_groups(x, y, size, alphas)
    a = np.hstack([x, np.ones((30, 1))])
    solved = np.linalg.solve(a.T @ a + best * np.diag([1.0] * 50 + [0.0]), a.T @ y)
    np.testing.assert_allclose(np.append(weights, bias), solved, atol=1e-9)


def test_no_version_of_a_photograph_helps_to_read_another(rng):
    # every photograph has features of its own that tell its versions apart: useless for other photographs
    n, steps = 20, np.array([0.0, 1.0, 2.0])
    x = np.zeros((n, 3, n))
    x[np.arange(n), :, np.arange(n)] = steps + 1
    fold = balanced_folds(np.array([f"p{i}" for i in range(n)]), 5, 0)
    assert np.bincount(fold).tolist() == [4] * 5
    predicted = predict_left_out(x, steps, fold)
    assert np.ptp(predicted, axis=1).max() < 1e-9
    assert r2_over_photographs(predicted, steps, 50, rng).value <= 1e-9


def test_r2_is_that_of_the_textbook(rng):
    from sklearn.metrics import r2_score

    strengths, predicted = np.array([0.0, 1, 4]), rng.normal(size=(15, 3)) + np.array([0, 1, 4])
    found = r2_over_photographs(predicted, strengths, 100, rng)
    assert found.value == pytest.approx(r2_score(np.tile(strengths, 15), predicted.ravel()))
    assert found.low < found.value < found.high


def test_places_are_those_of_a_ranking_in_which_one_photograph_moved():
    before, after = np.array([3.0, 1.0, 2.0, 0.0]), np.array([0.5, 9.0, 2.0, 1.0])
    # 3 -> 0.5: from first to below two of three others; 1 -> 9: from third to first; 2 stays; 0 -> 1: ties
    np.testing.assert_allclose(places_gained(before, after), [-200 / 3, 200 / 3, 0, 50 / 3])


def test_scores_that_do_not_vary_have_no_move():
    moves, _, orders = measure_moves(np.ones((5, 3)), 1, 20)
    assert all(np.isnan(metric.value) for metric in (*moves, *orders))


def test_a_method_is_measured_on_what_it_was_not_fitted_on(loves_style):
    variants = open_variants(loves_style, open_features(loves_style / "features" / "planted.h5"))
    score = np.arange(len(variants.photograph), dtype=float)
    n = len(variants.photograph_id)
    unseen = np.arange(n) < 12
    half = moves_of(Scored("m", "head", "out", score, unseen), variants, ["light"], 20)
    assert half[0].n_photographs == 12 and half[0].remark == ""
    few = moves_of(Scored("m", "head", "out", score, np.arange(n) < 9), variants, ["light"], 20)
    assert few[0].n_photographs == n and "fitted on" in few[0].remark


def test_whitened_photographs_vary_by_one_and_probes_keep_their_variance(rng):
    x = rng.normal(size=(80, 6)) @ rng.normal(size=(6, 6)) + 3
    whitening = fit_whitening(x, kept=1.0 - 1e-12)  # 80 photographs allow 8 components
    points = whitening.points(x)
    np.testing.assert_allclose(points.T @ points / 80, np.eye(6), atol=1e-9)
    weights = rng.normal(size=6)
    score = x @ weights
    np.testing.assert_allclose(points @ whitening.probe(weights), score - score.mean(), atol=1e-9)
    np.testing.assert_allclose(whitening.differences(x[0] - x[1]), points[0] - points[1], atol=1e-9)
    from sklearn.linear_model import Ridge

    y = rng.normal(size=80)
    standard = (x - x.mean(0)) / x.std(0)
    fitted = Ridge(alpha=7.0).fit(standard, y).predict(standard)
    np.testing.assert_allclose(points @ whitening.ridge(y, 7.0), fitted - y.mean(), atol=1e-9)


def test_random_directions_hold_what_the_law_says(rng):
    rank, k = 20, 4
    u = rng.normal(size=rank)
    shares = [float(share_in(span(rng.normal(size=(k, rank))), u)) for _ in range(800)]
    directions = np.eye(rank)[:k]
    slopes, unlearned = np.tile(directions, (6, 1, 1)), rng.normal(size=(rank, 50))
    (found,) = shares_of(u, unlearned, slopes, np.zeros((6, rank)), {}, 20)
    assert found.random.value == pytest.approx(np.mean(shares), abs=0.02)
    ends = np.quantile(shares, [0.025, 0.975])
    assert [found.random.low, found.random.high] == pytest.approx(ends, abs=0.04)
    assert found.measured == pytest.approx((u[:k] ** 2).sum() / (u**2).sum())


def test_means_of_groups_and_the_labels_that_are_none():
    labels = np.array(["a"] * 5 + ["b"] * 6 + [""] * 7 + ["rare"] * 2)
    group = number_groups(labels)
    assert group.tolist() == [0] * 5 + [1] * 6 + [-1] * 9
    points = np.arange(20.0)[:, None]
    means = group_means(points, group)
    np.testing.assert_allclose(means[:, 0], [2 - 5, 7.5 - 5])
    weights = np.zeros(20, int)
    weights[[0, 5]] = 1
    np.testing.assert_allclose(group_means(points, group, weights)[:, 0], [-2.5, 2.5])


def test_clusters_give_like_photographs_one_name(rng):
    centres = 20 * np.eye(4)
    member = np.arange(40) % 4
    names = clusters(centres[member] + rng.normal(size=(40, 4)), centres, 4, 0)
    assert len(set(names.tolist())) == 4


def test_slopes_of_a_known_move(loves_style):
    features = open_features(loves_style / "features" / "planted.h5")
    variants = open_variants(loves_style, features)
    whitening = fit_whitening(features.read("out"), kept=1 - 1e-12)
    changes, slopes = style_slopes(variants, "out", whitening)
    assert changes == list(STRENGTHS)
    family = variants.family("light")
    ends = variants.features.read("out", family.rows[0, [0, 2]]).astype(float)
    np.testing.assert_allclose(slopes[0, 0], whitening.differences(ends[1] - ends[0]), rtol=1e-4, atol=1e-4)
    assert np.abs(slopes[:, 2]).max() < 1e-4
    assert along(slopes[:, 0].mean(axis=0), slopes[:, :2], 20)[0].value == pytest.approx(1, abs=1e-6)


def test_an_unknown_alteration_names_the_known(loves_style):
    variants = open_variants(loves_style, open_features(loves_style / "features" / "planted.h5"))
    with pytest.raises(ValueError, match="there are: light, grain, unseen"):
        variants.family("exposure")
    assert replace(variants, unchanged_at={"light": 0.0}).changes == ["light"]


def test_the_page_says_along_what_ratings_lie_and_it_turns_with_them(of_style, of_content):
    for found, liked, other in ((of_style, "style", "content"), (of_content, "content", "style")):
        drawn, table, said = page.along([found])
        more, _, rest = (
            said.text.partition("of its direction")[2].partition("that cannot be said")[0].partition("; of ")
        )
        assert f"({liked})" in more and f"({liked})" not in rest and f"({other})" in rest
        assert len(table) == len(drawn.lines) and "Holm" in table.notes[0]
    dealt = [(share, 0.3) for share in of_style.shares["out"]]
    assert "lies along" not in page.tell_shares("it", dealt)


def test_the_page_shows_all_that_was_measured(of_style):
    drawn, table, said = page.readings([of_style])
    assert "unseen cannot be read" in said.text and [row[0] for row in table.rows] == list(STRENGTHS)
    assert len(drawn.lines) == len(STRENGTHS)
    moved, kept = page.moves([of_style])
    assert len(moved.lines) == len(kept.lines) == sum(len(m.strengths) for m in of_style.moves)
    (table,) = page.move_tables([of_style])
    assert len(table) == len(of_style.moves) and set(table.groups) == {"probe, out"}
    figure, table = page.cosines([of_style])
    assert len(table) == len(figure.lines) == len(of_style.cosines["out"])
    assert f"{of_style.n_photographs:,} photographs" in page.about([of_style]).text


def test_the_page_is_absent_where_nothing_was_altered(rated_world):
    with pytest.raises(NothingToShowError, match="iaa style --dataset planted"):
        page.evaluate(open_study("planted", str(rated_world), ".", ".", n_boot=20))


class Rows:
    """Vectors as feature files and prompt files give them."""

    backbone, path = "planted", "planted.h5"

    def __init__(self, vectors, label=()):
        self.vectors, self.label = vectors.astype(np.float32), np.array(label)
        self.polarity = np.array([1 if name in ("outstanding", "great") else -1 for name in label])
        self.n_images = self.n_prompts = len(vectors)

    def read(self, output="embedding", rows=None, unit_norm=False):
        found = self.vectors if rows is None else self.vectors[rows]
        return found / np.linalg.norm(found, axis=1, keepdims=True) if unit_norm else found

    def blocks(self, output):
        yield 0, self.vectors


def test_context_and_ensemble_prompts_are_scored_as_the_paper_says_by_every_single_prompt(rng):
    images, own = Rows(rng.normal(size=(30, 6))), Rows(rng.normal(size=(40, 6)))
    label = np.repeat(["outstanding", "great", "horrible", "atrocious"], 5)
    lengths = rng.uniform(1, 9, (20, 1))
    context = Rows(rng.normal(size=(20, 6)) * lengths, label)
    fixed = Rows(rng.normal(size=(4, 6)), label[::5])
    image_id, split = np.array([f"p{i}" for i in range(40)]), np.where(np.arange(40) < 30, "train", "test")
    stars = own.read(unit_norm=True) @ context.read(unit_norm=True)[label == "great"].mean(axis=0)
    targets = Targets(image_id, image_id, None, stars, None, 0.0, split, "own", "planted")
    own.image_id, own.ok, own.check_images = image_id, np.ones(40, bool), lambda images: None
    prompts = {"fixed": fixed, "context": context, "ensemble_mean_of_raw": context}
    variants = SimpleNamespace(features=images, photograph_id=image_id)
    scored = {each.name: each.score for each in score_by_pairs(own, variants, targets, prompts)}
    found = {name.partition(" (")[0]: score for name, score in scored.items()}
    assert set(found) >= {
        "outstanding / atrocious", "outstanding / horrible", "context-aware outstanding / horrible",
        "ensemble outstanding / horrible",
    }  # fmt: skip
    assert sum("best on train" in name for name in scored) == 3
    assert any(name.startswith("context-aware great / ") for name in scored), "the ratings are that label's"
    cosine = images.read(unit_norm=True) @ context.read(unit_norm=True).T
    mean = {name: cosine[:, label == name].mean(axis=1) for name in ("outstanding", "horrible")}
    raw = {name: context.read()[label == name].mean(axis=0) for name in mean}
    one = {name: images.read(unit_norm=True) @ (v / np.linalg.norm(v)) for name, v in raw.items()}
    for name, plain in (("context-aware", mean), ("ensemble", one)):
        score = found[f"{name} outstanding / horrible"]
        expected = plain["outstanding"] - plain["horrible"]
        np.testing.assert_allclose(score - score.mean(), expected - expected.mean(), atol=1e-6)
