"""Architectures built by open_clip and timm, weights not yet set, each with its own transform."""

import json
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
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

#: timm does not type its exports.
_timm_data: Any = timm.data


def check_architecture(spec: BackboneSpec) -> None:
    """Raises where the library does not know the names, or has the wrong activation for the weights.

    Nothing is built, so a typing mistake is told before anything is downloaded.
    """
    if spec.config is not None:
        return
    if spec.library == "open_clip":
        _open_clip_entry(spec)
    else:
        _check_timm_name(spec)


def build_architecture(
    spec: BackboneSpec, device: torch.device | str = "cpu"
) -> tuple[nn.Module, Transform]:
    """The model, its weights not yet set, and the library's evaluation transform for its weights.

    Only for loading all weights into it afterwards: most tensors are memory as it was found. The
    global random state is left as it was. On the device "meta" no memory is taken.
    """
    check_architecture(spec)
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
    entry = {} if spec.config is not None else _open_clip_entry(spec)
    with _open_clip_name(spec) as name, device:
        model = open_clip.create_model(
            name,
            device=device,
            load_weights=False,
            pretrained_text=False,
            force_preprocess_cfg=entry,
        )
    config = PreprocessCfg(**model.visual.preprocess_cfg)
    return model, image_transform_v2(config, is_train=False)


def _open_clip_entry(spec: BackboneSpec) -> dict[str, Any]:
    """open_clip's own entry for (architecture, tag), after the checks it only warns about."""
    architectures = {name for name, _ in open_clip.list_pretrained()}
    if spec.architecture not in architectures:
        raise UnknownBackbone(
            _unknown(spec, "architecture with weights", spec.architecture, sorted(architectures))
        )
    entry = open_clip.get_pretrained_cfg(spec.architecture, spec.pretrained)
    if not entry:
        tags = open_clip.list_pretrained_tags_by_model(spec.architecture)
        raise UnknownBackbone(
            _unknown(spec, f"weights for {spec.architecture}", spec.pretrained, tags)
        )
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
    tag = "" if spec.preprocessing else spec.pretrained
    return f"{spec.architecture}.{tag}" if tag else spec.architecture


def _check_timm_name(spec: BackboneSpec) -> None:
    name = _timm_name(spec)
    if not timm.is_model(spec.architecture):
        raise UnknownBackbone(_unknown(spec, "model", spec.architecture, timm.list_models()))
    tags = timm.list_pretrained(f"{spec.architecture}.*")
    if name != spec.architecture and name not in tags:
        known = [tag.partition(".")[2] for tag in tags]
        raise UnknownBackbone(
            _unknown(spec, f"weights for {spec.architecture}", spec.pretrained, known)
        )
    # timm lists OpenAI's weights under both activations; only one gives the published vectors.
    other = name.replace("_clip_", "_clip_quickgelu_")
    if "_clip_" in name and "quickgelu" not in name and timm.is_model_pretrained(other):
        raise BackboneError(
            f"backbone {spec.id!r}: the weights {spec.pretrained!r} were trained with QuickGELU, "
            f"the architecture {spec.architecture} has GELU: its vectors would be plausible and "
            f"wrong. Use timm:{other}"
        )


def _unknown(spec: BackboneSpec, what: str, name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    listed = ", ".join(close or known[:20]) + (" ..." if not close and len(known) > 20 else "")
    return f"backbone {spec.id!r}: {spec.library} has no {what} {name!r}. It has: {listed}"


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
