"""Forward passes: every output of an image tower from one pass, and text towers at any length.

Plain functions on the libraries' modules, without inference mode, so that training can use them.
"""

from collections.abc import Iterator

from torch import Tensor, nn

from embed.backbones.families import Model, Texts, family_of
from embed.backbones.spec import BackboneError
from store.shapes import Float, Int


def image_outputs(
    model: Model, images: Float[Tensor, "b 3 h w"]
) -> dict[str, Float[Tensor, "b _"]]:
    """All named outputs of a batch of normalised images, raw (never unit length), from one pass.

    `embedding` is in the space of texts; `pre_projection` or `pooled` is what its projection is applied to.
    `pre_logits` (one token or a mean of tokens) or `pooled` (a feature map pooled over space) is what a
    classifier would be applied to.
    """
    return family_of(model).image_outputs(model, images)


def has_text(model: Model) -> bool:
    """True if the model has a text tower."""
    texts = family_of(model).texts
    return texts is not None and texts.tower(model) is not None


def text_context(model: Model) -> int:
    """The number of tokens that the text tower reads."""
    return _texts(model).length(model)


def text_is_causal(model: Model) -> bool:
    """Whether tokens after the end token cannot change a text's vector, so that padding can go."""
    return _texts(model).is_causal(model)


def text_embedding(
    model: Model, tokens: Int[Tensor, "b n_tokens"]
) -> Float[Tensor, "b dim"]:
    """The joint-space vectors of tokenised texts, raw. Causal towers take any length that fits.

    Raises ValueError where fewer tokens than the tower reads would give other vectors.
    """
    texts = _texts(model)
    length = texts.length(model)
    if tokens.shape[1] != length and not texts.is_causal(model):
        raise ValueError(
            f"this text tower looks at all {length} positions, padding included: "
            f"{tokens.shape[1]} tokens would give other vectors"
        )
    return texts.embedding(model, tokens)


def _texts(model: Model) -> Texts:
    texts = family_of(model).texts
    if texts is None:
        raise BackboneError(f"{type(model).__name__} has no text tower")
    return texts


def activations(model: Model) -> dict[str, str]:
    """The activation functions that the loaded modules really have, per tower.

    {'image': 'relu', 'text': 'quickgelu'} for CLIP's ResNets; several in one tower are joined with
    '+'. 'gelu_tanh' is the tanh approximation, another function than 'gelu'.
    """
    family = family_of(model)
    tower = family.texts.tower(model) if family.texts else None
    text = {id(m) for m in tower.modules()} if tower is not None else set()
    towers = ("image", "text") if text else ("image",)
    found: dict[str, set[str]] = {tower: set() for tower in towers}
    for module in model.modules():
        name = _activation_name(module, family.activations)
        if name:
            found["text" if id(module) in text else "image"].add(name)
    return {tower: "+".join(sorted(names)) for tower, names in found.items()}


def _activation_name(module: nn.Module, defined_in: tuple[str, ...]) -> str:
    if next(_own_tensors(module), None) is not None:
        return ""
    kind = type(module)
    name = kind.__name__.lower().removesuffix("activation")
    if name == "gelutanh" or getattr(module, "approximate", "none") == "tanh":
        return "gelu_tanh"
    library = kind.__module__
    known = library.startswith(("torch.nn.modules.activation", *defined_in))
    if name == "quickgelu" or (known and "softmax" not in name and "attention" not in name):
        return name
    return ""


def _own_tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()
