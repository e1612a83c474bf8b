"""open_clip: CLIP, SigLIP, CoCa and their kin, `open_clip:ARCHITECTURE/TAG`."""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embed.backbones.families import BytePairs, Family, Model, Texts, Transform, unknown_name, unknown_weights
from embed.backbones.spec import BackboneError, BackboneSpec, UnknownBackbone, read_config
from embed.uncompiled import library

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

_HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_PREPROCESSING = ("size", "mean", "std", "interpolation", "resize_mode", "fill_color")
_OLD_BUFFER = "text.transformer.embeddings.position_ids"


def _parse(name: str) -> BackboneSpec | None:
    if name.count("/") != 1 or not all(name.split("/")):
        return None
    architecture, tag = name.split("/")
    return BackboneSpec(
        f"open_clip:{name}", "open_clip", architecture, tag, {}, has_text=True, registered=False,
        source=f"open_clip's weights {tag!r}",
    )  # fmt: skip


def _check(spec: BackboneSpec, has_file: bool) -> None:
    open_clip = library("open_clip")

    if spec.architecture not in open_clip.list_models():
        raise UnknownBackbone(unknown_name(spec, "architecture", spec.architecture, open_clip.list_models()))
    if not _entry(spec) and not has_file:
        tags = open_clip.list_pretrained_tags_by_model(spec.architecture)
        raise UnknownBackbone(unknown_weights(spec, spec.pretrained, tags))


def _named_by_user(spec: BackboneSpec) -> bool:
    return not _entry(spec)


def _hub_location(spec: BackboneSpec) -> tuple[str, tuple[str, ...], str]:
    open_clip = library("open_clip")

    entry = open_clip.get_pretrained_cfg(spec.architecture, spec.pretrained)
    repo, _, file = entry.get("hf_hub", "").rpartition("/")
    return repo, (file,) if file else _HUB_FILES, entry.get("url", "")


def _build(spec: BackboneSpec, device: "torch.device") -> "tuple[nn.Module, Transform]":
    open_clip = library("open_clip")
    from open_clip.transform import PreprocessCfg, image_transform_v2

    entry = {} if spec.config is not None else _entry(spec) or _shared_preprocessing(spec)
    try:
        with _built_name(spec) as name, device:
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


def _entry(spec: BackboneSpec) -> dict[str, Any]:
    """open_clip's own entry for (architecture, tag), after the checks it only warns about; {} for none."""
    open_clip = library("open_clip")

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
    open_clip = library("open_clip")

    known = [
        {key: entry[key] for key in _PREPROCESSING if key in entry}
        for tag in open_clip.list_pretrained_tags_by_model(spec.architecture)
        if (entry := open_clip.get_pretrained_cfg(spec.architecture, tag))
    ]
    return known[0] if known and all(entry == known[0] for entry in known) else {}


@contextmanager
def _built_name(spec: BackboneSpec) -> Iterator[str]:
    """The name by which open_clip builds a model; our own configurations become its local folder."""
    if spec.config is None:
        yield spec.architecture
        return
    config = read_config(spec)
    with tempfile.TemporaryDirectory() as folder:
        wanted = {key: config[key] for key in ("model_cfg", "preprocess_cfg")}
        (Path(folder) / "open_clip_config.json").write_text(json.dumps(wanted), encoding="utf-8")
        yield f"local-dir:{folder}"


def _image_outputs(model: Model, images: "Tensor") -> "dict[str, Tensor]":
    """`embedding` is what `encode_image` gives; `pre_projection` (vision transformers: the pooled token after
    the last norm, "the last layer before the output" of the paper, section 4.2) or `pooled` (ResNets: after
    attention pooling) is what its projection is applied to. Towers without a projection of their own have
    `embedding` alone."""
    visual = model.visual
    kind = type(visual).__name__
    if kind == "ModifiedResNet":
        maps = visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(images)))))
        pooled = _attention_pool(visual.attnpool, maps)
        return {"pooled": pooled, "embedding": visual.attnpool.c_proj(pooled)}
    if kind == "VisionTransformer" and visual.proj is not None:
        pooled, _ = visual._pool(visual.transformer(visual._embeds(images)))
        return {"pre_projection": pooled, "embedding": pooled @ visual.proj}
    embedding = visual(images)
    return {"embedding": embedding[0] if isinstance(embedding, tuple) else embedding}


def _attention_pool(pool: Model, maps: "Tensor") -> "Tensor":
    """The attended vector (b, channels) of CLIP's ResNets before `c_proj`, from maps (b, channels, h, w).

    The module runs attention with `c_proj` fused in and for all h*w + 1 queries, then keeps the
    first. Here the first query alone is computed: the mean over space attends to all positions.
    """
    import torch
    from torch.nn import functional

    b, channels = maps.shape[:2]
    tokens = maps.flatten(2).transpose(1, 2)
    tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
    tokens = tokens + pool.positional_embedding.to(tokens.dtype)

    def heads(x: "Tensor") -> "Tensor":
        return x.reshape(b, -1, pool.num_heads, channels // pool.num_heads).transpose(1, 2)

    attended = functional.scaled_dot_product_attention(
        heads(pool.q_proj(tokens[:, :1])), heads(pool.k_proj(tokens)), heads(pool.v_proj(tokens))
    )
    return attended.transpose(1, 2).reshape(b, channels)


def _text_parts(model: Model) -> Model:
    """The module that holds the text tower's parts: CLIP keeps them in itself."""
    return getattr(model, "text", model)


def _tokenizer(spec: BackboneSpec) -> "Callable[..., Tensor]":
    open_clip = library("open_clip")

    with _built_name(spec) as name:
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


def _byte_pairs(tokenizer: Any) -> BytePairs | None:
    """Of CLIP's own tokenizer as open_clip has it; others are other classes, or clean texts in other ways."""
    kind = type(tokenizer).__name__, getattr(getattr(tokenizer, "clean_fn", None), "__name__", "")
    if kind != ("SimpleTokenizer", "_clean_lower") or tokenizer.reduction_fn is not None:
        return None
    merges = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.__getitem__)
    special = {tokenizer.decoder[id]: id for id in tokenizer.all_special_ids}
    start, end = tokenizer.sot_token_id, tokenizer.eot_token_id
    return BytePairs(tokenizer.encoder, merges, "</w>", tokenizer.pat.pattern, special, start, end)


def _text_length_of(spec: BackboneSpec) -> int:
    open_clip = library("open_clip")

    with _built_name(spec) as name:
        config = open_clip.get_model_config(name)
    return int(config["text_cfg"].get("context_length", 77))


def _text_length(model: Model) -> int:
    return int(model.context_length)


def _text_tower(model: Model) -> "nn.Module":
    tower: nn.Module = getattr(model, "text", None) or model.transformer
    return tower


def _text_is_causal(model: Model) -> bool:
    tower = _text_parts(model)
    pool_type = getattr(tower, "pool_type", getattr(tower, "text_pool_type", None))
    return (
        getattr(tower, "attn_mask", None) is not None
        and getattr(tower, "cls_emb", None) is None
        and pool_type in ("argmax", "eos")
    )


def _text_embedding(model: Model, tokens: "Tensor") -> "Tensor":
    """Most text towers are causal and pooled at the end token: positions after it change nothing, so a
    batch needs only as many as its longest text (docs/backbones.md).
    """
    from open_clip.transformer import text_global_pool
    from torch import nn

    length = tokens.shape[1]
    if length == model.context_length:
        full: Tensor = model.encode_text(tokens)
        return full
    tower = _text_parts(model)
    pool_type = getattr(tower, "pool_type", getattr(tower, "text_pool_type", None))
    eos_id = getattr(tower, "eos_id", getattr(tower, "text_eos_id", None))
    dtype = tower.transformer.get_cast_dtype()
    x = tower.token_embedding(tokens).to(dtype) + tower.positional_embedding[:length].to(dtype)
    x = tower.transformer(x, attn_mask=tower.attn_mask[:length, :length])
    pooled: Tensor = text_global_pool(tower.ln_final(x), tokens, pool_type, eos_token_id=eos_id)
    projection = tower.text_projection
    if isinstance(projection, nn.Linear):
        pooled = projection(pooled)
    elif projection is not None:
        pooled = pooled @ projection
    return pooled


def _to_layout(state: "dict[str, Tensor]", model: Model) -> "dict[str, Tensor]":
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    expected = model.state_dict()
    state = convert_state_dict(model, state)
    if "positional_embedding" in state and "positional_embedding" not in expected:
        state = convert_to_custom_text_state_dict(state)
    if _OLD_BUFFER not in expected:  # transformers left it out in version 4.31
        state = {name: tensor for name, tensor in state.items() if name != _OLD_BUFFER}
    for name in ("logit_scale", "logit_bias"):
        if name in state and name in expected and state[name].numel() == 1:
            state = state | {name: state[name].reshape(expected[name].shape)}
    return state


FAMILY = Family(
    # Both libraries' versions are recorded for both: open_clip builds some of its towers with timm.
    packages={"open_clip": "open-clip-torch", "timm": "timm"},
    published="open_clip:{architecture}/{pretrained}",
    form="open_clip:ARCHITECTURE/TAG (open_clip:ViT-B-16/laion2b_s34b_b88k)",
    own_form="open_clip:ARCHITECTURE/NAME",
    parse=_parse,
    check=_check,
    named_by_user=_named_by_user,
    build=_build,
    image_outputs=_image_outputs,
    hub_location=_hub_location,
    activations=("timm.layers.activations",),
    to_layout=_to_layout,
    texts=Texts(
        tower=_text_tower,
        tokenizer=_tokenizer,
        length_of=_text_length_of,
        length=_text_length,
        embedding=_text_embedding,
        is_causal=_text_is_causal,
        byte_pairs=_byte_pairs,
    ),
)
