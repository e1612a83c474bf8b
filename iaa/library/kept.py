"""What lies there for a data set, as Python calls it: said, listed, checked, removed."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from iaa.library.extras import naming_extras
from iaa.library.layout import Layout
from iaa.library.table import Table

if TYPE_CHECKING:
    from iaa.library.datasets import Summary
    from iaa.library.status import Status
    from iaa.library.stored import Verdicts


@dataclass(frozen=True)
class Kept:
    """The files of a named data set."""

    layout: Layout

    @property
    def name(self) -> str:
        """Its name below the data root."""
        return self.layout.dataset

    @naming_extras()
    def describe(self) -> "Summary":
        """Counts of images, splits and ratings as they are listed now, and what is missing."""
        from iaa.library.datasets import describe_dataset, read_table

        return describe_dataset(self.layout, read_table(self.layout))

    def status(self, remote: str | None = None) -> "Status":
        """How far runs are: parts done, failures, rate, time left, and who is at work; with `remote`
        (s3://BUCKET/FOLDER) also what is there. Nothing is locked."""
        from iaa.library.status import run_states

        return run_states(self.layout, remote=remote)

    def verify(self) -> "Verdicts":
        """Read every stored byte of the data set and compare it with its digest; a verdict per file."""
        from iaa.library.stored import verify_files

        return verify_files([self.layout.folder])

    def list_prompts(self) -> Table:
        """The prompt sets that are encoded, a row per set and backbone."""
        from iaa.library.prompts import list_prompts

        return list_prompts(self.layout)

    def remove_prompts(self, name: str) -> list[Path]:
        """Delete the encoded files of a prompt set; the files that are gone."""
        from iaa.library.prompts import remove_prompts

        return remove_prompts(self.layout, name)

    def list_captions(self) -> Table:
        """The captions that were added or written: name, photographs with one, how many, file."""
        from iaa.library.captions import list_captions

        return list_captions(self.layout)

    def remove_captions(self, name: str) -> list[Path]:
        """Delete captions and the prompts that were encoded from them; the files that are gone."""
        from iaa.library.captions import remove_captions

        return remove_captions(self.layout, name)

    def list_results(self) -> Table:
        """The methods added to the data set, and what they reach on its test images."""
        from iaa.library.own_results import list_results

        return list_results(self.layout)

    def remove_results(self, name: str) -> Path:
        """Delete the predictions of a method that was added; the file that is gone."""
        from iaa.library.own_results import remove_results

        return remove_results(self.layout, name)

    def remove(self) -> list[Path]:
        """Delete what was made for the data set: vectors, prompts, reports, its name; what is gone.
        Photographs, ratings and captions stay."""
        from iaa.library.datasets import remove_dataset

        return remove_dataset(self.layout)
