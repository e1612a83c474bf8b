"""Prompts in, rows out: every text of a prompt set through a backbone's text tower, in resumable parts."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from embed.loading import Backbone
from embed.prompt_sets import PromptTable
from store import IdentityError, MissingFileError, open_prompts
from store.digests import digest_of_strings
from store.locks import write_lock
from store.parts import Plan, begin, clean_up, discard, merge_parts, missing_parts, write_part
from store.prompts import PROMPTS_SCHEMA

TEXT_BATCH = 256
TOKEN_CHUNK = 4096


def prompt_plan(set_name: str, table: PromptTable, backbone: Backbone, path: Path) -> Plan:
    """The identity and provenance of one prompt file."""
    polarity = np.asarray(table.polarity, np.int8)
    columns = {
        "text": np.asarray(table.text, dtype=str),
        "label": np.asarray(table.label, dtype=str),
        "content": np.asarray(table.content, dtype=str),
        "template": np.asarray(table.template, dtype=str),
    }
    identity = {
        "prompt_set": set_name,
        "prompts": digest_of_strings(*columns.values(), polarity),
        "n_prompts": len(polarity),
        "backbone": backbone.id,
        "weights_sha256": backbone.weights_sha256,
        "precision": "float32",
    }
    provenance = {
        **backbone.provenance(),
        "batch_size": TEXT_BATCH,
        "device": torch.device(backbone.device).type,
        "torch": torch.__version__,
    }
    ids = {**columns, "polarity": polarity}
    return Plan(path, PROMPTS_SCHEMA, identity, provenance, len(polarity), ids)


def embed_prompts(
    set_name: str,
    table: PromptTable,
    backbone: Backbone,
    path: Path,
    overwrite: bool = False,
    on_rows: Callable[[int], None] | None = None,
) -> str:
    """Encode every prompt into one file and return its content digest; a finished file is left alone.

    All texts are encoded at the length of the longest one: the text tower is causal and pooled at the end
    token, so the rest of the context is padding.

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
        length = _longest(backbone, texts)
        begin(plan)
        todo = missing_parts(plan)
        if on_rows is not None:
            on_rows(plan.n_rows - sum(plan.parts[i][1] - plan.parts[i][0] for i in todo))
        for index in todo:
            start, stop = plan.parts[index]
            vectors = []
            for first in range(start, stop, TEXT_BATCH):
                batch = texts[first : min(first + TEXT_BATCH, stop)]
                vectors.append(backbone.encode_texts(batch, length).float().cpu().numpy())
                if on_rows is not None:
                    on_rows(len(batch))
            write_part(plan, index, {"outputs/embedding": np.concatenate(vectors)})
        return merge_parts(plan)


def _longest(backbone: Backbone, texts: list[str]) -> int:
    """The context, in tokens, that every text fits into."""
    chunks = range(0, len(texts), TOKEN_CHUNK)
    return max(backbone.context_needed(texts[first : first + TOKEN_CHUNK]) for first in chunks)
