"""Captions as contents: each photograph with its own prompts alone, on a planted world."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from analysis.prompting.captions import METHODS, own_prompts, score_captions
from analysis.prompting.contents import IMAGENET, Contents, evaluate_contents
from analysis.prompting.evaluation import join_ratings, score_methods
from store import (
    IdentityError,
    SchemaError,
    Targets,
    open_captions,
    open_features,
    open_prompts,
    open_targets,
    write_captions,
    write_targets,
)
from store.prompts import PROMPTS_SCHEMA
from store.sealed import write_sealed
from tests.worlds import FAILED, write_features

N, DIM = 660, 12
LABELS = {"good": 1, "fine": 1, "bad": -1}
CONTENTS = [f"thing {i}" for i in range(8)]
MISSING = (5, 17)


def write_prompts(path, text_of, contents, identity):
    """Every content with every label, label by label, vectors by `text_of(label, content)`."""
    rows = [(label, content) for label in LABELS for content in contents]
    write_sealed(
        path,
        PROMPTS_SCHEMA,
        {"backbone": "planted", **identity},
        {},
        {
            "text": np.array([f"a {label} picture, of {content}" for label, content in rows]),
            "label": np.array([label for label, _ in rows]),
            "content": np.array([content for _, content in rows]),
            "template": np.array(["a {label} picture, of {content}"] * len(rows)),
            "polarity": np.array([LABELS[label] for label, _ in rows], np.int8),
            "outputs/embedding": np.array([text_of(*row) for row in rows], np.float32),
        },
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A photograph is its content's axis and a little quality along that content's *own* direction of
    praise, so
    that only a prompt of the right content can read it; captions name the content, sometimes twice over."""
    folder = tmp_path_factory.mktemp("captions")
    rng = np.random.default_rng(8)
    thing = rng.integers(0, len(CONTENTS), N)
    quality = rng.standard_normal(N)
    axes = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0]
    praise = rng.standard_normal((len(CONTENTS), 3)) @ axes[8:11]
    praise /= np.linalg.norm(praise, axis=1, keepdims=True)
    images = axes[thing] + 0.2 * quality[:, None] * praise[thing] + 0.02 * rng.standard_normal((N, DIM))
    images[40], thing[40] = images[39], thing[39]
    image_id = np.array([f"p{i:03}" for i in range(N)])
    write_features(folder / "features.h5", "planted", image_id, {"embedding": 3 * images})
    write_targets(
        folder / "targets.h5",
        Targets(
            image_id, image_id, None, quality + 5, None, 5.0,
            np.where(np.arange(N) % 3 == 0, "test", "train"), "random", "captioned",
        ),
        {},
        {},
    )  # fmt: skip
    said = [[CONTENTS[t]] if i % 2 else [CONTENTS[t], f"{CONTENTS[t]} again"] for i, t in enumerate(thing)]
    said[39] = said[40] = [CONTENTS[thing[39]]]
    for row in MISSING:
        said[row] = []
    why = ["empty" if row in MISSING else "" for row in range(N)]
    write_captions(folder / "c.h5", image_id, said, why, {"captions": "own", "images": "x"}, {})
    size = {"good": 1.0, "fine": 0.4, "bad": -1.0}

    def text_of(label, content):
        if not content:
            return size[label] * praise.mean(axis=0) + axes[11]
        at = CONTENTS.index(content.removesuffix(" again"))
        tilt = 0.1 if content.endswith("again") else 0.0
        return (1 + at) * (axes[at] + 0.5 * size[label] * praise[at] + tilt * axes[11])

    captions = open_captions(folder / "c.h5")
    every = list(dict.fromkeys(captions.text))
    own = {"prompt_set": "captions-own", "captions": captions.digest}
    write_prompts(folder / "own.h5", text_of, [*every, ""], own)
    write_prompts(folder / "all.h5", text_of, CONTENTS, {"prompt_set": "all"})
    write_prompts(folder / "fixed.h5", text_of, [""], {"prompt_set": "fixed"})
    return folder


def opened(world):
    return open_features(world / "features.h5"), open_prompts(world / "own.h5"), open_captions(world / "c.h5")


def test_scores_are_those_written_out_image_by_image(world):
    features, prompts, captions = opened(world)
    own = own_prompts(prompts, captions, features.image_id)
    scores = score_captions(features, "embedding", prompts, own)
    assert tuple(scores) == METHODS
    images, text = features.read("embedding").astype(float), prompts.read().astype(float)
    for row in (0, 1, 2, 40, 333, 658):
        for label, name in enumerate(LABELS):
            at = [
                i
                for i in range(prompts.n_prompts)
                if prompts.label[i] == name and prompts.content[i] in captions.of(row)
            ]
            unit = text[at] / np.linalg.norm(text[at], axis=1, keepdims=True)
            image = images[row] / np.linalg.norm(images[row])
            cosine = unit @ image
            raw, mean = text[at].mean(axis=0), unit.mean(axis=0)
            expected = {
                "context": (cosine.max(), cosine.mean()),
                "context_max": (cosine.max(), cosine.max()),
                "ensemble_mean_of_raw": (raw @ image / np.linalg.norm(raw),) * 2,
                "ensemble_mean_of_unit": (mean @ image / np.linalg.norm(mean),) * 2,
            }
            for method, both in expected.items():
                got = scores[method].decision[row, label], scores[method].strength[row, label]
                np.testing.assert_allclose(got, both, atol=1e-6)
            assert scores["context"].winner[row, label] == at[int(np.argmax(cosine))]
    for method in METHODS:
        assert not scores[method].ok[[*FAILED, *MISSING]].any()
        assert np.count_nonzero(~scores[method].ok) == 4
        assert np.array_equal(scores[method].decision[39], scores[method].decision[40]), "equal photographs"


def test_scores_do_not_depend_on_the_order_of_the_photographs(world, monkeypatch):
    features, prompts, captions = opened(world)
    own = own_prompts(prompts, captions, features.image_id)
    before = score_captions(features, "embedding", prompts, own)
    from analysis.prompting import captions as module

    monkeypatch.setattr(module, "_BLOCK_ENTRIES", 7)
    after = score_captions(features, "embedding", prompts, own)
    for method in METHODS:
        assert np.array_equal(before[method].strength, after[method].strength, equal_nan=True)


def test_the_own_content_reads_what_all_contents_together_do_not(world):
    """Planted: praise points elsewhere for every content, so the mean over all of them says little."""
    features, prompts, captions = opened(world)
    rated = join_ratings(features, open_targets(world / "targets.h5"))
    own = own_prompts(prompts, captions, features.image_id)
    base = score_methods(
        features, "embedding", open_prompts(world / "fixed.h5"), open_prompts(world / "all.h5")
    )
    contents = Contents("own", score_captions(features, "embedding", prompts, own), prompts.digest, 8)
    found = evaluate_contents([contents], base, rated, "planted", "embedding", n_boot=50)
    by_name = {result.method: result for result in found.results}
    mine = by_name["Prompting, context-aware (own)"]
    theirs = by_name[f"Prompting, context-aware ({IMAGENET})"]
    assert mine.srcc.value > 0.9 and theirs.srcc.value < 0.6
    assert mine.n_test == theirs.n_test == by_name["Prompting, fixed"].n_test
    assert found.n_left_out == {"own": 2} and mine.n_train + mine.n_test == N - 4
    y = rated.mos[rated.test & contents.scores["context"].ok]
    chosen = mine.detail["continuous_pair"]
    scores = contents.scores["context"]
    score = scores.strength[:, scores.column(chosen[0])] - scores.strength[:, scores.column(chosen[1])]
    assert mine.srcc.value == pytest.approx(spearmanr(y, score[rated.test & scores.ok]).statistic)
    difference = next(
        d for d in found.differences["srcc"] if (d.first, d.second) == (mine.method, theirs.method)
    )
    assert difference.value == pytest.approx(mine.srcc.value - theirs.srcc.value)
    assert difference.low > 0 and difference.p_holm <= 0.01
    assert len(found.differences["srcc"]) == 2 * len(METHODS), "each with its own method and with fixed"


def test_a_photograph_without_caption_falls_back_on_the_fixed_prompt_only_if_asked(world):
    features, prompts, captions = opened(world)
    own = own_prompts(prompts, captions, features.image_id, fall_back=True)
    assert np.flatnonzero(~own.has_caption).tolist() == list(MISSING)
    scores = score_captions(features, "embedding", prompts, own)["context"]
    fixed = score_methods(features, "embedding", open_prompts(world / "fixed.h5"), None)["fixed"]
    assert scores.ok[list(MISSING)].all()
    np.testing.assert_allclose(scores.decision[list(MISSING)], fixed.decision[list(MISSING)], atol=1e-6)


def test_prompts_of_other_captions_are_refused(world, tmp_path):
    features, prompts, captions = opened(world)
    changed = [["thing 1"]] * N
    write_captions(
        tmp_path / "d.h5", captions.image_id, changed, [""] * N, {"captions": "own", "images": "x"}, {}
    )
    with pytest.raises(IdentityError, match="encoded from other captions"):
        own_prompts(prompts, open_captions(tmp_path / "d.h5"), features.image_id)
    foreign = {"prompt_set": "captions-own", "captions": captions.digest}
    write_prompts(tmp_path / "few.h5", lambda label, content: np.ones(DIM), ["thing 1", ""], foreign)
    with pytest.raises(SchemaError, match="once per label"):
        own_prompts(open_prompts(tmp_path / "few.h5"), captions, features.image_id)


def test_labels_of_a_set_need_not_be_all_of_the_paper(world):
    """The methods beside are restricted to the set's labels: equal columns give equal metrics."""
    features = opened(world)[0]
    rated = join_ratings(features, open_targets(world / "targets.h5"))
    base = score_methods(
        features, "embedding", open_prompts(world / "fixed.h5"), open_prompts(world / "all.h5")
    )
    two = replace(
        base["context"],
        labels=("good", "bad"),
        polarity=np.array([1, -1], np.int8),
        decision=base["context"].decision[:, [0, 2]],
        strength=base["context"].strength[:, [0, 2]],
        winner=None,
    )
    found = evaluate_contents(
        [Contents("two", {"context": two}, "", 8)], base, rated, "planted", "embedding", n_boot=20
    )
    same = next(r for r in found.results if r.method == f"Prompting, context-aware ({IMAGENET})")
    assert found.results[0].srcc == same.srcc and found.results[0].accuracy == same.accuracy
