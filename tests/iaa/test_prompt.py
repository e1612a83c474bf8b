"""`iaa rank` by words and `iaa prompts` as a photographer types them: a folder without ratings, own words."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from analysis.prompting.scores import rank_images
from iaa.cli.app import main
from store import open_features, open_prompts

OWN = """
high = ["sharp", "crisp"]
low = ["blurry", "shaky"]
neutral = ["plain"]
templates = ["a {label} photo of a {content}"]
contents = ["dog", "house", "tree"]
"""


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    return stop.value.code


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A data root: 14 photographs in two folders, two of them the same, one broken; own.toml encoded."""
    root = tmp_path_factory.mktemp("photographer")
    rng = np.random.default_rng(3)
    photos = root / "photos"
    (photos / "holiday").mkdir(parents=True)
    for i in range(13):
        pixels = np.clip(rng.normal(20 * i, 30, (80, 90, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(photos / "holiday" / f"{i}.png")
    (photos / "twin.png").write_bytes((photos / "holiday" / "4.png").read_bytes())
    (photos / "broken.jpg").write_bytes(b"oops")
    (root / "own.toml").write_text(OWN)
    at = ("--data", root / "data")
    assert run("dataset", "add", "mine", "--kind", "folder", "--images", photos, *at) == 0
    assert run("embed", "-d", "mine", "-b", "demo_clip", *at) == 0
    sets = ("-p", "paper_fixed", "-p", root / "own.toml")
    assert run("embed", "-d", "mine", "-b", "demo_clip", *sets, *at) == 0
    return root


@pytest.fixture
def prompt(root, capsys):
    def ask(*arguments):
        capsys.readouterr()
        code = run("rank", "-d", "mine", "--data", root / "data", *arguments)
        captured = capsys.readouterr()
        return code, captured.out, " ".join(captured.err.split())

    return ask


def cosines_with(root, set_name, label):
    """Cosine of every readable photograph with the mean unit vector of a label, written out."""
    with open_features(root / "data/mine/features/demo_clip.h5") as features:
        images, ids = features.read("embedding", features.ok), features.image_id[features.ok].tolist()
    with open_prompts(root / f"data/mine/prompts/{set_name}/demo_clip.h5") as prompts:
        text = prompts.read()[prompts.label == label]
    text = (text / np.linalg.norm(text, axis=1, keepdims=True)).mean(axis=0)
    return dict(zip(ids, images @ text / np.linalg.norm(images, axis=1) / np.linalg.norm(text), strict=True))


def test_a_folder_is_ranked_by_a_pair_with_files_percentiles_and_ties(root, prompt, tmp_path):
    pair = ("--high", "outstanding", "--low", "horrible")
    code, out, err = prompt(*pair, "--csv", tmp_path / "r.csv", "--json")
    answer = json.loads(out)
    assert code == 0
    assert "demo_clip knows nothing but a synthetic world" in err
    assert (answer["method"], answer["n_ranked"], answer["n_failed"]) == ("fixed", 14, 1)
    rows = list(csv.DictReader((tmp_path / "r.csv").open()))
    high, low = (cosines_with(root, "paper_fixed", name) for name in ("outstanding", "horrible"))
    assert {r["image_id"] for r in rows} == set(high), "every readable photograph, and no other"
    for r in rows:
        expected = high[r["image_id"]] - low[r["image_id"]]
        assert float(r["score"]) == pytest.approx(expected, abs=1e-6)
        assert r["class"] == ("high" if expected >= 0 else "low")
        assert (root / "photos" / r["file"]).is_file()
    score = [float(r["score"]) for r in rows]
    assert score == sorted(score, reverse=True)
    assert [float(r["percentile"]) for r in rows] == rank_images(np.array(score)).percentile.tolist()
    twins = [r for r in rows if r["file"] in ("twin.png", "holiday/4.png")]
    for column in ("score", "rank", "percentile", "class"):
        assert len({r[column] for r in twins}) == 1, f"equal pictures have one {column}"
    above = [sum(other > one for other in score) for one in score]
    assert [int(r["rank"]) for r in rows] == [1 + n for n in above]


@pytest.mark.parametrize(
    "command",
    [
        ("rank", "-p", "paper_fixed", "--high", "great", "--low", "ugly"),
        ("rank", "-p", "own", "--method", "context", "--high", "crisp", "--low", "shaky"),
        ("rank", "-p", "own", "--method", "context_max", "--high", "crisp", "--low", "shaky"),
        ("rank", "-p", "own", "--method", "ensemble_mean_of_raw"),
        ("rank", "-p", "own", "--method", "clip_iqa"),
        ("search", "--like", "holiday/7.png"),
        ("search", "--like", "holiday/7.png", "--output", "pre_projection"),
    ],
    ids=" ".join,
)
def test_copies_of_a_photograph_stand_side_by_side(root, tmp_path, command):
    name, *options = command
    assert run(name, "-d", "mine", *options, "--csv", tmp_path / "r.csv", "--data", root / "data") == 0
    rows = list(csv.DictReader((tmp_path / "r.csv").open()))
    (one, a), (other, b) = ((i, r) for i, r in enumerate(rows) if r["file"] in ("twin.png", "holiday/4.png"))
    assert other == one + 1
    kept = {"rank", "score", "cosine", "percentile", "class", "content"} & set(a)
    assert len(kept) >= 3 and {k: a[k] for k in kept} == {k: b[k] for k in kept}


def test_ones_own_words_by_file_or_by_name(root, prompt):
    code, out, _ = prompt("-p", root / "own.toml", "--json")
    answer = json.loads(out)
    assert code == 0
    assert (answer["high"], answer["low"]) == (["sharp", "crisp"], ["blurry", "shaky"])
    assert answer["method"] == "ensemble_mean_of_unit"
    parts = [cosines_with(root, "own", name) for name in ("sharp", "crisp", "blurry", "shaky")]
    for row in answer["shown"]:
        sharp, crisp, blurry, shaky = (part[row["image_id"]] for part in parts)
        assert row["score"] == pytest.approx((sharp + crisp - blurry - shaky) / 2, abs=1e-6)
    assert json.loads(prompt("-p", "own", "--json")[1])["shown"] == answer["shown"]


def test_methods_that_say_more(root, prompt):
    pair = ("-p", "own", "--high", "sharp", "--low", "blurry", "--json")
    by_max = json.loads(prompt(*pair, "--method", "context_max")[1])["shown"]
    assert {row["content"] for row in by_max} <= {"dog", "house", "tree"}
    assert all((row["score"] >= 0) == (row["class"] == "high") for row in by_max)
    assert (root / "data/mine/derived/context_maxima_own_demo_clip.h5").exists()
    sharpness = json.loads(prompt("-p", "own", "--method", "clip_iqa", "--json")[1])["shown"]
    assert all(0 <= row["score"] <= 1 for row in sharpness)
    assert len({row["score"] for row in sharpness}) > 5


def test_a_gpu_makes_the_maxima_that_analysis_reads(root, prompt, monkeypatch):
    """The GPU is played by the CPU: what is tested is who computes, and that the cache is the same one."""
    import torch

    import analysis.prompting.maxima
    import embed.backbones.device
    import embed.prompts.maxima

    compute, calls = embed.prompts.maxima.compute_maxima, []

    def compute_here(*arguments):
        calls.append(arguments[-1])
        return compute(*arguments[:-1], "cpu")

    monkeypatch.setattr(embed.backbones.device, "pick_device", lambda requested: torch.device("cuda"))
    monkeypatch.setattr(embed.backbones.device, "describe_device", str)
    monkeypatch.setattr(embed.prompts.maxima, "compute_maxima", compute_here)
    cache = root / "data/mine/derived/context_maxima_own_demo_clip.h5"
    ask = ("-p", "own", "--high", "crisp", "--low", "shaky", "--method", "context", "--json")
    shown = {}
    for device in ("cpu", "cuda"):
        cache.unlink(missing_ok=True)
        code, out, _ = prompt(*ask, "--device", device)
        assert code == 0 and cache.exists()
        shown[device] = json.loads(out)["shown"]
        monkeypatch.setattr(analysis.prompting.maxima, "compute_context_maxima", None)  # no work for the CPU
    assert len(calls) == 1
    for cpu, gpu in zip(shown["cpu"], shown["cuda"], strict=True):
        assert cpu.pop("score") == pytest.approx(gpu.pop("score"), abs=1e-6)
        assert cpu == gpu
    prompt(*ask, "--device", "cuda")
    assert len(calls) == 1, "the cache was not used"


@pytest.mark.gpu
def test_a_real_gpu_makes_the_same_ranking(root, prompt):
    cache = root / "data/mine/derived/context_maxima_own_demo_clip.h5"
    ask = ("-p", "own", "--high", "crisp", "--low", "shaky", "--method", "context", "--json")
    shown = []
    for device in ("cpu", "cuda"):
        cache.unlink(missing_ok=True)
        shown.append(json.loads(prompt(*ask, "--device", device)[1])["shown"])
    for cpu, gpu in zip(*shown, strict=True):
        assert cpu["score"] == pytest.approx(gpu["score"], abs=1e-5)


def test_a_changed_prompt_file_is_not_answered_from_the_old_texts(root, prompt, tmp_path):
    changed = tmp_path / "own.toml"
    changed.write_text(OWN.replace("crisp", "clear"))
    code, out, err = prompt("-p", changed)
    assert (code, out) == (1, "")
    assert "was encoded from another content" in err and "--overwrite" in err
    assert str(changed) in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-p", "paper_fixed", "--high", "god"], 2, "no label 'god'; it has great, outstanding"),
        (["--high", "ugly", "--low", "ugly"], 2, "'ugly' is on both sides"),
        (["--high", "great"], 2, "words on both sides"),
        (["-p", "nope"], 1, "unknown prompt set 'nope'; known: paper_fixed, paper_context"),
        (["-p", "absent.toml"], 1, "absent.toml: no such prompt file"),
        (["-p", "paper_context"], 1, "iaa embed --prompts paper_context --dataset mine --backbone demo_clip"),
        (["-p", "own", "--method", "fixed"], 2, "several prompts per label"),
        (["-p", "own", "--method", "clip_iqa", "--high", "sharp"], 2, "not 1 and 2"),
        (["-p", "own", "--method", "best"], 2, "Invalid value for '--method'"),
        (["-p", "own", "--csv", "no/such/folder.csv"], 2, "folder that exists"),
        (["--csv", "ranking.csv"], 2, "say by what"),
        (["--high", "great", "--low", "ugly", "-b", "demo_vit"], 1, "embedded with: demo_clip"),
        (["--head", "taste", "--high", "great"], 2, "not by both"),
    ],
)
def test_mistakes_say_what_to_do(prompt, arguments, code, message):
    got, out, err = prompt(*arguments)
    assert (got, out) == (code, "")
    assert message in err
    assert "Traceback" not in err


def test_an_unknown_data_set_lists_the_known(root, capsys):
    assert run("rank", "--high", "a", "--low", "b", "-d", "nope", "--data", root / "data") == 1
    assert "no data set 'nope'" in capsys.readouterr().err


def test_check_shows_what_will_be_encoded(root, capsys):
    assert run("prompts", "check", root / "own.toml", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["high"] == ["sharp", "crisp"] and answer["neutral"] == ["plain"]
    assert (len(answer["texts"]), answer["context_length"], answer["problems"]) == (15, 77, [])
    assert answer["texts"][0] == "a sharp photo of a dog"
    assert run("prompts", "check", root / "own.toml") == 0
    shown = capsys.readouterr()
    assert "a shaky photo of a dog" in shown.out and "of 77 tokens" in shown.out
    assert "iaa embed --prompts" in shown.err


def test_check_tells_everything_that_is_wrong_at_once(tmp_path, capsys):
    file = tmp_path / "bad.toml"
    file.write_text('name = "paper_fixed"\nhigh = ["a", "a"]\nlow = "b"\ntemplates = ["{labl}"]\nhello = 1\n')
    assert run("prompts", "check", file, "--json") == 1
    problems = " ".join(json.loads(capsys.readouterr().out)["problems"])
    wrong = ("'hello'", "taken by a set", "low must be a list", "'a' is listed twice", "'labl'")
    for part in wrong:
        assert part in problems
    file.write_text(f'high = ["sharp"]\ntemplates = ["a {{label}} {"very " * 80}long text"]\n')
    assert run("prompts", "check", file) == 1
    err = " ".join(capsys.readouterr().err.split())
    assert "1 of 1 texts have more than the 77 tokens that vit_b32.openai reads: 'a sharp very very" in err
    assert "no pair can be formed" in err


def test_check_and_encoding_refuse_labels_that_are_one_text(root, tmp_path, capsys):
    file = tmp_path / "case.toml"
    file.write_text('high = ["good"]\nlow = ["Good"]\ntemplates = ["a {label} photo"]\n')
    assert run("prompts", "check", file, "--json") == 1
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert "one text to the tokenizer of vit_b32.openai: 'good' and 'Good'" in problem
    at = ("-d", "mine", "-b", "demo_clip", "--data", root / "data")
    assert run("embed", *at, "-p", file) == 1
    err = " ".join(capsys.readouterr().err.split())
    assert "error: prompt set 'case': labels that are one text to the tokenizer of demo_clip" in err
    file.write_text('high = ["good"]\nlow = ["bad"]\ntemplates = ["a {label} photo", "A {label} photo"]\n')
    assert run("prompts", "check", file) == 0
    assert "2 texts have the tokens of an earlier one" in " ".join(capsys.readouterr().err.split())
