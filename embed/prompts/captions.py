"""Prompts of captions: each photograph's own contents in the paper's form, encoded once per text.

The paper's template is "a [label] picture, of a #[content class]" (section 4.1.2); that generated captions
may serve "for more targeted prompting" it leaves to future work (section 5). A caption brings its own
article, so ours is "a [label] picture, of [caption]".
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from embed.backbones.loading import Backbone
from embed.prompts.sets import FIXED_TEMPLATE, Label, PromptSetError, PromptTable, find_problems_of
from embed.prompts.text import embed_prompts, encode_part, prompt_plan
from embed.prompts.tokens import SamePrompts, TokenLengths, describe_same, look_at
from store import Captions, IdentityError, MissingFileError, open_prompts
from store.identity import complete

CAPTION_TEMPLATE = "a {label} picture, of {content}"
SET_PREFIX = "captions-"
_N_TIMED = 32


@dataclass(frozen=True)
class Cost:
    """What encoding will take, known before it starts."""

    n_captions: int
    n_different: int
    n_texts: int
    n_tokens: int
    n_bytes: int
    """Of the vectors."""
    n_cut: int
    """Texts over the context, of which the tokenizer reads the beginning."""
    seconds: float
    """At the pace of a few texts on this machine, which may be busy; NaN where nothing is left to encode."""

    def told(self, context_length: int) -> str:
        """The same as a sentence or two."""
        cut = (
            f" {self.n_cut:,} texts have more than {context_length} tokens and are cut there, as the "
            f"tokenizer does."
            if self.n_cut
            else ""
        )
        return (
            f"{self.n_captions:,} captions, {self.n_different:,} different; {self.n_texts:,} texts of "
            f"{self.n_tokens:,} tokens, {self.n_bytes / 1e6:,.1f} MB of vectors; at the pace of the first "
            f"{min(_N_TIMED, self.n_texts)} about {_duration(self.seconds)}.{cut}"
        )


def caption_set(name: str) -> str:
    """The name of the prompt set that a caption file becomes."""
    return SET_PREFIX + name


def caption_table(
    captions: Captions, labels: Sequence[Label], template: str = CAPTION_TEMPLATE
) -> PromptTable:
    """Every different caption with every label: label by label, captions in order of first appearance, then,
    with content '', the label's fixed prompt, for photographs without a caption.

    Raises PromptSetError.
    """
    if problems := find_problems_of(labels, [template]):
        raise PromptSetError(*problems, where=f"captions {captions.name!r}")
    contents = list(dict.fromkeys(captions.text))
    head, tail = template.split("{content}")
    rows = []
    for label in labels:
        before, after = head.format(label=label.text), tail.format(label=label.text)
        rows += [(before + content + after, label, content, template) for content in contents]
        rows.append((FIXED_TEMPLATE.format(label=label.text), label, "", FIXED_TEMPLATE))
    return PromptTable(
        text=tuple(text for text, _, _, _ in rows),
        label=tuple(label.text for _, label, _, _ in rows),
        polarity=tuple(label.polarity for _, label, _, _ in rows),
        content=tuple(content for _, _, content, _ in rows),
        template=tuple(template for _, _, _, template in rows),
    )


def finished_digest(
    captions: Captions, table: PromptTable, backbone: Backbone, path: Path, overwrite: bool = False
) -> str | None:
    """The content digest of a finished file of just these captions, labels and weights; None where there
    is none.

    Raises IdentityError for a file of others, unless it may be overwritten.
    """
    identity = prompt_plan(caption_set(captions.name), table, backbone, path, _bound(captions)).identity
    try:
        with open_prompts(path, complete(identity)) as file:
            return file.digest
    except MissingFileError:
        return None
    except IdentityError as error:
        if overwrite:
            return None
        raise IdentityError(
            f"{path} was encoded from other captions, labels or weights, or by another template, than are "
            f"asked "
            "for now. Ask for the same, or replace it"
        ) from error


def look_at_captions(
    captions: Captions, table: PromptTable, backbone: Backbone, on_rows: Callable[[int], None] | None = None
) -> TokenLengths:
    """What the backbone's tokenizer makes of the texts. Raises SamePrompts for labels that are one text to
    it."""
    length = backbone.context_length
    found = look_at(table.text, lambda texts: backbone.tokens_uncut(texts, length), length, on_rows)
    if problem := describe_same(table, found.same, backbone.id):
        raise SamePrompts(f"captions {captions.name!r}: {problem}")
    return found


def encode_captions(
    captions: Captions,
    table: PromptTable,
    backbone: Backbone,
    path: Path,
    overwrite: bool = False,
    on_rows: Callable[[int], None] | None = None,
) -> str:
    """Encode the texts into a prompt file, in parts, and return its content digest; those over the context
    are
    cut as the tokenizer does. The file says of which captions it is."""
    name = caption_set(captions.name)
    return embed_prompts(name, table, backbone, path, overwrite, on_rows, cut=True, more=_bound(captions))


def _bound(captions: Captions) -> dict[str, object]:
    return {"captions": captions.digest}


def measure_cost(captions: Captions, table: PromptTable, backbone: Backbone, found: TokenLengths) -> Cost:
    """What encoding a table will take, by timing a few of its texts, evenly picked."""
    some = table.text[:: max(1, len(table) // _N_TIMED)][:_N_TIMED]
    dim = encode_part(backbone, some[:2], cut=True).shape[1]
    started = time.perf_counter()
    encode_part(backbone, some, cut=True)
    pace = (time.perf_counter() - started) / len(some)
    n_different = len(dict.fromkeys(captions.text))
    return Cost(
        len(captions.text), n_different, len(table), found.n_tokens, 4 * dim * len(table),
        len(found.too_long),
        pace * len(table),
    )  # fmt: skip


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{max(seconds, 1):.0f} s"
