"""Pictures from prompts (the paper's Figure 4): subjects and adjectives, or a head, side by side."""

import hashlib
import io
import re
import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from iaa.library.backbones import has_text, load_backbone
from iaa.library.errors import UsageError
from iaa.library.extras import naming_extras
from iaa.library.layout import Layout, data_root
from iaa.library.opening import check_known, embedded_paths, existing_head
from iaa.library.progress import Progress, show_progress
from iaa.library.sheets import painting_page
from iaa.library.table import Table, facts
from store import open_features
from store.digests import digest_of_json
from store.durable import make_folder, whole_file
from store.painted import PREVIEW
from store.sealed import write_json

if TYPE_CHECKING:
    from analysis.probing.heads import Head
    from embed.backbones.loading import Backbone
    from embed.painting.guide import Guide
    from embed.painting.settings import Settings

DEFAULT_BACKBONE = "vit_b32.openai"
TEMPLATE = "a {adjective} picture of {subject}"
"""Figure 4 says "A outstanding picture of..."; without an adjective the word and its space go."""
HIGH, LOW = "high", "low"
HEAD_WEIGHT = 0.05
PAGE = "index.html"
PREVIEW_STEPS = 25

OnPreview = Callable[["Painting"], None]


@dataclass(frozen=True)
class Painting:
    """A picture and how it was made."""

    pixels: np.ndarray = field(repr=False)
    """RGB, uint8 (height, width, 3)."""
    about: dict[str, Any] = field(repr=False)
    """Text, backbone, head, decoder, photograph, settings, measures: what stands in the PNG."""
    path: Path | None = None
    """Its file, where it has one."""

    @property
    def subject(self) -> str:
        """What is painted; '' for a head alone."""
        return str(self.about["subject"])

    @property
    def adjective(self) -> str:
        """How; `high` or `low` for a head's two directions."""
        return str(self.about["adjective"])

    @property
    def seed(self) -> int:
        """Of all its random numbers."""
        return int(self.about["settings"]["seed"])

    def save(self, path: Path | str) -> Path:
        """Write the PNG with its settings inside; returns its path."""
        from embed.painting.files import write_painting

        write_painting(Path(path), self.pixels, self.about)
        return Path(path)

    def _repr_png_(self) -> bytes:
        """The picture, for notebooks."""
        return png_bytes(self.pixels)


class Paintings(list[Painting]):
    """Pictures in the order subject, adjective, seed within each; a page sets them side by side."""

    page: Path | None = None
    dataset: str | None = None
    """The data set in whose report they are."""

    def table(self) -> Table:
        """A row per picture: what it is of, how the loss went, what can be measured on its pixels."""
        measures = list(self[0].about["measures"]) if self else []
        return Table(
            "Painted",
            {
                "subject": [each.subject for each in self],
                "adjective": [each.adjective for each in self],
                "seed": [each.seed for each in self],
                "loss_before": [each.about["loss"][0] for each in self],
                "loss_after": [each.about["loss"][1] for each in self],
                **{name: [each.about["measures"][name] for each in self] for name in measures},
                **({"file": [str(each.path) for each in self]} if any(each.path for each in self) else {}),
            },
        )

    def to_dict(self) -> dict[str, Any]:
        """What each is, as plain values."""
        return {
            "paintings": [each.about | {"file": each.path} for each in self],
            "page": self.page,
        }

    def notes(self) -> list[str]:
        """Where the page is, and the way into a report."""
        if self.page is None:
            return []
        shown = f"In the report, as Figure 4: iaa report --dataset {self.dataset}"
        other = "For Figure 4 of a data set's report: the same with --dataset NAME instead of --out"
        return [f"Side by side: {self.page}", shown if self.dataset else other]

    def to_html(self, path: Path | str) -> Path:
        """Write the page that sets them side by side as Figure 4 does: a column per subject, a row per
        adjective, once for each seed. Pictures are in the file itself; returns its path."""
        with whole_file(Path(path)) as partial:
            partial.write_text(self._repr_html_(), encoding="utf-8")
        return Path(path)

    def _repr_html_(self) -> str:
        return painting_page(self)


@naming_extras()
def paint(
    subjects: Sequence[str] | str = (),
    adjectives: Sequence[str] | str = (),
    backbone: str | None = None,
    head: str | None = None,
    photograph: Path | str | None = None,
    decoder: Path | str | None = None,
    encoder: Path | str | None = None,
    size: str | int | None = None,
    n_seeds: int = 1,
    template: str = TEMPLATE,
    head_weight: float = HEAD_WEIGHT,
    folder: Path | str | None = None,
    weights: Path | str | None = None,
    device: str = "auto",
    data: Path | str | None = None,
    dataset: str | None = None,
    progress: Progress | None = None,
    on_preview: OnPreview | None = None,
    **settings: Any,
) -> Paintings:
    """Pictures of each subject with each adjective that a backbone finds near the text (Figure 4, section 5).

    A head without adjectives paints each subject twice, towards a high and towards a low score; with
    adjectives it raises the score of all. `photograph` is what is begun with instead of noise; a `decoder`
    (docs/paint.md) paints by its latents instead of Fourier coefficients. `size` is the edge of a square, the
    shorter edge of a photograph, or "WIDTHxHEIGHT". In a `folder` each finished picture is kept at once, one
    that is there with the same settings is not painted again, and index.html sets them side by side. With a
    `dataset` that folder is its `painted`, from where its report takes Figure 4, and its only CLIP guides.
    Further settings: steps, rate, cutouts, smallest, noise, seed.

    Raises PaintingError, UsageError for what cannot be painted, PromptTooLong, WeightsUnavailable, HeadError.
    """
    from embed.painting.guide import Guide, HeadAim

    if n_seeds < 1:
        raise UsageError(f"{n_seeds} seeds paint nothing: give 1 or more")
    root = data_root(None if data is None else Path(data))
    if dataset is not None:
        if folder is not None:
            raise UsageError("pictures of a data set's report lie in its own folder: give --dataset or --out")
        layout = Layout(root, dataset)
        check_known(layout)
        folder = layout.painted
        backbone = backbone or (None if head else _only_guide(layout))
    given = _load_head(root, head) if head else None
    aims = _aims(_words(subjects), _words(adjectives), template, given is not None)
    name = _backbone_of(backbone, given)
    _check_texts(name, aims)
    start = _begin_with(photograph, size, decoder, encoder, settings)
    loaded = load_backbone(name, weights, device)
    target = None if folder is None else Path(folder)
    done = Paintings()
    done.dataset = dataset
    for aim in aims:
        towards = None
        if given is not None:
            towards = HeadAim(given.layers, given.output, given.unit_norm, aim.sign, head_weight)
        guide = Guide(loaded, aim.text, towards)
        for seed in range(start.settings.seed, start.settings.seed + n_seeds):
            job = _job(aim, seed, template, loaded, given, head_weight, start, target)
            job = replace(job, beside=tuple(dict.fromkeys(each.adjective for each in aims)))
            found = None if job.path is None else _existing(job.path, job.identity)
            done.append(found or _paint_one(job, guide, start, progress or show_progress, on_preview))
    if target is not None:
        (target / PREVIEW).unlink(missing_ok=True)
        done.page = done.to_html(target / PAGE)
    return done


@dataclass(frozen=True)
class _Aim:
    """What one picture is to be."""

    subject: str
    adjective: str
    text: str
    sign: int


@dataclass(frozen=True)
class _Start:
    """What a picture is begun with, the same for all of a call."""

    settings: "Settings"
    about: dict[str, Any]
    pixels: np.ndarray | None
    decoder: Any
    encoder: Any


@dataclass(frozen=True)
class _Job:
    """One picture before it is painted: all that shapes it, and its file."""

    aim: _Aim
    identity: dict[str, Any]
    settings: "Settings"
    path: Path | None
    beside: tuple[str, ...] = ()
    """The adjectives of the call, in their order."""

    @property
    def title(self) -> str:
        """What it is, for people."""
        what = " ".join(filter(None, [self.aim.adjective, self.aim.subject])) or "picture"
        return f"{what}, seed {self.settings.seed}"


def _job(
    aim: _Aim,
    seed: int,
    template: str,
    loaded: "Backbone",
    head: "Head | None",
    head_weight: float,
    start: _Start,
    folder: Path | None,
) -> _Job:
    settings = replace(start.settings, seed=seed)
    identity = {
        "text": aim.text,
        "subject": aim.subject,
        "adjective": aim.adjective,
        "template": template if aim.text else "",
        "backbone": loaded.id,
        **loaded.weights_identity,
        **({} if head is None else {"head": _about_head(head, aim.sign, head_weight)}),
        **start.about,
        "settings": settings.to_json(),
    }
    if folder is None:
        return _Job(aim, identity, settings, None)
    words = "-".join(re.findall(r"[a-z0-9]+", f"{aim.subject} {aim.adjective}".lower()))[:60] or "picture"
    return _Job(aim, identity, settings, folder / f"{words}.{seed}.{digest_of_json(identity)[:8]}.png")


def _existing(path: Path, identity: dict[str, Any]) -> Painting | None:
    """The picture that is there, if it is whole and of these settings."""
    from embed.painting.errors import PaintingError
    from embed.painting.files import read_painting

    if not path.exists():
        return None
    try:
        pixels, about = read_painting(path)
    except PaintingError:
        return None
    is_same = {key: about.get(key) for key in identity} == identity
    is_whole = about.get("pixels_sha256") == hashlib.sha256(pixels.tobytes()).hexdigest()
    return Painting(pixels, about, path) if is_same and is_whole else None


def _paint_one(
    job: _Job, guide: "Guide", start: _Start, progress: Progress, on_preview: OnPreview | None
) -> Painting:
    from embed.painting.measures import measure
    from embed.painting.paint import paint as paint_pixels

    losses: list[float] = []

    def picture(pixels: np.ndarray, path: Path | None = None) -> Painting:
        about = job.identity | {
            "loss": [round(losses[0], 6), round(losses[-1], 6)],
            "steps_done": len(losses),
            "adjectives": list(job.beside),
            "measures": {key: round(value, 6) for key, value in measure(pixels).items()},
            "pixels_sha256": hashlib.sha256(pixels.tobytes()).hexdigest(),
            "made_by": {**guide.backbone.provenance()["versions"], "device": str(guide.backbone.device.type)},
        }
        made = Painting(pixels, about, path)
        if path is not None:
            make_folder(path.parent)
            made.save(path)
        return made

    def on_step(step: int, loss: float, pixels: Callable[[], np.ndarray]) -> None:
        losses.append(loss)
        bar.update(1)
        bar.set_postfix_str(f"loss {loss:.4f}")
        if step % PREVIEW_STEPS == 0 and (on_preview or job.path):
            preview = picture(pixels(), job.path and job.path.with_name(PREVIEW))
            if on_preview is not None:
                on_preview(preview)

    with progress(job.title, job.settings.steps, "steps") as bar:
        found = paint_pixels(guide, job.settings, start.pixels, start.decoder, start.encoder, on_step)
    return picture(found.pixels, job.path)


def _words(given: Sequence[str] | str) -> list[str]:
    """Texts without repeats and outer space, in order; one text is a list of one."""
    texts = [given] if isinstance(given, str) else list(given)
    return list(dict.fromkeys(text.strip() for text in texts if text.strip()))


def _aims(subjects: list[str], adjectives: list[str], template: str, has_head: bool) -> list[_Aim]:
    """What is to be painted, subject by subject. Raises UsageError where nothing says what."""
    if not subjects and not has_head:
        raise UsageError(
            'nothing says what to paint: give a subject, such as "a lighthouse", before --adjectives (all '
            "words after it are adjectives), or a head"
        )
    if adjectives and not subjects:
        raise UsageError(f"adjectives ({', '.join(adjectives)}) without a subject: of what?")
    if subjects and not all(name in template for name in ("{adjective}", "{subject}")):
        raise UsageError(f"the template {template!r} must have {{adjective}} and {{subject}} in it")
    kinds = [(word, 1) for word in adjectives] or ([(HIGH, 1), (LOW, -1)] if has_head else [("", 1)])
    aims = []
    for subject in subjects or [""]:
        for word, sign in kinds:
            filled = template.replace("{subject}", subject).replace("{adjective}", word if adjectives else "")
            aims.append(_Aim(subject, word, " ".join(filled.split()) if subject else "", sign))
    return aims


def _load_head(root: Path, head: str) -> "Head":
    from analysis.probing.heads import load_head

    return load_head(existing_head(root, head))


def _about_head(head: "Head", sign: int, weight: float) -> dict[str, Any]:
    digest = hashlib.sha256(
        b"".join(np.ascontiguousarray(a).tobytes() for layer in head.layers for a in layer)
    )
    return {
        "name": head.name, "output": head.output, "sha256": digest.hexdigest(), "sign": sign, "weight": weight
    }  # fmt: skip


def _backbone_of(backbone: str | None, head: "Head | None") -> str:
    """The backbone that guides: the one asked for, else the head's, else the paper's CLIP."""
    if head is None:
        return backbone or DEFAULT_BACKBONE
    if backbone is not None and backbone != head.backbone:
        raise UsageError(
            f"head {head.name} belongs to {head.backbone} and not to {backbone}: leave out --backbone"
        )
    return head.backbone


def _only_guide(layout: Layout) -> str | None:
    """The one backbone of a data set that knows words; None where there is none, or several."""
    names = [open_features(path).backbone for path in embedded_paths(layout)]
    reading = [name for name in names if has_text(name)]
    return reading[0] if len(reading) == 1 else None


def _check_texts(backbone: str, aims: list[_Aim]) -> None:
    """Raises UsageError where a backbone that reads no words is to paint a text."""
    texts = [aim.text for aim in aims if aim.text]
    if texts and not has_text(backbone):
        raise UsageError(
            f"{backbone} reads no words, so it cannot paint {texts[0]!r}: leave the subject out and let a "
            "head say where to, or take a CLIP backbone (vit_b32.openai; demo_clip to try it)"
        )


def _begin_with(
    photograph: Path | str | None,
    size: str | int | None,
    decoder: Path | str | None,
    encoder: Path | str | None,
    settings: dict[str, Any],
) -> _Start:
    """Size, photograph and decoder of all pictures of a call, each looked at before a model is loaded."""
    from embed.painting.decoder import LATENT_EDGE, load_coder
    from embed.painting.settings import make_settings

    if encoder is not None and (decoder is None or photograph is None):
        raise UsageError("an encoder serves to begin a decoder's picture with a photograph: give both")
    about: dict[str, Any] = {}
    step = 1 if decoder is None else LATENT_EDGE
    pixels = None
    if photograph is None:
        width, height = _size(size) or (256, 256)
    else:
        pixels, sha256 = _read_photograph(Path(photograph), size, step)
        height, width = pixels.shape[:2]
        about["photograph"] = {"file": Path(photograph).name, "sha256": sha256}
    chosen = make_settings({**settings, "height": height, "width": width})
    models: list[Any] = []
    for kind, file in (("decoder", decoder), ("encoder", encoder or _beside(decoder, photograph))):
        if file is None:
            models.append(None)
            continue
        model, sha256 = load_coder(Path(file), kind)
        models.append(model)
        about[kind] = {"file": Path(file).name, "sha256": sha256}
    return _Start(chosen, about, pixels, *models)


def _size(given: str | int | None) -> tuple[int, int] | None:
    """(width, height) of "WIDTHxHEIGHT" or of the edge of a square; None for none. Raises UsageError."""
    if given is None:
        return None
    found = re.fullmatch(r"\s*(\d{1,6})(?:\s*[x×]\s*(\d{1,6}))?\s*", str(given))
    if not found:
        raise UsageError(f"size {given!r}: expected a number of pixels, or WIDTHxHEIGHT such as 320x256")
    return int(found[1]), int(found[2] or found[1])


def _read_photograph(file: Path, size: str | int | None, step: int) -> tuple[np.ndarray, str]:
    """A photograph, upright, at the size asked for (cut in the middle where its shape is another), else with
    its shorter edge at 256; sides are multiples of `step`. Its SHA-256.

    Raises PaintingError for what cannot be read or has too long a shape.
    """
    from PIL import ImageOps
    from PIL.Image import Resampling

    from embed.images.decode import ImageError, decode_image, read_bytes
    from embed.painting.errors import PaintingError
    from embed.painting.settings import MAX_RATIO

    try:
        data = read_bytes(file)
        image = decode_image(data, exif_rotate=True)
    except ImageError as error:
        raise PaintingError(f"{file}: {error}") from error
    width, height = image.size
    if max(width, height) > MAX_RATIO * min(width, height):
        raise PaintingError(
            f"{file} is {width} x {height}: its longer side may be {MAX_RATIO} times the shorter, for square "
            "cut-outs would see little of it. Crop it first"
        )
    asked = _size(size)
    if asked is None or str(size).strip().isdigit():
        scale = (asked[0] if asked else 256) / min(width, height)
        across, down = (max(step, round(side * scale / step) * step) for side in (width, height))
        asked = across, down
    fitted = ImageOps.fit(image, asked, Resampling.LANCZOS)
    return np.asarray(fitted, dtype=np.uint8), hashlib.sha256(data).hexdigest()


def _beside(decoder: Path | str | None, photograph: Path | str | None) -> Path | None:
    """The encoder that lies beside a decoder under its name, if one is needed. Raises UsageError."""
    if decoder is None or photograph is None:
        return None
    path = Path(decoder)
    found = path.with_name(path.name.replace("decoder", "encoder"))
    if found == path or not found.exists():
        raise UsageError(
            f"to begin with a photograph, the decoder's encoder is needed, and {found.name} does not lie "
            f"beside {path}: give --encoder FILE"
        )
    return found


def png_bytes(pixels: np.ndarray) -> bytes:
    """Pixels as a PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


class Described(dict[str, Any]):
    """What stands in a painted PNG, as plain values; and as people read it."""

    def table(self) -> Table:
        """A row per fact."""
        told: dict[str, Any] = {}
        for key, value in self.items():
            parts = value if isinstance(value, dict) else {"": value}
            told |= {f"{key}.{name}".rstrip("."): each for name, each in parts.items()}
        return facts("A painted picture", told)

    def notes(self) -> list[str]:
        """The command that paints it again."""
        return [f"Paint it again: {again(self)}"]


@naming_extras()
def describe_painting(path: Path | str) -> Described:
    """How a picture was painted, from its PNG. Raises PaintingError for a PNG without settings."""
    from embed.painting.files import read_painting

    return Described(read_painting(Path(path))[1])


def keep_painted(layout: Layout) -> None:
    """Write down how each picture in a data set's folder was made: its report reads no pictures."""
    from embed.painting.errors import PaintingError

    found = {}
    for path in sorted(layout.painted.glob("*.png")):
        with suppress(PaintingError):
            found[path.name] = describe_painting(path)
    if found or layout.painted_list.exists():
        write_json(layout.painted_list, found)


def again(about: dict[str, Any]) -> str:
    """The command that paints a picture again from what stands in it."""
    settings = dict(about["settings"])
    words = ["iaa", "paint"]
    if about["subject"]:
        words += [about["subject"], "--template", about["template"]]
    if about["adjective"] and about["subject"] and about["adjective"] not in (HIGH, LOW):
        words += ["--adjectives", about["adjective"]]
    if "head" in about:
        words += ["--head", about["head"]["name"], "--head-weight", str(about["head"]["weight"])]
    else:
        words += ["--backbone", about["backbone"]]
    for kind, option in (("photograph", "--from"), ("decoder", "--decoder"), ("encoder", "--encoder")):
        if kind in about:
            words += [option, about[kind]["file"]]
    words += ["--size", f"{settings.pop('width')}x{settings.pop('height')}"]
    for name, value in settings.items():
        words += [f"--{name}", str(value)]
    return shlex.join(words)
