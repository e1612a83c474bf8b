"""Where things lie: the data root, and the files of one data set."""

import os
from dataclasses import dataclass
from pathlib import Path

from embed.backbones import file_stem


def head_path(root: Path, given: str) -> Path:
    """A head's files: a path as it is given, or a bare name in the data root's folder of heads."""
    is_path = os.sep in given or given.endswith((".json", ".safetensors"))
    return Path(given) if is_path else root / "heads" / given


def data_root(given: Path | None) -> Path:
    """The data root: `--data`, else IAA_DATA, else `data/` here."""
    return given or Path(os.environ.get("IAA_DATA") or "data")


@dataclass(frozen=True)
class Layout:
    """The files of one data set below the data root."""

    root: Path
    dataset: str

    @property
    def folder(self) -> Path:
        """The data set's folder."""
        return self.root / self.dataset

    @property
    def targets(self) -> Path:
        """Votes or scores and the split."""
        return self.folder / "targets.h5"

    @property
    def features(self) -> Path:
        """Folder of feature files."""
        return self.folder / "features"

    def prompts(self, set_name: str, backbone_id: str) -> Path:
        """Prompt file of a set and a backbone."""
        return self.folder / "prompts" / set_name / f"{file_stem(backbone_id)}.h5"

    @property
    def derived(self) -> Path:
        """Folder of rebuildable caches."""
        return self.folder / "derived"

    @property
    def finished(self) -> Path:
        """Folder of notes by which finished files are known without loading a model."""
        return self.folder / "derived" / "finished"

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
