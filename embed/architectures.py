"""Architectures built by open_clip and timm, weights not yet set, each with its own transform."""

import json
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from glob import escape
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from embed.backbones import BackboneError, BackboneSpec, UnknownBackbone, read_config

Transform = Callable[..., Tensor]

_PREPROCESSING = ("size", "mean", "std", "interpolation", "resize_mode", "fill_color")

#: timm does not type its exports.
_timm_data: Any = timm.data


def check_architecture(spec: BackboneSpec, has_file: bool = False) -> None:
    """Raises where the library does not know the names, or has the wrong activation for the weights.

    With a weights file the architecture alone must be known: weights of one's own have a name of one's
    own. Nothing is built, so a typing mistake is told before anything is downloaded.
    """
    if spec.config is not None:
        return
    if spec.library == "open_clip":
        if spec.architecture not in open_clip.list_models():
            raise UnknownBackbone(
                _unknown(spec, "architecture", spec.architecture, open_clip.list_models())
            )
        if not _open_clip_entry(spec) and not has_file:
            tags = open_clip.list_pretrained_tags_by_model(spec.architecture)
            raise UnknownBackbone(_unknown_weights(spec, spec.pretrained, tags))
    else:
        _check_timm_name(spec, has_file)


def named_by_user(spec: BackboneSpec) -> bool:
    """True if the name of the weights is none of the library's."""
    if spec.registered or spec.config is not None or not spec.pretrained:
        return False
    if spec.library == "open_clip":
        return not _open_clip_entry(spec)
    return _timm_name(spec) == spec.architecture


def build_architecture(
    spec: BackboneSpec, device: torch.device | str = "cpu"
) -> tuple[nn.Module, Transform]:
    """The model, its weights not yet set, and the library's evaluation transform for its weights.

    Only for loading all weights into it afterwards: most tensors are memory as it was found. The
    global random state is left as it was. On the device "meta" no memory is taken.
    """
    check_architecture(spec, has_file=True)
    build = _build_open_clip if spec.library == "open_clip" else _build_timm
    with torch.random.fork_rng(devices=[]), _quiet(), _NoRandomFill():
        return build(spec, torch.device(device))


def build_tokenizer(spec: BackboneSpec) -> Callable[..., Tensor]:
    """open_clip's tokenizer of the backbone: texts to token ids."""
    with _open_clip_name(spec) as name, _quiet():
        try:
            tokenizer: Callable[..., Tensor] = open_clip.get_tokenizer(name)
        except (ImportError, OSError) as error:
            repo = open_clip.get_model_config(name)["text_cfg"].get("hf_tokenizer_name", "")
            raise BackboneError(
                f"backbone {spec.id!r}: its tokenizer needs the package transformers and the "
                f"tokenizer files of the hub repository {repo}. On a machine with a network: pip "
                f"install transformers; hf download {repo}. Images need neither"
            ) from error
    return tokenizer


def text_context_length(spec: BackboneSpec) -> int:
    """The number of tokens that the text tower of an open_clip architecture reads; nothing is built."""
    with _open_clip_name(spec) as name:
        config = open_clip.get_model_config(name)
    return int(config["text_cfg"].get("context_length", 77))


def _build_open_clip(spec: BackboneSpec, device: torch.device) -> tuple[nn.Module, Transform]:
    entry = {} if spec.config is not None else _open_clip_entry(spec) or _shared_preprocessing(spec)
    try:
        with _open_clip_name(spec) as name, device:
            model = open_clip.create_model(
                name,
                device=device,
                load_weights=False,
                pretrained_text=False,
                force_preprocess_cfg=entry,
            )
    except (ImportError, OSError, RuntimeError) as error:
        repo = (open_clip.get_model_config(spec.architecture) or {}).get("text_cfg", {}).get("hf_model_name")
        if not repo:
            raise
        raise BackboneError(
            f"backbone {spec.id!r}: its text tower is built by the package transformers from the "
            f"configuration in the hub repository {repo}. On a machine with a network: pip install "
            f"transformers; hf download {repo} config.json"
        ) from error
    config = PreprocessCfg(**model.visual.preprocess_cfg)
    return model, image_transform_v2(config, is_train=False)


def _open_clip_entry(spec: BackboneSpec) -> dict[str, Any]:
    """open_clip's own entry for (architecture, tag), after the checks it only warns about; {} for none."""
    entry = open_clip.get_pretrained_cfg(spec.architecture, spec.pretrained)
    if not entry:
        return {}
    trained = bool(entry.get("quick_gelu"))
    built = bool(open_clip.get_model_config(spec.architecture).get("quick_gelu"))
    if trained != built:
        base = spec.architecture.removesuffix("-quickgelu")
        other = f"{base}-quickgelu" if trained else base
        known = open_clip.get_pretrained_cfg(other, spec.pretrained)
        raise BackboneError(
            f"backbone {spec.id!r}: the weights {spec.pretrained!r} were trained with "
            f"{'QuickGELU' if trained else 'GELU'}, the architecture {spec.architecture} has "
            f"{'QuickGELU' if built else 'GELU'}: its vectors would be plausible and wrong. "
            + (f"Use open_clip:{other}/{spec.pretrained}" if known else "No open_clip model fits")
        )
    return dict(entry)


def _shared_preprocessing(spec: BackboneSpec) -> dict[str, Any]:
    """For weights of one's own: the transform that all known weights of the architecture share.

    Where they differ, or there are none, {}: open_clip's own choice for the architecture.
    """
    known = [
        {key: entry[key] for key in _PREPROCESSING if key in entry}
        for tag in open_clip.list_pretrained_tags_by_model(spec.architecture)
        if (entry := open_clip.get_pretrained_cfg(spec.architecture, tag))
    ]
    return known[0] if known and all(entry == known[0] for entry in known) else {}


@contextmanager
def _open_clip_name(spec: BackboneSpec) -> Iterator[str]:
    """The name by which open_clip builds a model; our own configurations become its local folder."""
    if spec.config is None:
        yield spec.architecture
        return
    config = read_config(spec)
    with tempfile.TemporaryDirectory() as folder:
        wanted = {key: config[key] for key in ("model_cfg", "preprocess_cfg")}
        (Path(folder) / "open_clip_config.json").write_text(json.dumps(wanted), encoding="utf-8")
        yield f"local-dir:{folder}"


def _build_timm(spec: BackboneSpec, device: torch.device) -> tuple[nn.Module, Transform]:
    arguments: dict[str, Any] = {"pretrained": False}
    if spec.config is not None:
        config: dict[str, Any] = read_config(spec)
        name = config["architecture"]
        arguments |= config["model_args"] | {"pretrained_cfg": config["pretrained_cfg"]}
    else:
        name = _timm_name(spec)
        arguments |= {} if spec.num_classes is None else {"num_classes": spec.num_classes}
    with device:
        model = timm.create_model(name, **arguments)
    if spec.preprocessing:
        weights: Any = timm.get_pretrained_cfg(spec.preprocessing)
        settings = _timm_data.resolve_data_config(pretrained_cfg=weights.to_dict())
    else:
        settings = _timm_data.resolve_model_data_config(model)
    return model, _timm_data.create_transform(**settings, is_training=False)


def _timm_name(spec: BackboneSpec) -> str:
    """The name by which timm builds the model: with the tag, where that is one of timm's."""
    named = f"{spec.architecture}.{spec.pretrained}"
    is_known = spec.pretrained and not spec.preprocessing and named in _timm_tags(spec.architecture)
    return named if is_known else spec.architecture


def _timm_tags(architecture: str) -> list[str]:
    return timm.list_pretrained(f"{escape(architecture)}.*")


def _check_timm_name(spec: BackboneSpec, has_file: bool) -> None:
    architecture, _, transform_tag = spec.architecture.partition(".")
    if not timm.is_model(architecture):
        raise UnknownBackbone(_unknown(spec, "model", architecture, timm.list_models()))
    name = _timm_name(spec)
    is_own = has_file and "/" in spec.id
    tags = [tag.partition(".")[2] for tag in _timm_tags(architecture)]
    wrong = transform_tag or (spec.pretrained if name == spec.architecture and not spec.preprocessing else "")
    if wrong and wrong not in tags and not (is_own and wrong == spec.pretrained):
        raise UnknownBackbone(_unknown_weights(spec, wrong, tags))
    if is_own:
        return
    # timm lists OpenAI's weights under both activations; only one gives the published vectors.
    other = name.replace("_clip_", "_clip_quickgelu_")
    if "_clip_" in name and "quickgelu" not in name and timm.is_model_pretrained(other):
        raise BackboneError(
            f"backbone {spec.id!r}: the weights {spec.pretrained!r} were trained with QuickGELU, "
            f"the architecture {spec.architecture} has GELU: its vectors would be plausible and "
            f"wrong. Use timm:{other}"
        )


def _unknown(spec: BackboneSpec, what: str, name: str, known: list[str]) -> str:
    lower = {entry.lower(): entry for entry in known}
    close = [lower[e] for e in get_close_matches(name.lower(), lower, n=3, cutoff=0.5)]
    listed = ", ".join(close or known[:20]) + (" ..." if not close and len(known) > 20 else "")
    return f"backbone {spec.id!r}: {spec.library} has no {what} {name!r}. It has: {listed}"


def _unknown_weights(spec: BackboneSpec, name: str, tags: list[str]) -> str:
    said = _unknown(spec, f"weights for {spec.architecture.partition('.')[0]}", name, tags)
    own = f"{spec.library}:{spec.architecture}/{spec.pretrained}"
    return f"{said}. Weights of your own: --backbone {own} --weights FILE"


class _NoRandomFill(TorchFunctionMode):
    """Leaves out the random numbers that loading would overwrite: 60 % of the time to build."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (Tensor.normal_, Tensor.uniform_, Tensor.erfinv_):
            return args[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def _quiet() -> Iterator[None]:
    """open_clip logs on the root logger, which sets up handlers, and warns of random weights."""
    root = logging.getLogger()
    placeholder = logging.NullHandler()
    before = root.manager.disable
    root.addHandler(placeholder)
    logging.disable(max(before, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(before)
        root.removeHandler(placeholder)
