"""What a data set is called and of which kind it is, as `dataset.toml` says it; and what a kind is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embed.images.options import Option
from embed.images.sources import Source, is_url
from embed.images.table import ImageTable


@dataclass(frozen=True)
class DatasetConfig:
    """What `dataset.toml` says; relative paths are relative to its folder."""

    name: str
    kind: str
    options: dict[str, Any]
    folder: Path

    @property
    def exif_rotate(self) -> bool:
        """True if images are turned as EXIF says: by default only personal folders are."""
        from embed.images.kinds import KINDS  # kinds are made of what is in this module

        return bool(self.options.get("exif_rotate", KINDS[self.kind].exif_rotate))

    @property
    def exclude(self) -> list[str]:
        """Patterns of what is left out, besides the defaults."""
        given = self.options.get("exclude", [])
        patterns = given.split(",") if isinstance(given, str) else given
        return [pattern.strip() for pattern in patterns if pattern.strip()]

    @property
    def images(self) -> str:
        """Where the images are: an absolute path or pattern, or a URL."""
        location = str(self.options["images"])
        return location if is_url(location) else str(self.resolve(location))

    def resolve(self, path: str | Path) -> Path:
        """A path of the configuration, absolute or below the data set's folder."""
        return (self.folder / Path(path).expanduser()).absolute()


def _no_complaint(options: Mapping[str, Any]) -> str:
    return ""


@dataclass(frozen=True)
class Kind:
    """A kind of data set, whose images its file in `embed.images.kinds` lists."""

    options: Mapping[str, Option]
    """Its settings by name, in the order of dataset.toml."""
    build: Callable[[DatasetConfig, Source], ImageTable]
    """The images of a data set among the files of its source. Raises DatasetError.

    A kind without a setting `images` gets its data set's own folder `images` as an empty source, to fill."""
    about: str = ""
    """What it is, in a few words for the command line's help."""
    needed: tuple[str, ...] = ("images",)
    check: Callable[[Mapping[str, Any]], str] = _no_complaint
    """What is wrong with settings that are right one by one, or ''."""
    exif_rotate: bool = False
    """True if images are turned as EXIF says where nothing is set."""
    written: Mapping[str, Any] = field(default_factory=dict)
    """Settings that `add` writes down where nobody gave them: without them a dataset.toml of before means
    something else."""
    is_built_in: bool = False
    """True for a kind that is one data set of its own name: it has no dataset.toml, and makes its images."""
    backbones: tuple[str, ...] = ()
    """What embeds a built-in one where no backbone is named."""
