"""Scenes of the demo world: twelve kinds of subject drawn with Pillow before a simple landscape.

A scene knows nothing of taste. It gets the looks (see `embed.demo.world`) and makes them visible:
colours from a palette of the given harmony, the subject at the given place, the whole turned by the
tilt, then exposure, contrast, saturation, blur and grain as a camera would add them.
"""

import colorsys
import math
from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

#: Shorter edge of a rendered image in pixels; the longer edge is 1, 1.25 or 1.5 times that.
SHORT_EDGE = 144
#: Scenes are drawn this many times larger and reduced, which smooths the edges.
SUPERSAMPLING = 2

#: Weights of red, green and blue in luminance (ITU-R BT.601).
LUMINANCE = np.array([0.299, 0.587, 0.114])

Colour = tuple[int, int, int]
Point = tuple[float, float]


class Pen:
    """Draws in subject units: (0, 0) is the subject's centre, 1 is half its height, y points up."""

    def __init__(self, draw: ImageDraw.ImageDraw, centre: Point, unit: float) -> None:
        self._draw, self._centre, self._unit = draw, centre, unit

    def _pixel(self, point: Point) -> Point:
        return (
            self._centre[0] + point[0] * self._unit,
            self._centre[1] - point[1] * self._unit,
        )

    def polygon(self, colour: Colour, *points: Point) -> None:
        self._draw.polygon([self._pixel(p) for p in points], fill=colour)

    def box(self, colour: Colour, left: float, bottom: float, right: float, top: float) -> None:
        self.polygon(colour, (left, bottom), (right, bottom), (right, top), (left, top))

    def ellipse(self, colour: Colour, centre: Point, rx: float, ry: float) -> None:
        x, y = self._pixel(centre)
        box = (x - rx * self._unit, y - ry * self._unit, x + rx * self._unit, y + ry * self._unit)
        self._draw.ellipse(box, fill=colour)

    def slice(self, colour: Colour, centre: Point, rx: float, ry: float, a: int, b: int) -> None:
        """A pie slice from angle a to b, in degrees clockwise from the right."""
        x, y = self._pixel(centre)
        box = (x - rx * self._unit, y - ry * self._unit, x + rx * self._unit, y + ry * self._unit)
        self._draw.pieslice(box, a, b, fill=colour)

    def line(self, colour: Colour, width: float, *points: Point) -> None:
        pixels = max(1, round(width * self._unit))
        self._draw.line([self._pixel(p) for p in points], fill=colour, width=pixels, joint="curve")


def _balloon(pen: Pen, main: Colour, accent: Colour, dark: Colour) -> None:
    pen.ellipse(main, (0, 0.3), 0.68, 0.7)
    pen.ellipse(accent, (0, 0.3), 0.26, 0.7)
    pen.polygon(main, (-0.45, -0.2), (0.45, -0.2), (0.16, -0.58), (-0.16, -0.58))
    pen.line(dark, 0.03, (-0.16, -0.56), (-0.13, -0.76))
    pen.line(dark, 0.03, (0.16, -0.56), (0.13, -0.76))
    pen.box(dark, -0.17, -1.0, 0.17, -0.75)


def _barn(pen: Pen, main: Colour, accent: Colour, dark: Colour) -> None:
    pen.box(main, -0.95, -1.0, 0.95, 0.15)
    pen.polygon(dark, (-1.08, 0.1), (-0.7, 0.6), (0, 0.95), (0.7, 0.6), (1.08, 0.1))
    pen.polygon(main, (-0.8, 0.1), (-0.55, 0.45), (0, 0.72), (0.55, 0.45), (0.8, 0.1))
    pen.box(accent, -0.42, -1.0, 0.42, -0.2)
    pen.line(dark, 0.07, (-0.42, -1.0), (0.42, -0.2))
    pen.line(dark, 0.07, (0.42, -1.0), (-0.42, -0.2))
    pen.box(accent, -0.16, 0.18, 0.16, 0.46)


def _beacon(pen: Pen, main: Colour, accent: Colour, dark: Colour) -> None:
    edge = [(-0.36, -1.0), (-0.32, -0.6), (-0.28, -0.2), (-0.24, 0.2), (-0.2, 0.5)]
    for i, ((x0, y0), (x1, y1)) in enumerate(pairwise(edge)):
        pen.polygon((main, accent)[i % 2], (x0, y0), (-x0, y0), (-x1, y1), (x1, y1))
    pen.box(dark, -0.3, 0.5, 0.3, 0.57)
    pen.box(accent, -0.16, 0.57, 0.16, 0.8)
    pen.polygon(dark, (-0.24, 0.8), (0.24, 0.8), (0, 1.0))


def _candle(pen: Pen, main: Colour, accent: Colour, dark: Colour) -> None:
    pen.ellipse(dark, (0, -0.9), 0.62, 0.12)
    pen.box(main, -0.24, -0.9, 0.24, 0.3)
    pen.ellipse(main, (0, 0.3), 0.24, 0.06)
    pen.line(dark, 0.05, (0, 0.3), (0, 0.45))
    pen.ellipse(main, (0, 0.6), 0.16, 0.22)
    pen.polygon(main, (-0.13, 0.68), (0.13, 0.68), (0, 1.0))


def _castle(pen: Pen, main: Colour, accent: Colour, dark: Colour) -> None:
    pen.box(main, -0.75, -1.0, 0.75, -0.05)
    for x in (-0.7, -0.35, 0.0, 0.35):
        pen.box(main, x + 0.08, -0.1, x + 0.26, 0.1)
    for x in (-0.85, 0.85):
        pen.box(main, x - 0.22, -1.0, x + 0.22, 0.35)
        pen.polygon(accent, (x - 0.3, 0.35), (x + 0.3, 0.35), (x, 0.9))
        pen.box(dark, x - 0.06, -0.1, x + 0.06, 0.15)
    pen.box(dark, -0.2, -1.0, 0.2, -0.55)
    pen.ellipse(dark, (0, -0.55), 0.2, 0.2)


def _daisy(pen: Pen, main: Colour, accent: Colour, dark: Colour) -> None:
    pen.line(dark, 0.08, (0, 0.3), (0.05, -0.4), (0, -1.0))
    pen.polygon(dark, (0, -0.75), (0.45, -0.45), (0.35, -0.7))
    for i in range(9):
        angle = 2 * math.pi * i / 9
        pen.ellipse(main, (0.42 * math.cos(angle), 0.38 + 0.42 * math.sin(angle)), 0.17, 0.17)
    pen.ellipse(accent, (0, 0.38), 0.22, 0.22)


def _goldfish(pen: Pen, main: Colour, accent: Colour, dark: Colour) -> None:
    pen.polygon(accent, (0.45, 0.0), (1.15, 0.55), (0.95, 0.0), (1.15, -0.55))
    pen.polygon(accent, (-0.3, 0.35), (0.15, 0.8), (0.3, 0.3))
    pen.ellipse(main, (-0.15, 0), 0.8, 0.48)
    pen.polygon(accent, (-0.05, -0.1), (0.3, -0.35), (0.3, 0.0))
    pen.ellipse(accent, (-0.6, 0.12), 0.15, 0.15)
    pen.ellipse(main, (-0.62, 0.14), 0.06, 0.06)


def _mushroom(pen: Pen, main: Colour, accent: Colour, dark: Colour) -> None:
    pen.polygon(accent, (-0.22, 0.1), (0.22, 0.1), (0.3, -1.0), (-0.3, -1.0))
    pen.slice(main, (0, 0.05), 0.95, 0.85, 180, 360)
    pen.ellipse(dark, (0, 0.05), 0.95, 0.1)
    for x, y, r in ((-0.5, 0.35, 0.13), (0.05, 0.58, 0.16), (0.5, 0.3, 0.12)):
        pen.ellipse(accent, (x, y), r, r)


def _teapot(pen: Pen, main: Colour, accent: Colour, dark: Colour) -> None:
    pen.ellipse(dark, (0.75, -0.25), 0.42, 0.42)
    pen.ellipse(accent, (0.75, -0.25), 0.26, 0.26)
    pen.polygon(main, (-0.4, -0.55), (-0.5, -0.1), (-1.2, 0.3), (-1.05, 0.0))
    pen.ellipse(main, (0, -0.35), 0.75, 0.62)
    pen.box(dark, -0.4, -1.0, 0.4, -0.88)
    pen.slice(accent, (0, 0.12), 0.42, 0.25, 180, 360)
    pen.ellipse(dark, (0, 0.42), 0.1, 0.1)


def _umbrella(pen: Pen, main: Colour, accent: Colour, dark: Colour) -> None:
    pen.line(dark, 0.07, (0, 0.9), (0, -0.85), (0.1, -0.97), (0.24, -0.9), (0.26, -0.75))
    pen.slice(main, (0, 0.0), 1.05, 0.85, 180, 360)
    pen.slice(accent, (0, 0.0), 0.4, 0.85, 180, 360)
    pen.line(dark, 0.06, (0, 0.8), (0, 1.0))


def _volcano(pen: Pen, main: Colour, accent: Colour, dark: Colour) -> None:
    for x, y, r in ((-0.05, 0.55, 0.2), (0.15, 0.72, 0.24), (0.42, 0.88, 0.28)):
        pen.ellipse(dark, (x, y), r, r)
    pen.polygon(main, (-1.3, -1.0), (-0.24, 0.4), (0.24, 0.4), (1.3, -1.0))
    pen.polygon(accent, (-0.24, 0.4), (0.24, 0.4), (0.36, 0.05), (0.1, 0.15), (0, -0.25), (-0.14, 0.1))


def _yawl(pen: Pen, main: Colour, accent: Colour, dark: Colour) -> None:
    pen.line(dark, 0.06, (-0.05, -0.6), (-0.05, 1.0))
    pen.polygon(main, (0.03, -0.45), (0.03, 0.95), (0.85, -0.45))
    pen.polygon(accent, (-0.13, -0.45), (-0.13, 0.75), (-0.75, -0.45))
    pen.polygon(dark, (-0.95, -0.6), (0.95, -0.6), (0.65, -1.0), (-0.65, -1.0))


Sketch = Callable[[Pen, Colour, Colour, Colour], None]
_SKETCHES: dict[str, Sketch] = {
    "balloon": _balloon,
    "barn": _barn,
    "beacon": _beacon,
    "candle": _candle,
    "castle": _castle,
    "daisy": _daisy,
    "goldfish": _goldfish,
    "mushroom": _mushroom,
    "teapot": _teapot,
    "umbrella": _umbrella,
    "volcano": _volcano,
    "yawl": _yawl,
}
#: The kinds of subject, all of them names of ImageNet-1k, so the paper's context prompts name them.
SUBJECTS = tuple(_SKETCHES)
_FLOATING = ("balloon", "goldfish")


def _colour(hue: float, saturation: float, luminance: float) -> Colour:
    """The colour of a hue whose luminance is the given one, as far as the saturation allows it."""
    rgb = np.array(colorsys.hsv_to_rgb(hue % 1.0, saturation, 1.0))
    rgb *= luminance / (rgb @ LUMINANCE)
    # A blue cannot be bright and pure: what does not fit below white is mixed with white.
    if rgb.max() > 1.0:
        rgb = luminance + (rgb - luminance) * (1.0 - luminance) / (rgb.max() - luminance)
    r, g, b = np.round(255 * rgb).astype(int).tolist()
    return r, g, b


#: Hues of sky, ground, subject and the subject's second colour that go together.
_MOODS = (
    (0.56, 0.30, 0.02, 0.13),  # noon: blue, green, red, yellow
    (0.06, 0.09, 0.60, 0.53),  # dusk: peach, brown, blue, cyan
    (0.72, 0.64, 0.12, 0.08),  # night: violet, blue, gold, orange
    (0.50, 0.24, 0.93, 0.12),  # spring: cyan, light green, pink, yellow
)


def draw_palette(rng: np.random.Generator, harmony: float) -> dict[str, Colour]:
    """Colours of sky, ground and subject, as 8-bit RGB.

    At harmony 1 the hues are those of one of four moods; at harmony 0 every hue is its own accident
    and none is muted. The light falls on the subject: it is brighter than what lies behind it.
    """
    mood = np.array(_MOODS[rng.integers(len(_MOODS))]) + rng.uniform(-0.02, 0.02)
    discord = (1.0 - harmony) * rng.uniform(-0.5, 0.5, size=4)
    sky, ground, main, accent = mood + discord
    loud = 1.0 - harmony
    return {
        "sky_top": _colour(sky, 0.55 + 0.4 * loud, 0.46),
        "sky_low": _colour(sky + 0.03 + 0.3 * discord[1], 0.30 + 0.6 * loud, 0.60),
        "ground": _colour(ground, 0.50 + 0.4 * loud, 0.40),
        "hill": _colour(ground + 0.04 + 0.4 * discord[2], 0.35 + 0.5 * loud, 0.45),
        "main": _colour(main, 0.60 + 0.35 * loud, 0.84),
        "accent": _colour(accent, 0.70 + 0.25 * loud, 0.26),
        "dark": _colour(main, 0.55, 0.10),
        "cloud": _colour(sky, 0.10 + 0.5 * loud, 0.68),
    }


def _gradient(top: Colour, low: Colour, width: int, height: int) -> Image.Image:
    ramp = np.linspace(0.0, 1.0, height)[:, None, None]
    rows = (1 - ramp) * np.array(top) + ramp * np.array(low)
    return Image.fromarray(np.broadcast_to(rows, (height, width, 3)).astype(np.uint8))


def _draw_scenery(
    canvas: Image.Image, rng: np.random.Generator, colours: Mapping[str, Colour], horizon: float
) -> None:
    width, height = canvas.size
    level = round(horizon)
    draw = ImageDraw.Draw(canvas)
    unit = SUPERSAMPLING * SHORT_EDGE
    for _ in range(rng.integers(0, 4)):
        x, y = rng.uniform(0, width), rng.uniform(0.1, 0.8) * level
        for _ in range(3):
            rx, ry = rng.uniform(0.06, 0.14) * unit, rng.uniform(0.02, 0.035) * unit
            dx = rng.uniform(-0.1, 0.1) * unit
            draw.ellipse((x + dx - rx, y - ry, x + dx + rx, y + ry), fill=colours["cloud"])
    if rng.uniform() < 0.6:
        across = np.linspace(0, width, 24)
        phase, wave = rng.uniform(0, 2 * math.pi, 2), rng.uniform(1.0, 3.0, 2)
        swell = phase[:, None] + wave[:, None] * 2 * math.pi * across / width
        top = level - rng.uniform(0.03, 0.09) * unit * (1 + np.sin(swell)).sum(axis=0)
        ridge = zip(across.tolist(), top.tolist(), strict=True)
        outline = [(0.0, float(level)), *ridge, (float(width), float(level))]
        draw.polygon(outline, fill=colours["hill"])
    r, g, b = colours["ground"]
    dark = (round(0.62 * r), round(0.62 * g), round(0.62 * b))
    ground = _gradient(colours["ground"], dark, width, max(1, height - level))
    canvas.paste(ground, (0, level))
    for _ in range(rng.integers(0, 14)):
        x, y = rng.uniform(0, width), rng.uniform(level + 4, height)
        length = rng.uniform(0.02, 0.1) * unit
        draw.line((x, y, x + length, y), fill=dark, width=SUPERSAMPLING)


def draw_scene(rng: np.random.Generator, subject: str, looks: Mapping[str, float]) -> Image.Image:
    """The scene as it stood before the camera: palette, placement and tilt, nothing else."""
    short, longer = SHORT_EDGE, round(SHORT_EDGE * rng.choice([1.0, 1.25, 1.5]))
    width, height = (longer, short) if rng.uniform() < 0.7 else (short, longer)
    frame = np.array([width, height]) * SUPERSAMPLING
    # Turning needs a margin: the corners of the frame lie within this circle.
    side = math.ceil(math.hypot(*frame)) + 2
    colours = draw_palette(rng, looks["harmony"])
    unit = SUPERSAMPLING * short
    half_height = rng.uniform(0.27, 0.37) * unit
    # Placement is measured in short edges from the centre, so a square crop keeps all of it.
    direction = rng.uniform(0, 2 * math.pi)
    offset = looks["placement"] * unit * np.array([math.cos(direction), math.sin(direction)])
    centre = (side / 2 + offset[0], side / 2 + offset[1])
    below = rng.uniform(0.9, 1.6) if subject in _FLOATING else rng.uniform(0.55, 0.85)
    horizon = min(max(centre[1] + below * half_height, 0.1 * side), 0.95 * side)
    canvas = _gradient(colours["sky_top"], colours["sky_low"], side, side)
    _draw_scenery(canvas, rng, colours, horizon)
    pen = Pen(ImageDraw.Draw(canvas), centre, half_height)
    _SKETCHES[subject](pen, colours["main"], colours["accent"], colours["dark"])
    # The camera turns about its own axis, so the subject stays at its distance from the centre.
    # Pixel (x, y) of the frame shows point R (x, y) + offset of the canvas.
    angle = math.radians(looks["tilt"])
    cos, sin = math.cos(angle), math.sin(angle)
    x, y = frame / 2
    matrix = (cos, -sin, side / 2 - cos * x + sin * y, sin, cos, side / 2 - sin * x - cos * y)
    turned = canvas.transform(
        (int(frame[0]), int(frame[1])),
        Image.Transform.AFFINE,
        matrix,
        resample=Image.Resampling.BILINEAR,
    )
    return turned.resize((width, height), Image.Resampling.BOX)


def expose(scene: Image.Image, rng: np.random.Generator, looks: Mapping[str, float]) -> Image.Image:
    """The photograph of a scene: blur, contrast, saturation, exposure and grain, in that order.

    Exposure is in stops, contrast and saturation are factors about mid grey and about grey, blur
    is a radius in pixels and grain the standard deviation of two-pixel grain in units of white.
    """
    if looks["blur"] > 0.05:
        scene = scene.filter(ImageFilter.GaussianBlur(looks["blur"]))
    pixels = np.asarray(scene, dtype=np.float32) / 255
    pixels = 0.5 + looks["contrast"] * (pixels - 0.5)
    grey = pixels @ LUMINANCE.astype(np.float32)
    pixels = grey[..., None] + looks["saturation"] * (pixels - grey[..., None])
    pixels = np.clip(pixels, 0, None) * 2.0 ** looks["exposure"]
    height, width = grey.shape
    coarse = rng.standard_normal(((height + 1) // 2, (width + 1) // 2, 3), dtype=np.float32)
    grain = coarse.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    pixels = pixels + looks["grain"] * grain
    return Image.fromarray((np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8))
