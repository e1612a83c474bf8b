"""Prompts in, rows out: every text of a prompt set through a backbone's text tower, in resumable parts."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from embed.backbones.architectures import build_tokenizer, check_architecture, text_context_length
from embed.backbones.loading import Backbone, PromptTooLong, token_counts, tokenize_uncut
from embed.backbones.registry import BackboneError, resolve_backbone
from embed.prompts.sets import PromptTable, prompt_columns, prompt_identity
from store import open_prompts
from store.parts import Plan
from store.prompts import PROMPTS_SCHEMA
from store.run import claimed
from store.shapes import Float32

TEXT_BATCH = 256
TOKEN_CHUNK = 4096


class SamePrompts(BackboneError):  # noqa: N818
    """Prompts of two labels are one text to the tokenizer."""


def prompt_plan(
    set_name: str,
    table: PromptTable,
    backbone: Backbone,
    path: Path,
    more: Mapping[str, object] | None = None,
) -> Plan:
    """The identity and provenance of one prompt file; `more` is what else tells it from others."""
    identity = {
        **prompt_identity(set_name, table),
        **(more or {}),
        "backbone": backbone.id,
        **backbone.weights_identity,
        "precision": backbone.precision,
    }
    provenance = {
        **backbone.provenance(),
        "batch_size": TEXT_BATCH,
        "device": torch.device(backbone.device).type,
        "torch": torch.__version__,
    }
    return Plan(path, PROMPTS_SCHEMA, identity, provenance, len(table), prompt_columns(table))


def embed_prompts(
    set_name: str,
    table: PromptTable,
    backbone: Backbone,
    path: Path,
    overwrite: bool = False,
    on_rows: Callable[[int], None] | None = None,
    cut: bool = False,
    more: Mapping[str, object] | None = None,
) -> str:
    """Encode every prompt into one file and return its content digest; a finished file is left alone.

    With `cut`, texts over the context are cut as the tokenizer does: for captions, which others have written;
    who asks for it has counted them (`look_at`). `more` goes into the file's identity.

    A causal text tower pooled at the end token needs no padding: a batch is encoded at the length of its
    longest text, and batches hold texts of like length. They never cross a part's border, so that a run
    that was stopped and went on gives the bytes of one that was not.

    Raises IdentityError for a file of another combination, PromptTooLong naming texts over the context,
    SamePrompts naming labels whose prompts are the same tokens.
    """
    plan = prompt_plan(set_name, table, backbone, path, more)
    texts = plan.ids["text"].tolist()
    with claimed(plan, open_prompts) as run:
        check = None if cut else lambda: check_prompts(set_name, table, backbone)
        todo = run.begin(overwrite, prepare=check)
        if on_rows is not None:
            on_rows(plan.n_rows - sum(plan.parts[i][1] - plan.parts[i][0] for i in todo))
        for index in todo:
            start, stop = plan.parts[index]
            vectors = encode_part(backbone, texts[start:stop], on_rows, cut)
            run.write(index, {"outputs/embedding": vectors})
        run.finish("text")
    with open_prompts(path, plan.identity) as finished:
        return finished.digest


def encode_part(
    backbone: Backbone,
    texts: Sequence[str],
    on_rows: Callable[[int], None] | None = None,
    cut: bool = False,
) -> Float32[np.ndarray, "n_texts dim"]:
    """Raw vectors of texts in their order, from batches of texts of like length. With `cut`, of texts over
    the context those of their beginning."""
    tokens = backbone.tokenize(texts, cut=True) if cut else None
    needed = np.array(backbone.contexts_needed(texts) if tokens is None else backbone.lengths_of(tokens))
    order = np.argsort(needed, kind="stable")
    batches = []
    for first in range(0, len(order), TEXT_BATCH):
        rows = order[first : first + TEXT_BATCH]
        if tokens is None:
            vectors = backbone.encode_texts([texts[row] for row in rows], int(needed[rows].max()))
        else:
            vectors = backbone.encode_tokens(tokens[rows, : int(needed[rows].max())])
        batches.append(vectors.float().cpu().numpy())
        if on_rows is not None:
            on_rows(len(rows))
    encoded: np.ndarray = np.concatenate(batches)[np.argsort(order)]
    return encoded


def check_prompts(set_name: str, table: PromptTable, backbone: Backbone) -> None:
    """Raises PromptTooLong for all texts that do not fit into the context, else SamePrompts for labels that
    are one text to the tokenizer."""
    length = backbone.context_length
    found = look_at(table.text, lambda texts: backbone.tokens_uncut(texts, length), length)
    if found.too_long:
        raise PromptTooLong(
            f"prompt set {set_name!r}: {len(found.too_long):,} of {len(table):,} prompts have more than the "
            f"{length} tokens that {backbone.id} reads: {name_some(found.too_long)}. "
            "Shorten them: a tokenizer would cut them in silence, and the rest is another prompt"
        )
    if problem := describe_same(table, found.same, backbone.id):
        raise SamePrompts(f"prompt set {set_name!r}: {problem}")


@dataclass(frozen=True)
class TokenLengths:
    """What a backbone's tokenizer makes of the texts of a prompt set."""

    context_length: int
    longest: int
    """Tokens, start and end token included."""
    longest_text: str
    n_tokens: int
    """Of all texts together; of those over the context as many as it holds."""
    too_long: list[str]
    same: list[tuple[int, ...]]
    """Rows that have the same tokens, and so the same vector but for rounding; equal texts among them."""


def measure_tokens(texts: Sequence[str], backbone_id: str) -> TokenLengths:
    """Tokens of texts, without weights. Raises BackboneError where there is no text tower."""
    spec = resolve_backbone(backbone_id)
    if not spec.has_text:
        raise BackboneError(f"backbone {backbone_id!r} has no text tower and so no tokenizer")
    check_architecture(spec, has_file=True)
    tokenizer, context_length = build_tokenizer(spec), text_context_length(spec)
    return look_at(texts, lambda some: tokenize_uncut(tokenizer, some, context_length), context_length)


Tokenize = Callable[[Sequence[str]], tuple[torch.Tensor, list[int]]]


def look_at(
    texts: Sequence[str],
    tokenize: Tokenize,
    context_length: int,
    on_rows: Callable[[int], None] | None = None,
) -> TokenLengths:
    """What a tokenizer (texts to ids, and which are cut) makes of texts, chunk by chunk."""
    longest, longest_text, too_long, n_tokens = 0, "", [], 0
    rows_of: dict[bytes, list[int]] = {}
    for first in range(0, len(texts), TOKEN_CHUNK):
        chunk = texts[first : first + TOKEN_CHUNK]
        tokens, cut = tokenize([*chunk, ""])
        lengths = token_counts(tokens)[:-1]
        if int(lengths.max()) > longest:
            longest, longest_text = int(lengths.max()), chunk[int(lengths.argmax())]
        n_tokens += int(lengths.sum())
        too_long += [chunk[i] for i in cut]
        for row, ids in enumerate(tokens[:-1].numpy(), first):
            rows_of.setdefault(hashlib.blake2b(ids.tobytes(), digest_size=16).digest(), []).append(row)
        if on_rows is not None:
            on_rows(len(chunk))
    same = [tuple(rows) for rows in rows_of.values() if len(rows) > 1]
    return TokenLengths(context_length, longest, longest_text, n_tokens, too_long, same)


def describe_same(table: PromptTable, same: Sequence[tuple[int, ...]], backbone_id: str) -> str:
    """Which labels are one text to the tokenizer, and what to do; '' where all differ.

    Equal prompts of one label do no harm: they count again in its mean. Those of two labels would divide
    images between them by rounding.
    """
    pairs: dict[tuple[str, str], tuple[int, int]] = {}
    for first, *others in same:
        for row in others:
            if table.label[row] != table.label[first]:
                pairs.setdefault((table.label[first], table.label[row]), (first, row))
    if not pairs:
        return ""
    shown = "; ".join(
        f"{high!r} and {low!r} ({table.text[a]!r} and {table.text[b]!r})"
        for (high, low), (a, b) in list(pairs.items())[:3]
    )
    return (
        f"labels that are one text to the tokenizer of {backbone_id}: {shown}"
        f"{f' and {len(pairs) - 3} pairs more' if len(pairs) > 3 else ''}. Their vectors are the same, so "
        "rounding would divide the images between them. Keep one of them, or use other words"
    )


def name_some(texts: Sequence[str], n_shown: int = 3) -> str:
    """The first of some texts, quoted."""
    return "; ".join(repr(text) for text in texts[:n_shown]) + (" ..." if len(texts) > n_shown else "")
