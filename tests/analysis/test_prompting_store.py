"""Prompting from stored files: methods, cache, failed rows, the experiment, and the notebook."""

from pathlib import Path

import numpy as np
import pytest

from analysis.prompting.evaluation import (
    PromptingEvaluation,
    RatedImages,
    evaluate_prompting,
    join_ratings,
    score_methods,
)
from analysis.prompting.groups import evaluate_groups, list_groupings, read_group_names
from analysis.prompting.maxima import load_context_maxima
from analysis.prompting.tables import print_chosen_pairs, print_pair_spread, print_results
from analysis.report.study import NothingToShowError
from analysis.results.methods import read_results
from store import Targets, open_features, open_prompts, open_targets, write_targets
from store.features import FEATURES_SCHEMA
from store.prompts import PROMPTS_SCHEMA
from store.sealed import write_sealed

HIGH = ("great", "outstanding", "big", "gravid")
LOW = ("ugly", "horrible", "heavy")
PRAISE = {"great": 0.4, "outstanding": 1.0, "ugly": -0.3, "horrible": -1.0}
HIGH_AND_LOW = HIGH + LOW
CONTENTS = ("dog", "house", "tree", "boat", "crane")
N_IMAGES, DIM = 900, 24
FAILED = (4, 800)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set folder whose vectors were drawn around a quality axis and one axis per content."""
    folder = tmp_path_factory.mktemp("data") / "planted"
    rng = np.random.default_rng(5)
    axes = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0]
    quality, content = rng.normal(size=N_IMAGES), rng.integers(0, len(CONTENTS), N_IMAGES)
    images = 3 * axes[10] + 0.9 * quality[:, None] * axes[0] + 2 * axes[1 + content]
    images = (images + 0.25 * rng.normal(size=images.shape)).astype(np.float32)
    images[list(FAILED)] = np.nan
    votes = np.stack([rng.multinomial(60, shares(5.4 + 0.7 * q + 0.2 * rng.normal())) for q in quality])
    image_id = np.array([f"photo{i:04d}" for i in range(N_IMAGES)])
    status = np.full(N_IMAGES, 1, np.uint8)
    status[list(FAILED)] = 2
    write_sealed(
        folder / "features" / "toy_clip.h5",
        FEATURES_SCHEMA,
        {"backbone": "toy_clip", "precision": "float32"},
        {},
        {
            "image_id": image_id,
            "status": status,
            "failures/row": np.array(FAILED, np.int64),
            "failures/reason": np.array(["truncated file"] * len(FAILED)),
            "outputs/embedding": images,
        },
    )
    stray = {name: 0.0 if abs(PRAISE.get(name, 0)) == 1 else 0.6 for name in HIGH_AND_LOW}
    prompts = {
        "paper_fixed": [(name, "") for name in HIGH + LOW],
        "paper_context": [(name, c) for name in HIGH + LOW for c in CONTENTS],
    }
    for set_name, rows in prompts.items():
        vectors = np.stack(
            [
                3 * axes[11]
                + PRAISE.get(name, 0.0) * axes[0]
                + (1.5 * axes[1 + CONTENTS.index(c)] if c else 0)
                + stray[name] * axes[1 + HIGH_AND_LOW.index(name) % len(CONTENTS)]
                + 0.02 * rng.normal(size=DIM)
                for name, c in rows
            ]
        ).astype(np.float32)
        write_sealed(
            folder / "prompts" / set_name / "toy_clip.h5",
            PROMPTS_SCHEMA,
            {"prompt_set": set_name, "backbone": "toy_clip"},
            {},
            {
                "text": np.array([f"a {name} picture {c}" for name, c in rows]),
                "label": np.array([name for name, _ in rows]),
                "content": np.array([c for _, c in rows]),
                "template": np.array(["t"] * len(rows)),
                "polarity": np.array([1 if name in HIGH else -1 for name, _ in rows], np.int8),
                "outputs/embedding": vectors,
            },
        )
    targets = Targets(
        image_id=image_id[::-1].copy(),  # another order than the features: joined by id
        path=np.array([f"{name}.png" for name in image_id[::-1]]),
        votes=votes[::-1].astype(np.int64).copy(),
        scores=None,
        levels=np.arange(1, 11),
        threshold=5.0,
        split=np.where(np.arange(N_IMAGES) % 3 == 0, "test", "train"),
        split_name="given",
        dataset="planted",
        columns={"category": np.array(CONTENTS)[content][::-1].copy()},
    )
    write_targets(folder / "targets.h5", targets, {}, {})
    return folder


def shares(mean: float) -> np.ndarray:
    weights = np.exp(-0.5 * ((np.arange(1, 11) - mean) / 1.4) ** 2)
    return np.asarray(weights / weights.sum())


def files(world: Path):  # type: ignore[no-untyped-def]
    sets = (
        open_prompts(world / "prompts" / name / "toy_clip.h5") for name in ("paper_fixed", "paper_context")
    )
    return open_features(world / "features" / "toy_clip.h5"), *sets


@pytest.fixture(scope="module")
def evaluated(world: Path) -> tuple[RatedImages, PromptingEvaluation]:
    features, fixed, context = files(world)
    scores = score_methods(features, "embedding", fixed, context)
    rated = join_ratings(features, open_targets(world / "targets.h5"))
    return rated, evaluate_prompting(scores, rated, "toy_clip", "embedding", seed=3, n_boot=200)


def test_every_method_finds_the_planted_pair(evaluated: tuple[RatedImages, PromptingEvaluation]) -> None:
    _, evaluation = evaluated
    assert [r.key for r in evaluation.results] == [
        f"prompting.{m}"
        for m in (
            "fixed", "context", "context_max", "ensemble_mean_of_raw", "ensemble_mean_of_unit",
            "clip_iqa", "greedy", "bottleneck",
        )
    ]  # fmt: skip
    for method in ("fixed", "context", "ensemble_mean_of_raw", "ensemble_mean_of_unit"):
        result = evaluation.result(method)
        assert result.detail["continuous_pair"] == ["outstanding", "horrible"]
        assert result.srcc is not None
        assert 0.75 < result.srcc.low < result.srcc.value < result.srcc.high < 1
    assert evaluation.result("bottleneck").srcc.value > 0.8  # type: ignore[union-attr]


def test_failed_rows_take_no_part_and_are_counted(evaluated: tuple[RatedImages, PromptingEvaluation]) -> None:
    rated, evaluation = evaluated
    result = evaluation.results[0]
    assert rated.n_failed_train + rated.n_failed_test == len(FAILED)
    assert result.n_train + result.n_test == N_IMAGES - len(FAILED)
    assert result.detail["n_failed_train"] == rated.n_failed_train
    assert not (rated.train | rated.test)[list(FAILED)].any()


def test_ratings_are_joined_by_id_not_by_position(world: Path) -> None:
    features, *_ = files(world)
    targets = open_targets(world / "targets.h5")
    rated = join_ratings(features, targets)
    row = int(np.flatnonzero(features.image_id == "photo0123")[0])
    there = int(np.flatnonzero(targets.image_id == "photo0123")[0])
    assert row != there
    votes = targets.votes[there]  # type: ignore[index]
    assert rated.mos[row] == votes @ np.arange(1, 11) / votes.sum()
    assert rated.path[row] == "photo0123.png"
    assert rated.columns["category"][row] == targets.columns["category"][there]


def test_measures_are_those_of_the_pair_chosen_on_train(
    world: Path, evaluated: tuple[RatedImages, PromptingEvaluation]
) -> None:
    rated, evaluation = evaluated
    result, table = evaluation.result("fixed"), evaluation.test_tables["fixed"]
    high, low = result.detail["binary_pair"]
    assert result.accuracy.value == table.accuracy[HIGH.index(high), LOW.index(low)]  # type: ignore[union-attr]
    high, low = result.detail["continuous_pair"]
    assert result.srcc.value == pytest.approx(table.srcc[HIGH.index(high), LOW.index(low)])  # type: ignore[union-attr]
    assert result.plcc.value == pytest.approx(table.plcc[HIGH.index(high), LOW.index(low)])  # type: ignore[union-attr]
    assert evaluation.train_tables["fixed"].n_images == np.count_nonzero(rated.train)


def test_maxima_come_from_the_cache_only_for_the_same_contents(
    world: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    features, fixed, context = files(world)
    cache = tmp_path / "derived" / "maxima.h5"
    first = load_context_maxima(features, "embedding", context, cache)
    before = cache.stat().st_ino  # a file written anew is another one, whatever the clock's steps
    again = load_context_maxima(features, "embedding", context, cache)
    assert cache.stat().st_ino == before
    for name in ("maximum", "winner", "mean"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    other = load_context_maxima(features, "embedding", fixed, cache)  # other prompts: made anew
    assert cache.stat().st_ino != before
    assert not np.array_equal(other.maximum, first.maximum)
    data = bytearray(cache.read_bytes())
    at = data.find(np.ascontiguousarray(other.maximum).tobytes()[:4000])
    assert at > 0
    data[at + 40] ^= 1
    cache.write_bytes(bytes(data))
    mended = load_context_maxima(features, "embedding", fixed, cache)  # damaged: made anew, and said
    np.testing.assert_array_equal(mended.maximum, other.maximum)
    assert "computed again" in caplog.text


def test_prompts_of_another_backbone_are_refused(world: Path, tmp_path: Path) -> None:
    features, fixed, _ = files(world)
    write_sealed(
        tmp_path / "other.h5",
        PROMPTS_SCHEMA,
        {"prompt_set": "paper_fixed", "backbone": "other_clip"},
        {},
        {name: fixed.file.strings(name) for name in ("text", "label", "content", "template")}
        | {"polarity": fixed.polarity, "outputs/embedding": fixed.read()},
    )
    with pytest.raises(ValueError, match=r"encoded by other_clip, .* by toy_clip"):
        score_methods(features, "embedding", open_prompts(tmp_path / "other.h5"), None)


def test_groups_are_measured_apart(evaluated: tuple[RatedImages, PromptingEvaluation]) -> None:
    rated, evaluation = evaluated
    y, high = rated.mos[rated.test], rated.is_high[rated.test]
    group = rated.columns["category"][rated.test]
    rng = np.random.default_rng(0)
    found = evaluate_groups(group, y, high, evaluation.predictions["fixed"], 50, rng)
    assert sorted(g.name for g in found) == sorted(CONTENTS)
    assert sum(g.n_images for g in found) == len(y)
    dog = next(g for g in found if g.name == "dog")
    right = evaluation.predictions["fixed"].high[group == "dog"] == high[group == "dog"]  # type: ignore[index]
    assert dog.metrics["accuracy"].value == right.mean()
    assert evaluate_groups(group, y, high, evaluation.predictions["fixed"], 50, rng, min_images=10_000) == []


def test_an_image_with_two_tags_counts_in_both_groups(
    evaluated: tuple[RatedImages, PromptingEvaluation], tmp_path: Path
) -> None:
    rated, evaluation = evaluated
    y, high = rated.mos[rated.test], rated.is_high[rated.test]
    prediction, n = evaluation.predictions["fixed"], len(y)
    (tmp_path / "tags.txt").write_text("1 Abstract\n14 Still Life\n\nno tag here\n")
    names = read_group_names(tmp_path)
    assert names == {"tag": {"1": "Abstract", "14": "Still Life"}}
    columns = {
        "tag_1": np.where(np.arange(n) % 2 == 0, 14, 1),
        "challenge": np.arange(n) // 100,
        "tag_2": np.where(np.arange(n) % 4 == 1, 14, 0),  # half of Abstract is Still Life too
    }
    groupings = list_groupings(columns, names)
    assert list(groupings) == ["tag", "challenge"]
    found = evaluate_groups(groupings["tag"], y, high, prediction, 20, np.random.default_rng(0))
    sizes = {g.name: g.n_images for g in found}
    of_14 = (columns["tag_1"] == 14) | (columns["tag_2"] == 14)
    of_1 = columns["tag_1"] == 1
    assert sizes == {"Still Life": np.count_nonzero(of_14), "Abstract": np.count_nonzero(of_1)}
    assert sum(sizes.values()) > n
    still = next(g for g in found if g.name == "Still Life")
    assert still.metrics["accuracy"].value == np.mean(prediction.high[of_14] == high[of_14])  # type: ignore[index]
    assert still.mean_mos == pytest.approx(y[of_14].mean())
    by_challenge = evaluate_groups(groupings["challenge"], y, high, prediction, 20, np.random.default_rng(0))
    assert sorted(g.name for g in by_challenge) == ["0", "1", "2"]
    assert read_group_names(tmp_path / "absent") == {}


def test_tables_name_pairs_and_what_is_not_known(evaluated: tuple[RatedImages, PromptingEvaluation]) -> None:
    _, evaluation = evaluated
    table = print_results(evaluation.results, "t", "")
    assert [line[-1] for line in table.texts()].count("0.7253") == 1
    assert sum(line[-1] == "" for line in table.texts()) == len(evaluation.results) - 1
    assert "outstanding / horrible" in print_chosen_pairs(evaluation.results, "t", "").to_markdown()
    spread = print_pair_spread(evaluation.train_tables, evaluation.test_tables, "srcc")
    assert len(spread) == len(evaluation.test_tables)


@pytest.mark.notebook
@pytest.mark.parametrize("kind", ["full", "no prompts", "no ratings"])
def test_notebook_runs_on_any_data_set(
    world: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    from notebooks.run import FOLDER, execute

    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parent))
    folder = tmp_path / "planted"
    shutil.copytree(world, folder)
    if kind == "no prompts":
        shutil.rmtree(folder / "prompts")
    if kind == "no ratings":
        rated = open_targets(world / "targets.h5")
        bare = Targets(
            rated.image_id, rated.path, None, None, None, 5.0, np.full(N_IMAGES, ""), "none", "planted"
        )
        (folder / "targets.h5").unlink()
        write_targets(folder / "targets.h5", bare, {}, {})
    report = tmp_path / "report"
    (report / "results").mkdir(parents=True)
    parameters = {
        "dataset": "planted",
        "dataset_dir": str(folder),
        "images_dir": str(folder / "images"),
        "report_dir": str(report),
        "backbones": [],
        "n_boot": 50,
    }
    results = report / "results" / "10_prompting.json"
    if kind != "full":
        why = "no backbone here has encoded prompts" if kind == "no prompts" else "that people rated"
        with pytest.raises(NothingToShowError, match=why):
            execute(FOLDER / "10_prompting.ipynb", tmp_path / "out.ipynb", parameters)
        assert not results.exists()
        return
    executed = execute(FOLDER / "10_prompting.ipynb", tmp_path / "out.ipynb", parameters)
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    shown = [output.metadata["iaa"] for output in outputs]
    assert len(read_results([results])) == 8
    kinds = [about["kind"] for about in shown]
    assert kinds.count("figure") >= 8 and kinds.count("table") >= 5 and kinds.count("photographs") == 1
    assert all(about["alt"] for about in shown if about["kind"] == "figure")
    assert len({(about["kind"], about["name"]) for about in shown}) == len(shown)
