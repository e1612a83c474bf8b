"""Prompting scores against a slow, literal reading of section 4.1, and their symmetries."""

import itertools

import numpy as np
import pytest

from analysis.prompting.maxima import ContextMaxima, compute_context_maxima
from analysis.prompting.scores import (
    LabelScores,
    ensemble_vectors,
    index_labels,
    predict_is_high,
    rank_images,
    row_blocks,
    score_clip_iqa,
    score_continuous,
    score_ensemble,
    score_fixed,
    unit_directions,
    winning_prompt,
)

LABELS = ("good", "fine", "bad", "poor", "awful")
POLARITY = (1, 1, -1, -1, -1)
N_CONTENTS = 6


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b)))


@pytest.fixture
def images(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(40, 12)).astype(np.float32) * rng.uniform(0.5, 20, size=(40, 1)).astype("f4")


@pytest.fixture
def fixed_text(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(len(LABELS), 12)).astype(np.float32)


@pytest.fixture
def context_text(rng: np.random.Generator) -> np.ndarray:
    sizes = rng.uniform(0.2, 5, size=(len(LABELS) * N_CONTENTS, 1))
    return (rng.normal(size=(len(LABELS) * N_CONTENTS, 12)) * sizes).astype(np.float32)


CONTEXT_LABEL = tuple(np.repeat(LABELS, N_CONTENTS))
CONTEXT_POLARITY = tuple(np.repeat(POLARITY, N_CONTENTS))


def maxima(images: np.ndarray, text: np.ndarray, **options: int) -> ContextMaxima:
    index = index_labels(CONTEXT_LABEL, CONTEXT_POLARITY)
    return compute_context_maxima(row_blocks(images, 7), len(images), unit_directions(text), index, **options)


def literal_binary(image: np.ndarray, prompts: list[tuple[np.ndarray, int]]) -> tuple[bool, int]:
    """Equation 1: the weight of the most similar prompt, in the order given; and which it was."""
    similarities = [cosine(image, vector) for vector, _ in prompts]
    best = similarities.index(max(similarities))
    return prompts[best][1] > 0, best


def literal_continuous(image: np.ndarray, prompts: list[tuple[np.ndarray, int]]) -> float:
    """Equation 1: sum of w_i * cos(image, prompt_i)."""
    return sum(weight * cosine(image, vector) for vector, weight in prompts)


def pairs() -> list[tuple[str, str]]:
    return list(itertools.product(LABELS[:2], LABELS[2:]))


def test_fixed_prompting_is_equations_1_and_2(images: np.ndarray, fixed_text: np.ndarray) -> None:
    scores = score_fixed(images, fixed_text, LABELS, POLARITY)
    for high, low in pairs():
        two = [(fixed_text[LABELS.index(high)], 1), (fixed_text[LABELS.index(low)], -1)]
        decided = predict_is_high(scores, [high], [low])
        continuous = score_continuous(scores, [high], [low])
        for i, image in enumerate(images.astype(np.float64)):
            assert decided[i] == literal_binary(image, two)[0]
            assert continuous[i] == pytest.approx(literal_continuous(image, two), abs=2e-7)


def test_context_prompting_is_the_argmax_over_all_prompts_and_equation_2(
    images: np.ndarray, context_text: np.ndarray
) -> None:
    found = maxima(images, context_text)
    scores = found.context()
    for high, low in pairs():
        rows = [i for i, name in enumerate(CONTEXT_LABEL) if name == high]
        rows += [i for i, name in enumerate(CONTEXT_LABEL) if name == low]
        prompts = [(context_text[i].astype(np.float64), CONTEXT_POLARITY[i]) for i in rows]
        decided = predict_is_high(scores, [high], [low])
        continuous = score_continuous(scores, [high], [low])
        winner = winning_prompt(scores, high, low)
        for i, image in enumerate(images.astype(np.float64)):
            is_high, best = literal_binary(image, prompts)
            assert decided[i] == is_high
            assert winner[i] == rows[best]
            expected = literal_continuous(image, prompts) / N_CONTENTS
            assert continuous[i] == pytest.approx(expected, abs=2e-7)


def test_difference_of_maxima_is_named_apart_from_equation_2(
    images: np.ndarray, context_text: np.ndarray
) -> None:
    found = maxima(images, context_text)
    by_max = score_continuous(found.context_max(), ["good"], ["bad"])
    by_mean = score_continuous(found.context(), ["good"], ["bad"])
    similarity = unit_directions(images) @ unit_directions(context_text).T
    expected = similarity[:, :6].max(axis=1) - similarity[:, 12:18].max(axis=1)
    np.testing.assert_allclose(by_max, expected, atol=3e-7)
    assert not np.allclose(by_max, by_mean, atol=1e-3)
    assert np.array_equal(by_max >= 0, predict_is_high(found.context(), ["good"], ["bad"])), (
        "the variant's sign is the paper's binary decision"
    )


@pytest.mark.parametrize("mode", ["mean_of_raw", "mean_of_unit"])
def test_ensembles_average_one_vector_per_label(
    images: np.ndarray, context_text: np.ndarray, mode: str
) -> None:
    scores = score_ensemble(images, context_text, CONTEXT_LABEL, CONTEXT_POLARITY, mode)
    for column in range(len(LABELS)):
        own = context_text[column * N_CONTENTS : (column + 1) * N_CONTENTS].astype(np.float64)
        if mode == "mean_of_unit":
            own = np.stack([vector / np.sqrt(vector @ vector) for vector in own])
        average = sum(own) / N_CONTENTS
        expected = [cosine(image, average) for image in images.astype(np.float64)]
        np.testing.assert_allclose(scores.decision[:, column], expected, atol=2e-7)


def test_the_two_ensemble_modes_differ_where_lengths_do(context_text: np.ndarray) -> None:
    index = index_labels(CONTEXT_LABEL, CONTEXT_POLARITY)
    raw, unit = (ensemble_vectors(context_text, index, mode) for mode in ("mean_of_raw", "mean_of_unit"))
    assert np.abs(raw - unit).max() > 0.05
    same = unit_directions(context_text)
    np.testing.assert_allclose(
        ensemble_vectors(same, index, "mean_of_raw"), ensemble_vectors(same, index, "mean_of_unit"), atol=1e-7
    )
    with pytest.raises(ValueError, match="known: mean_of_raw, mean_of_unit"):
        ensemble_vectors(context_text, index, "mean")  # type: ignore[arg-type]


def test_mean_of_unit_is_the_zero_shot_classifier_of_open_clip() -> None:
    open_clip = pytest.importorskip("open_clip")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    tower = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    eye = {"image_size": 16, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16}
    model = open_clip.CLIP(embed_dim=16, vision_cfg=eye, text_cfg=tower).eval()
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    contents, labels = ["dog", "old house", "tench"], ["great", "horrible"]
    templates = [lambda label, c=c: f"a {label} picture, of a #{c}" for c in contents]
    weights = open_clip.build_zero_shot_classifier(model, tokenizer, labels, templates, 1, "cpu", False)
    texts = [f"a {label} picture, of a #{c}" for label in labels for c in contents]
    with torch.no_grad():
        raw = model.encode_text(tokenizer(texts)).numpy()
    index = index_labels(np.repeat(labels, 3).tolist(), np.repeat([1, -1], 3))
    ours = ensemble_vectors(raw, index, "mean_of_unit")
    np.testing.assert_allclose(ours, weights.T.detach().numpy(), atol=3e-7)
    assert np.abs(ensemble_vectors(raw, index, "mean_of_raw") - ours).max() > 1e-6


def exact_scores(decision: list[list[float]]) -> LabelScores:
    values = np.array(decision, dtype=np.float32)
    return LabelScores("fixed", ("good", "bad"), np.array([1, -1], np.int8), values, values)


def test_ties_go_to_the_high_label_as_an_argmax_takes_the_first() -> None:
    scores = exact_scores([[0.25, 0.25], [0.25, 0.5], [0.5, 0.25], [-0.0, 0.0]])
    assert predict_is_high(scores, ["good"], ["bad"]).tolist() == [True, False, True, True]
    assert score_continuous(scores, ["good"], ["bad"]).tolist() == [0.0, -0.25, 0.25, 0.0]


def test_of_equally_similar_contents_the_first_wins() -> None:
    text = np.eye(4, dtype=np.float32)[[1, 0, 0, 2, 3, 2]]
    index = index_labels(["good"] * 3 + ["bad"] * 3, [1, 1, 1, -1, -1, -1])
    images = np.array([[1, 0, 0, 0], [0, 0, 1, 0]], dtype=np.float32)
    found = compute_context_maxima([(0, images)], 2, text, index)
    assert found.winner.tolist() == [[1, 3], [0, 3]]


def test_failed_rows_are_nan_and_have_no_winner(images: np.ndarray, context_text: np.ndarray) -> None:
    damaged = images.copy()
    damaged[[3, 17]] = np.nan
    found, sound = maxima(damaged, context_text), maxima(images, context_text)
    assert np.flatnonzero(~found.context().ok).tolist() == [3, 17]
    assert (found.winner[[3, 17]] == -1).all()
    rest = np.setdiff1d(np.arange(len(images)), [3, 17])
    assert np.array_equal(found.winner[rest], sound.winner[rest])
    np.testing.assert_array_equal(found.maximum[rest], sound.maximum[rest])


def test_order_of_prompts_threads_and_blocks_do_not_matter(
    images: np.ndarray, context_text: np.ndarray, rng: np.random.Generator
) -> None:
    reference = maxima(images, context_text, n_threads=1)
    order = rng.permutation(len(context_text))
    index = index_labels([CONTEXT_LABEL[i] for i in order], [CONTEXT_POLARITY[i] for i in order])
    blocks = row_blocks(images, 40)
    mixed = compute_context_maxima(
        blocks, len(images), unit_directions(context_text[order]), index, n_threads=3
    )
    for column, name in enumerate(LABELS):
        there = mixed.labels.index(name)
        np.testing.assert_allclose(mixed.maximum[:, there], reference.maximum[:, column], atol=1e-7)
        assert np.array_equal(order[mixed.winner[:, there]], reference.winner[:, column])


def test_lengths_of_vectors_do_not_matter(images: np.ndarray, fixed_text: np.ndarray) -> None:
    scores = score_fixed(images, fixed_text, LABELS, POLARITY)
    scaled = score_fixed(images * 8, fixed_text * 0.25, LABELS, POLARITY)  # powers of 2: exact
    np.testing.assert_array_equal(scores.decision, scaled.decision)


def test_swapped_polarity_negates_the_score_and_complements_the_class(
    images: np.ndarray, fixed_text: np.ndarray
) -> None:
    scores = score_fixed(images, fixed_text, LABELS, POLARITY)
    there, back = (score_continuous(scores, *sides) for sides in ((["good"], ["bad"]), (["bad"], ["good"])))
    np.testing.assert_array_equal(there, -back)
    decided = predict_is_high(scores, ["good"], ["bad"]), predict_is_high(scores, ["bad"], ["good"])
    assert np.array_equal(decided[0], ~decided[1])


def test_clip_iqa_is_the_softmax_over_a_pair_and_the_mean_over_pairs(
    images: np.ndarray, fixed_text: np.ndarray
) -> None:
    scores = score_fixed(images, fixed_text, LABELS, POLARITY)
    cosines = scores.decision.astype(np.float64)

    def softmax(high: int, low: int) -> np.ndarray:
        logits = np.exp(100 * (cosines[:, [high, low]] - cosines[:, [high, low]].max(axis=1, keepdims=True)))
        return logits[:, 0] / logits.sum(axis=1)

    np.testing.assert_allclose(score_clip_iqa(scores, [("good", "bad")]), softmax(0, 2), atol=2e-6)
    both = score_clip_iqa(scores, [("good", "bad"), ("fine", "awful")])
    np.testing.assert_allclose(both, (softmax(0, 2) + softmax(1, 4)) / 2, atol=2e-6)
    with pytest.raises(ValueError, match="at least one pair"):
        score_clip_iqa(scores, [])


def test_ranking_leaves_failed_images_out_and_counts_ties_half() -> None:
    ranking = rank_images(np.array([0.1, np.nan, 0.7, 0.1, 0.4]))
    assert ranking.row.tolist() == [2, 4, 0, 3]
    assert ranking.rank.tolist() == [1, 2, 3, 3]
    assert rank_images(np.array([2.0, 5.0, 5.0, np.nan, 1.0])).rank.tolist() == [1, 1, 3, 4]
    assert rank_images(np.array([np.nan])).rank.tolist() == []
    assert ranking.percentile.tolist() == pytest.approx([100.0, 200 / 3, 50 / 3, 50 / 3])


def test_errors_name_labels_and_polarities(images: np.ndarray, fixed_text: np.ndarray) -> None:
    scores = score_fixed(images, fixed_text, LABELS, POLARITY)
    with pytest.raises(ValueError, match="unknown label 'god'; this prompt set has: good, fine"):
        predict_is_high(scores, ["god"], ["bad"])
    with pytest.raises(ValueError, match="polarity 1 and, in row 1, -1"):
        index_labels(["good", "good"], [1, -1])
    with pytest.raises(ValueError, match="one vector for each of 4 labels, got 5 columns"):
        score_fixed(images, fixed_text, ("good", "good", "bad", "poor", "awful"), (1, 1, -1, -1, -1))
    with pytest.raises(ValueError, match="no content can win"):
        winning_prompt(scores, "good", "bad")
    with pytest.raises(ValueError, match="row 2 is all zeros"):
        unit_directions(np.array([[1.0], [2.0], [0.0]]))


def test_torch_gives_the_same_maxima(images: np.ndarray, context_text: np.ndarray) -> None:
    torch_maxima = pytest.importorskip("embed.prompts.maxima")
    damaged = images.copy()
    damaged[5] = np.nan
    ours = maxima(damaged, context_text)
    index = index_labels(CONTEXT_LABEL, CONTEXT_POLARITY)
    maximum, winner, mean = torch_maxima.compute_maxima(
        row_blocks(damaged, 9),
        len(images),
        unit_directions(context_text),
        index.of_prompt,
        index.n_labels,
        "cpu",
    )
    np.testing.assert_allclose(maximum, ours.maximum, atol=3e-7)
    np.testing.assert_allclose(mean, ours.mean, atol=3e-7)
    assert np.array_equal(winner, ours.winner)


def tied_prompts(rng: np.random.Generator, n_contents: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and 2 x n_contents prompts whose cosines tie by the hundreds, exactly.

    Coordinates are -1, 0 or 1 and every vector has 4 that are not 0, so all lengths are 2 and every cosine
    is a multiple of 1/4 in any precision and any order of summation.
    """

    def draw(n: int) -> np.ndarray:
        vectors = np.zeros((n, 12))
        for row in vectors:
            row[rng.choice(12, 4, replace=False)] = rng.choice([-1.0, 1.0], 4)
        return vectors

    return draw(60), draw(2 * n_contents)


def test_every_method_is_literal_over_2000_prompts_with_ties(rng: np.random.Generator) -> None:
    n_contents = 1000
    images, text = tied_prompts(rng, n_contents)
    label = ("good",) * n_contents + ("bad",) * n_contents
    polarity = (1,) * n_contents + (-1,) * n_contents
    index = index_labels(label, polarity)
    found = compute_context_maxima(row_blocks(images, 13), len(images), unit_directions(text), index)
    methods = {
        "context": found.context(),
        "context_max": found.context_max(),
        "mean_of_raw": score_ensemble(images, text, label, polarity, "mean_of_raw"),
        "mean_of_unit": score_ensemble(images, text, label, polarity, "mean_of_unit"),
        "fixed": score_fixed(images, text[[0, n_contents]], ("good", "bad"), (1, -1)),
    }
    decided = {name: predict_is_high(scores, ["good"], ["bad"]) for name, scores in methods.items()}
    score = {name: score_continuous(scores, ["good"], ["bad"]) for name, scores in methods.items()}
    winner = winning_prompt(found.context(), "good", "bad")
    iqa = score_clip_iqa(methods["fixed"], [("good", "bad")])
    sides = list(zip(text, polarity, strict=True))
    n_tied = 0
    for i, image in enumerate(images):
        similarities = [float(image @ vector) / 4 for vector in text]
        is_high, best = literal_binary(image, sides)
        assert decided["context"][i] == decided["context_max"][i] == is_high
        assert winner[i] == best
        n_tied += max(similarities[:n_contents]) == max(similarities[n_contents:])
        total = literal_continuous(image, sides)
        assert score["context"][i] == pytest.approx(total / n_contents, abs=1e-7)
        by_max = max(similarities[:n_contents]) - max(similarities[n_contents:])
        assert score["context_max"][i] == by_max
        two = [(text[:n_contents].mean(axis=0), 1), (text[n_contents:].mean(axis=0), -1)]
        for mode in ("mean_of_raw", "mean_of_unit"):  # all vectors are of one length: the modes agree
            assert score[mode][i] == pytest.approx(literal_continuous(image, two), abs=2e-7)
            assert decided[mode][i] == literal_binary(image, two)[0]
        pair = [(text[0], 1), (text[n_contents], -1)]
        assert decided["fixed"][i] == literal_binary(image, pair)[0]
        assert score["fixed"][i] == literal_continuous(image, pair)
        a, b = (np.exp(100 * float(image @ vector) / 4) for vector, _ in pair)
        assert iqa[i] == pytest.approx(a / (a + b), abs=1e-12)
    assert n_tied > 20, "the test is about ties between the two labels"
    assert np.count_nonzero(score["fixed"] == 0) > 3


def test_ties_across_tiles_go_to_the_first_prompt(rng: np.random.Generator) -> None:
    """More contents than a tile holds: the winner must not depend on where tiles end."""
    images, text = tied_prompts(rng, 1500)
    index = index_labels(["good"] * len(text), [1] * len(text))
    found = compute_context_maxima(row_blocks(images), len(images), unit_directions(text), index)
    similarity = images @ text.T / 4
    assert found.winner[:, 0].tolist() == similarity.argmax(axis=1).tolist()
    np.testing.assert_array_equal(found.maximum[:, 0], similarity.max(axis=1))
    repeated = np.concatenate([text[::-1], text])  # each prompt again, far away
    index = index_labels(["good"] * len(repeated), [1] * len(repeated))
    again = compute_context_maxima(row_blocks(images), len(images), unit_directions(repeated), index)
    assert (again.winner < len(text)).all()


def test_order_of_images_moves_rows_and_nothing_else(
    images: np.ndarray, context_text: np.ndarray, fixed_text: np.ndarray, rng: np.random.Generator
) -> None:
    order = rng.permutation(len(images))
    there, here = maxima(images, context_text), maxima(images[order], context_text)
    for name in ("maximum", "mean"):
        np.testing.assert_allclose(getattr(here, name), getattr(there, name)[order], atol=1e-7)
    np.testing.assert_array_equal(here.winner, there.winner[order])
    fixed = score_fixed(images, fixed_text, LABELS, POLARITY).decision
    moved = score_fixed(images[order], fixed_text, LABELS, POLARITY).decision
    np.testing.assert_allclose(moved, fixed[order], atol=1e-7)


def test_lengths_matter_to_the_mean_of_raw_vectors_alone(
    images: np.ndarray, context_text: np.ndarray
) -> None:
    longer = context_text * np.repeat([1, 4, 0.5, 8, 2], N_CONTENTS)[:, None]  # one length per label
    uneven = context_text * np.tile([1, 4, 0.5, 8, 2, 16], len(LABELS))[:, None]  # one per content
    plain, scaled = maxima(images, context_text), maxima(images * 4, uneven)
    np.testing.assert_array_equal(plain.winner, scaled.winner)
    np.testing.assert_allclose(plain.maximum, scaled.maximum, atol=1e-7)
    for mode in ("mean_of_raw", "mean_of_unit"):
        scores = [
            score_ensemble(images, text, CONTEXT_LABEL, CONTEXT_POLARITY, mode).decision
            for text in (context_text, longer, uneven)
        ]
        np.testing.assert_allclose(scores[0], scores[1], atol=2e-7)
        moved = float(np.abs(scores[0] - scores[2]).max())
        assert (moved > 0.05) == (mode == "mean_of_raw")
