"""Graded alterations, and the list of photographs in all their versions."""

import numpy as np
import pytest
from PIL import Image

from embed.images.alterations import ALTERATIONS, alter
from embed.images.table import ImageTable
from embed.images.variants import MAX_SIDE, choose_photographs, list_variants
from embed.pipeline import Options, embed_images, feature_path
from store import Status, open_features
from tests.engines import load_on


def picture(seed=0, height=60, width=90):
    """A smooth coloured picture with edges, levels 60 to 190: nothing clips at once."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / height
    waves = [np.sin(6 * x + 4 * y * k + rng.uniform(0, 6)) for k in range(3)]
    pixels = 125 + 35 * np.stack(waves, axis=-1)
    pixels[20:40, 30:60] += 30
    return np.rint(pixels).astype(np.uint8)


def luma(pixels):
    return pixels @ np.array([0.2126, 0.7152, 0.0722])


def edges(pixels):
    grey = luma(pixels)
    return float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())


GROWS = {
    "exposure": lambda p, of: luma(p).mean(),
    "contrast": lambda p, of: luma(p).std(),
    "saturation": lambda p, of: np.ptp(p.astype(int), axis=-1).mean(),
    "sharpness": lambda p, of: edges(p),
    "noise": lambda p, of: np.abs(p.astype(int) - of).mean(),
    "jpeg": lambda p, of: -np.abs(p.astype(int) - of).mean(),
    "crop": lambda p, of: p.shape[0] * p.shape[1],
    "cast": lambda p, of: (p[..., 0].astype(int) - p[..., 2]).mean(),
}


@pytest.mark.parametrize("name", GROWS)
def test_what_a_family_changes_grows_with_its_strength(name):
    original = picture()
    measured = [GROWS[name](alter(original, name, s, 7), original) for s in ALTERATIONS[name].all_strengths]
    assert (np.diff(measured) > 0).all(), measured


@pytest.mark.parametrize("name", ALTERATIONS)
def test_every_family_leaves_a_photograph_as_it_is_somewhere_and_gives_pixels_elsewhere(name):
    family, original = ALTERATIONS[name], picture()
    assert family.identity not in family.strengths and list(family.strengths) == sorted(family.strengths)
    assert alter(original, name, family.identity) is original
    for strength in family.strengths:
        altered = alter(original, name, strength, 3)
        assert altered.dtype == np.uint8 and altered.ndim == 3
        assert altered.shape != original.shape or (altered != original).any()
        assert (altered == alter(original, name, strength, 3)).all()
        alter(np.full((1, 300, 3), 200, np.uint8), name, strength)  # a strip survives


def test_a_stop_is_twice_the_light():
    from embed.images.alterations import _to_linear

    grey = np.full((2, 2, 3), 100, np.uint8)
    light = [_to_linear(alter(grey, "exposure", s) / 255).mean() for s in (-1, 0, 1)]
    assert [light[1] / light[0], light[2] / light[1]] == pytest.approx([2, 2], rel=0.03)


def test_a_tilt_turns_clockwise_and_leaves_no_empty_corner():
    pixels = np.full((160, 240, 3), 90, np.uint8)
    pixels[78:82] = 200  # a level line
    for degrees in (5, 10, -10):
        turned = luma(alter(pixels, "tilt", degrees))
        assert turned[[0, 0, -1, -1], [0, -1, 0, -1]].min() > 85
        line = np.clip(turned - 95, 0, None)[:, 5:-5]
        height = (line * np.arange(len(line))[:, None]).sum(axis=0) / line.sum(axis=0)
        slope = np.polyfit(np.arange(len(height)), height, 1)[0]
        assert np.degrees(np.arctan(slope)) == pytest.approx(degrees, abs=0.3)


def make_table(folder, n=5, bad=()):
    folder.mkdir(exist_ok=True)
    names = [f"p{i}.png" for i in range(n)]
    for i, name in enumerate(names):
        Image.fromarray(picture(i)).save(folder / name)
        if i in bad:
            (folder / name).write_bytes(b"no picture")
    split = np.array(["test" if i % 2 else "train" for i in range(n)])
    ids = np.array([name.removesuffix(".png") for name in names])
    return ImageTable("few", folder, ids, np.array(names), split=split)


def test_photographs_of_the_test_split_go_first(tmp_path):
    table = make_table(tmp_path / "p", 9)
    assert choose_photographs(table, 3).size == 3
    assert set(choose_photographs(table, 9).tolist()) == {1, 3, 5, 7}


def test_the_list_names_photographs_alterations_and_what_the_files_hold(tmp_path):
    table = make_table(tmp_path / "p", 5, bad=[3])
    made = list_variants(table, [1, 3], ["exposure", "crop"], False)
    assert len(made) == 2 * (1 + 4 + 4) and made.image_id[:3].tolist() == [
        "unchanged/p1", "exposure-2/p1", "exposure-1/p1",
    ]  # fmt: skip
    assert made.columns["change"][:2].tolist() == ["", "exposure"]
    assert np.isnan(made.columns["strength"][0]) and made.columns["strength"][1] == -2
    assert made.made["changes"]["crop"] == [0.5, 0.625, 0.75, 0.875]
    Image.fromarray(picture(99)).save(tmp_path / "p" / "p1.png")
    again = list_variants(table, [1, 3], ["exposure", "crop"], False)
    assert again.digest == made.digest and again.made["photographs"] != made.made["photographs"]


def test_large_photographs_are_reduced_first(tmp_path):
    Image.fromarray(picture(0, 700, 1600)).save(tmp_path / "wide.png")
    table = ImageTable("one", tmp_path, np.array(["wide"]), np.array(["wide.png"]))
    made = list_variants(table, [0], ["crop"], False)
    assert made.source.at("unchanged/wide.png").pixels().shape == (448, MAX_SIDE, 3)
    assert made.source.at("crop+0.5/wide.png").pixels().shape == (224, 512, 3)


def test_variants_are_rows_like_any_others(tmp_path):
    """N in, N out; a photograph that cannot be read costs its rows with a reason; the identity says what was
    done; rows equal those of the altered pictures saved as files."""
    (backbone,) = load_on("torch", "demo_vit")
    table = make_table(tmp_path / "p", 4, bad=[3])
    made = list_variants(table, [1, 3], ["exposure"], False)
    options = Options(batch_size=4, n_threads=2, is_exact=True)
    embed_images(made, [backbone], tmp_path / "style", options)
    with open_features(feature_path(tmp_path / "style", backbone.id)) as features:
        assert features.n_images == 10 and features.identity["variants"] == made.made
        assert features.status.tolist() == [Status.OK] * 5 + [Status.FAILED] * 5
        assert all("not an image" in reason for reason in features.failures.values())
        rows = features.read("pre_logits")
        assert len(np.unique(rows[:5], axis=0)) == 5  # one file, five pictures: no row stands in for another
    for i, path in enumerate(made.path[:5]):
        Image.fromarray(made.source.at(str(path)).pixels()).save(tmp_path / f"{i}.png")
    names = np.array([f"{i}.png" for i in range(5)])
    files = ImageTable("files", tmp_path, names, names)
    embed_images(files, [backbone], tmp_path / "files", options)
    with open_features(feature_path(tmp_path / "files", backbone.id)) as features:
        np.testing.assert_allclose(features.read("pre_logits"), rows[:5], atol=1e-5)
        assert "variants" not in features.identity
