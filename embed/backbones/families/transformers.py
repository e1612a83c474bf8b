"""transformers: CLIP and SigLIP pairs and image towers, `transformers:PUBLISHER/NAME` or a folder.

A folder is what `save_pretrained` writes or the hub's cache keeps: configuration, image processor, weights
and, for prompts, the tokenizer. Nothing but weights is downloaded, and code that comes with a model is never
run.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embed.backbones.families import Family, Model, Texts, Transform
from embed.backbones.spec import BackboneError, BackboneSpec
from embed.backbones.weights import WeightsUnavailable
from embed.uncompiled import library

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

_CONFIG = "config.json"
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_TOKENIZERS = ("tokenizer.json", "vocab.json", "tokenizer.model", "spiece.model")
#: What stands on a tower in the files of classifiers, and is no part of any output here.
_HEADS = ("classifier.", "cls_classifier.", "distillation_classifier.", "pooler.")
_PAIRS = ("clip", "siglip")
_CLASS_TOKEN = ("vit", "vit_msn", "deit", "dinov2", "dinov2_with_registers", "dinov3_vit")
_POOLED = ("convnext", "convnextv2", "resnet", "regnet", "swin", "swinv2")
_TOWERS = {"clip_vision_model": "pre_projection", "siglip_vision_model": "embedding"}
_KINDS = (*_PAIRS, *_CLASS_TOKEN, *_POOLED, *_TOWERS)
#: Of a value near 1 after float32 arithmetic in another order.
_ROUNDING = 1e-5


def _parse(name: str) -> BackboneSpec | None:
    """A path that begins with `/`, `./` or `../` is a folder, all else a repository of the hub."""
    is_folder = name.startswith(("/", "./", "../"))
    if not is_folder and not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name):
        return None
    try:
        config = json.loads((_folder(name) / _CONFIG).read_bytes())
        kind, classes = config.get("model_type"), config.get("architectures") or ["AutoModel"]
    except (OSError, ValueError, AttributeError, BackboneError):  # told when it is to be built
        kind, classes = "", ["AutoModel"]
    return BackboneSpec(
        f"transformers:{name}", "transformers", str(classes[0]), Path(name).name if is_folder else name, {},
        has_text=kind in _PAIRS, registered=False, hub_repo=name,
        source="a folder" if is_folder else f"hub repository {name}",
    )  # fmt: skip


def _folder(name: str) -> Path:
    """The folder of a model: the one named, or that in the hub's cache. Raises WeightsUnavailable."""
    if name.startswith(("/", "./", "../")):
        return Path(name)
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(name, _CONFIG)
    if not isinstance(config, str):
        raise WeightsUnavailable(
            f"backbone 'transformers:{name}': {_CONFIG} of the hub repository {name} is not on this machine. "
            + _how_to_fetch(name)
        )
    return Path(config).parent


def _how_to_fetch(name: str) -> str:
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    return (
        f"On a machine with a network: hf download {name} --include '*.json' '*.txt' '*.model' {_WEIGHTS[0]}"
        f"; then copy the cache folder to {folder}, or name a folder with these: transformers:./FOLDER"
    )


def _check(spec: BackboneSpec, has_file: bool) -> None:
    from store.errors import UnsafeNameError
    from store.file_names import check_name

    name = spec.hub_repo
    folder = _folder(name)
    try:
        check_name(spec.file_stem, "backbone")
    except UnsafeNameError as error:
        raise BackboneError(f"{error}, or reach the folder by a link that has such a name") from error
    if not folder.is_dir():
        raise WeightsUnavailable(f"backbone {spec.id!r}: there is no folder {folder}")
    for wanted in ((_CONFIG,), _PROCESSORS):
        if not any((folder / file).is_file() for file in wanted):
            raise WeightsUnavailable(
                f"backbone {spec.id!r}: {folder} has no {' or '.join(wanted)}, so it is not whole or not "
                "what save_pretrained wrote"
                + ("" if folder == Path(name) else ". " + _how_to_fetch(name))
            )
    try:
        config = json.loads((folder / _CONFIG).read_bytes())
        kind, needs_code = config.get("model_type"), "auto_map" in config
    except (ValueError, AttributeError) as error:
        raise BackboneError(
            f"backbone {spec.id!r}: {folder / _CONFIG} is no configuration: {error}"
        ) from error
    if needs_code:
        raise BackboneError(
            f"backbone {spec.id!r}: its {_CONFIG} (auto_map) asks to run code that comes with the model, "
            "which is never done. Use a model whose architecture transformers has itself"
        )
    if kind not in _KINDS:
        raise BackboneError(
            f"backbone {spec.id!r}: no known way to take vectors from the architecture {kind!r}. Known: "
            + ", ".join(_KINDS)
        )
    if not has_file and (folder / f"{_WEIGHTS[0]}.index.json").is_file():
        raise BackboneError(
            f"backbone {spec.id!r}: its weights lie in several files. Save them as one: "
            "model.save_pretrained(FOLDER, max_shard_size='100GB')"
        )


def _own_file(spec: BackboneSpec) -> Path | None:
    name = spec.hub_repo
    if not name.startswith(("/", "./", "../")):
        return None
    files = [Path(name) / file for file in _WEIGHTS]
    return next((file for file in files if file.is_file()), files[0])


def _hub_location(spec: BackboneSpec) -> tuple[str, tuple[str, ...], str]:
    return spec.hub_repo, _WEIGHTS, ""


def _settings(spec: BackboneSpec) -> tuple[Path, ...]:
    folder = _folder(spec.hub_repo)
    return tuple(path for file in (_CONFIG, *_PROCESSORS) if (path := folder / file).is_file())


def _build(spec: BackboneSpec, device: "torch.device") -> "tuple[nn.Module, Transform]":
    import torch

    with _installed(spec):
        from transformers import AutoModel

    config = _config(spec)
    with _told(spec, "its architecture cannot be built"), device:
        made = _typed(AutoModel).from_config(config, dtype=torch.float32, **_without_pooler(config))
    model: nn.Module = made
    return model, _transform(spec)


def _config(spec: BackboneSpec) -> Any:
    with _installed(spec):
        from transformers import AutoConfig

    with _told(spec, f"its {_CONFIG} cannot be read"):
        return AutoConfig.from_pretrained(
            _folder(spec.hub_repo), local_files_only=True, trust_remote_code=False
        )


def _without_pooler(config: Any) -> dict[str, bool]:
    """A transformer's pooler is a layer for another task, which many files lack."""
    return {"add_pooling_layer": False} if config.model_type in ("vit", "deit") else {}


@contextmanager
def _told(spec: BackboneSpec, what: str) -> Iterator[None]:
    """A library's error as one of a backbone that says what was tried."""
    try:
        yield
    except Exception as error:
        raise BackboneError(f"backbone {spec.id!r}: {what} ({type(error).__name__}: {error})") from error


def _installed(spec: BackboneSpec) -> AbstractContextManager[None]:
    return _told(spec, "it needs the package transformers: pip install 'transformers>=5'")


def _typed(auto: Any) -> Any:
    """transformers does not type what makes its models and image processors."""
    return auto


def _transform(spec: BackboneSpec) -> Transform:
    """The image processor as torchvision's steps, held against what it does itself.

    Raises BackboneError for a processor that does something else.
    """
    tv = library("torchvision.transforms")

    with _installed(spec):
        from transformers import AutoImageProcessor

    with _told(spec, "its image processor cannot be read"):
        processor = _typed(AutoImageProcessor).from_pretrained(
            _folder(spec.hub_repo), backend="pil", local_files_only=True, trust_remote_code=False
        )
    says = processor.to_dict()
    if not says.get("do_resize") or not says.get("do_rescale") or says.get("do_pad"):
        raise _cannot_express(spec, "it does not resize, does not scale to 0 to 1, or pads")
    size, crop = dict(says["size"]), says.get("crop_size") if says.get("do_center_crop") else None
    resize: int | tuple[int, int]
    if edge := size.get("shortest_edge"):
        resize = int(edge)
        if "crop_pct" in says:  # ConvNeXt's: a margin is cut off below 384 pixels, above nothing
            crop = {"height": resize, "width": resize}
            resize = int(resize / says["crop_pct"]) if resize < 384 else (resize, resize)
    elif size.get("height") and size.get("width"):
        resize = (int(size["height"]), int(size["width"]))
    else:
        raise _cannot_express(spec, f"it resizes to {size}")
    names = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
    steps: list[Any] = [tv.Resize(resize, tv.InterpolationMode(names[int(says["resample"])]), antialias=True)]
    if crop is not None and isinstance(resize, int):
        steps.append(tv.CenterCrop((int(crop["height"]), int(crop["width"]))))
    normalises = says.get("do_normalize")
    mean, std = (says["image_mean"], says["image_std"]) if normalises else ([0.0] * 3, [1.0] * 3)
    transform: Transform = tv.Compose([*steps, tv.ToTensor(), tv.Normalize(mean, std)])
    if problem := _difference(processor, transform, resize):
        raise _cannot_express(spec, f"{problem} from {transform}")
    return transform


def _difference(processor: Any, transform: Transform, resize: int | tuple[int, int]) -> str:
    """How far steps are from what a processor does; '' within rounding.

    The images leave even margins: where one is odd, transformers and torchvision may begin a crop one pixel
    apart.
    """
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    sizes = [(2 * resize, 2 * resize + 40), (resize + 20, resize)] if isinstance(resize, int) else []
    for size in sizes or [(301, 457), (90, 61)]:
        image = Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8))
        theirs, ours = processor(image, return_tensors="pt")["pixel_values"][0], transform(image)
        if theirs.shape != ours.shape:
            return f"its images are {tuple(theirs.shape)}, not {tuple(ours.shape)}"
        if (worst := float((theirs - ours).abs().max())) > _ROUNDING * max(1.0, float(ours.abs().max())):
            return f"its pixels differ by up to {worst:.3g}"
    return ""


def _cannot_express(spec: BackboneSpec, why: str) -> BackboneError:
    return BackboneError(
        f"backbone {spec.id!r}: its image processor is no resizing, cropping from the centre and scaling: "
        f"{why}. Pixels that are shared, and decoded faster, need one"
    )


def _image_outputs(model: Model, images: "Tensor") -> "dict[str, Tensor]":
    """Pairs: `embedding`, and of CLIP `pre_projection`, the class token after the last norm. Of transformers
    for images alone `pre_logits`, the class token after the last norm; of others `pooled`."""
    kind = model.config.model_type
    if kind == "clip":
        token = model.vision_model(pixel_values=images).pooler_output
        return {"pre_projection": token, "embedding": model.visual_projection(token)}
    if kind == "siglip":
        return {"embedding": model.vision_model(pixel_values=images).pooler_output}
    found = model(pixel_values=images)
    if kind in _CLASS_TOKEN:
        return {"pre_logits": found.last_hidden_state[:, 0]}
    return {_TOWERS.get(kind, "pooled"): found.pooler_output.flatten(1)}


def _to_layout(state: "dict[str, Tensor]", model: Model) -> "dict[str, Tensor]":
    """The library's own renaming of older files and of towers inside classifiers.

    Only real numbers are handed to it, which it would otherwise convert to such.
    """
    import torch

    real = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
    config = model.config
    with torch.random.fork_rng(devices=[]):
        renamed, said = type(model).from_pretrained(
            None, config=config, state_dict=dict(real), dtype=torch.float32, output_loading_info=True,
            ignore_mismatched_sizes=True, **_without_pooler(config),
        )  # fmt: skip
    missing = set(said["missing_keys"])
    found = {name: tensor for name, tensor in renamed.state_dict().items() if name not in missing}
    for name, given, _ in said["mismatched_keys"]:
        found[name] = torch.empty(given)
    strange = [name for name in said["unexpected_keys"] if not name.startswith(_HEADS)]
    strange += [name for name in state if name not in real and not name.endswith("position_ids")]
    return found | {name: state.get(name, torch.empty(0)) for name in strange}


def _tokenizer(spec: BackboneSpec) -> "Callable[..., Tensor]":
    import torch

    folder = _folder(spec.hub_repo)
    if not any((folder / file).is_file() for file in _TOKENIZERS):
        raise BackboneError(
            f"backbone {spec.id!r}: prompts need the tokenizer's files ({', '.join(_TOKENIZERS)}), of which "
            f"{folder} has none. Images need none"
        )
    with _installed(spec):
        from transformers import AutoTokenizer

    tokenizer: Any
    with _told(spec, "its tokenizer cannot be read"):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    # CLIP's towers do not see what follows the end token, which pads too: another id tells where a text ends.
    is_causal = _config(spec).model_type == "clip"
    padding = int(tokenizer.eos_token_id == 0) if is_causal else tokenizer.pad_token_id

    def tokenize(texts: Sequence[str], context_length: int) -> "Tensor":
        ids = tokenizer(list(texts), truncation=True, max_length=context_length)["input_ids"]
        return torch.tensor([row + [padding] * (context_length - len(row)) for row in ids])

    return tokenize


def _text_length_of(spec: BackboneSpec) -> int:
    return int(_config(spec).text_config.max_position_embeddings)


def _text_length(model: Model) -> int:
    return int(model.config.text_config.max_position_embeddings)


def _text_tower(model: Model) -> "nn.Module | None":
    return getattr(model, "text_model", None)


def _text_embedding(model: Model, tokens: "Tensor") -> "Tensor":
    vectors: Tensor = model.get_text_features(input_ids=tokens).pooler_output
    return vectors


def _text_is_causal(model: Model) -> bool:
    return bool(model.config.model_type == "clip")


FAMILY = Family(
    packages={"transformers": "transformers", "tokenizers": "tokenizers"},
    published="transformers:{hub_repo}",
    form="transformers:PUBLISHER/NAME (transformers:facebook/dinov2-small) or transformers:./FOLDER",
    parse=_parse,
    check=_check,
    build=_build,
    image_outputs=_image_outputs,
    hub_location=_hub_location,
    own_file=_own_file,
    settings=_settings,
    activations=("transformers.activations",),
    to_layout=_to_layout,
    texts=Texts(
        tower=_text_tower,
        tokenizer=_tokenizer,
        length_of=_text_length_of,
        length=_text_length,
        embedding=_text_embedding,
        is_causal=_text_is_causal,
    ),
)
