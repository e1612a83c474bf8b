"""The verbs as Python calls them: values that know where they come from, no printing, nothing lost."""

import csv
import os
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

import iaa
from embed.images.errors import DatasetError
from iaa.library.heads import list_heads
from iaa.library.progress import show_progress
from store import MissingFileError, open_features

N = 24
HOSTILE = "<img src=x onerror=alert(1)>.png"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Photographs that get brighter, ratings that say so, one hostile name, one broken file, one copy."""
    folder = tmp_path_factory.mktemp("verbs")
    images = folder / "photos"
    images.mkdir()
    rng = np.random.default_rng(2)
    rows = [["file", "score", "split"]]
    for i in range(N):
        name = HOSTILE if i == 5 else f"{i:02d}.png"
        pixels = np.clip(rng.normal(10 * i, 25, (80, 90, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(images / name)
        rows.append([name, 1 + i / 3, "test" if i % 4 == 0 else "train"])
    (images / "broken.png").write_bytes(b"oops")
    (images / "copy.png").write_bytes((images / "03.png").read_bytes())
    rows += [["broken.png", 3, "train"], ["copy.png", 2, "train"]]
    with (folder / "ratings.csv").open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows(rows)
    return folder


def add(photos, data, name="mine"):
    return iaa.add_dataset(
        name, kind="table", images=photos / "photos", ratings=photos / "ratings.csv", data=data
    )


@pytest.fixture(scope="module")
def mine(photos, tmp_path_factory):
    """A data set embedded with demo_clip."""
    made = add(photos, tmp_path_factory.mktemp("data"))
    made.embed("demo_clip")
    return made


def test_importing_costs_nothing():
    code = (
        "import sys, iaa\n"
        "assert 'open_dataset' in dir(iaa) and len(iaa.__all__) <= 12\n"
        "loaded = {'torch', 'numpy', 'pandas', 'h5py', 'typer', 'PIL'}.intersection(sys.modules)\n"
        "assert not loaded, loaded\n"
        "iaa.open_dataset\n"
        "assert not {'torch', 'pandas', 'typer'}.intersection(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.getcwd()})


def test_every_name_is_there_and_another_lists_them():
    assert all(getattr(iaa, name) is not None for name in iaa.__all__)
    with pytest.raises(AttributeError, match="it has Dataset, Painting"):
        iaa.open_datset  # noqa: B018


def test_what_is_embedded_has_its_ratings(mine):
    targets = mine.targets
    assert targets.is_rated and targets.n_images == N + 2
    with mine.features() as features:
        features.check_images(targets.images)
        assert len(features.failures) == 1
        X = features.read("embedding", features.ok)
    assert X.shape == (N + 1, 64) and np.isfinite(X).all()
    assert all(verdict.is_intact for verdict in mine.verify())


def test_nothing_is_printed(photos, tmp_path, capfd):
    quiet = add(photos, tmp_path)
    quiet.embed("demo_vit")
    quiet.search(like="03.png")
    quiet.fit_probe(n_boot=20)
    quiet.groups()
    assert capfd.readouterr() == ("", "")


def test_a_cell_that_is_interrupted_goes_on_with_its_own_batches(photos, tmp_path):
    whole = add(photos, tmp_path / "whole")
    whole.embed("demo_vit", batch_size=5)
    stopped = add(photos, tmp_path / "stopped")

    @contextmanager
    def interrupted(description, total, unit):
        with show_progress(description, total, unit) as bar:
            update = bar.update

            def stop_at_once(n=1):
                update(n)
                raise KeyboardInterrupt

            bar.update = stop_at_once
            yield bar

    with pytest.raises(KeyboardInterrupt):
        stopped.embed("demo_vit", batch_size=5, progress=interrupted)
    done = stopped.embed("demo_vit")
    assert done.how["batch_size"] == 5
    assert done.outcomes[0].digest == whole.embed("demo_vit").outcomes[0].digest
    assert whole.embed("demo_vit").n_new == 0


def test_a_ranking_is_the_same_in_every_form(mine, tmp_path):
    found = mine.search(like="03.png")
    frame = found.to_frame()
    assert list(frame.columns) == ["rank", "image_id", "cosine", "percentile", "file"]
    assert len(frame) == len(found) == N and found.n_failed == 1
    assert frame["file"][0] == "copy.png" and frame["cosine"][0] == pytest.approx(1, abs=1e-6)
    read = list(csv.DictReader(found.to_csv(tmp_path / "r.csv").open(encoding="utf-8")))
    assert [row["file"] for row in read] == frame["file"].tolist()
    assert [float(row["cosine"]) for row in read] == frame["cosine"].tolist()
    page = found.to_html(tmp_path / "r.html", top=N).read_text(encoding="utf-8")
    shown = found._repr_html_()
    assert page.count("data:image/jpeg") == N + 1 and shown.count("data:image/jpeg") == 12
    for text in (page, shown, found._repr_html_()):
        assert "<img src=x" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;.png" in page
    assert [row["rank"] for row in found.worst(3)] == [N - 2, N - 1, N]
    assert found.best(2) == found.rows(0, 2)


def test_a_picture_from_elsewhere_is_embedded_as_the_others_were(mine, photos, tmp_path):
    elsewhere = tmp_path / "elsewhere.png"
    Image.open(photos / "photos" / "11.png").save(elsewhere, compress_level=1)
    assert elsewhere.read_bytes() != (photos / "photos" / "11.png").read_bytes()
    found = mine.search(like=elsewhere)
    assert found.columns["file"][0] == "11.png" and len(found) == N + 1
    assert found.columns["cosine"][0] == pytest.approx(1, abs=1e-5)
    same = tmp_path / "same.png"
    same.write_bytes((photos / "photos" / "11.png").read_bytes())
    assert "11.png" not in mine.search(like=same).columns["file"], "its own row is the picture asked about"
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"oops")
    with pytest.raises(iaa.UsageError, match=r"bad\.png cannot be compared"):
        mine.search(like=bad)


def test_words_rank_as_the_encoded_prompts_of_the_same_words(mine):
    mine.embed_prompts("demo_clip", "paper_fixed")
    by_words = mine.rank(high="outstanding", low=["horrible", "ugly"])
    by_prompts = mine.rank(prompts="paper_fixed", high=["outstanding"], low=["horrible", "ugly"])
    score = dict(zip(by_words.columns["image_id"], by_words.columns["score"], strict=True))
    for name, value in zip(by_prompts.columns["image_id"], by_prompts.columns["score"], strict=True):
        assert score[name] == pytest.approx(value, abs=1e-5)
    assert by_words.asked.facts["prompts"] is None and by_prompts.asked.facts["prompts"] == "paper_fixed"


def test_a_probe_is_kept_and_ranks(mine):
    fit = mine.fit_probe(output="embedding", n_boot=50, fit_on="train")
    frame = fit.to_frame().set_index("method")
    assert len(frame) == 3 and frame["srcc_low"].iloc[-1] <= frame["srcc"].iloc[-1] <= 1
    assert fit.importance().shape == (64,)
    fit.save("taste")
    with pytest.raises(iaa.UsageError, match="exists: choose another name"):
        fit.save("taste")
    ranked = mine.rank(head="taste", n_boot=50)
    assert ranked.result is not None and ranked.result.n_test == N // 4
    brightness = [float(name[:2]) for name in ranked.columns["file"] if name[:2].isdigit()]
    assert np.corrcoef(brightness, range(len(brightness)))[0, 1] < -0.8, "the bright ones first"


def test_few_ratings_are_all_fitted_on_and_measured_by_folds(mine):
    fit = mine.fit_probe(output="embedding", n_boot=50)
    (result,) = [each for each in fit.results if each.key == "probe.ridge"]
    assert result.n_train == result.n_test == N + 1 and 2 <= result.detail["n_folds"] <= 10
    assert result.detail["is_grouped"], "a photograph and its copy"
    fit.save("all")
    ranked = mine.rank(head="all", n_boot=50)
    assert ranked.result is None and "all 25 rated photographs; then it reached SRCC" in ranked.why_not
    found = {row["head"]: row["reaches"] for row in list_heads(mine.layout.root).rows()}
    assert found["all"].endswith("by folds") and found["oasis-beauty"].endswith("by folds")
    with pytest.raises(iaa.UsageError, match="on all or on train, not on 'test'"):
        mine.fit_probe(output="embedding", fit_on="test")


def test_photographs_that_are_not_here_do_not_keep_a_probe_from_being_fitted(mine, monkeypatch, caplog):
    def gone(*_):
        raise DatasetError("the disk is not there")

    monkeypatch.setattr("iaa.library.groups.open_photographs", gone)
    (ridge,) = [r for r in mine.fit_probe(output="embedding", n_boot=20).results if r.key == "probe.ridge"]
    assert ridge.detail["n_folds"] == 10 and ridge.detail["is_grouped"], "the copy is known by its bytes"
    assert "only exact copies are held back together" in caplog.text


def test_chosen_files_are_copied_and_nothing_is_moved(mine, photos, tmp_path):
    before = sorted(p.name for p in (photos / "photos").iterdir())
    found = mine.search(like="03.png")
    copies = found.copy_to(tmp_path / "best", 3)
    assert [p.name.partition("_")[0] for p in copies] == ["1", "2", "3"]
    for path, row in zip(copies, found.best(3), strict=True):
        assert path.read_bytes() == (photos / "photos" / row["file"]).read_bytes()
    assert sorted(p.name for p in (photos / "photos").iterdir()) == before
    assert found.copy_to(tmp_path / "best", 3) == copies, "a second time changes nothing"
    copies[1].write_bytes(b"something else")
    with pytest.raises(iaa.UsageError, match="exists and is another file"):
        found.copy_to(tmp_path / "best", 4)
    assert len(list((tmp_path / "best").iterdir())) == 3 and copies[1].read_bytes() == b"something else"


def test_copies_are_found(mine):
    groups = mine.groups(kinds="copies").to_frame()
    assert groups["image_id"].tolist() == [
        name for name in mine.targets.image_id.tolist() if name.startswith(("03", "copy"))
    ]
    assert groups["group"].tolist() == [1, 1] and groups["sha256"].nunique() == 1


@pytest.mark.parametrize(
    ("ask", "kind", "message"),
    [
        (lambda ds: ds.search(), iaa.UsageError, "give either words"),
        (lambda ds: ds.search("a", like="b"), iaa.UsageError, "give either words"),
        (lambda ds: ds.search(" "), iaa.UsageError, "text is empty"),
        (lambda ds: ds.search(like="nothing"), iaa.UsageError, "no such image among the 26"),
        (lambda ds: ds.rank(), iaa.UsageError, "say by what"),
        (lambda ds: ds.rank(high="x"), iaa.UsageError, "words on both sides"),
        (lambda ds: ds.rank(high="x", low="x"), iaa.UsageError, "on both sides"),
        (lambda ds: ds.rank(head="x", high="y"), iaa.UsageError, "not by both"),
        (lambda ds: ds.rank(head="nobody"), MissingFileError, "there is no head"),
        (lambda ds: ds.features("demo_vit"), MissingFileError, "embedded with: demo_clip"),
    ],
)
def test_mistakes_are_exceptions(mine, ask, kind, message):
    with pytest.raises(kind, match=message):
        ask(mine)


def test_an_unknown_data_set_lists_the_known(mine):
    with pytest.raises(Exception, match="there are: demo, mine"):
        iaa.open_dataset("nobody", data=mine.layout.root)
    assert iaa.list_datasets(mine.layout.root).columns["name"] == ["demo", "mine"]


def test_backbones_are_listed_and_loaded():
    frame = iaa.list_backbones().to_frame().set_index("id")
    assert frame.loc["demo_clip", "can_run_here"] and frame.loc["vit_b32.openai", "has_text"]
    assert iaa.load_backbone("demo_clip", device="cpu").outputs == {"pre_projection": 128, "embedding": 64}


def test_rows_are_those_of_the_pipeline(mine):
    """A spot check through another door: one image alone through the model gives its stored row."""
    import torch

    loaded = iaa.load_backbone("demo_clip", device="cpu")
    with open_features(mine.layout.features / "demo_clip.h5") as features:
        row = features.image_id.tolist().index(mine.targets.image_id[7])
        stored = features.read("embedding", slice(row, row + 1))[0]
    path = mine.search(like="03.png").photographs().table.root / str(mine.targets.path[7])
    with Image.open(path) as image:
        batch = loaded.transform(image.convert("RGB"))[None]
    with torch.inference_mode():
        found = loaded.encode_images(batch)["embedding"][0].numpy()
    np.testing.assert_allclose(found, stored, rtol=0, atol=1e-4)
