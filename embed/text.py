"""Prompts in, rows out: every text of a prompt set through a backbone's text tower, in resumable parts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from embed.architectures import build_tokenizer, text_context_length
from embed.backbones import BackboneError, resolve_backbone
from embed.loading import Backbone, PromptTooLong, token_counts, tokenize_uncut
from embed.prompt_sets import PromptTable, prompt_columns, prompt_identity
from store import IdentityError, MissingFileError, open_prompts
from store.locks import write_lock
from store.parts import Plan, begin, clean_up, discard, merge_parts, missing_parts, write_part
from store.prompts import PROMPTS_SCHEMA

TEXT_BATCH = 256
TOKEN_CHUNK = 4096


def prompt_plan(set_name: str, table: PromptTable, backbone: Backbone, path: Path) -> Plan:
    """The identity and provenance of one prompt file."""
    identity = {
        **prompt_identity(set_name, table),
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
) -> str:
    """Encode every prompt into one file and return its content digest; a finished file is left alone.

    A causal text tower pooled at the end token needs no padding: a batch is encoded at the length of its
    longest text, and batches hold texts of like length. They never cross a part's border, so that a run
    that was stopped and went on gives the bytes of one that was not.

    Raises IdentityError for a file of another combination, PromptTooLong naming texts over the context.
    """
    plan = prompt_plan(set_name, table, backbone, path)
    with write_lock(path.with_name(path.name + ".lock")):
        try:
            with open_prompts(path, plan.identity) as finished:
                clean_up(plan)
                if on_rows is not None:
                    on_rows(plan.n_rows)
                return finished.digest
        except MissingFileError:
            pass
        except IdentityError:
            if not overwrite:
                raise
        if overwrite:
            discard(plan)
        texts = plan.ids["text"].tolist()
        _refuse_too_long(set_name, backbone, texts)
        begin(plan)
        todo = missing_parts(plan)
        if on_rows is not None:
            on_rows(plan.n_rows - sum(plan.parts[i][1] - plan.parts[i][0] for i in todo))
        for index in todo:
            start, stop = plan.parts[index]
            vectors = encode_part(backbone, texts[start:stop], on_rows)
            write_part(plan, index, {"outputs/embedding": vectors})
        return merge_parts(plan, "text")


def encode_part(
    backbone: Backbone, texts: Sequence[str], on_rows: Callable[[int], None] | None = None
) -> Float32[np.ndarray, "n_texts dim"]:
    """Raw vectors of texts in their order, from batches of texts of like length."""
    needed = np.array(backbone.contexts_needed(texts))
    order = np.argsort(needed, kind="stable")
    batches = []
    for first in range(0, len(order), TEXT_BATCH):
        rows = order[first : first + TEXT_BATCH]
        vectors = backbone.encode_texts([texts[row] for row in rows], int(needed[rows].max()))
        batches.append(vectors.float().cpu().numpy())
        if on_rows is not None:
            on_rows(len(rows))
    encoded: np.ndarray = np.concatenate(batches)[np.argsort(order)]
    return encoded


def _refuse_too_long(set_name: str, backbone: Backbone, texts: list[str]) -> None:
    """One error for all texts that do not fit into the context."""
    too_long = [text for chunk in _chunks(texts) for text in backbone.too_long(chunk)]
    if too_long:
        raise PromptTooLong(
            f"prompt set {set_name!r}: {len(too_long):,} of {len(texts):,} prompts have more than the "
            f"{backbone.context_length} tokens that {backbone.id} reads: {name_some(too_long)}. "
            "Shorten them: a tokenizer would cut them in silence, and the rest is another prompt"
        )


@dataclass(frozen=True)
class TokenLengths:
    """How long the texts of a prompt set are for a backbone's tokenizer, start and end token included."""

    context_length: int
    longest: int
    longest_text: str
    too_long: list[str]


def measure_tokens(texts: Sequence[str], backbone_id: str) -> TokenLengths:
    """Lengths of texts in tokens, without weights. Raises BackboneError where there is no text tower."""
    spec = resolve_backbone(backbone_id)
    if not spec.has_text:
        raise BackboneError(f"backbone {backbone_id!r} has no text tower and so no tokenizer")
    tokenizer, context_length = build_tokenizer(spec), text_context_length(spec)
    longest, longest_text, too_long = 0, "", []
    for chunk in _chunks(texts):
        tokens, cut = tokenize_uncut(tokenizer, [*chunk, ""], context_length)
        lengths = token_counts(tokens)[:-1]
        if int(lengths.max()) > longest:
            longest, longest_text = int(lengths.max()), chunk[int(lengths.argmax())]
        too_long += [chunk[i] for i in cut]
    return TokenLengths(context_length, longest, longest_text, too_long)


def name_some(texts: Sequence[str], n_shown: int = 3) -> str:
    """The first of some texts, quoted."""
    return "; ".join(repr(text) for text in texts[:n_shown]) + (" ..." if len(texts) > n_shown else "")


def _chunks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(texts), TOKEN_CHUNK):
        yield texts[first : first + TOKEN_CHUNK]
