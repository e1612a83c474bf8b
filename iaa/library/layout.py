"""Where things lie: the data root, and the files of one data set."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from store.file_names import RATERS_FILE, backbone_file, cache_stem, dataset_folder, file_stem, place
from store.painted import FOLDER as PAINTED
from store.painted import LIST as PAINTED_LIST
from store.ratings import FILE_NAME as RATINGS_FILE


def head_path(root: Path, given: str) -> Path:
    """A head's files: what has a separator or the ending of its files is a path and taken as it is given;
    anything else is a name in the data root's folder of heads. Raises UnsafeNameError."""
    is_path = any(sign in given for sign in (os.sep, os.altsep) if sign)
    return Path(given) if is_path or given.endswith((".json", ".safetensors")) else named_head(root, given)


def named_head(root: Path, name: str) -> Path:
    """A head's files by its name alone, which is no path. Raises UnsafeNameError."""
    return place(root / "heads", name, "head", ".json").with_name(name)


def data_root(given: Path | None) -> Path:
    """The data root: `--data`, else IAA_DATA, else `data/` here."""
    return given or Path(os.environ.get("IAA_DATA") or "data")


def cache_folder() -> Path:
    """Where what can be made again lies for all data roots: IAA_CACHE, else the user's folder of caches."""
    if given := os.environ.get("IAA_CACHE"):
        return Path(given)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
    else:
        base = os.environ.get("XDG_CACHE_HOME")
    home = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    return (Path(base) if base else home) / "image-aesthetics-store"


@dataclass(frozen=True)
class Layout:
    """The files of one data set below the data root. Raises UnsafeNameError for a name that is none."""

    root: Path
    dataset: str

    def __post_init__(self) -> None:
        dataset_folder(self.root, self.dataset)

    @property
    def folder(self) -> Path:
        """The data set's folder."""
        return self.root / self.dataset

    @property
    def targets(self) -> Path:
        """Votes or scores and the split."""
        return self.folder / "targets.h5"

    @property
    def ratings(self) -> Path:
        """What people said about the photographs (store.ratings)."""
        return self.folder / RATINGS_FILE

    @property
    def features(self) -> Path:
        """Folder of feature files."""
        return self.folder / "features"

    def features_of(self, backbone_id: str) -> Path:
        """Feature file of a backbone. Raises UnsafeNameError."""
        return backbone_file(self.features, backbone_id)

    def prompts(self, set_name: str, backbone_id: str) -> Path:
        """Prompt file of a set and a backbone. Raises UnsafeNameError."""
        return backbone_file(place(self.folder / "prompts", set_name, "prompt set"), backbone_id)

    @property
    def captions(self) -> Path:
        """Folder of caption files."""
        return self.folder / "captions"

    def captions_of(self, name: str) -> Path:
        """Caption file by name. Raises UnsafeNameError."""
        return place(self.captions, name, "captions", ".h5")

    def maxima(self, set_name: str, backbone_id: str) -> Path:
        """Cache of the context maxima of a prompt set; the report's notebook reads paper_context's."""
        names = [] if set_name == "paper_context" else [set_name]
        return self.derived / f"context_maxima_{cache_stem(*names, file_stem(backbone_id))}.h5"

    @property
    def derived(self) -> Path:
        """Folder of rebuildable caches."""
        return self.folder / "derived"

    @property
    def raters(self) -> Path:
        """Scores of single people as the report reads them, made again with every report."""
        return self.derived / RATERS_FILE

    @property
    def finished(self) -> Path:
        """Folder of notes by which finished files are known without loading a model."""
        return self.folder / "derived" / "finished"

    @property
    def looks(self) -> Path:
        """Thumbnails and what is known of each photograph, by content (store.looks)."""
        return self.folder / "derived" / "thumbnails.sqlite"

    @property
    def variants(self) -> "Layout":
        """The altered photographs (`iaa style`), laid out like a data set below this one."""
        return _VariantsLayout(self.root, self.dataset)

    @property
    def painted(self) -> Path:
        """Folder of painted pictures; the report's Figure 4."""
        return self.folder / PAINTED

    @property
    def painted_list(self) -> Path:
        """How painted pictures were made, as the report reads it."""
        return self.derived / PAINTED_LIST

    @property
    def finetuned(self) -> Path:
        """Folder of fine-tuning runs: checkpoints, logs and tuned backbones."""
        return self.folder / "finetuned"

    @property
    def pixels(self) -> Path:
        """Folder of pixel caches."""
        return self.folder / "derived" / "pixels"

    @property
    def report(self) -> Path:
        """Folder of the report's pages."""
        return self.folder / "report"

    @property
    def logs(self) -> Path:
        """Folder of side logs: clocks, durations, lists of missing files."""
        return self.folder / "logs"


class _VariantsLayout(Layout):
    @property
    def folder(self) -> Path:
        return super().folder / "style"
