"""Keeping the text tower of a loaded backbone for use without torch (`embed.backbones.kept_text`)."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

from embed.backbones.engines import export_graph
from embed.backbones.exports import TOLERANCE, EngineUnavailable, first_line, header_line, largest_share
from embed.backbones.families import BytePairs, family
from embed.backbones.kept_text import (
    HEADER_BYTES,
    MAGIC,
    Facts,
    Tokenizer,
    kept_path,
    open_kept_text,
    padded,
    run_graph,
    text_key,
    why_not_kept,
)
from embed.backbones.loading import Backbone
from embed.backbones.towers import has_text, text_embedding, text_is_causal
from store import StoreError
from store.durable import make_folder, whole_file

N_TOKENS = 32
"""Tokens that a kept tower reads: attention is exported for one length, and what people look for is short."""

_PAGE = 4096
_LEAST_BYTES = 1024
"""Smaller tensors stay in the graph."""

TRIED = (
    "", "a photo of a dog", "Ein schöner Garten am Abend, mit Nebel", "it's what they'd've said, isn't it?",
    "  many   spaces\tand\nlines ", "&amp;lt;b&gt; caf&eacute;", "don’t “quote” me", "1999 100% #1 @me a_b-c",
    "猫と犬の写真", "фото города ночью", "🏖️ beach 👍🏽", "İSTANBUL ǅ ﬁne ＦＵＬＬ", "x" * 400, "schÃ¶n",
    "\x1b[31mred\x1b[0m", "<start_of_text> a <end_of_text>", "<|startoftext|>", "e\u0301 \u00e9 \u200b",
    " ".join(["dog"] * 40), "\ufeff",
)  # fmt: skip
"""Texts of many kinds, by which tokenizers are compared."""


class _Texts(nn.Module):
    """A model's text tower as an exporter takes it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return text_embedding(self.model, tokens)


def keep_text(backbone: Backbone, folder: Path) -> Path:
    """Keep the backbone's text tower in a folder of exports, held against torch before; its file. One that is
    there and fits is left. A model that cannot be kept is remembered as such, a lack of room is not.

    Raises EngineUnavailable: a tower or tokenizer of another kind, ONNX Runtime is missing, the vectors are
    further from torch's than TOLERANCE, or the file cannot be written.
    """
    spec, weights = backbone.spec, backbone.weights_identity
    path = kept_path(folder, spec, weights)
    kept = open_kept_text(folder, spec, weights)
    if kept is not None and kept.is_intact:
        return path
    pairs, key = _byte_pairs(backbone), text_key(spec, weights)
    if why_not := why_not_kept(path, key):
        raise EngineUnavailable(why_not)
    try:
        merges = _merger(pairs)
        length = backbone.context_length
        facts = Facts(
            pairs.pattern, dict(pairs.special), pairs.start, pairs.end, length, min(N_TOKENS, length), 0, 0.0
        )
        tokens = _same_tokens(backbone, Tokenizer(facts, merges), facts)
        model = _export(backbone, tokens)
        make_folder(path.parent)
        with whole_file(path) as partial:
            _write(partial, path.name, model, key, facts, merges, backbone, tokens)
    except (MemoryError, OSError, ImportError, StoreError) as error:
        raise EngineUnavailable(_not_kept(backbone, error)) from error
    except Exception as error:  # an exporter has no kinds of its own
        why_not = str(error) if isinstance(error, EngineUnavailable) else _not_kept(backbone, error)
        with suppress(StoreError), whole_file(path) as partial:
            partial.write_bytes(header_line({"key": key, "why_not": why_not}, MAGIC))
        raise EngineUnavailable(why_not) from error
    return path


def _not_kept(backbone: Backbone, error: Exception) -> str:
    return f"the text tower of {backbone.id} is not kept: {first_line(error)}"


def _byte_pairs(backbone: Backbone) -> BytePairs:
    texts = family(backbone.spec.library).texts
    is_here = backbone.device.type == "cpu" and backbone.precision == "float32"
    if not is_here or texts is None or not has_text(backbone.model) or not text_is_causal(backbone.model):
        raise EngineUnavailable(f"the text tower of {backbone.id} is of a kind that is not kept")
    pairs = texts.byte_pairs(backbone.tokenizer)
    if pairs is None:
        raise EngineUnavailable(f"the tokenizer of {backbone.id} is of a kind that is not kept")
    return pairs


def _merger(pairs: BytePairs) -> str:
    """The merges as the package tokenizers writes them."""
    from tokenizers import Tokenizer as Merger
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel

    model = BPE(vocab=dict(pairs.vocabulary), merges=list(pairs.merges), end_of_word_suffix=pairs.end_of_word)
    merger = Merger(model)
    merger.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    written: str = merger.to_str()
    return written


def _same_tokens(backbone: Backbone, tokenizer: Tokenizer, facts: Facts) -> Tensor:
    """Token ids of some of the texts tried, padded to the length of the graph. Raises EngineUnavailable where
    the two tokenizers differ."""
    full = facts.context_length
    expected, too_long = backbone.tokens_uncut(TRIED, full)
    ids = [tokenizer.ids(text) for text in TRIED]
    for row, found in enumerate(ids):
        is_long = len(found) > full
        is_same = is_long or padded([found], full)[0].tolist() == expected[row].tolist()
        if is_long != (row in too_long) or not is_same:
            raise EngineUnavailable(f"the tokenizer of {backbone.id} reads {TRIED[row]!r} in another way")
    fitting = [found for found in ids if len(found) <= facts.n_tokens]
    return torch.from_numpy(padded(fitting, facts.n_tokens))


def _export(backbone: Backbone, tokens: Tensor) -> Any:
    import onnx

    axes = {"tokens": {0: "b"}, "embedding": {0: "b"}}
    module = _Texts(backbone.model).eval()
    return onnx.load_from_string(export_graph(module, tokens[:2], "tokens", ["embedding"], axes))


def _write(
    partial: Path, name: str, model: Any, key: dict[str, Any], facts: Facts, merges: str, backbone: Backbone,
    tokens: Tensor,
) -> None:  # fmt: skip
    """The whole file under its temporary name; the weights are tried where they stand, before the rest."""
    with partial.open("wb") as file:
        weights_sha256 = _write_weights(file, model, partial.name)
        n_weights = file.tell() - HEADER_BYTES
        session = run_graph(model.SerializeToString(), partial.parent)
        tried = [_difference(backbone, session, some) for some in (tokens, tokens[1:2])]  # of two sizes
        worst = max(difference for difference, _ in tried)
        if not worst <= TOLERANCE:
            raise EngineUnavailable(
                f"texts of {backbone.id} differ by {worst:.1e} of their length from torch's, more than "
                f"{TOLERANCE:.0e}"
            )
        told = facts._replace(dim=tried[0][1], difference=worst)
        _point_to(model, name)
        pieces = [json.dumps(told._asdict()).encode(), merges.encode(), model.SerializeToString()]
        small = b"".join(pieces)
        file.write(small)
        header = {
            "key": key,
            "why_not": "",
            "sizes": [n_weights, *map(len, pieces)],
            "weights_sha256": weights_sha256,
            "small_sha256": hashlib.sha256(small).hexdigest(),
        }
        written = header_line(header, MAGIC)
        if len(written) > HEADER_BYTES:
            raise EngineUnavailable(f"the text tower of {backbone.id} is not kept: its key is too long")
        file.seek(0)
        file.write(written)


def _write_weights(file: BinaryIO, model: Any, name: str) -> str:
    """Move the graph's large tensors into the file of this name, one after the other, each at the start of a
    page; the SHA-256 of it all."""
    from onnx.external_data_helper import set_external_data

    hasher = hashlib.sha256()
    file.seek(HEADER_BYTES)
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) < _LEAST_BYTES:
            continue
        content = tensor.raw_data
        for piece in (b"\0" * (-file.tell() % _PAGE), content):
            file.write(piece)
            hasher.update(piece)
        set_external_data(tensor, name, offset=file.tell() - len(content), length=len(content))
        tensor.ClearField("raw_data")
    file.flush()
    return hasher.hexdigest()


def _point_to(model: Any, name: str) -> None:
    """Say the name of the file in which the graph's tensors lie."""
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = name


def _difference(backbone: Backbone, session: Any, tokens: Tensor) -> tuple[float, int]:
    """The largest difference from torch as a share of a vector's length, infinite for another type, too; and
    the width of vectors."""
    expected = backbone.encode_tokens(tokens).numpy()
    (found,) = session.run(None, {"tokens": tokens.numpy()})
    return largest_share(found, expected) if found.dtype == np.float32 else float("inf"), expected.shape[1]
