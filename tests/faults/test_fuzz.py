"""Mutated image files through the reading path: pixels or a reason, no crash, no hang, no other error."""

import io
import time

import numpy as np
import pytest
from PIL import Image

from embed.images.geometry import pixel_steps
from embed.options import Decoding
from embed.reading import load_row

MAX_SECONDS = 5.0
"""Of work per file, for a machine may be busy; who waits for ever meets the time limit of the test."""


def seeds():
    """Small valid files of the three formats in several kinds."""
    rng = np.random.default_rng(9)
    picture = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)).resize((72, 56))
    exif = Image.Exif()
    exif[0x0112] = 6
    for fmt, image, options in (
        ("JPEG", picture, {"quality": 85, "exif": exif}),
        ("JPEG", picture, {"progressive": True}),
        ("JPEG", picture.convert("L"), {}),
        ("JPEG", picture.convert("CMYK"), {}),
        ("PNG", picture, {}),
        ("PNG", picture.convert("P"), {"transparency": 0}),
        ("PNG", Image.fromarray(np.arange(3000, dtype=np.uint16).reshape(50, 60) * 20), {}),
        ("WEBP", picture, {"quality": 80}),
        ("WEBP", picture.convert("RGBA"), {"lossless": True}),
        ("WEBP", picture, {"save_all": True, "append_images": [picture.rotate(90)]}),
    ):
        buffer = io.BytesIO()
        image.save(buffer, fmt, **options)
        yield buffer.getvalue()


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Bits flipped, bytes replaced, stretches removed, repeated or zeroed, and awkward numbers set, half of
    it near the beginning, where the headers are."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        if not changed:
            break
        end = len(changed) if rng.random() < 0.5 else min(len(changed), 120)
        position = int(rng.integers(end))
        kind = int(rng.integers(6))
        length = int(rng.integers(1, 40))
        if kind == 0:
            changed[position] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            changed[position] = int(rng.integers(256))
        elif kind == 2:
            del changed[position : position + length]
        elif kind == 3:
            changed[position:position] = changed[position : position + length]
        elif kind == 4:
            changed[position : position + length] = bytes(len(changed[position : position + length]))
        else:
            number = [b"\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x00\x00\x00", b"\x80\x00"][
                int(rng.integers(4))
            ]
            changed[position : position + len(number)] = number
    return bytes(changed)


def fuzz(tmp_path, n: int, seed: int) -> tuple[int, int]:
    """How many of `n` mutants gave pixels, and how many a reason."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    steps = [pixel_steps(image_transform_v2(PreprocessCfg(size=64), is_train=False))]
    rng = np.random.default_rng(seed)
    originals = list(seeds())
    path = tmp_path / "mutant.jpg"
    n_pixels = n_reasons = 0
    for number in range(n):
        path.write_bytes(mutate(originals[number % len(originals)], rng))
        started = time.process_time()
        row = load_row(path, Decoding(steps, bool(number % 2), 50_000_000, bool(number % 3 == 0)))
        assert time.process_time() - started < MAX_SECONDS, f"mutant {number} of seed {seed} hangs"
        if row.pixels is None:
            assert row.reason
            assert not row.reason.startswith("cannot be used"), (
                f"mutant {number} of seed {seed}: {row.reason}"
            )
            n_reasons += 1
        else:
            assert [p.shape for p in row.pixels] == [(64, 64, 3)] and row.pixels[0].dtype == np.uint8
            n_pixels += 1
    return n_pixels, n_reasons


def test_two_thousand_mutants(tmp_path):
    n_pixels, n_reasons = fuzz(tmp_path, 2000, seed=1)
    assert n_pixels > 200 and n_reasons > 200


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_thousand_mutants(tmp_path):
    """A crash of the process fails this test by itself: it runs here."""
    print("pixels, reasons:", fuzz(tmp_path, 20_000, seed=2))
