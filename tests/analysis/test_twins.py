"""Equal vectors have one score and one rank, also where the processor's products do not agree on it."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from analysis.probing import heads, probes
from analysis.prompting.evaluation import score_methods, score_prompts
from analysis.prompting.scores import (
    cosines,
    rank_images,
    row_blocks,
    score_continuous,
    score_ensemble,
    score_fixed,
)
from analysis.prompting.similarity import cosines_with
from analysis.twins import first_equal_rows, product, tie
from store import Features, open_features, open_prompts
from store.features import FEATURES_SCHEMA
from store.prompts import PROMPTS_SCHEMA
from store.sealed import write_sealed


def wobble(values: np.ndarray) -> np.ndarray:
    """What a product may make of equal rows: each row off by some last bits of its own."""
    place = np.arange(len(values)).reshape(-1, *[1] * (values.ndim - 1))
    return np.asarray(values * (1 + place % 4 * 2 * np.finfo(values.dtype).eps), values.dtype)


class Wobbly(np.ndarray):
    """A matrix whose products depend on the place of the row."""

    def __matmul__(self, other: np.ndarray) -> np.ndarray:
        return wobble(np.asarray(self) @ other)


@pytest.fixture
def wobbly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every product of the analysis wobbles."""
    matmul = np.matmul

    def wobbling(a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        found = wobble(matmul(a, b))
        if out is None:
            return found
        out[...] = found
        return out

    read = Features.read
    monkeypatch.setattr(np, "matmul", wobbling)
    monkeypatch.setattr(Features, "read", lambda self, *some, **how: read(self, *some, **how).view(Wobbly))


@pytest.mark.parametrize(
    ("dim", "dtype"), [(768, np.float32), (7, np.float32), (5, np.float64), (1, np.float32)]
)
def test_first_equal_rows_are_those_of_the_bytes(rng: np.random.Generator, dim: int, dtype: type) -> None:
    drawn = rng.integers(0, 3, (5000, dim)) if dim == 1 else rng.normal(size=(5000, dim))
    rows = drawn.astype(dtype)
    rows[[4100, 9, 4999]] = rows[3]
    rows[4200] = rows[2100]
    rows[[5, 6]] = np.nan
    first: dict[bytes, int] = {}
    expected = [first.setdefault(row.tobytes(), i) for i, row in enumerate(rows)]
    assert first_equal_rows(rows.__getitem__, len(rows)).tolist() == expected
    assert first_equal_rows(rows.__getitem__, 0).tolist() == []


def test_rows_whose_quick_keys_collide_are_told_apart(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.twins._key", lambda rows: np.zeros(len(rows), np.uint64))
    rows = rng.normal(size=(3000, 4)).astype(np.float32)
    rows[2999] = rows[1]
    expected = np.arange(3000)
    expected[2999] = 1
    np.testing.assert_array_equal(first_equal_rows(rows.__getitem__, 3000), expected)


def test_nearly_equal_rows_do_not_tie(rng: np.random.Generator) -> None:
    row = rng.normal(size=16).astype(np.float32)
    other = row.copy()
    other[7] = np.nextafter(other[7], np.float32(9))
    assert first_equal_rows(np.stack([row, other, row]).__getitem__, 3).tolist() == [0, 1, 0]


def test_a_product_and_what_is_tied() -> None:
    rows = np.array([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0], [3.0, 4.0], [1.0, 2.0]]).view(Wobbly)
    weights = np.array([0.3, 0.7])
    plain = rows @ weights
    assert plain[0] != plain[2], "the test's products agree by themselves"
    found = product(rows, weights)
    assert found.tolist() == [plain[0], plain[1]] * 2 + [plain[0]]
    distinct = np.arange(3)
    assert tie(plain, np.arange(5)) is plain and tie(plain[:3], distinct).tolist() == plain[:3].tolist()


TWINS = [(4, 10), (4, 31), (5, 38)]
"""Row and its equal, in places where the wobbling products differ."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of 40 images with twins, one failed; a fixed and a context prompt set with equal texts."""
    folder = tmp_path_factory.mktemp("twins")
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(40, 24)).astype(np.float32)
    for row, equal in TWINS:
        rows[equal] = rows[row]
    rows[7] = np.nan
    status = np.ones(40, np.uint8)
    status[7] = 2
    write_sealed(
        folder / "f.h5", FEATURES_SCHEMA, {"backbone": "b", "weights_sha256": "0"}, {},
        {"image_id": np.array([f"{i:02d}" for i in range(40)]), "status": status,
         "failures/row": np.array([7]), "failures/reason": np.array(["bad"]), "outputs/embedding": rows},
    )  # fmt: skip
    for name, n_contents in (("fixed", 1), ("context", 5)):
        contents = [f"thing {i % 4}" for i in range(n_contents)]  # the last is the first again
        label = np.repeat(["good", "fine", "bad"], n_contents)
        text = np.array([f"a {word} {content}" for word, content in zip(label, contents * 3, strict=True)])
        vectors = {t: rng.normal(size=24).astype(np.float32) for t in dict.fromkeys(text.tolist())}
        write_sealed(
            folder / f"{name}.h5", PROMPTS_SCHEMA, {"backbone": "b", "prompt_set": name}, {},
            {"text": text, "label": label, "polarity": np.repeat([1, 1, -1], n_contents).astype(np.int8),
             "content": np.array(contents * 3), "template": np.repeat("t", len(text)),
             "outputs/embedding": np.stack([vectors[t] for t in text.tolist()])},
        )  # fmt: skip
    return folder


def assert_tied(score: np.ndarray) -> None:
    for row, equal in TWINS:
        assert score[row].tobytes() == score[equal].tobytes()
    if score.ndim == 1:
        ranking = rank_images(score)
        rank = dict(zip(ranking.row.tolist(), ranking.rank.tolist(), strict=True))
        percentile = dict(zip(ranking.row.tolist(), ranking.percentile.tolist(), strict=True))
        assert 7 not in rank and rank[4] == rank[10] == rank[31] and rank[5] == rank[38]
        assert percentile[4] == percentile[10] == percentile[31]
        assert len(set(rank.values())) == 39 - 3, "other images do not tie"


def test_equal_images_tie_under_every_method_of_prompting(files: Path, wobbly: None) -> None:
    with (
        open_features(files / "f.h5") as features,
        open_prompts(files / "fixed.h5") as fixed,
        open_prompts(files / "context.h5") as context,
    ):
        scores = score_methods(features, "embedding", fixed, context)
        assert set(scores) == {
            "fixed", "context", "context_max", "ensemble_mean_of_raw", "ensemble_mean_of_unit"
        }  # fmt: skip
        for name in ("ensemble_mean_of_raw", "ensemble_mean_of_unit", "context"):
            scores[f"{name} alone"] = score_prompts(features, "embedding", context, name)
        for found in scores.values():
            assert_tied(found.decision)
            assert_tied(found.strength)
            assert_tied(score_continuous(found, ["good", "fine"], ["bad"]))
            if found.winner is not None:
                assert_tied(found.winner)
                assert (found.winner[features.ok] % 5 < 4).all(), "of equal texts the first wins"
                assert (found.winner[7] == -1).all()
        images, text = np.array(features.read("embedding")), np.array(context.read())
        images[7] = 1
        label, sign = context.label.tolist(), context.polarity
        assert_tied_rows(score_fixed(images, text[::5], label[::5], sign[::5]).decision)
        assert_tied_rows(score_ensemble(images, text, label, sign, "mean_of_unit").decision)


def assert_tied_rows(score: np.ndarray) -> None:
    assert all(score[row].tobytes() == score[equal].tobytes() for row, equal in TWINS)


def test_without_ties_the_wobbling_products_would_rank_twins_apart(files: Path, wobbly: None) -> None:
    """The test of the tests above."""
    with open_features(files / "f.h5") as features:
        alone = np.arange(features.n_images)
        found = cosines(features.blocks("embedding"), alone, np.eye(24, dtype=np.float32)[:2])
    assert len({found[row, 0] for row in (4, 10, 31)}) == 3


def test_equal_texts_have_equal_cosines(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    matmul = np.matmul
    monkeypatch.setattr(np, "matmul", lambda a, b, out: np.copyto(out, wobble(matmul(a, b).T).T))
    images, text = rng.normal(size=(6, 8)).astype(np.float32), np.eye(8, dtype=np.float32)[[0, 3, 0, 0]]
    found = cosines(row_blocks(images), np.arange(6), text)
    assert found[:, 0].tobytes() == found[:, 2].tobytes() == found[:, 3].tobytes()


def test_equal_images_are_equally_alike(files: Path, wobbly: None) -> None:
    with open_features(files / "f.h5") as features:
        first = first_equal_rows(partial(features.read, "embedding"), features.n_images)
        query = np.array(features.read("embedding")[20])
        assert_tied(cosines_with(features.blocks("embedding", unit_norm=True), first, query))


@pytest.mark.parametrize("unit_norm", [False, True])
def test_equal_images_have_one_score_by_a_head(
    files: Path, wobbly: None, rng: np.random.Generator, unit_norm: bool
) -> None:
    layers = ((rng.normal(size=(6, 24)), rng.normal(size=6)), (rng.normal(size=(1, 6)), rng.normal(size=1)))
    head = heads.Head(layers, "b", "embedding", unit_norm)
    with open_features(files / "f.h5") as features:
        assert_tied(heads.score_features(head, features))


def test_equal_images_have_one_prediction_by_a_probe(
    files: Path, wobbly: None, rng: np.random.Generator
) -> None:
    weights = rng.normal(size=24)
    probe = probes.Probe(weights, 0.5, np.ones(24), 1.0, False)
    rows = np.array([4, 5, 6, 10, 20, 31, 38])
    with open_features(files / "f.h5") as features:
        found = probes.predict_rows(features, "embedding", rows, {"a": probe, "b": probe})
        for score in (found["a"], found["b"], probe.predict(features.read("embedding", rows))):
            assert score[0] == score[3] == score[5] and score[1] == score[6]
            np.testing.assert_allclose(score, np.array(features.read("embedding", rows)) @ weights + 0.5)
