"""What files say about their photographs, with EXIF written here, honest and hostile."""

import io
import struct
import time
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from embed.images.decode import ImageError, decode_image
from embed.images.exif import directories, read_tags
from embed.images.facts import HEAD_BYTES, Facts, read_facts, read_file_facts
from tests.embed.raw_files import make_dng

_CAMERA = 0x8769
#: 2021-07-04 12:34:56, counted by hand: 18,812 days.
_MOMENT = 18_812 * 86_400 + 12 * 3600 + 34 * 60 + 56


def exif(top: dict, camera: dict) -> Image.Exif:
    """EXIF by tag, as Pillow writes it."""
    made = Image.Exif()
    made.update(top)
    made.get_ifd(_CAMERA).update(camera)
    return made


FULL = {0x010F: "NIKON CORPORATION", 0x0110: "NIKON D850", 0x0112: 6, 0x0132: "2022:01:01 00:00:00"}
FULL_CAMERA = {
    0x9003: "2021:07:04 12:34:56", 0x9291: "25", 0x829A: 0.004, 0x829D: 2.8, 0x8827: 400,
    0x9204: -0.7, 0x920A: 85.0, 0xA434: "AF-S 85mm",
}  # fmt: skip


def encode(format_: str, made: Image.Exif | bytes | None = None, size: tuple[int, int] = (60, 40)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (200, 30, 60)).save(buffer, format_, **({} if made is None else {"exif": made}))
    return buffer.getvalue()


def check_full(facts: Facts, is_turned: bool = True) -> None:
    assert (facts.width, facts.height) == ((40, 60) if is_turned else (60, 40))
    assert facts.taken == pytest.approx(_MOMENT + 0.25, abs=1e-6)
    assert (facts.camera, facts.lens) == ("NIKON D850", "AF-S 85mm")
    assert facts.exposure == pytest.approx(1 / 250)
    assert facts.aperture == pytest.approx(2.8)
    assert (facts.iso, facts.focal) == (400, 85)
    assert facts.bias == pytest.approx(-0.7)
    assert facts.orientation == (6 if is_turned else 1)


@pytest.mark.parametrize("format_", ["JPEG", "TIFF", "PNG", "WEBP", "MPO"])
def test_the_same_facts_from_every_format(format_):
    made = exif(FULL, FULL_CAMERA)
    data = encode(format_, made.tobytes() if format_ == "TIFF" else made)
    check_full(read_facts(data))
    assert decode_image(data, exif_rotate=True).size == (40, 60)


def test_heic_is_upright_by_itself():
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    check_full(read_facts(encode("HEIF", exif({**FULL, 0x0112: 1}, FULL_CAMERA))), is_turned=False)
    # Turned by its own box, its pixels come upright, and EXIF's copy of the turn counts no more.
    data = encode("HEIF", exif(FULL, FULL_CAMERA))
    facts = read_facts(data)
    assert ((facts.width, facts.height), facts.orientation) == (decode_image(data, True).size, 1)


def test_raw_files_without_any_raw_decoder():
    dng = make_dng(np.full((40, 60, 3), 90, np.uint8), encode("JPEG", size=(30, 20)), (30, 20), flip=6)
    facts = read_facts(dng)
    assert (facts.width, facts.height, facts.orientation) == (40, 60, 6)
    assert facts.camera == "Testcam One"


def test_a_fuji_raw_file_by_the_jpeg_in_it():
    jpeg = encode("JPEG", exif(FULL, FULL_CAMERA))
    head = b"FUJIFILMCCD-RAW ".ljust(84, b"\0") + struct.pack(">II", 200, len(jpeg))
    check_full(read_facts(head.ljust(200, b"\0") + jpeg + b"sensor"))


def test_a_canon_raw_file_by_its_boxes():
    def box(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", 8 + len(content)) + name + content

    top = tiff([(0x0100, 4, 1, 6000), (0x0101, 4, 1, 4000), (0x0112, 3, 1, 8)])
    camera = tiff([(0x8827, 3, 1, 1600)])
    facts = read_facts(box(b"ftyp", b"crx \0\0\0\1") + box(b"moov", box(b"CMT1", top) + box(b"CMT2", camera)))
    assert (facts.width, facts.height, facts.iso) == (4000, 6000, 1600)


def test_a_file_without_exif_has_a_size():
    assert read_facts(encode("JPEG")) == Facts(60, 40)
    assert read_facts(encode("GIF")) == Facts(60, 40)
    assert read_facts(encode("PPM")) == Facts(60, 40)


def test_the_jpeg_header_is_enough():
    jpeg = encode("JPEG", exif(FULL, FULL_CAMERA), (900, 700))
    check = read_facts(jpeg)
    assert read_facts(jpeg[: jpeg.index(b"\xff\xda")]) == check
    assert (check.width, check.height) == (700, 900)


def test_a_file_is_read_as_far_as_needed(tmp_path):
    jpeg = encode("JPEG", exif(FULL, FULL_CAMERA))
    filler = b"\xff\xe2" + struct.pack(">H", 65535) + bytes(65533)
    late = jpeg[:2] + filler * (HEAD_BYTES // len(filler) + 2) + jpeg[2:]
    (tmp_path / "late.jpg").write_bytes(late)
    check_full(read_file_facts(tmp_path / "late.jpg"))
    (tmp_path / "png.jpg").write_bytes(encode("PNG", exif(FULL, FULL_CAMERA)))
    check_full(read_file_facts(tmp_path / "png.jpg"))
    with pytest.raises(ImageError, match="cannot read"):
        read_file_facts(tmp_path / "none.jpg")


@pytest.mark.parametrize(
    ("clocks", "seconds"),
    [
        ({0x9003: "2021:07:04 12:34:56"}, _MOMENT),
        ({0x9003: "2021:07:04 12:34:56", 0x9291: "5 "}, _MOMENT + 0.5),
        ({0x9003: "2021:07:04 12:34:56", 0x9291: "   "}, _MOMENT),
        ({0x9003: "2021:07:04 12:34:56", 0x9291: "x9"}, _MOMENT),
        ({0x9003: "2021:07:04 12:34:56", 0x9291: "9" * 200}, _MOMENT + 1),
        ({0x9003: "2021-07-04T12:34:56"}, _MOMENT),
        ({0x9003: "0000:00:00 00:00:00"}, None),
        ({0x9003: "    :  :     :  :  "}, None),
        ({0x9003: "2021:02:31 12:00:00"}, None),
        ({0x9003: "2021:07:04 25:00:00"}, None),
        ({0x9003: "2021:07:04 12:34:60"}, None),
        ({0x9003: ""}, None),
        ({0x9003: "0000:00:00 00:00:00", 0x9004: "2021:07:04 12:34:56", 0x9291: "7"}, _MOMENT),
        ({0x9004: "2021:07:04 12:34:56", 0x9292: "125"}, _MOMENT + 0.125),
        ({0x9003: "1969:12:31 23:59:59", 0x9291: "75"}, -0.25),
    ],
)
def test_clocks(clocks, seconds):
    taken = read_facts(encode("JPEG", exif({}, clocks))).taken
    assert taken == (None if seconds is None else pytest.approx(seconds, abs=1e-5))


def test_the_last_clock_is_that_of_the_first_directory():
    made = exif({0x0132: "2021:07:04 12:34:56"}, {0x9290: "5"})
    assert read_facts(encode("JPEG", made)).taken == _MOMENT + 0.5


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("SONY", "ILCE-7M3", "SONY ILCE-7M3"),
        ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
        ("", "X100", "X100"),
        ("Leica", "", "Leica"),
        ("SONY", "a\x01b\n", "SONY a b"),
        ("x" * 500, "", "x" * 100),
    ],
)
def test_cameras(make, model, camera):
    assert read_facts(encode("JPEG", exif({0x010F: make, 0x0110: model}, {}))).camera == camera


def tiff(entries: list[tuple[int, int, int, int]], order: str = "<", more: bytes = b"") -> bytes:
    """A directory of entries (tag, kind, count, value or place), and what follows it."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    body = b""
    for tag, kind, count, value in entries:
        packed = struct.pack(order + "HH", value, 0) if kind == 3 else struct.pack(order + "I", value)
        body += struct.pack(order + "HHI", tag, kind, count) + packed
    return head + struct.pack(order + "H", len(entries)) + body + b"\0\0\0\0" + more


def jpeg_with(block: bytes) -> bytes:
    plain = encode("JPEG")
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 8) + b"Exif\0\0" + block + plain[2:]


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders(order):
    assert read_facts(jpeg_with(tiff([(0x0112, 3, 1, 8)], order))).orientation == 8


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"II",
        b"II*\0\xff\xff\xff\xff",
        b"XX*\0\x08\0\0\0",
        tiff([(0x0112, 3, 1, 9)]),
        tiff([(0x0112, 3, 1, 0)]),
        tiff([(0x0112, 200, 1, 6)]),
        tiff([(0x0112, 3, 0, 6)]),
        tiff([(0x010F, 2, 2**32 - 1, 2**32 - 1)]),
        tiff([(_CAMERA, 4, 1, 8)]),
        tiff([(_CAMERA, 4, 1, 2**32 - 1)]),
        tiff([(_CAMERA, 2, 4, 0x41414141)]),
        tiff([(0x9204, 10, 1, 26)], more=struct.pack("<ii", 1, 0)),
        tiff([(0x829A, 11, 1, 0x7FC00000)]),
        tiff([(0x829A, 11, 1, 0x7F800000)]),
    ],
)
def test_nonsense_is_left_out(block):
    assert read_facts(jpeg_with(block)) == Facts(60, 40)


def test_hostile_directories_cost_nothing():
    # 60,000 entries, each of them "all of this block": 60,000 times 800 KB, if they were copied.
    n = 60_000
    block = struct.pack("<4sIH", b"II*\0", 8, n) + struct.pack("<HHII", 0x010F, 2, 2**31, 8) * n
    tracemalloc.start()
    start = time.perf_counter()
    facts = read_facts(encode("PNG", b"Exif\0\0" + block))
    list(directories(block, (0x0100,)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.perf_counter() - start < 1
    assert peak < 20 * len(block)
    assert (facts.width, len(facts.camera) <= 100) == (60, True)


def test_directories_that_follow_themselves_end():
    loop = tiff([(0x0100, 3, 1, 5), (0x014A, 4, 1, 8)])[:-4] + struct.pack("<I", 8)
    assert list(directories(loop, (0x0100,))) == [{0x0100: 5.0, 0x014A: 8.0}]
    assert read_tags(loop, (0x0100,)) == {0x0100: 5.0}


@pytest.mark.parametrize("format_", ["JPEG", "TIFF", "PNG", "WEBP"])
def test_damage_never_raises(format_):
    whole = encode(format_, exif(FULL, FULL_CAMERA))
    rng = np.random.default_rng(3)
    for _ in range(300):
        damaged = np.frombuffer(whole, np.uint8).copy()
        places = rng.integers(len(damaged), size=rng.integers(1, 20))
        damaged[places] = rng.integers(256, size=len(places))
        facts = read_facts(damaged[: rng.integers(1, len(damaged) + 1)].tobytes())
        assert isinstance(facts, Facts)
        assert all(value is None or np.isfinite(value) for value in (facts.taken, facts.bias, facts.iso))


@pytest.mark.parametrize(
    "data", [b"", b"text", b"\xff\xd8\xff", b"\xff\xd8" + b"\xff" * 100_000, bytes(5000)]
)
def test_what_is_no_image_has_no_facts(data):
    assert read_facts(data) == Facts()
