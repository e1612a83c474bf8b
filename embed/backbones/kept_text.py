"""Text towers as kept exports: words become vectors in a second, and nothing of torch is imported.

A kept tower is one file: a line of JSON in a block of 16 KiB (its key: all that it follows from; sizes and
digests), then the weights, which ONNX Runtime maps into memory and reads where they are needed, then what is
small: facts of the tokenizer, its merges, the graph. `embed.backbones.text_export` makes it, and holds it
against torch. Whatever is not as the key says, or is damaged, is not used.
"""

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from embed.backbones.exports import (
    EngineUnavailable,
    check_age,
    engine_versions,
    first_line,
    is_of_key,
    load_onnxruntime,
    made_from,
    read_header,
)
from embed.backbones.spec import BackboneSpec
from store.digests import digest_of_json
from store.file_names import cache_stem
from store.shapes import Float32, Int
from store.system import n_cores

logger = logging.getLogger(__name__)

MAGIC = b"iaa-words 1\n"
HEADER_BYTES = 1 << 14
BATCH = 256
OLDEST_THAT_MAPS = (1, 22)
"""The ONNX Runtime that finds weights in a folder that is named."""


class Facts(NamedTuple):
    """What a byte-pair tokenizer does besides merging, and what its tower reads and gives."""

    pattern: str
    """Regular expression of the package regex for the words of a text, read without regard to case."""
    special: dict[str, int]
    """Words that are one token as they stand."""
    start: int
    end: int
    context_length: int
    n_tokens: int
    """Tokens that the graph reads."""
    dim: int
    difference: float
    """The largest from torch that the check found, as a share of a vector's length."""


class Tokenizer:
    """CLIP's tokenizer without the library it comes from: the same ids for every text.

    Texts are mended (ftfy), entities of HTML resolved, spaces made one, letters small; then cut into words,
    and each word's bytes merged.
    """

    def __init__(self, facts: Facts, merges: str) -> None:
        import regex
        from tokenizers import Tokenizer as Merger

        self._facts, self._merger = facts, Merger.from_str(merges)
        self._pattern = regex.compile(facts.pattern, regex.IGNORECASE)

    def ids(self, text: str) -> list[int]:
        """Token ids of a text, start and end included, however many they are."""
        found = [self._facts.start]
        for word in self._pattern.findall(_clean(text)):
            special = self._facts.special.get(word)
            found += self._merger.encode(word, add_special_tokens=False).ids if special is None else [special]
        return [*found, self._facts.end]


def _clean(text: str) -> str:
    if not (text.isascii() and text.isprintable()) or "&" in text:  # nothing to mend in others
        import html

        import ftfy

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


class KeptTower:
    """The text tower of a backbone from its export: texts in, raw vectors out."""

    def __init__(
        self,
        id: str,
        facts: Facts,
        tokenizer: Tokenizer,
        session: Any,
        intact: Future[bool],
    ) -> None:
        self.id, self.facts = id, facts
        self._tokenizer, self._session, self._intact = tokenizer, session, intact

    @property
    def context_length(self) -> int:
        """The number of tokens that the tower reads."""
        return self.facts.context_length

    @property
    def is_intact(self) -> bool:
        """Whether the weights in the file are those that were written; waits until all have been read."""
        return self._intact.result()

    def tokens_uncut(
        self, texts: Sequence[str], context_length: int
    ) -> tuple[Int[np.ndarray, "b n_tokens"], list[int]]:
        """Token ids padded to a context length, and which of the texts do not fit into it."""
        ids = [self._tokenizer.ids(text) for text in texts]
        too_long = [row for row, found in enumerate(ids) if len(found) > context_length]
        for row in too_long:
            ids[row] = [*ids[row][: context_length - 1], self.facts.end]
        return padded(ids, context_length), too_long

    def encode(self, texts: Sequence[str]) -> Float32[np.ndarray, "n_texts dim"] | None:
        """Raw joint-space vectors of texts in their order; None where one is longer than what is kept reads,
        or the file is not as it was written."""
        ids = [self._tokenizer.ids(text) for text in texts]
        if max(map(len, ids)) > self.facts.n_tokens:
            return None
        tokens = padded(ids, self.facts.n_tokens)
        batches = [tokens[first : first + BATCH] for first in range(0, len(tokens), BATCH)]
        found = np.concatenate([self._session.run(None, {"tokens": some})[0] for some in batches])
        if not self.is_intact:
            logger.warning("the kept text tower of %s is damaged: it is made anew", self.id)
            return None
        return found


def padded(ids: Sequence[Sequence[int]], length: int) -> Int[np.ndarray, "b n_tokens"]:
    """Token ids of texts in one array, zeros behind them."""
    tokens = np.zeros((len(ids), length), np.int64)
    for row, found in enumerate(ids):
        tokens[row, : len(found)] = found
    return tokens


def kept_path(folder: Path, spec: BackboneSpec, weights: Mapping[str, str]) -> Path:
    """Where the text tower of these weights is kept in the folder of exports."""
    return folder / f"{cache_stem(spec.file_stem)}.{digest_of_json(dict(weights))[:16]}.text"


def text_key(spec: BackboneSpec, weights: Mapping[str, str]) -> dict[str, Any]:
    """All that a kept tower follows from. Raises EngineUnavailable without ONNX Runtime, or with one that
    cannot map weights."""
    versions = engine_versions()
    check_age("onnxruntime", versions["onnxruntime"], OLDEST_THAT_MAPS)
    return {**made_from(spec, versions), **weights}


def why_not_kept(path: Path, key: Mapping[str, Any]) -> str:
    """Why the tower of this key could not be kept when it was tried; '' where it was not, or is there."""
    try:
        with path.open("rb") as file:
            header = read_header(file, MAGIC, HEADER_BYTES)
        return str(header["why_not"]) if is_of_key(header, key) else ""
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def open_kept_text(folder: Path, spec: BackboneSpec, weights: Mapping[str, str]) -> KeptTower | None:
    """The kept text tower of weights (`weights_sha256`, ...); None where there is none that can be used."""
    path = kept_path(folder, spec, weights)
    if not path.is_file():
        return None
    try:
        return _open(path, spec, text_key(spec, weights))
    except EngineUnavailable as error:
        logger.info("%s is not used: %s", path, error)
        return None
    except Exception as error:  # ONNX Runtime and the merger have kinds of their own
        logger.warning("%s is not used, and made anew: %s", path, first_line(error))
        return None


def _open(path: Path, spec: BackboneSpec, key: Mapping[str, Any]) -> KeptTower | None:
    with path.open("rb") as file:
        header = read_header(file, MAGIC, HEADER_BYTES)
        if not is_of_key(header, key):
            logger.info("%s is of other versions: it is made anew", path)
            return None
        if header["why_not"]:
            return None
        sizes = [int(n) for n in header["sizes"]]  # weights, facts, merges, graph
        if os.fstat(file.fileno()).st_size != HEADER_BYTES + sum(sizes):
            raise ValueError("it is shorter or longer than was written")
        file.seek(HEADER_BYTES + sizes[0])
        small = file.read()
    if hashlib.sha256(small).hexdigest() != header["small_sha256"]:
        raise ValueError("its bytes are not those that were written")
    pool = ThreadPoolExecutor(1, thread_name_prefix="digest")
    intact = pool.submit(_has_weights, path, sizes[0], header["weights_sha256"])  # beside the first answer
    pool.shutdown(wait=False)
    first, second = sizes[1], sizes[1] + sizes[2]
    facts = Facts(**json.loads(small[:first]))
    session = run_graph(small[second:], path.parent)
    return KeptTower(spec.id, facts, Tokenizer(facts, small[first:second].decode()), session, intact)


def _has_weights(path: Path, n_bytes: int, sha256: str) -> bool:
    hasher = hashlib.sha256()
    try:
        with path.open("rb") as file:
            file.seek(HEADER_BYTES)
            while n_bytes > 0 and (piece := file.read(min(n_bytes, 1 << 22))):
                hasher.update(piece)
                n_bytes -= len(piece)
    except OSError:
        return False
    return hasher.hexdigest() == sha256


def run_graph(graph: bytes, folder: Path) -> Any:
    """A session of ONNX Runtime over a graph whose weights lie in a file of the folder, which stays mapped:
    nothing is copied or rearranged, so that it opens at once."""
    onnxruntime = load_onnxruntime()

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_cores()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(folder.resolve())
    )
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
