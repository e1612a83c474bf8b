"""Forward passes: every output of an image tower from one pass, and text towers at any length.

Plain functions on the libraries' modules, without inference mode, so that training can use them.
"""

from collections.abc import Iterator
from typing import Any

import open_clip
import torch
from jaxtyping import Float, Int
from open_clip.transformer import text_global_pool
from torch import Tensor, nn
from torch.nn import functional

#: A module of open_clip or timm; torch types the attributes of modules too loosely to check.
Model = Any


def image_outputs(
    model: Model, images: Float[Tensor, "b 3 h w"]
) -> dict[str, Float[Tensor, "b _"]]:
    """All named outputs of a batch of normalised images, raw (never unit length), from one pass.

    open_clip: `embedding` is what `encode_image` gives; `pre_projection` (vision transformers: the
    pooled token after the last norm, "the last layer before the output" of the paper, section 4.2) or
    `pooled` (ResNets: after attention pooling) is what its projection is applied to. Towers without
    a projection of their own have `embedding` alone.
    timm: `pre_logits` (one token or a mean of tokens) or `pooled` (a feature map pooled over space)
    is what the classifier would be applied to.
    """
    if isinstance(model, open_clip.CLIP | open_clip.CustomTextCLIP | open_clip.CoCa):
        return _open_clip_outputs(model.visual, images)
    features = model.forward_features(images)
    name = "pooled" if features.ndim == 4 else "pre_logits"
    return {name: model.forward_head(features, pre_logits=True)}


def _open_clip_outputs(visual: Model, images: Tensor) -> dict[str, Tensor]:
    kind = type(visual).__name__
    if kind == "ModifiedResNet":
        maps = visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(images)))))
        pooled = attention_pool(visual.attnpool, maps)
        return {"pooled": pooled, "embedding": visual.attnpool.c_proj(pooled)}
    if kind == "VisionTransformer" and visual.proj is not None:
        pooled, _ = visual._pool(visual.transformer(visual._embeds(images)))
        return {"pre_projection": pooled, "embedding": pooled @ visual.proj}
    embedding = visual(images)
    return {"embedding": embedding[0] if isinstance(embedding, tuple) else embedding}


def attention_pool(
    pool: Model, maps: Float[Tensor, "b channels h w"]
) -> Float[Tensor, "b channels"]:
    """The attended vector of CLIP's ResNets before `c_proj`.

    The module runs attention with `c_proj` fused in and for all h*w + 1 queries, then keeps the
    first. Here the first query alone is computed: the mean over space attends to all positions.
    """
    b, channels = maps.shape[:2]
    tokens = maps.flatten(2).transpose(1, 2)
    tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
    tokens = tokens + pool.positional_embedding.to(tokens.dtype)

    def heads(x: Tensor) -> Tensor:
        return x.reshape(b, -1, pool.num_heads, channels // pool.num_heads).transpose(1, 2)

    attended = functional.scaled_dot_product_attention(
        heads(pool.q_proj(tokens[:, :1])), heads(pool.k_proj(tokens)), heads(pool.v_proj(tokens))
    )
    return attended.transpose(1, 2).reshape(b, channels)


def _text_parts(model: Model) -> Model:
    """The module that holds the text tower's parts: CLIP keeps them in itself."""
    return getattr(model, "text", model)


def text_is_causal(model: Model) -> bool:
    """Whether tokens after the end token cannot change a text's vector, so that padding can go."""
    tower = _text_parts(model)
    pool_type = getattr(tower, "pool_type", getattr(tower, "text_pool_type", None))
    return (
        getattr(tower, "attn_mask", None) is not None
        and getattr(tower, "cls_emb", None) is None
        and pool_type in ("argmax", "eos")
    )


def text_embedding(
    model: Model, tokens: Int[Tensor, "b n_tokens"]
) -> Float[Tensor, "b dim"]:
    """The joint-space vectors of tokenised texts, raw. Causal towers take any length that fits.

    Text towers are causal and pooled at the end token: positions after it change nothing, so a
    batch needs only as many as its longest text (docs/backbones.md).
    """
    length = tokens.shape[1]
    if length == model.context_length:
        full: Tensor = model.encode_text(tokens)
        return full
    if not text_is_causal(model):
        raise ValueError(
            f"this text tower looks at all {model.context_length} positions, padding included: "
            f"{length} tokens would give other vectors"
        )
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


def activations(model: Model) -> dict[str, str]:
    """The activation functions that the loaded modules really have, per tower.

    {'image': 'relu', 'text': 'quickgelu'} for CLIP's ResNets; several in one tower are joined with
    '+'. 'gelu_tanh' is the tanh approximation, another function than 'gelu'.
    """
    text = {id(m) for m in _text_tower(model).modules()} if _has_text(model) else set()
    towers = ("image", "text") if text else ("image",)
    found: dict[str, set[str]] = {tower: set() for tower in towers}
    for module in model.modules():
        name = _activation_name(module)
        if name:
            found["text" if id(module) in text else "image"].add(name)
    return {tower: "+".join(sorted(names)) for tower, names in found.items()}


def _has_text(model: Model) -> bool:
    return hasattr(model, "encode_text")


def _text_tower(model: Model) -> Model:
    return getattr(model, "text", None) or model.transformer


def _activation_name(module: nn.Module) -> str:
    if next(_own_tensors(module), None) is not None:
        return ""
    kind = type(module)
    name = kind.__name__.lower()
    if name == "gelutanh" or getattr(module, "approximate", "none") == "tanh":
        return "gelu_tanh"
    library = kind.__module__
    known = library.startswith(("torch.nn.modules.activation", "timm.layers.activations"))
    if name == "quickgelu" or (known and "softmax" not in name and "attention" not in name):
        return name
    return ""


def _own_tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()
