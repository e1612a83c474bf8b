"""Captions written by CoCa (Yu et al. 2022, open_clip's): photographs in, one text each out, in resumable
parts.

The most probable token is taken at every step, so no seed is needed. (open_clip's own `generate` draws its
parts from versions of the package transformers that are gone.)
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from embed.backbones.architectures import build_tokenizer
from embed.backbones.loading import Backbone
from embed.backbones.registry import BackboneError
from embed.crashes import crash_notes
from embed.images.geometry import check_cut, pixel_steps, scale_pixels
from embed.images.table import ImageTable
from embed.options import Options
from embed.reading import Batch, Row, load_batches
from store.captions import CAPTIONS_SCHEMA, write_captions
from store.identity import check_identity
from store.parts import Plan, clean_up, open_part
from store.run import claimed
from store.sealed import SealedFile
from store.shapes import Float, Int32, Int64

BATCH = 16
N_TOKENS = 30
"""Start and end token included; what open_clip's `generate` takes, too."""
MIN_WORDS = 3
"""Tokens before the end token may come."""
PART_ROWS = 128
_PADDING = 0


def check_writes(backbone: Backbone) -> None:
    """Raises BackboneError for a backbone that writes no text."""
    if not hasattr(backbone.model, "text_decoder"):
        raise BackboneError(
            f"backbone {backbone.id!r} writes no captions: that needs a CoCa of open_clip, such as "
            "open_clip:coca_ViT-B-32/mscoco_finetuned_laion2b_s13b_b90k"
        )
    if not hasattr(build_tokenizer(backbone.spec), "sot_token_id"):
        raise BackboneError(f"backbone {backbone.id!r}: its tokenizer has no start token to write from")


def write_tokens(
    backbone: Backbone, images: Float[Tensor, "b 3 h w"], start: int, end: int, n_tokens: int
) -> Int64[Tensor, "b n_tokens"]:
    """Token ids of a caption per image, most probable first: start, words, end, padding."""
    model: Any = backbone.model
    with torch.inference_mode():
        latent, embedded = model._encode_image(images.to(backbone.device, torch.float32))
        tokens = torch.full((len(images), 1), start, dtype=torch.long, device=backbone.device)
        ended = torch.zeros(len(images), dtype=torch.bool, device=backbone.device)
        for position in range(1, n_tokens):
            asked = {"image_latent": latent, "image_embs": embedded, "output_labels": False}
            logits = model(None, tokens, **asked)["logits"][:, -1]
            logits[:, [start, _PADDING]] = -torch.inf
            if position <= MIN_WORDS:
                logits[:, end] = -torch.inf
            chosen = logits.argmax(dim=1)
            if position == n_tokens - 1:
                chosen[:] = end
            chosen[ended] = _PADDING
            tokens = torch.cat([tokens, chosen[:, None]], dim=1)
            ended |= chosen == end
        return tokens.cpu()


def caption_plan(table: ImageTable, backbone: Backbone, name: str, path: Path, options: Options) -> Plan:
    """The identity and provenance of captions that a backbone writes."""
    identity = {
        "captions": name,
        "images": table.digest,
        "n_images": len(table),
        "backbone": backbone.id,
        **backbone.weights_identity,
        "preprocessing": {**backbone.recipe.to_json(), **options.decoding_identity()},
        "n_tokens": N_TOKENS,
    }
    provenance = {
        **backbone.provenance(),
        "source": "model",
        "dataset": table.dataset,
        "batch_size": BATCH,
        "device": torch.device(backbone.device).type,
        "torch": torch.__version__,
    }
    ids = {"image_id": table.image_id}
    return Plan(path, CAPTIONS_SCHEMA, identity, provenance, len(table), ids, part_rows=PART_ROWS)


def caption_images(
    table: ImageTable,
    backbone: Backbone,
    name: str,
    path: Path,
    options: Options,
    on_rows: Callable[[int, int, bool], None] | None = None,
) -> str:
    """Write a caption of every image into one file and return its content digest; a finished file is left
    alone.

    An image that cannot be read has none, and the reason. A run that was stopped goes on after its last part.
    Raises BackboneError for a model that writes none, IdentityError for a file of another combination.
    """
    check_writes(backbone)
    tokenizer: Any = build_tokenizer(backbone.spec)
    start, end = int(tokenizer.sot_token_id), int(tokenizer.eot_token_id)
    check_cut(backbone.transform, backbone.recipe.mean, backbone.recipe.std)
    plan = caption_plan(table, backbone, name, path, options)
    decoding = options.decoding([pixel_steps(backbone.transform)])
    with claimed(plan, _open) as run:
        todo = run.begin(options.overwrite)
        n_done = plan.n_rows - sum(plan.parts[i][1] - plan.parts[i][0] for i in todo)
        if on_rows is not None and n_done:
            on_rows(n_done, 0, False)
        batches = [
            Batch(index, first, min(first + BATCH, plan.parts[index][1]))
            for index in todo
            for first in range(*plan.parts[index], BATCH)
        ]
        made: list[Int64[Tensor, "b n_tokens"]] = []
        read: list[Row] = []
        crashes = crash_notes(table, decoding, options.crash_folder)
        for batch, rows in load_batches(table, batches, decoding, options.n_threads, crashes):
            made.append(_of_batch(backbone, rows, start, end))
            read += [
                replace(row, pixels=None, reason="" if row.pixels is not None else row.reason) for row in rows
            ]
            if batch.stop == plan.parts[batch.part][1]:
                run.write(batch.part, _part(torch.cat(made).numpy(), read))
                made, read = [], []
            if on_rows is not None:
                on_rows(len(rows), sum(row.pixels is None for row in rows), True)
        run.finish(join=lambda plan: _join(plan, tokenizer, start, end))
    with _open(path, plan.identity) as file:
        return file.digest


def tokens_to_text(tokens: Sequence[int], tokenizer: Any, start: int, end: int) -> str:
    """The words of token ids in one line, without start, end and padding."""
    words = [int(token) for token in tokens[1:]]
    words = words[: words.index(end)] if end in words else words
    text: str = tokenizer.decode([token for token in words if token not in (start, _PADDING)])
    return " ".join("".join(c if c.isprintable() and c != "\ufffd" else " " for c in text).split())


def _of_batch(backbone: Backbone, rows: Sequence[Row], start: int, end: int) -> Int64[Tensor, "b n_tokens"]:
    """Captions of a batch; a failed image holds its place as zeros, so that its neighbours do not depend
    on it."""
    pixels = [row.pixels[0] if row.pixels is not None else None for row in rows]
    shape = next((p.shape for p in pixels if p is not None), None)
    if shape is None:
        return torch.full((len(rows), N_TOKENS), _PADDING)
    stacked = torch.from_numpy(np.stack([np.zeros(shape, np.uint8) if p is None else p for p in pixels]))
    recipe = backbone.recipe
    images = scale_pixels(stacked, recipe.mean, recipe.std, backbone.device)
    return write_tokens(backbone, images, start, end, N_TOKENS)


def _part(tokens: np.ndarray, rows: Sequence[Row]) -> dict[str, np.ndarray]:
    failed = [at for at, row in enumerate(rows) if row.reason]
    return {
        "tokens": tokens.astype(np.int32),
        "source_sha256": np.frombuffer(b"".join(row.sha256 for row in rows), np.uint8).reshape(len(rows), -1),
        "failures/row": np.array(failed, dtype=np.int64),
        "failures/reason": np.array([rows[at].reason for at in failed], dtype=str),
    }


def _join(plan: Plan, tokenizer: Any, start: int, end: int) -> None:
    """The caption file of all parts; files of equal bytes have the caption of the first of them."""
    written: dict[bytes, str] = {}
    captions: list[list[str]] = []
    reason: list[str] = []
    for index in range(len(plan.parts)):
        with open_part(plan, index) as part:
            why = dict(
                zip(part.view("failures/row").tolist(), part.strings("failures/reason").tolist(), strict=True)
            )
            tokens: Int32[np.ndarray, "n n_tokens"] = part.view("tokens")
            sources = [sha256.tobytes() for sha256 in part.view("source_sha256")]
            for row, (ids, source) in enumerate(zip(tokens.tolist(), sources, strict=True)):
                text = ""
                if row not in why:
                    text = written.setdefault(source, tokens_to_text(ids, tokenizer, start, end))
                captions.append([text] if text else [])
                reason.append(why.get(row, "" if text else "the model wrote nothing"))
    write_captions(plan.path, plan.ids["image_id"], captions, reason, plan.identity, plan.provenance)
    clean_up(plan)


@contextmanager
def _open(path: Path, expect: Mapping[str, Any] | None = None) -> Iterator[SealedFile]:
    with SealedFile(path, CAPTIONS_SCHEMA) as file:
        advice = "Ask for the same, choose another --name, or replace it: --overwrite"
        check_identity(file.identity, expect or {}, path, advice)
        yield file
