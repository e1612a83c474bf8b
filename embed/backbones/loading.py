"""Backbones loaded: the library's architecture, the weights of one file, checked key by key.

There is one code path: a file is located (`embed.backbones.weights`), the architecture built by its family
(`embed.backbones.families`) with random weights, the file read without running code from it, and every
tensor accounted for. What provenance says is read off the loaded objects.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from embed.backbones.architectures import (
    build_architecture,
    build_tokenizer,
    check_architecture,
    named_by_user,
)
from embed.backbones.checkpoints import Checkpoint
from embed.backbones.engines import Session, fastest_exact, open_session
from embed.backbones.families import family
from embed.backbones.registry import BackboneError, BackboneSpec, resolve_backbone
from embed.backbones.spec import ENGINES, ONNXRUNTIME, TORCH, PromptTooLong
from embed.backbones.state_dicts import load_weights
from embed.backbones.towers import (
    activations,
    has_text,
    image_outputs,
    text_context,
    text_embedding,
    text_is_causal,
)
from embed.backbones.transforms import Recipe, recipe_from_transform
from embed.backbones.weights import (
    WeightsFile,
    WeightsUnavailable,
    backbone_availability,
    file_sha256,
    library_versions,
    locate_weights,
)
from embed.prompts.tokens import token_counts
from store.shapes import Float, Int

__all__ = [
    "PRECISIONS",
    "Backbone",
    "PromptTooLong",
    "WeightsUnavailable",
    "backbone_availability",
    "load_backbone",
]

logger = logging.getLogger(__name__)

#: float32 is exact (TF32 off); the others are autocast, weights and outputs stay float32.
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Backbone:
    """A loaded, frozen model in eval mode: images and texts in, raw float32 vectors out.

    Attributes:
        outputs: name to dimension, measured from the model by one forward pass.
        transform: the library's own callable, PIL image to float tensor (3, h, w).
        recipe: the same transform as numbers.
        remarks: what people should know of how the weights were taken; often none.
        engine: what computes the image outputs, `torch` or `onnxruntime`; texts go through torch.
    """

    def __init__(
        self,
        spec: BackboneSpec,
        model: nn.Module,
        transform: Callable[..., Tensor],
        *,
        weights_sha256: str,
        weights_file: str,
        weights_source: str,
        device: torch.device,
        precision: str,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.spec = spec
        self.id = spec.id
        self.memory_format = _memory_format(model)
        self._model = model.eval().requires_grad_(False).to(device)
        self._model.to(memory_format=self.memory_format)
        self.transform = transform
        self.recipe: Recipe = recipe_from_transform(transform)
        self.weights_sha256 = weights_sha256
        self.weights_file = weights_file
        self.weights_source = weights_source
        # Of the checkpoint its notes only: the model has its tensors.
        self.weights_entry = checkpoint.entry if checkpoint else ""
        self.weights_are_averaged = checkpoint.is_averaged if checkpoint else False
        self.remarks = _remarks(spec, weights_file, checkpoint)
        self.device = device
        self.precision = precision
        self.activation = activations(model)
        self.pretrained = spec.pretrained or family(spec.library).default_weights(model)
        self.engine = TORCH
        self._session: Session | None = None
        self._tokenizer: Callable[..., Tensor] | None = None
        self.outputs = self._measure_outputs()
        self._check_activation()

    @property
    def model(self) -> nn.Module:
        """The torch module, for training and for attribution."""
        return self._model

    @property
    def fastest_engine(self) -> str:
        """The engine that is fastest for it among those that give torch's vectors within rounding."""
        return fastest_exact(self)

    @property
    def weights_identity(self) -> dict[str, str]:
        """What tells these weights from others: the file's digest, and which set of it where averaged."""
        entry = {"weights_entry": self.weights_entry} if self.weights_are_averaged else {}
        return {"weights_sha256": self.weights_sha256, **entry}

    @property
    def row_bytes(self) -> int:
        """Bytes that an image's outputs take in the store."""
        return row_bytes(self.outputs, self.spec.cells)

    def dtype_of(self, output: str) -> type[np.floating[Any]]:
        """The type in which an output is kept."""
        return np.float16 if output in self.spec.cells else np.float32

    @property
    def engine_identity(self) -> dict[str, str]:
        """What tells the vectors of another engine than torch; files that do not say are torch's."""
        return {} if self.engine == TORCH else {"engine": self.engine}

    def use_engine(self, engine: str, folder: Path | None = None) -> Session | None:
        """Let `torch` or `onnxruntime` compute the image outputs from now on; the session is returned.

        Exports are kept in `folder`, if one is given. Raises EngineUnavailable, and stays with what was.
        """
        if engine not in ENGINES:
            raise ValueError(f"engine {engine!r} is not one of {', '.join(ENGINES)}")
        self._session = open_session(self, folder) if engine == ONNXRUNTIME else None
        self.engine = engine
        return self._session

    @property
    def tokenizer(self) -> Callable[..., Tensor]:
        """The library's own: texts and `context_length` to token ids, cut or padded."""
        self._needs_text()
        if self._tokenizer is None:
            self._tokenizer = build_tokenizer(self.spec)
        return self._tokenizer

    @property
    def context_length(self) -> int:
        """The number of tokens that the text tower reads."""
        self._needs_text()
        return text_context(self.model)

    def encode_images(self, batch: Float[Tensor, "b 3 h w"]) -> dict[str, Float[Tensor, "b _"]]:
        """Every output of a batch of normalised images, raw float32, on the backbone's device.

        One forward pass gives all outputs.
        """
        return self.encode_by_torch(batch) if self._session is None else self._session.outputs(batch.float())

    def encode_by_torch(self, batch: Float[Tensor, "b 3 h w"]) -> dict[str, Float[Tensor, "b _"]]:
        """As encode_images, by the reference engine."""
        images = batch.to(self.device, torch.float32).contiguous(memory_format=self.memory_format)
        with torch.inference_mode(), self._numerics():
            outputs = image_outputs(self.model, images)
        return {name: output.float() for name, output in outputs.items()}

    def tokenize(
        self, texts: Sequence[str], context_length: int | None = None, cut: bool = False
    ) -> Int[Tensor, "b n_tokens"]:
        """The texts as token ids, padded to the context length; one that does not fit is an error, or, with
        `cut`, cut as the library's tokenizer does.

        The libraries' tokenizers cut long texts in silence.
        """
        length = self._length(context_length)
        tokens, too_long = self._tokenize(texts, length)
        if too_long and not cut:
            shown = "; ".join(repr(texts[i]) for i in too_long[:3])
            raise PromptTooLong(
                f"{len(too_long)} of {len(texts)} texts have more than {length} tokens, which is "
                f"what {'was asked for' if context_length else f'{self.id} reads'}: {shown}"
                f"{' ...' if len(too_long) > 3 else ''}. Shorten them"
                + ("" if length == self.context_length else ", or allow a longer context")
            )
        return tokens

    def tokens_uncut(
        self, texts: Sequence[str], context_length: int
    ) -> tuple[Int[np.ndarray, "b n_tokens"], list[int]]:
        """Token ids padded to a context length, and which of the texts do not fit into it."""
        tokens, too_long = self._tokenize(texts, self._length(context_length))
        return tokens.numpy(), too_long

    def contexts_needed(self, texts: Sequence[str]) -> list[int]:
        """For each text the smallest context length that gives the same vector as the full one.

        Causal towers need the text's own tokens; others always need the full length.
        """
        if not text_is_causal(self.model):
            self.tokenize(texts)
            return [self.context_length] * len(texts)
        found: list[int] = token_counts(self.tokenize([*texts, ""]).numpy())[:-1].tolist()
        return found

    def lengths_of(self, tokens: Int[Tensor, "b n_tokens"]) -> list[int]:
        """The same of token ids as `tokenize` gives them at full length."""
        if not text_is_causal(self.model):
            return [self.context_length] * len(tokens)
        padding = self._tokenize([""], self.context_length)[0]
        found: list[int] = token_counts(torch.cat([tokens, padding]).numpy())[:-1].tolist()
        return found

    def context_needed(self, texts: Sequence[str]) -> int:
        """The smallest context length that gives all these texts the same vectors as the full one."""
        return max(self.contexts_needed(texts))

    def encode_texts(
        self, texts: Sequence[str], context_length: int | None = None
    ) -> Float[Tensor, "b dim"]:
        """The joint-space vectors of texts, raw float32, on the backbone's device.

        A `context_length` below the tower's own is faster; towers for which it would change the
        vectors refuse it.
        """
        return self.encode_tokens(self.tokenize(texts, context_length))

    def encode_tokens(self, tokens: Int[Tensor, "b n_tokens"]) -> Float[Tensor, "b dim"]:
        """The joint-space vectors of token ids, raw float32, on the backbone's device."""
        with torch.inference_mode(), self._numerics():
            return text_embedding(self.model, tokens.to(self.device)).float()

    def provenance(self) -> dict[str, Any]:
        """What was really loaded, as JSON values without clocks, host names or absolute paths."""
        return {
            "backbone": self.id,
            **self.engine_identity,
            "library": self.spec.library,
            "versions": library_versions(self.spec) | (self._session.versions if self._session else {}),
            "architecture": self.spec.architecture,
            "pretrained": self.pretrained,
            "activation": self.activation,
            "weights": {
                "sha256": self.weights_sha256,
                "file": self.weights_file,
                "source": self.weights_source,
                "licence": self.spec.licence,
                **({"entry": self.weights_entry} if self.weights_entry else {}),
            },
            "preprocessing": self.recipe.to_json(),
            "outputs": dict(self.outputs),
            **({"cells": {name: list(n) for name, n in self.spec.cells.items()}} if self.spec.cells else {}),
            "precision": self.precision,
            "memory_format": str(self.memory_format).removeprefix("torch."),
        }

    def _measure_outputs(self) -> dict[str, int]:
        probe = torch.zeros(1, 3, *self.recipe.crop)
        outputs = {name: o.shape[1] for name, o in self.encode_images(probe).items()}
        if self.spec.outputs and outputs != dict(self.spec.outputs):
            raise BackboneError(
                f"backbone {self.id!r} gives {outputs}, its spec says {dict(self.spec.outputs)}. "
                f"Is {self.spec.library} {self.spec.architecture} still the same architecture?"
            )
        return outputs

    def _check_activation(self) -> None:
        found = "+".join(sorted(set(self.activation.values())))
        if self.spec.activation and self.spec.activation not in found.split("+"):
            raise BackboneError(
                f"backbone {self.id!r} was trained with {self.spec.activation}, the model built by "
                f"{self.spec.library} has {found}: its vectors would be plausible and wrong"
            )

    def _numerics(self) -> AbstractContextManager[Any]:
        dtype = PRECISIONS[self.precision]
        if dtype is not None:
            return torch.autocast(self.device.type, dtype)
        if self.device.type == "cuda":
            # cuDNN convolutions use TF32 (10 bits) unless told otherwise, matrix products do not.
            return torch.backends.cudnn.flags(allow_tf32=False)
        return nullcontext()

    def _needs_text(self) -> None:
        if not has_text(self.model):
            raise BackboneError(
                f"backbone {self.id!r} has no text tower: prompts need a CLIP backbone such as "
                "vit_b32.openai or demo_clip"
            )

    def _length(self, context_length: int | None) -> int:
        full = self.context_length
        length = full if context_length is None else context_length
        if not 0 < length <= full:
            raise ValueError(f"context_length must be 1 to {full}, got {length}")
        return length

    def _tokenize(self, texts: Sequence[str], length: int) -> tuple[Tensor, list[int]]:
        if isinstance(texts, str):
            raise TypeError("texts is one string; a list of strings is expected")
        return tokenize_uncut(self.tokenizer, texts, length)


def row_bytes(outputs: Mapping[str, int], cells: Iterable[str] = ()) -> int:
    """Bytes of a row of these outputs in the store; those that are `cells` are kept as float16."""
    return sum((2 if name in cells else 4) * dim for name, dim in outputs.items())


def tokenize_uncut(
    tokenizer: Callable[..., Tensor], texts: Sequence[str], length: int
) -> tuple[Int[Tensor, "b n_tokens"], list[int]]:
    """Token ids padded to a length, and which of the texts were cut there (tokenizers do not say)."""
    tokens = tokenizer(list(texts), context_length=length)
    # With one position more, a text that was cut has another token there or before it.
    longer = tokenizer([*texts, ""], context_length=length + 1)
    was_cut = (longer[:-1, :length] != tokens).any(1) | (longer[:-1, length] != longer[-1, -1])
    return tokens, was_cut.nonzero().flatten().tolist()


def _memory_format(model: nn.Module) -> torch.memory_format:
    """Channels last for convolutional models, twice as fast on a CPU and what tensor cores take.

    A vision transformer's only convolution cuts the image into patches.
    """
    convolutions = sum(isinstance(module, nn.Conv2d) for module in model.modules())
    return torch.channels_last if convolutions > 1 else torch.contiguous_format


def _remarks(spec: BackboneSpec, file: str, checkpoint: Checkpoint | None) -> tuple[str, ...]:
    found = []
    if checkpoint and checkpoint.passed_over:
        kind = "averaged over training (EMA), as timm does" if checkpoint.is_averaged else "as they are"
        found.append(
            f"{file} holds several sets of weights: {checkpoint.entry} is taken, {kind}; not taken: "
            + ", ".join(checkpoint.passed_over)
        )
    if named_by_user(spec):
        found.append(
            f"{spec.id}: {spec.pretrained!r} is none of {spec.library}'s weights for {spec.architecture}, so "
            "it is the name of your own. Their transform and activation are taken to be the architecture's; "
            "with a TAG of the library's in its place they are that one's"
        )
    return tuple(found)


def take_weights(spec: BackboneSpec, weights: Path | None = None) -> tuple[WeightsFile, str]:
    """The local file of the weights and its SHA-256. Raises BackboneError for another than is expected."""
    file = locate_weights(spec, weights)
    sha256 = file_sha256(file.path)
    if file.pinned_sha256 and sha256 != file.pinned_sha256:
        raise BackboneError(
            f"backbone {spec.id!r}: {file.path} has SHA-256 {sha256}, expected "
            f"{file.pinned_sha256}: the file is damaged or another version. Reinstall the package, "
            "or give the file on purpose: --weights FILE"
        )
    return file, sha256


def load_backbone(
    backbone: str | BackboneSpec,
    weights: Path | None = None,
    device: str | torch.device = "cpu",
    precision: str = "float32",
) -> Backbone:
    """The loaded backbone, from the weights file given, else from its package or the hub.

    The global random state is left as it was.
    """
    spec = resolve_backbone(backbone) if isinstance(backbone, str) else backbone
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
    check_architecture(spec, has_file=weights is not None)
    file, sha256 = take_weights(spec, weights)
    model, transform = build_architecture(spec)
    checkpoint = load_weights(model, file.path, spec)
    loaded = Backbone(
        spec, model, transform, weights_sha256=sha256, weights_file=file.path.name,
        weights_source=file.source, device=torch.device(device), precision=precision,
        checkpoint=checkpoint,
    )  # fmt: skip
    logger.info(
        "%s: %s %s on %s, weights %s (%s, sha256 %s)", spec.id, spec.library, spec.architecture,
        loaded.device, file.path.name, file.source, sha256[:12],
    )  # fmt: skip
    return loaded
