"""Is there anything to embed? Answered without loading a model, where a run that did has noted what it found.

After a run each finished file gets a note: a digest of all that its identity was derived from (this program's
own sources, the libraries' versions, the weights file's bytes, the list of images, the settings) beside the
file's digest. Who asks the same question about the same file later, and finds every image's size and time as
noted, has the same answer without importing torch. Whatever is not as noted is left to the run itself; a note
decides no row.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from embed.backbones.families import family
from embed.backbones.registry import BackboneError, resolve_backbone
from embed.backbones.weights import file_sha256, library_versions, local_weights
from embed.images.changes import Changes
from embed.images.datasets import ImageTable
from embed.options import Options, Outcome
from store import Features, StoreError, open_features
from store.digests import digest_of_json
from store.durable import write_json
from store.file_names import backbone_file, file_stem
from store.identity import complete


def feature_path(folder: Path, backbone_id: str) -> Path:
    """The feature file of a backbone below a folder. Raises UnsafeNameError."""
    return backbone_file(folder, backbone_id)


def note_finished(
    notes: Path,
    table: ImageTable,
    outcomes: Iterable[Outcome],
    weights: Mapping[str, Path],
    options: Options,
    precision: str,
) -> None:
    """Note in the folder `notes` what the finished files of a run were asked to be. Raises SpaceError."""
    for outcome in outcomes:
        asked, _ = _asked(table, outcome.backbone, weights.get(outcome.backbone), options, precision)
        note = _note_path(notes, outcome.backbone)
        if asked and outcome.digest and _noted(note) != {"asked": asked, "file": outcome.digest}:
            write_json(note, {"asked": asked, "file": outcome.digest})


def finished_already(
    notes: Path,
    table: ImageTable,
    backbone_ids: Sequence[str],
    folder: Path,
    weights: Mapping[str, Path],
    options: Options,
    precision: str,
    update: bool = False,
    engine: str = "auto",
) -> list[tuple[Outcome, dict[str, Any]]] | None:
    """Outcome and provenance of every file if a run would find nothing to do, else None (which is no error).

    With `update` a file with failed rows is never finished: they are tried again. An `engine` that is asked
    for by name must be the file's.
    """
    if options.overwrite or options.check_content or (folder / "update").exists():
        return None
    found: list[tuple[Outcome, dict[str, Any]]] = []
    changes = Changes(table)
    for name in backbone_ids:
        path = feature_path(folder, name)
        noted = _noted(_note_path(notes, name))
        if not noted or not path.exists() or path.with_name(path.name + ".parts").exists():
            return None
        asked, sha256 = _asked(table, name, weights.get(name), options, precision)
        if not asked or noted["asked"] != asked:
            return None
        try:
            with open_features(path, {"images": table.digest, "weights_sha256": sha256}) as features:
                if not _is_as_noted(features, noted, changes, update):
                    return None
                if engine not in ("auto", complete(features.identity)["engine"]):
                    return None
                n_failed = len(features.failures)
                outcome = Outcome(name, path, features.digest, features.n_images, n_failed, 0)
                found.append((outcome, features.provenance))
        except StoreError:
            return None
    return found


def _is_as_noted(features: Features, noted: Mapping[str, Any], changes: Changes, update: bool) -> bool:
    if features.digest != noted["file"] or (update and features.failures):
        return False
    return changes.none_since(features.file, features.path.with_name(features.path.name + ".seen"))


def _asked(
    table: ImageTable, backbone_id: str, weights: Path | None, options: Options, precision: str
) -> tuple[str, str]:
    """Digest of what an identity is derived from, and the SHA-256 of the weights; two '' where that takes
    a model or the network to tell."""
    try:
        spec = resolve_backbone(backbone_id)
        located = local_weights(spec, weights)
        settings = [file_sha256(path) for path in family(spec.library).settings(spec)] if located else []
    except (BackboneError, OSError):
        return "", ""
    if located is None:
        return "", ""
    sha256 = file_sha256(located.path)
    asked = digest_of_json(
        {
            "program": program_digest(),
            "versions": library_versions(spec),
            "images": table.digest,
            "backbone": backbone_id,
            "config": file_sha256(spec.config) if spec.config is not None else "",
            "settings": settings,
            "weights": sha256,
            "pinned": located.pinned_sha256,
            "exif_rotate": options.exif_rotate,
            "exact": options.is_exact,
            "precision": precision,
        }
    )
    return asked, sha256


def program_digest() -> str:
    """SHA-256 over the sources of this package, by which any change of what a row is made by is seen."""
    hasher = hashlib.sha256()
    package = Path(__file__).parent
    for source in sorted(package.rglob("*.py")):
        name = source.relative_to(package).as_posix()
        hasher.update(f"{name}\0".encode() + hashlib.sha256(source.read_bytes()).digest())
    return hasher.hexdigest()


def _note_path(notes: Path, backbone_id: str) -> Path:
    return notes / f"{file_stem(backbone_id)}.json"


def _noted(path: Path) -> dict[str, Any]:
    """The note's two digests; empty where there is none that can be read."""
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
        return {"asked": str(noted["asked"]), "file": str(noted["file"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
