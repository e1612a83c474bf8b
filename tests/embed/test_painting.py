"""Pictures from prompts: cut-outs, canvases, the guide, files, and whether seeds give equal pictures."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from embed.backbones.loading import load_backbone
from embed.painting.canvas import Frequencies, Latents
from embed.painting.cutouts import Squares, cut_out, draw_squares
from embed.painting.decoder import build_decoder, build_encoder, encode, load_coder
from embed.painting.errors import PaintingError
from embed.painting.files import read_painting, write_painting
from embed.painting.guide import Guide, HeadAim, spherical
from embed.painting.measures import measure
from embed.painting.paint import paint
from embed.painting.settings import Settings, make_settings
from store.tensor_files import TensorFileError

TINY = Settings(height=48, width=64, steps=6, cutouts=2)


@pytest.fixture(scope="module")
def clip():
    return load_backbone("demo_clip")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def square(top, left, side):
    return Squares(torch.tensor([top]), torch.tensor([left]), torch.tensor([side]))


@pytest.mark.parametrize("size", [(16, 16), (24, 24), (64, 40)])
def test_a_cut_out_of_everything_is_torchs_antialiased_resize(size):
    picture = torch.rand(3, 40, 40, generator=generator())
    ours = cut_out(picture, square(0.0, 0.0, 40.0), size)
    theirs = torch.nn.functional.interpolate(picture[None], size, mode="bilinear", antialias=True)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_a_cut_out_shows_what_lies_in_its_square():
    ramp = torch.arange(50.0).expand(3, 40, 50)  # each pixel's value is its column
    seen = cut_out(ramp, square(4.0, 10.0, 20.0), (20, 20))
    torch.testing.assert_close(seen[0, 0, 7], torch.arange(10.0, 30.0))


def test_squares_lie_inside_and_the_first_is_what_the_backbone_will_see():
    squares = draw_squares(48, 64, 200, 0.3, generator())
    assert (squares.top[0], squares.left[0], squares.side[0]) == (0, 8, 48)
    assert squares.top.min() >= 0 and (squares.top + squares.side).max() <= 48 + 1e-4
    assert squares.left.min() >= 0 and (squares.left + squares.side).max() <= 64 + 1e-4
    assert squares.side.min() >= 0.3 * 48 - 1e-4
    assert squares.side[1:].std() > 3


@pytest.mark.parametrize(("height", "width"), [(32, 48), (33, 35)])
def test_frequencies_begin_as_the_photograph(height, width):
    photograph = torch.rand(3, height, width, generator=generator())
    painted = Frequencies(height, width, photograph)()
    assert (painted - photograph).abs().max() < 1.5 / 255


def test_noise_has_more_in_coarse_forms_than_in_fine_ones():
    power = torch.fft.rfft2(Frequencies(64, 64, generator())().mean(dim=0).detach()).abs()
    assert power[1:4, 1:4].mean() > 4 * power[20:30, 20:30].mean()


def test_the_loss_is_half_the_squared_angle():
    angles = torch.tensor([0.2, 1.0, 2.5], dtype=torch.float64)
    vectors = 7 * torch.stack([angles.cos(), angles.sin()], dim=1)
    goal = torch.tensor([1.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(spherical(vectors, goal), angles**2 / 2)


@pytest.mark.parametrize(("sign", "unit_norm"), [(1, False), (-1, True)])
def test_a_head_pulls_by_its_score(clip, sign, unit_norm, rng):
    layers = [(rng.normal(size=(5, 64)), rng.normal(size=5)), (rng.normal(size=(1, 5)), rng.normal(size=1))]
    views = torch.rand(3, 3, 64, 64, generator=generator())
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (clip.recipe.mean, clip.recipe.std))
    features = clip.encode_images((views - mean) / std)["embedding"].double().numpy()
    if unit_norm:
        features = features / np.linalg.norm(features, axis=1, keepdims=True)
    for weight, bias in layers:
        features = features @ weight.T + bias
    guide = Guide(clip, head=HeadAim(layers, "embedding", unit_norm, sign, 0.5))
    assert float(guide.loss(views)) == pytest.approx(-sign * 0.5 * features.mean(), rel=1e-4)


def test_a_head_of_another_width_is_refused(clip, rng):
    with pytest.raises(PaintingError, match="takes 5 numbers of embedding; demo_clip has pre_projection 128"):
        Guide(clip, head=HeadAim([(rng.normal(size=(1, 5)), np.zeros(1))], "embedding", False))


def test_equal_seeds_give_equal_pictures_and_the_loss_falls(clip):
    guide = Guide(clip, "a outstanding picture of a beacon")
    first, again = paint(guide, TINY), paint(guide, TINY)
    other = paint(guide, make_settings(TINY.to_json() | {"seed": 1}))
    assert first.pixels.shape == (48, 64, 3)
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert (first.pixels != other.pixels).mean() > 0.5
    assert first.losses[-1] < 0.8 * first.losses[0]


def test_previews_are_the_picture_so_far(clip):
    shown = []
    painted = paint(Guide(clip, "a castle"), TINY, on_step=lambda step, loss, now: shown.append(now()))
    assert len(shown) == TINY.steps
    np.testing.assert_array_equal(shown[-1], painted.pixels)
    assert (shown[0] != shown[-1]).any()


@pytest.fixture
def coders(tmp_path):
    """A decoder and an encoder with random weights, as files."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name, model in (("decoder", build_decoder()), ("encoder", build_encoder())):
            save_file(model.state_dict(), tmp_path / f"x_{name}.safetensors")
    return tmp_path / "x_decoder.safetensors", tmp_path / "x_encoder.safetensors"


def test_latents_of_a_decoder_are_painted(clip, coders):
    decoder, _ = load_coder(coders[0], "decoder")
    painted = paint(Guide(clip, "a castle"), TINY, decoder=decoder)
    assert painted.pixels.shape == (48, 64, 3)
    odd = make_settings(TINY.to_json() | {"width": 60})
    with pytest.raises(PaintingError, match="multiples of 8, not 60 x 48"):
        paint(Guide(clip, "a castle"), odd, decoder=decoder)
    photograph = np.zeros((48, 64, 3), np.uint8)
    with pytest.raises(PaintingError, match="takes its encoder"):
        paint(Guide(clip, "a castle"), TINY, photograph, decoder)


def test_files_that_are_no_decoder_say_what_they_are(coders, tmp_path):
    with pytest.raises(PaintingError, match="no taef2 decoder: 43 keys missing.*It is taef2's encoder"):
        load_coder(coders[1], "decoder")
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(PaintingError, match="Only taef2's layout is known"):
        load_coder(tmp_path / "other.safetensors", "decoder")
    state = build_decoder().state_dict()
    state["19.bias"][0] = float("nan")
    save_file(state, tmp_path / "nan.safetensors")
    with pytest.raises(PaintingError, match="NaN or infinity: 19.bias"):
        load_coder(tmp_path / "nan.safetensors", "decoder")
    (tmp_path / "cut.pth").write_bytes(coders[0].read_bytes()[:1000])
    with pytest.raises(TensorFileError):
        load_coder(tmp_path / "cut.pth", "decoder")


@pytest.mark.shared_data
def test_the_real_decoder_gives_a_photograph_back(shared_data):
    decoder, _ = load_coder(shared_data / "taef2" / "taef2_decoder.pth", "decoder")
    encoder, _ = load_coder(shared_data / "taef2" / "taef2_encoder.pth", "encoder")
    file = sorted((shared_data / "oasis" / "images").glob("*.jpg"))[5]
    pixels = np.asarray(Image.open(file).convert("RGB").resize((256, 200)), np.float32) / 255
    picture = torch.from_numpy(pixels).permute(2, 0, 1)
    with torch.no_grad():
        again = Latents(decoder, 200, 256, encode(encoder, picture))()
    error = float(((again - picture) ** 2).mean())
    assert error < 0.1 * float(picture.var()) and error < 0.004  # 24 dB; a wrong layer gives noise


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 5000, "height": 1}, "5000 x 1 pixels: its sides must be 32 to 2048"),
        ({"width": 1024, "height": 64}, "1024 x 64 pixels: the longer side may be 4 times the shorter"),
        ({"steps": 0}, "steps is 1 to 100,000; got 0"),
        ({"rate": float("nan")}, "rate is above 0 and at most 10; got nan"),
        ({"cutouts": 0}, "cutouts is 1"),
        ({"colour": 1}, "unknown settings colour"),
    ],
)
def test_settings_out_of_range(changes, message):
    with pytest.raises(PaintingError, match=message):
        make_settings(changes)


def test_a_png_says_how_it_was_painted(tmp_path, rng):
    pixels = rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)
    about = {"text": "ein Leuchtturm, schön", "settings": TINY.to_json()}
    write_painting(tmp_path / "a.png", pixels, about)
    found, said = read_painting(tmp_path / "a.png")
    np.testing.assert_array_equal(found, pixels)
    assert said == about
    Image.fromarray(pixels).save(tmp_path / "plain.png")
    with pytest.raises(PaintingError, match="without the settings of a painting"):
        read_painting(tmp_path / "plain.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "a.png").read_bytes()[:900])
    with pytest.raises(PaintingError, match="no PNG that can be read"):
        read_painting(tmp_path / "half.png")


def test_measures_of_constructed_pictures(rng):
    grey = np.full((50, 60, 3), 51, np.uint8)
    assert measure(grey) == pytest.approx(
        {"brightness": 0.2, "contrast": 0, "colour": 0, "grain": 0}, abs=1e-9
    )
    halves = np.zeros((50, 60, 3), np.uint8)
    halves[:, 30:] = 255
    assert measure(halves)["contrast"] == pytest.approx(0.5)
    red = np.zeros((50, 60, 3), np.uint8)
    red[..., 0] = 255
    assert measure(red)["colour"] == 1
    noisy = (128 + 255 * 0.05 * rng.normal(size=(200, 300, 1))).round().astype(np.uint8).repeat(3, axis=2)
    assert measure(noisy)["grain"] == pytest.approx(0.05, rel=0.05)
    with pytest.raises(ValueError, match="at least 3 x 3"):
        measure(grey[:2])
