"""Engines: what computes the image outputs of a loaded backbone. Torch is the reference.

ONNX Runtime runs an export of the loaded model, made once and kept. On a CPU it is faster for convolutional
networks: it folds batch norms into convolutions, and keeps maps in the layout that its kernels want. An
engine moves vectors in their last bits, so it is part of what identifies a feature file.

An export is kept under the backbone's name and weights, in one file: a line of JSON with its key (all that
it follows from), its SHA-256 and what its check found, then the model. Whatever is not as the key says,
damaged or of another version, is made anew. A new export is held against torch on a few pictures.
"""

import glob
import hashlib
import inspect
import io
import json
import logging
import platform
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from embed.backbones.exports import (
    OPSET,
    TOLERANCE,
    EngineUnavailable,
    engine_versions,
    first_line,
    header_line,
    is_of_key,
    largest_share,
    load_onnxruntime,
    made_from,
    read_header,
)
from embed.backbones.spec import ONNXRUNTIME, TORCH, BackboneSpec
from embed.backbones.towers import image_outputs
from embed.backbones.transforms import recipe_from_transform, transform_of
from embed.images.geometry import OWN_SIZE, scale_pixels
from store.digests import digest_of_json
from store.durable import make_folder, publish, sole_writer, write_pieces
from store.file_names import cache_stem, file_stem
from store.shapes import Float

if TYPE_CHECKING:
    from embed.backbones.loading import Backbone

logger = logging.getLogger(__name__)

_MAGIC = b"iaa-engine 1\n"
_MAX_HEADER = 1 << 16
_MAX_MODEL = (1 << 31) - (1 << 20)
"""A protocol buffer ends at 2 GiB."""


def fastest_exact(backbone: "Backbone") -> str:
    """The engine that is fastest for a backbone among those that give torch's vectors within rounding, by
    rule and not by a clock: ONNX Runtime for networks with batch norms between convolutions in float32 on a
    CPU, else torch.

    Transformers spend their time in the same matrix products with either.
    """
    if backbone.device.type != "cpu" or backbone.precision != "float32":
        return TORCH
    if backbone.recipe.crop_mode == OWN_SIZE:
        return TORCH  # an export is of one size
    found = {type(module) for module in _image_modules(backbone.model)}
    has_norms = any(issubclass(kind, nn.BatchNorm2d) for kind in found)
    return ONNXRUNTIME if has_norms and backbone.memory_format == torch.channels_last else TORCH


def _image_modules(model: nn.Module) -> Iterator[nn.Module]:
    tower = getattr(model, "visual", model)  # of a pair, the tower of texts has a say in nothing here
    yield from (tower if isinstance(tower, nn.Module) else model).modules()


class Session:
    """An exported model, ready to run.

    Attributes:
        versions: of the packages that made it and run it.
        difference: the largest from torch that its check found, as a share of a vector's length.
        is_new: it was exported now, and not taken from the folder of exports.
    """

    def __init__(
        self, run: Callable[[Any], list[Any]], names: Sequence[str], versions: Mapping[str, str],
        difference: float, is_new: bool,
    ) -> None:  # fmt: skip
        self._run, self._names = run, tuple(names)
        self.versions, self.difference, self.is_new = dict(versions), difference, is_new

    def outputs(self, images: Float[Tensor, "b 3 h w"]) -> dict[str, Float[Tensor, "b _"]]:
        """Every output of a batch of normalised images, from one pass. Raises RuntimeError."""
        try:
            found = self._run(images.contiguous().numpy())
        except Exception as error:  # its kinds are its own; whoever waits for a lack of memory asks the text
            is_memory = "alloc" in str(error).lower()
            raise RuntimeError(("out of memory: " if is_memory else "ONNX Runtime: ") + str(error)) from error
        return {name: torch.from_numpy(values) for name, values in zip(self._names, found, strict=True)}


def open_session(backbone: "Backbone", folder: Path | None) -> Session:
    """The backbone's image outputs by ONNX Runtime, from the export in a folder if it is there and right.

    Without a folder, or where it cannot be written, the export serves this process alone.

    Raises EngineUnavailable: ONNX Runtime is missing or too old, the model cannot be exported, or its vectors
    are further from torch's than TOLERANCE.
    """
    if backbone.device.type != "cpu" or backbone.precision != "float32":
        raise EngineUnavailable(
            f"ONNX Runtime computes float32 on the CPU, not {backbone.precision} on {backbone.device.type}: "
            "--device cpu --precision float32, or --engine torch"
        )
    versions = engine_versions()
    key = _key(backbone, versions)
    path = None if folder is None else folder / f"{cache_stem(file_stem(backbone.id))}.{_short(key)}.onnx"
    kept = None if path is None else _read(path, key)
    if kept is not None:
        if kept.why_not:
            raise EngineUnavailable(kept.why_not)
        if (session := _served(kept, versions, backbone.id)) is not None:
            return session
    made, run = _make(backbone)
    if path is not None:
        _keep(path, key, made, _facts(backbone))
    if made.why_not or run is None:
        raise EngineUnavailable(made.why_not)
    return Session(run, made.names, versions, made.difference, is_new=True)


@dataclass(frozen=True)
class Kept:
    """A kept export, with all that its backbone says of itself."""

    path: Path
    key: Mapping[str, Any]
    facts: Mapping[str, Any]

    def open(self) -> Session | None:
        """Its session; None where it cannot be used."""
        kept = _read(self.path, self.key)
        if kept is None or kept.why_not:
            return None
        return _served(kept, engine_versions(), str(self.key["backbone"]))


def kept_exports(folder: Path, spec: BackboneSpec) -> list[Path]:
    """The kept exports of a backbone, of whatever weights."""
    return sorted(folder.glob(f"{glob.escape(cache_stem(spec.file_stem))}.*.onnx"))


def find_kept(folder: Path, spec: BackboneSpec, weights_sha256: str, weights_file: str) -> Kept | None:
    """The kept export that a backbone of these weights would have here, and what it says of itself."""
    try:
        causes = json.loads(json.dumps(_causes(spec, weights_sha256, engine_versions())))
    except EngineUnavailable:
        return None
    for path in kept_exports(folder, spec):
        try:
            with path.open("rb") as file:
                header = read_header(file, _MAGIC, _MAX_HEADER)
            key, facts = header["key"], header["facts"]
            if facts and causes.items() <= key.items() and facts["weights_file"] == weights_file:
                return Kept(path, key, facts)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue  # told by who reads it whole
    return None


def _facts(backbone: "Backbone") -> dict[str, Any] | None:
    """What a backbone of a library says of itself, as JSON values; None where its transform is not what its
    recipe says."""
    recipe = backbone.recipe
    if recipe.crop_mode == OWN_SIZE or recipe_from_transform(transform_of(recipe)) != recipe:
        return None
    return {
        "recipe": recipe.to_json(),
        "outputs": dict(backbone.outputs),
        "activation": dict(backbone.activation),
        "pretrained": backbone.pretrained,
        "memory_format": str(backbone.memory_format).removeprefix("torch."),
        "weights_file": backbone.weights_file,
        "weights_entry": backbone.weights_entry,
        "weights_are_averaged": backbone.weights_are_averaged,
        "remarks": list(backbone.remarks),
        "fastest_engine": fastest_exact(backbone),
    }


@dataclass(frozen=True)
class _Export:
    """An exported model, or why there is none."""

    model: bytes = b""
    names: tuple[str, ...] = ()
    difference: float = 0.0
    why_not: str = ""


def _served(kept: _Export, versions: Mapping[str, str], id: str) -> Session | None:
    """A session of a kept export; None where it cannot be used."""
    try:
        return Session(_runner(kept.model), kept.names, versions, kept.difference, is_new=False)
    except Exception as error:  # whatever it finds wrong with it: it can be made anew
        logger.warning("%s: the kept export cannot be used (%s): it is made anew", id, error)
        return None


def _make(backbone: "Backbone") -> "tuple[_Export, Callable[[Any], list[Any]] | None]":
    """Export and check. A lack of memory or of room is not kept as the model's fault: it is raised."""
    names = tuple(backbone.encode_by_torch(torch.zeros(1, 3, *backbone.recipe.crop)))
    try:
        model = _export(backbone, names)
    except (MemoryError, OSError) as error:
        raise EngineUnavailable(f"{backbone.id} could not be exported: {first_line(error)}") from error
    except Exception as error:  # an exporter has no kinds of its own: any error of any part of torch
        return _Export(why_not=f"{backbone.id} cannot be exported: {first_line(error)}"), None
    if len(model) > _MAX_MODEL:
        return _Export(why_not=f"{backbone.id} is too large for one file: {len(model):,} bytes"), None
    try:
        run = _runner(model)
        difference = largest_difference(backbone, run, names)
    except Exception as error:
        raise EngineUnavailable(f"ONNX Runtime cannot run {backbone.id}: {first_line(error)}") from error
    if not difference <= TOLERANCE:  # not a number, too
        why_not = f"the vectors of {backbone.id} differ by {difference:.1e} of their length from torch's"
        return _Export(why_not=f"{why_not}, more than {TOLERANCE:.0e}"), None
    return _Export(model, names, difference), run


class _Outputs(nn.Module):
    """A model's image outputs as a tuple, which is what an exporter takes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(image_outputs(self.model, images).values())


def _export(backbone: "Backbone", names: Sequence[str]) -> bytes:
    """The bytes of the model as ONNX, for batches of any size.

    By torch's older exporter: it takes seconds where the newer one takes half a minute, and every torch that
    this package runs with has it.
    """
    axes = {name: {0: "b"} for name in ("images", *names)}
    images = torch.zeros(2, 3, *backbone.recipe.crop)
    return export_graph(_Outputs(backbone.model).eval(), images, "images", names, axes)


def export_graph(
    module: nn.Module,
    example: Tensor,
    takes: str,
    gives: Sequence[str],
    axes: Mapping[str, Mapping[int, str]],
) -> bytes:
    """The bytes of a module as ONNX: the names of its input and outputs, and by name which of their axes may
    have any length. Raises whatever the exporter does."""
    buffer = io.BytesIO()
    settings: dict[str, Any] = {
        "input_names": [takes],
        "output_names": list(gives),
        "dynamic_axes": axes,
        "opset_version": OPSET,
    }
    export: Any = torch.onnx.export  # its older half, which takes a buffer, is not in its types
    if "dynamo" in inspect.signature(export).parameters:
        settings["dynamo"] = False
    with torch.no_grad(), warnings.catch_warnings(), _without_fused_attention(), _quiet():
        warnings.simplefilter("ignore")
        export(module, (example,), buffer, **settings)
    return buffer.getvalue()


@contextmanager
def _without_fused_attention() -> Iterator[None]:
    """Torch's layers take a short cut in evaluation that no exporter knows."""
    was = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter logs what it thinks of itself."""
    theirs = logging.getLogger("torch.onnx")
    before = theirs.level
    theirs.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        theirs.setLevel(before)


def _runner(model: bytes) -> Callable[[Any], list[Any]]:
    """Runs a model on as many threads as torch would take."""
    onnxruntime = load_onnxruntime()

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that wait actively would take the cores from those that decode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(images: Any) -> list[Any]:
        found: list[Any] = session.run(None, {"images": images})
        return found

    return run


def largest_difference(
    backbone: "Backbone", run: Callable[[Any], list[Any]], names: Sequence[str]
) -> float:
    """The largest difference from torch over pictures and outputs, as a share of a vector's length; infinite
    for other shapes or what is no number."""
    worst = 0.0
    for batch in _pictures(backbone):
        expected = backbone.encode_by_torch(batch)
        for name, values in zip(names, run(batch.numpy()), strict=True):
            worst = max(worst, largest_share(values, expected[name].numpy()))
    return worst


def _pictures(backbone: "Backbone") -> list[Tensor]:
    """Batches of two sizes, so that one which the export has fixed is found: black, white, a ramp, coarse and
    fine noise, as they leave decoding."""
    height, width = backbone.recipe.crop
    made = torch.Generator().manual_seed(0)
    fine = torch.randint(0, 256, (2, height, width, 3), generator=made).byte()
    coarse = torch.randint(0, 256, (1, 3, 7, 7), generator=made).float()
    coarse = nn.functional.interpolate(coarse, (height, width), mode="bilinear").permute(0, 2, 3, 1).byte()
    ramp = torch.linspace(0, 255, width).byte().view(1, 1, width, 1).expand(1, height, width, 3)
    flat = torch.tensor([0, 255]).byte().view(2, 1, 1, 1).expand(2, height, width, 3)
    recipe = backbone.recipe
    return [
        scale_pixels(pixels, recipe.mean, recipe.std).contiguous()
        for pixels in (torch.cat([fine, coarse, ramp, flat[:1]]), torch.cat([flat[1:], coarse, fine[:1]]))
    ]


def _key(backbone: "Backbone", versions: Mapping[str, str]) -> dict[str, Any]:
    """All that an export, and the verdict on it, follows from."""
    provenance = backbone.provenance()
    return {
        **_causes(backbone.spec, backbone.weights_sha256, versions),
        **backbone.weights_identity,
        **{name: provenance[name] for name in ("library", "architecture", "activation", "outputs")},
        "n_parameters": sum(tensor.numel() for tensor in backbone.model.parameters()),
        "crop": list(backbone.recipe.crop),
    }


def _causes(spec: BackboneSpec, weights_sha256: str, versions: Mapping[str, str]) -> dict[str, Any]:
    """What is known before anything is built; the rest of a key follows from it."""
    return {
        **made_from(spec, dict(versions)),
        "weights_sha256": weights_sha256,
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
    }


def _short(key: Mapping[str, Any]) -> str:
    """What tells exports of one backbone apart: weights and processor. One of other versions is replaced."""
    told = [key["weights_sha256"], key.get("weights_entry", ""), key["crop"], key["processor"]]
    return digest_of_json(told)[:16]


def _read(path: Path, key: Mapping[str, Any]) -> _Export | None:
    """The export of this key; None where there is none, or one that is damaged or of another key."""
    try:
        with path.open("rb") as file:
            header = read_header(file, _MAGIC, _MAX_HEADER)
            if not is_of_key(header, key):
                logger.info("%s is of other versions or weights: it is made anew", path)
                return None
            model = file.read(_MAX_MODEL)
        if hashlib.sha256(model).hexdigest() != header["sha256"]:
            raise ValueError("its bytes are not those that were written")
        return _Export(model, tuple(header["names"]), float(header["difference"]), str(header["why_not"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        logger.warning("%s cannot be used (%s): it is made anew", path, error)
        return None


def _keep(path: Path, key: Mapping[str, Any], export: _Export, facts: Mapping[str, Any] | None) -> None:
    """Keep an export; where that cannot be, it is made again next time."""
    header = {
        "key": dict(key),
        "facts": facts,
        "sha256": hashlib.sha256(export.model).hexdigest(),
        "names": export.names,
        "difference": export.difference,
        "why_not": export.why_not,
    }
    written = header_line(header, _MAGIC)
    partial = path.with_name(f"{path.name}.partial")
    try:
        make_folder(path.parent)
        with sole_writer(partial):
            pieces = [(0, written), (len(written), export.model)]
            write_pieces(partial, len(written) + len(export.model), pieces)
            publish(partial, path)
    except OSError as error:
        logger.warning("%s cannot be written (%s): the next run exports again", path, error.strerror)
