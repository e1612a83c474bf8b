"""Which data set a folder is, and which backbone embeds it."""

import re
import unicodedata
from pathlib import Path

from iaa.library.errors import UsageError
from iaa.library.layout import Layout
from iaa.library.opening import embedded_paths
from store import StoreError, open_features
from store.errors import UnsafeNameError
from store.file_names import MAX_BYTES, check_name, dataset_folder

WITH_WORDS = "vit_b32.openai"
OFFLINE = "efficientnet_lite0.in1k"
_OTHERS = re.compile(r"[^\w.+-]+")
_SAY_NOTHING = {"dcim", "images", "img", "jpeg", "jpg", "photos", "pictures", "raw"}
_ROOM = 12
"""Bytes of a name that are left for a number."""


def dataset_of(root: Path, folder: Path) -> str | None:
    """The data set whose photographs are those of a folder, of kind folder; None where there is none."""
    from embed.images.datasets import list_datasets

    for config in list_datasets(root):
        if config.kind != "folder" or "exclude" in config.options:
            continue
        try:
            if Path(config.images).samefile(folder):
                return config.name
        except OSError:
            continue
    return None


def name_of(folder: Path) -> str:
    """What people call a folder."""
    whole = folder.resolve()
    return f"{whole.parent.name} {whole.name}".strip() if whole.name.lower() in _SAY_NOTHING else whole.name


def new_name(root: Path, folder: Path) -> str:
    """A name for the data set of a folder, made of the folder's own (of "images" and the like, which say
    nothing, with its parent's); one that no other data set has."""
    letters = unicodedata.normalize("NFC", name_of(folder))
    stem = _OTHERS.sub("-", letters).strip("-.+") or "photographs"
    while len(stem.encode()) > MAX_BYTES - _ROOM:
        stem = stem[:-1].rstrip("-.+")
    try:
        check_name(stem, "data set")
    except UnsafeNameError:
        stem = f"photographs-{stem}" if _is_name(f"photographs-{stem}") else "photographs"
    number = 1
    while True:
        name = stem if number == 1 else f"{stem}-{number}"
        if _is_free(root, name):
            return name
        number += 1


def choose_backbone(layout: Layout, given: str | None = None) -> str:
    """The backbone that a gallery is looked at with: the one asked for; else one that is embedded (one that
    reads words before others); else CLIP if its weights are on this machine, else what runs offline.

    No network is used. Raises UnknownBackbone.
    """
    from embed.backbones.registry import resolve_backbone
    from embed.backbones.weights import backbone_availability
    from embed.images.datasets import built_in

    if given is not None:
        return resolve_backbone(given).id if "+finetuned." not in given else given
    if there := embedded_or_begun(layout):
        return min(there, key=lambda name: not reads_words(name))
    if kind := built_in(layout.dataset):
        return min(kind.backbones, key=lambda name: not reads_words(name))
    is_here, _ = backbone_availability(resolve_backbone(WITH_WORDS))
    return WITH_WORDS if is_here else OFFLINE


def embedded_or_begun(layout: Layout) -> list[str]:
    """Backbones that have a feature file here, or an unfinished run."""
    from store.begun import open_begun
    from store.parts import unfinished_runs

    found = []
    for path in embedded_paths(layout):
        try:
            with open_features(path) as features:
                found.append(features.backbone)
        except StoreError:
            continue
    for path in unfinished_runs(layout.features):
        try:
            begun = open_begun(path)
        except StoreError:
            continue
        if begun is not None:
            found.append(str(begun.identity["backbone"]))
    return list(dict.fromkeys(found))


def reads_words(backbone: str) -> bool:
    """True for a registered backbone with a text tower."""
    from embed.backbones.registry import BackboneError
    from iaa.library.backbones import has_text

    try:
        return has_text(backbone)
    except BackboneError:
        return False


def why_no_words(backbone: str, name: str) -> str:
    """Why a gallery cannot be searched by words, and how that changes; '' where it can."""
    if reads_words(backbone):
        return ""
    return (
        f"These photographs were looked at with {backbone}, which knows no words. Search by a picture; or by "
        f"words, with CLIP, whose weights are fetched once (600 MB): iaa open {name} --backbone {WITH_WORDS}"
    )


def _is_name(name: str) -> bool:
    try:
        check_name(name, "data set")
    except UnsafeNameError:
        return False
    return True


def _is_free(root: Path, name: str) -> bool:
    from embed.images.datasets import built_in

    if built_in(name):
        return False
    try:
        return not dataset_folder(root, name).exists()
    except UnsafeNameError:
        return False


def check_photographs(layout: Layout) -> None:
    """Raise UsageError for a data set of imported vectors, which has nothing to look at."""
    from iaa.library.opening import check_known, has_photographs

    check_known(layout)
    if not has_photographs(layout):
        raise UsageError(
            f"{layout.dataset} has no photographs, its vectors were imported by their ids alone. "
            "Import them into a data set that has"
        )
