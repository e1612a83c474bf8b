"""A library searched by words or by a picture, on vectors that are there already."""

import difflib
import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from iaa.library.backbones import has_text, load_backbones
from iaa.library.engines import choose_engine
from iaa.library.errors import UsageError
from iaa.library.layout import Layout
from iaa.library.opening import open_clip_features, open_embedded, open_photographs
from iaa.library.progress import Progress, show_progress
from iaa.library.ranking import Asked, Ranking
from iaa.library.table import Table
from iaa.library.text_towers import keep_words, weights_of, words_by, words_kept
from iaa.library.words import Maker, kept_words
from store import Features, IdentityError, StoreError, open_targets
from store.digests import decode_strings
from store.identity import complete

if TYPE_CHECKING:
    from embed.backbones.loading import Backbone
    from embed.images.sources import ImageFile

logger = logging.getLogger(__name__)

_N_NAMED = 8
class Origin(Maker, Protocol):
    """What made vectors, and where that is written."""

    @property
    def path(self) -> Path:
        """The feature file."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What was really loaded."""


class VectorSearch:
    """One output of a feature file, asked again and again for the photographs nearest to a vector.

    Opening it reads every row once; a question after that takes about the time of reading the rows from
    memory. For a service over millions of photographs; `search` ranks all of them with their files.
    """

    def __init__(self, features: Features, output: str | None = None) -> None:
        from analysis.prompting.similarity import Searcher

        self.features = features
        self.output = output or min(features.outputs, key=lambda name: name != "embedding")
        self._searcher = Searcher(partial(features.read, self.output), features.n_images)

    def nearest(self, vector: np.ndarray, k: int = 100) -> Table:
        """The k photographs with the highest cosines, highest first: rank, image_id, row, cosine.

        Exact, and equal for shards and one file. Raises ValueError for a vector of another width or without a
        direction.
        """
        rows, cosine = self._searcher.nearest(vector, k)
        ids = decode_strings(self.features.file.take("image_id", rows)).tolist()
        columns = {"rank": list(range(1, len(rows) + 1)), "image_id": ids}
        columns |= {"row": rows.tolist(), "cosine": cosine.tolist()}
        return Table(f"Nearest in {self.features.backbone}/{self.output}", columns)

    def __enter__(self) -> "VectorSearch":
        return self

    def __exit__(self, *_: object) -> None:
        self.features.close()


def search_words(
    layout: Layout,
    text: str,
    backbone: str | None = None,
    weights: Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Ranking:
    """The images by their cosine with a text, which goes as it is through the text tower.

    Raises:
        UsageError: an empty text, or a backbone without a text tower.
        IdentityError: the weights at hand are not those that made the vectors.
        MissingFileError: nothing is embedded with a backbone that reads text.
    """
    if not text.strip():
        raise UsageError("there is nothing to look for: the text is empty")
    with open_clip_features(layout, backbone) as features:
        vector = encode_words(layout, features, [text.strip()], weights, device, progress=progress)[0]
        return _by_cosine(layout, features, "embedding", vector, f'"{text.strip()}"', {"text": text.strip()})


def search_like(
    layout: Layout,
    like: str | Path,
    backbone: str | None = None,
    output: str | None = None,
    weights: Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Ranking:
    """The images by their likeness to a picture: one of the data set, by its id or file or the end of one,
    or any other image file.

    One of the data set needs no weights. Another file goes through the backbone as the data set's did, by the
    very weights that made the vectors; if it is a copy of one that is there, that one's vector is taken.

    Raises UsageError for a name that fits none or several images and is no file, StoreError for a picture
    without a vector, IdentityError as search_words, EngineUnavailable where the vectors' engine is not here.
    """
    given = str(like)
    if not given:
        raise UsageError("there is nothing to look for: the name of the image is empty")
    with open_embedded(layout, backbone) as features:
        output = output or min(features.outputs, key=lambda name: name != "embedding")
        ids = features.image_id.tolist()
        files = _files(layout, ids)
        row = find_image(given, ids, files, layout.dataset, features.backbone)
        if row is None:
            content = _read_file(Path(given))
            row = _row_of_content(features, content)
        if row is None:
            vector = _encode_image(layout, features, output, Path(given), weights, device, progress)
            return _by_cosine(layout, features, output, vector, f"Like {given}", {"like": given})
        name = files[row] or ids[row]
        vector = _read_query(features, output, row, name)
        query = {"image_id": ids[row], "file": files[row]}
        return _by_cosine(layout, features, output, vector, f"Like {name}", {"like": ids[row]}, row, query)


def encode_words(
    layout: Layout,
    features: Origin,
    words: list[str],
    weights: Path | None,
    device: str,
    template: str = "{label}",
    progress: Progress | None = None,
) -> np.ndarray:
    """The vectors of words put into a template, raw (n_words, dim), by the very weights that made the
    features: of words that were asked before the kept ones, without loading anything; else by the kept text
    tower, or the loaded backbone, whose text tower is kept then.

    Raises IdentityError for other weights, UsageError for a backbone without a text tower, PromptTooLong,
    SamePrompts for two words that are one text to the tokenizer.
    """
    name = features.backbone
    if features.identity.get("weights_sha256") != "imported" and not has_text(name):
        raise UsageError(f"{name} has no text tower that goes with its images; {_by_picture(layout)}")

    def encode() -> np.ndarray:
        vectors = words_kept(features, words, template, weights, device)
        if vectors is None:
            loaded = same_weights(layout, features, weights, device, progress)
            vectors = words_by(loaded, words, template)
            keep_words(loaded, progress)
        return vectors

    return kept_words(layout, features, words, template, encode, weights, device)


def find_image(given: str, ids: list[str], files: list[str], dataset: str, backbone: str) -> int | None:
    """Row of the image that is meant: by its whole id or file, else by the end of one; None for a name that
    fits none and is a file elsewhere.

    Raises UsageError for a name that fits none or several, and lists what it may have meant.
    """
    wanted = given.replace(os.sep, "/").removeprefix("./")
    names = list(zip(ids, files, strict=True))
    whole = [row for row, both in enumerate(names) if wanted in both]
    if len(whole) == 1:
        return whole[0]
    fitting = whole
    rules: tuple[Callable[[str, str], bool], ...] = (_ends_at_folder, _is_stem, str.endswith)
    for fits in rules:
        fitting = fitting or [
            row
            for row, (name, file) in enumerate(names)
            if (file and fits(file, wanted)) or fits(name, wanted)
        ]
    if len(fitting) == 1:
        return fitting[0]
    if os.path.isfile(given):
        return None
    if fitting:
        named = "; ".join(_both(ids[row], files[row]) for row in fitting[:_N_NAMED])
        more = f" and {len(fitting) - _N_NAMED:,} more" if len(fitting) > _N_NAMED else ""
        raise UsageError(
            f"{given} fits {len(fitting):,} images of {dataset}: {named}{more}. Say more of the name"
        )
    close = _close_names(wanted, ids, files)
    hint = f"; similar names: {'; '.join(close)}" if close else f"; the first of them: {'; '.join(ids[:3])}"
    raise UsageError(
        f"{given}: no such image among the {len(ids):,} of {dataset}, and no such file{hint}. Added "
        f"since they were embedded? iaa embed --dataset {dataset} --backbone {backbone} --update"
    )


def _by_cosine(
    layout: Layout,
    features: Features,
    output: str,
    vector: np.ndarray,
    title: str,
    facts: dict[str, Any],
    row: int | None = None,
    query: dict[str, Any] | None = None,
) -> Ranking:
    from analysis.prompting.scores import rank_images
    from analysis.prompting.similarity import cosines_with
    from analysis.twins import first_equal_rows

    first = first_equal_rows(partial(features.read, output), features.n_images)
    order = rank_images(cosines_with(features.blocks(output, unit_norm=True), first, vector, row))
    n_failed = len(features.failures)
    ids = features.image_id
    return Ranking(
        Asked(f"{layout.dataset}: {title}", layout.dataset, features.backbone, output, facts, query),
        "cosine",
        order,
        ids,
        dict(zip(ids.tolist(), _files(layout, ids.tolist()), strict=True)),
        partial(open_photographs, layout, features.path),
        n_failed,
        features.n_images - n_failed - len(order.row) - (row is not None),
    )


def _files(layout: Layout, ids: list[str]) -> list[str]:
    """File of each image, relative to the data set's folder of photographs; '' where it is not known."""
    targets = open_targets(layout.targets)
    file_of = dict(zip(targets.image_id.tolist(), targets.path.tolist(), strict=True))
    return [file_of.get(name, "") for name in ids]


def _by_picture(layout: Layout) -> str:
    return f"or search by a picture, without weights: iaa search --like IMAGE -d {layout.dataset}"


def same_weights(
    layout: Layout, features: Origin, weights: Path | None, device: str, progress: Progress | None = None
) -> "Backbone":
    """The backbone, loaded from the very weights that made the features. Raises IdentityError."""
    name = features.backbone
    made_by = str(features.identity.get("weights_sha256", ""))
    if made_by == "imported":
        raise IdentityError(
            f"{features.path} holds imported vectors: which weights made them is not known, so nothing new "
            "can be compared with them. Embed the images: iaa embed "
            f"--dataset {layout.dataset} --backbone B; {_by_picture(layout)}"
        )
    if device == "auto" and complete(features.identity)["engine"] != "torch":
        device = "cpu"  # where the engine is that made the vectors
    with (progress or show_progress)(f"loading {name}", 0, ""):
        (loaded,) = load_backbones([name], {name: weights} if weights else {}, device, root=layout.root)
    made_of = weights_of(features)
    if loaded.weights_identity != made_of:
        stored = features.provenance.get("weights", {}).get("file", "a file not named")
        raise IdentityError(
            f"{features.path} was made by other weights of {name} than those loaded now:\n"
            f"  the features: sha256 {made_by[:16]}... ({stored}{_entry(made_of)})\n"
            f"  loaded now:   sha256 {loaded.weights_sha256[:16]}... ({loaded.weights_file}"
            f"{_entry(loaded.weights_identity)})\n"
            "Cosines between the two mean nothing. Name the weights that made the features: --weights FILE; "
            f"or embed anew: iaa embed --dataset {layout.dataset} --backbone {name} --overwrite; "
            + _by_picture(layout)
        )
    return loaded


def _entry(weights: Mapping[str, Any]) -> str:
    return f", its {weights['weights_entry']}" if "weights_entry" in weights else ""


def _read_query(features: Features, output: str, row: int, name: str) -> np.ndarray:
    """The stored vector of a picture, raw. Raises StoreError where it has none."""
    if not features.ok[row]:
        reason = features.failures.get(row, "not embedded")
        raise StoreError(
            f"{name} has no vector to compare with: {reason}. Choose another image; see: iaa info "
            f"{features.path}"
        )
    vector: np.ndarray = features.read(output, slice(row, row + 1))[0]
    if not vector.any():
        raise StoreError(f"{name} has a vector of zeros in {output}, which is like nothing; try --output")
    return vector


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def _row_of_content(features: Features, content: bytes) -> int | None:
    """The row that was made from these very bytes, if there is one with a vector."""
    if "source_sha256" not in features.file.arrays:
        return None
    stored = features.file.view("source_sha256")
    digest = np.frombuffer(hashlib.sha256(content).digest(), np.uint8)
    same = np.flatnonzero((stored == digest).all(axis=1) & features.ok)
    return int(same[0]) if len(same) else None


def _encode_image(
    layout: Layout,
    features: Features,
    output: str,
    path: Path,
    weights: Path | None,
    device: str,
    progress: Progress | None,
) -> np.ndarray:
    """The vector of an image file that is none of the data set's, decoded and resized as theirs were."""
    loaded = same_weights(layout, features, weights, device, progress)
    return picture_by(loaded, features.identity, output, path, str(path))


def picture_by(
    loaded: "Backbone", identity: Mapping[str, Any], output: str, file: "ImageFile", name: str
) -> np.ndarray:
    """The raw vector of a picture by a loaded backbone, decoded, resized and computed as the identity of the
    vectors says. Raises UsageError, with the picture's name, where it cannot be read; EngineUnavailable."""
    import torch

    from embed.images.decode import DECODER
    from embed.images.geometry import pixel_steps, scale_pixels
    from embed.options import Decoding
    from embed.reading import load_row

    engine, made = str(complete(identity)["engine"]), identity["preprocessing"]
    if loaded.engine != engine:
        choose_engine(loaded, engine)
    steps = [pixel_steps(loaded.transform)]
    is_exact = made["decoder"] == DECODER
    row = load_row(file, Decoding(steps, bool(made["exif_rotate"]), is_exact=is_exact))
    if row.pixels is None:
        raise UsageError(f"{name} cannot be compared: {row.reason}")
    pixels = torch.from_numpy(row.pixels[0].copy())[None]
    recipe = loaded.recipe
    vectors = loaded.encode_images(scale_pixels(pixels, recipe.mean, recipe.std, loaded.device))
    found: np.ndarray = vectors[output][0].cpu().numpy()
    return found


def _ends_at_folder(name: str, given: str) -> bool:
    """True if one is the end of the other, cut at a folder: a shell completes paths from where one is."""
    return name.endswith(f"/{given}") or given.endswith(f"/{name}")


def _is_stem(name: str, given: str) -> bool:
    """True for a file's name without its ending."""
    return os.path.splitext(name.rpartition("/")[2])[0] == given


def _both(name: str, file: str) -> str:
    return name if file in ("", name) else f"{name} ({file})"


def _close_names(given: str, ids: list[str], files: list[str]) -> list[str]:
    """Names that differ from the given one in case or a few letters."""
    lower = given.rpartition("/")[2].casefold()
    by_lower = {name.rpartition("/")[2].casefold(): name for names in (ids, files) for name in names if name}
    return [by_lower[found] for found in difflib.get_close_matches(lower, by_lower, 3)]
