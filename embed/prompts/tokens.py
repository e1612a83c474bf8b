"""What tokenizers make of texts: how long they are, which do not fit, which are the same. Without torch."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from embed.backbones.spec import BackboneError, PromptTooLong
from embed.prompts.sets import PromptTable
from store.shapes import Int

TOKEN_CHUNK = 4096

Tokenize = Callable[[Sequence[str]], tuple[np.ndarray, list[int]]]
"""Texts to token ids (n_texts, context length), int64, and the positions of those that are cut there."""


class TextTower(Protocol):
    """What reads texts: a loaded backbone, or its text tower alone."""

    @property
    def id(self) -> str:
        """Backbone id."""

    @property
    def context_length(self) -> int:
        """The number of tokens that it reads."""

    def tokens_uncut(self, texts: Sequence[str], context_length: int) -> tuple[np.ndarray, list[int]]:
        """Token ids padded to a context length, and which of the texts do not fit into it."""


class SamePrompts(BackboneError):  # noqa: N818
    """Prompts of two labels are one text to the tokenizer."""


def check_prompts(set_name: str, table: PromptTable, backbone: TextTower) -> None:
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
        for row, ids in enumerate(tokens[:-1], first):
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


def token_counts(tokens: Int[np.ndarray, "b n_tokens"]) -> Int[np.ndarray, " b"]:
    """Tokens of each text, start and end token included; the last text's last token must be padding."""
    positions = np.arange(1, tokens.shape[1] + 1)
    found: np.ndarray = ((tokens != tokens[-1, -1]) * positions).max(axis=1)
    return found
