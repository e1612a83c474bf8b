"""Groups in constructions whose answer is known."""

import numpy as np
import pytest

from analysis.grouping import leaders
from analysis.grouping.groups import KINDS, Group, Shots, Thresholds, group_photographs
from analysis.grouping.leaders import Like, find_leaders
from analysis.grouping.thresholds import MEASURED, choose_thresholds, high_cosine

LIMITS = Thresholds(near=0.95, burst=0.85, bracket=0.6, later=0.985, unknown=0.95)


def at_angles(*degrees: float) -> np.ndarray:
    """Unit vectors in a plane, by their angles."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def hashes(*contents: int) -> np.ndarray:
    """A content hash per number; 0 is an unknown one."""
    found = np.zeros((len(contents), 32), np.uint8)
    for row, content in enumerate(contents):
        if content:
            found[row] = np.random.default_rng(content).integers(1, 256, 32)
    return found


def as_sets(groups: list[Group]) -> set[tuple[str, frozenset[int]]]:
    return {(group.kind, frozenset(group.rows.tolist())) for group in groups}


def grouped(vectors, shots=Shots(), **how) -> list[tuple[str, list[int]]]:  # noqa: B008 (frozen)
    return [(g.kind, g.rows.tolist()) for g in group_photographs(vectors, shots, LIMITS, **how)]


def test_a_chain_breaks_at_the_first_picture():
    # 15 degrees: cosine 0.966; 30 degrees: 0.866. A ~ B ~ C, and A is not like C.
    shots = Shots(taken=np.array([0, 1000, 2000]))
    assert grouped(at_angles(0, 15, 30), shots) == [("near", [0, 1])]
    # Taken in another order, B comes first, and both are like it.
    shots = Shots(taken=np.array([1000, 0, 2000]))
    assert grouped(at_angles(0, 15, 30), shots) == [("near", [1, 0, 2])]


def test_a_picture_joins_the_first_one_it_is_most_like():
    shots = Shots(taken=np.arange(3) * 1000.0)
    assert grouped(at_angles(0, 25, 14), shots) == [("near", [1, 2])]


def test_seconds_tell_a_burst():
    taken = np.array([100.0, 100.2, 100.4, 500.0])
    # 28 degrees, cosine 0.883: enough within seconds, not enough later.
    assert grouped(at_angles(0, 10, 28, 28.1), Shots(taken=taken)) == [("burst", [0, 1, 2])]
    assert grouped(at_angles(0, 10, 28, 11), Shots(taken=taken)) == [("near", [0, 1, 2, 3])]
    assert grouped(at_angles(0, 28), Shots()) == []
    assert grouped(at_angles(0, 28), Shots(taken=np.array([100.0, np.nan]))) == []


def test_more_than_an_hour_later_it_takes_more():
    # 12 degrees: cosine 0.978.
    assert grouped(at_angles(0, 12), Shots(taken=np.array([0, 3600.0]))) == [("near", [0, 1])]
    assert grouped(at_angles(0, 12), Shots(taken=np.array([0, 3601.0]))) == []
    assert grouped(at_angles(0, 12), Shots(taken=np.array([0, np.nan]))) == [("near", [0, 1])]
    assert grouped(at_angles(0, 5), Shots(taken=np.array([0, 1e6]))) == [("near", [0, 1])]


def test_a_burst_ends_with_its_seconds():
    taken = np.arange(12) * 2.0
    groups = group_photographs(at_angles(*[28 * (i % 2) for i in range(12)]), Shots(taken=taken), LIMITS)
    for group in groups:
        assert np.ptp(taken[group.rows]) <= 10 or group.kind == "near"


def test_a_clock_of_whole_seconds():
    taken = np.array([100.0, 100.0])
    assert grouped(at_angles(0, 20), Shots(taken=taken)) == [("burst", [0, 1])]
    assert grouped(at_angles(0, 1), Shots(taken=taken)) == [("near", [0, 1])]  # may be a variant


def test_copies_alone_and_in_company():
    sha256 = hashes(7, 5, 7, 0, 0)
    vectors = at_angles(0, 90, 0, 180, 180)
    assert grouped(vectors, Shots(sha256)) == [("copies", [0, 2]), ("near", [3, 4])]
    # With a variant, all three are one group; asked for copies alone, they are a group of two.
    vectors = at_angles(0, 5, 0, 180, 270)
    assert grouped(vectors, Shots(sha256)) == [("near", [0, 1, 2])]
    assert grouped(vectors, Shots(sha256), kinds=("copies",)) == [("copies", [0, 2])]
    assert grouped(None, Shots(sha256)) == [("copies", [0, 2])]


def test_rows_without_a_vector_are_like_nothing_but_their_copies():
    vectors = at_angles(0, 0, 0, 0, 0)
    vectors[1] = np.nan
    vectors[3:] = 0
    assert grouped(vectors, Shots(hashes(1, 2, 3, 4, 4))) == [("near", [0, 2]), ("copies", [3, 4])]


@pytest.mark.parametrize("n", [0, 1])
def test_small_libraries(n):
    assert grouped(at_angles(*range(n)), Shots(hashes(*range(1, n + 1)))) == []
    assert grouped(None, Shots()) == []


def test_best_first():
    vectors = at_angles(0, 1, 2, 3)
    score, sharpness = np.array([3, 5, 5, np.nan]), np.array([9, 1, 2, 99])
    (group,) = group_photographs(vectors, Shots(score=score, sharpness=sharpness), LIMITS)
    assert (group.rows.tolist(), group.is_ranked) == ([2, 1, 0, 3], True)
    # Without scores the sharpest, then the largest; then by time and name.
    size = np.array([10, 20, 10, 10])
    shots = Shots(width=size, height=size, taken=np.array([3.0, 2, 1, 1]), name=["d", "c", "b", "a"])
    assert grouped(vectors, shots) == [("burst", [1, 3, 2, 0])]
    # Scaling down makes sharp: a picture that is much smaller comes after those that are not.
    shots = Shots(sharpness=np.array([9.0, 5, 6, 7]), width=np.array([5, 10, 9, 8]), height=np.full(4, 10))
    assert grouped(vectors, shots) == [("near", [3, 2, 1, 0])]


def test_brackets_are_named_and_not_ranked():
    taken = np.array([10.0, 10.5, 11.0, 11.5, 12.0, 12.5, 99.0])
    bias = np.array([0, -2, 2, 0, -2, 2, 0])
    score = np.arange(7.0)
    shots = Shots(taken=taken, bias=bias, score=score)
    groups = group_photographs(at_angles(0, 40, 45, 0, 40, 45, 180), shots, LIMITS)
    assert [(g.kind, g.rows.tolist(), g.is_ranked) for g in groups] == [
        ("bracket", [0, 1, 2], False),
        ("bracket", [3, 4, 5], False),
    ]


def test_a_bracket_has_one_scene_and_several_exposures():
    taken, bias = np.array([10.0, 11.0, 12.0]), np.array([0, -2, 2.0])
    assert grouped(at_angles(0, 80, 160), Shots(taken=taken, bias=bias)) == []
    assert grouped(at_angles(0, 1, 2), Shots(taken=taken * 60, bias=bias)) == [("near", [0, 1, 2])]
    assert grouped(at_angles(0, 1, 2), Shots(taken=taken, bias=bias * 0 - 0.7)) == [("burst", [0, 1, 2])]
    assert grouped(at_angles(0, 1), Shots(taken=taken[:2], bias=bias[:2])) == [("bracket", [0, 1])]


def test_a_wheel_turned_after_a_burst_makes_no_bracket():
    taken = np.array([10.0, 10.2, 10.4, 12.0])
    bias = np.array([0, 0, 0, -1.0])
    assert grouped(at_angles(0, 1, 2, 3), Shots(taken=taken, bias=bias)) == [("burst", [0, 1, 2, 3])]
    assert grouped(at_angles(0, 1, 2, 3), Shots(taken=np.floor(taken), bias=bias))[0][0] == "burst"


def test_copies_and_developed_files_of_a_bracket_belong_to_it():
    taken = np.repeat([10.0, 10.5, 11.0], 3)
    bias = np.repeat([0, -2, 2.0], 3)
    sha256 = hashes(1, 1, 2, 3, 3, 4, 5, 5, 6)
    shots = Shots(sha256, taken=taken, bias=bias)
    assert grouped(at_angles(0, 0, 1, 20, 20, 21, 30, 30, 31), shots) == [("bracket", list(range(9)))]


def landscape(seed: int = 0, size: tuple[int, int] = (64, 400)) -> np.ndarray:
    """Grey noise at several scales."""
    rng = np.random.default_rng(seed)
    layers = [
        np.kron(rng.standard_normal((size[0] // s, size[1] // s)), np.ones((s, s))) for s in (2, 4, 8, 16)
    ]
    return sum(layers)


def test_panoramas_are_named_in_the_order_of_time():
    wide = landscape()
    frames = [wide[:, start : start + 96] for start in (0, 60, 120, 180)] + [landscape(1)[:, :96]]
    asked = []

    def small(row: int) -> np.ndarray:
        asked.append(row)
        return frames[row]

    ones = np.ones(5)
    shots = Shots(taken=np.arange(5) * 2.0, score=np.arange(5.0), width=ones, height=ones)
    vectors = at_angles(0, 25, 50, 75, 100)
    (group,) = group_photographs(vectors, shots, LIMITS, small=small)
    assert (group.kind, group.rows.tolist(), group.is_ranked) == ("panorama", [0, 1, 2, 3], False)
    # Nothing of this is a panorama: too long between, two frames, back and forth, other scenes.
    assert grouped(vectors, Shots(taken=np.arange(5) * 20.0), kinds=("panorama",), small=small) == []
    assert grouped(vectors[:2], Shots(taken=np.arange(2) * 2.0), kinds=("panorama",), small=small) == []
    frames = [wide[:, start : start + 96] for start in (0, 60, 0, 60, 0)]
    assert grouped(vectors, Shots(taken=np.arange(5) * 2.0), kinds=("panorama",), small=small) == []
    frames = [landscape(seed)[:, :96] for seed in range(5)]
    assert grouped(vectors, Shots(taken=np.arange(5) * 2.0), kinds=("panorama",), small=small) == []
    # Pictures that hardly move are a burst, and nobody asks for their pixels.
    asked.clear()
    assert grouped(at_angles(0, 1, 2, 3, 4), shots, small=small)[0][0] == "burst"
    assert not asked


def test_pictures_that_cannot_be_read_are_no_panorama():
    shots = Shots(taken=np.arange(4) * 2.0)
    assert grouped(at_angles(0, 40, 80, 120), shots, small=lambda row: None) == []


def library(n: int, seed: int = 0) -> tuple[np.ndarray, Shots]:
    """Clusters, some tight and some loose, with copies, equal seconds, missing times and vectors."""
    rng = np.random.default_rng(seed)
    centre = rng.standard_normal((n // 4, 24))
    of = rng.integers(n // 4, size=n)
    vectors = centre[of] + rng.choice([0.05, 0.3, 0.6], (n, 1)) * rng.standard_normal((n, 24))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    taken = np.where(rng.random(n) < 0.2, np.nan, of * 30.0 + rng.integers(0, 20, n))
    content = np.arange(1, n + 1)
    for copy, original in rng.choice(n, (n // 20, 2), replace=False):
        vectors[copy], taken[copy], content[copy] = vectors[original], taken[original], content[original]
    vectors[rng.random(n) < 0.02] = np.nan
    of_content = {c: vectors[content == c][0] for c in content}
    vectors = np.stack([of_content[c] for c in content])
    bias = np.where(rng.random(n) < 0.1, rng.integers(-2, 3, n), 0.0)
    bias = np.array([bias[np.flatnonzero(content == c)[0]] for c in content])
    return vectors, Shots(
        hashes(*content), taken, bias, score=rng.random(n).round(1), name=[f"{i}" for i in range(n)]
    )


def permuted(shots: Shots, order: np.ndarray) -> Shots:
    columns = {name: getattr(shots, name) for name in ("sha256", "taken", "bias", "score")}
    return Shots(**{k: v[order] for k, v in columns.items()}, name=[shots.name[i] for i in order])


def test_the_same_groups_in_any_order_of_files():
    vectors, shots = library(600)
    expected = group_photographs(vectors, shots, LIMITS)
    assert {group.kind for group in expected} == {"copies", "near", "burst", "bracket"}
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(vectors))
        found = group_photographs(vectors[order], permuted(shots, order), LIMITS)
        assert {(g.kind, tuple(order[g.rows].tolist()), tuple(np.nan_to_num(g.cosine))) for g in found} == {
            (g.kind, tuple(g.rows.tolist()), tuple(np.nan_to_num(g.cosine))) for g in expected
        }


def test_no_photograph_is_in_two_groups_and_each_is_like_the_first():
    vectors, shots = library(600, 1)
    groups = group_photographs(vectors, shots, LIMITS)
    rows = np.concatenate([group.rows for group in groups])
    assert len(rows) == len(set(rows.tolist()))
    for group in groups:
        assert len(group.rows) > 1
        if group.kind != "copies":
            assert np.nanmax(group.cosine) == pytest.approx(1, abs=1e-6)
            assert (group.cosine >= {"bracket": 0.6, "burst": 0.85, "near": 0.85}[group.kind] - 1e-6).all()


@pytest.mark.parametrize("taken", [np.inf, -np.inf, 1e300, -1e300, 0])
def test_hostile_times(taken):
    shots = Shots(taken=np.array([taken, taken, -taken, np.nan]))
    groups = as_sets(group_photographs(at_angles(0, 1, 2, 3), shots, LIMITS))
    assert {frozenset(range(4))} == {rows for _, rows in groups}


@pytest.mark.parametrize("near", [0, -1, 1.5, np.nan])
def test_thresholds_that_make_no_sense(near):
    with pytest.raises(ValueError, match="threshold near"):
        Thresholds(near, 0.8, 0.7, 0.99, 0.9)


def test_columns_of_another_length_are_an_error():
    with pytest.raises(ValueError, match="taken has the shape"):
        group_photographs(at_angles(0, 1), Shots(taken=np.zeros(3)), LIMITS)
    with pytest.raises(ValueError, match="1 names"):
        group_photographs(at_angles(0, 1), Shots(name=["a"]), LIMITS)


def test_the_rule_for_what_was_not_measured():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((500, 64)) + 1
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    vectors[3], vectors[4] = np.nan, 0
    vectors[10:20] = vectors[9]  # copies say nothing
    different = np.delete(vectors, [3, 4, *range(10, 20)], axis=0)
    high = np.quantile((different @ different.T)[np.triu_indices(488, 1)], 0.99)
    assert high_cosine(vectors) == pytest.approx(high, abs=6e-4)
    assert high_cosine(vectors[rng.permutation(500)]) == high_cosine(vectors)
    assert high_cosine(vectors[:50]) == 0.85
    chosen = choose_thresholds("somebody", "pooled", vectors)
    limits = chosen.thresholds
    assert "not measured" in chosen.origin
    assert high - 1e-3 <= limits.bracket < limits.burst < limits.near < limits.later < 1
    # Given, it takes the others along where they would be on the wrong side of it.
    limits = choose_thresholds("somebody", "pooled", vectors, 0.3).thresholds
    assert (limits.near, limits.burst, limits.bracket, limits.unknown) == (0.3,) * 4 and limits.later > 0.9
    assert choose_thresholds("somebody", "pooled", vectors, 0.999).thresholds.later == 0.999


@pytest.mark.parametrize("key", MEASURED, ids=" ".join)
def test_measured_thresholds_are_in_their_order(key):
    limits = choose_thresholds(*key, np.zeros((0, 3))).thresholds
    assert limits.bracket < limits.burst < limits.near == limits.unknown < limits.later
    # Wrong pairs grow with the square of the library.
    assert choose_thresholds(*key, np.zeros((6000, 3))).thresholds.unknown == limits.later


def plain_leaders(vectors, taken, like) -> np.ndarray:
    """The definition, row by row."""
    cosine = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    found: list[int] = []
    for i in range(len(vectors)):
        before = [j for j in range(i) if found[j] == j and cosine[i, j] >= like.limit(taken[i] - taken[j])]
        found.append(max(before, key=lambda j: (cosine[i, j], -j), default=i))
    return np.array(found)


@pytest.mark.parametrize("seed", range(3))
def test_blocks_and_bounds_change_nothing(monkeypatch, seed):
    for name, small in (
        ("_ROWS", 40),
        ("_LEADERS", 30),
        ("_MIN_ROWS", 10),
        ("_N_SAMPLE", 64),
        ("_N_BASIS", 200),
    ):
        monkeypatch.setattr(leaders, name, small)
    rng = np.random.default_rng(seed)
    basis = np.linspace(3, 0.01, 96)
    vectors = rng.standard_normal((400, 96)) * basis
    vectors[200:] = vectors[:200] + 0.3 * rng.standard_normal((200, 96)) * basis * rng.random((200, 1))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    vectors = vectors[rng.permutation(400)]
    taken = np.sort(rng.integers(0, 12_000, 400)).astype(float)
    taken[300:] = np.nan
    like = Like(0.8, 0.93, 0.96, 0.94, 30)
    leader, cosine = find_leaders(vectors, taken, like)
    assert 100 < (leader != np.arange(400)).sum() < 390
    np.testing.assert_array_equal(leader, plain_leaders(vectors, taken, like))
    np.testing.assert_allclose(cosine, np.einsum("ij,ij->i", vectors, vectors[leader]), atol=1e-6)


def test_everything_is_one_picture():
    vectors = np.tile(at_angles(30), (5000, 1))
    (group,) = group_photographs(vectors, Shots(), LIMITS, kinds=KINDS)
    assert (group.kind, len(group.rows)) == ("near", 5000)
