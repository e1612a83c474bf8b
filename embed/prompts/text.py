"""Prompts in, rows out: every text of a prompt set through a backbone's text tower, in resumable parts."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from embed.backbones.architectures import build_tokenizer, check_architecture, text_context_length
from embed.backbones.loading import Backbone, tokenize_uncut
from embed.backbones.registry import BackboneError, resolve_backbone
from embed.prompts.sets import PromptTable, prompt_columns, prompt_identity
from embed.prompts.tokens import TokenLengths, check_prompts, look_at
from store import open_prompts
from store.parts import Plan
from store.prompts import PROMPTS_SCHEMA
from store.run import claimed
from store.shapes import Float32

TEXT_BATCH = 256


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


def measure_tokens(texts: Sequence[str], backbone_id: str) -> TokenLengths:
    """Tokens of texts, without weights. Raises BackboneError where there is no text tower."""
    spec = resolve_backbone(backbone_id)
    if not spec.has_text:
        raise BackboneError(f"backbone {backbone_id!r} has no text tower and so no tokenizer")
    check_architecture(spec, has_file=True)
    tokenizer, context_length = build_tokenizer(spec), text_context_length(spec)

    def tokenize(some: Sequence[str]) -> tuple[np.ndarray, list[int]]:
        tokens, too_long = tokenize_uncut(tokenizer, some, context_length)
        return tokens.numpy(), too_long

    return look_at(texts, tokenize, context_length)
