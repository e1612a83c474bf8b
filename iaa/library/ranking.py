"""Images in an order, best first: one value that tables, files, contact sheets and notebooks show."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from iaa.library.errors import UsageError
from iaa.library.photographs import Photographs
from iaa.library.progress import Progress, show_progress
from iaa.library.results import metric_text
from iaa.library.sheets import MAX_INSIDE, PICTURE, Section, beside, page, strip
from iaa.library.table import Table
from store.durable import whole_file, whole_folder

if TYPE_CHECKING:
    from analysis.prompting.scores import ImageRanking
    from iaa.library.layout import Layout

N_PICTURES = 12


@dataclass(frozen=True)
class Asked:
    """What a ranking answers, for headings and for machines."""

    title: str
    """The data set and what was asked of it, such as 'mine: "a dog"' or 'mine by head taste'."""
    dataset: str
    backbone: str
    output: str
    facts: dict[str, Any]
    """Method, prompt set, head, query: whatever else identifies the ranking."""
    query: Mapping[str, Any] | None = None
    """image_id and file of the picture that was looked for, if it is one of the data set."""


def _check_replaceable(folder: Path) -> None:
    """Raises UsageError for a folder that has other files than a sheet's pictures, or a file of that name."""
    names = os.listdir(folder) if folder.is_dir() else [folder.name] if folder.exists() else []
    other = next((name for name in names if not PICTURE.fullmatch(name)), None)
    if other is not None:
        raise UsageError(
            f"{folder} is where the pictures of the sheet are to lie, and has other files: {other}. Choose "
            "another name"
        )


def check_file_place(path: Path | None, option: str = "--csv") -> None:
    """Raises UsageError, before the work and not after it, where the file that a ranking is to be written to
    cannot be, or is of another kind than what it would be replaced by."""
    if path is None:
        return
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UsageError(f"{option} {path}: not a file in a folder that exists")
    kinds = {"--csv": (".csv", ".tsv", ".txt"), "--sheet": (".html", ".htm")}[option]
    if option == "--sheet" and path.suffix.lower() not in kinds:
        raise UsageError(f"--sheet {path}: the page is HTML, so call it {path.stem or 'sheet'}.html")
    if option == "--csv" and path.suffix.lower() in (".html", ".htm", ".h5"):
        raise UsageError(f"{option} {path}: call it {path.stem}.csv")
    if path.is_file() and path.suffix.lower() not in kinds:
        raise UsageError(f"{option} {path} exists and is no {kinds[0]} file: it is left as it is")


class Ranking(Table):
    """Images from best to worst with score and percentile (100 best, 0 worst).

    Columns: rank (from 1; ties share one), image_id, the score (`cosine` or `score`), percentile, further
    ones, file.
    Images without a score are counted: `n_failed` could not be read, `n_unscored` have no direction.
    """

    def __init__(
        self,
        asked: Asked,
        score_name: str,
        order: "ImageRanking",
        image_id: np.ndarray,
        file: Mapping[str, str],
        photographs: Callable[[], Photographs | None],
        n_failed: int,
        n_unscored: int = 0,
        more: Mapping[str, Sequence[Any]] | None = None,
        result: Any = None,
        why_not: str = "",
    ) -> None:
        ids = image_id[order.row].tolist()
        super().__init__(
            asked.title,
            {
                "rank": order.rank.tolist(),
                "image_id": ids,
                score_name: order.score.tolist(),
                "percentile": order.percentile.tolist(),
                **(more or {}),
                "file": [file.get(name, "") for name in ids],
            },
        )
        self.asked = asked
        self.score_name = score_name
        self.n_failed = n_failed
        self.n_unscored = n_unscored
        self.result = result
        """How well the order agrees with the data set's ratings (MethodResult), where that was measured."""
        self.why_not = why_not
        """Why that was not measured although there are ratings; '' otherwise."""
        self._photographs = photographs

    def best(self, top: int) -> list[dict[str, Any]]:
        """The first `top` rows."""
        return self.rows(0, top)

    def worst(self, top: int) -> list[dict[str, Any]]:
        """The last `top` rows, in their order."""
        return self.rows(max(0, len(self) - top))

    def shown(self, top: int, worst: int = 0) -> Table:
        """The first `top` and the last `worst` images as people look at them; of two columns with the same
        names (image_id and file) one."""
        chosen = [*range(min(top, len(self))), *range(max(top, len(self) - worst), len(self))]
        is_named_twice = self.columns["file"] == self.columns["image_id"]
        names = [name for name in self.columns if name != "file" or not is_named_twice]
        title = f"{self.title} ({self.asked.backbone}/{self.asked.output})"
        return Table(title, {name: [self.columns[name][row] for row in chosen] for name in names})

    def to_dict(self, top: int, worst: int = 0) -> dict[str, Any]:
        """What was asked, counts, the first `top` and the last `worst` rows, and how the order agrees with
        the ratings: plain values."""
        asked = self.asked
        return {
            "dataset": asked.dataset,
            "backbone": asked.backbone,
            "output": asked.output,
            **asked.facts,
            "n_ranked": len(self),
            "n_failed": self.n_failed,
            "n_unscored": self.n_unscored,
            "shown": self.best(top),
            "worst": self.rows(max(top, len(self) - worst)) if worst else [],
            "result": None if self.result is None else asdict(self.result),
        }

    def written(
        self,
        csv_file: Path | None,
        sheet_file: Path | None,
        copy_to: Path | None,
        top: int,
        worst: int = 0,
        progress: Progress = show_progress,
    ) -> Iterator[str]:
        """Write the files that are asked for, of the first `top` and the last `worst`; a sentence each."""
        if csv_file is not None:
            yield f"wrote {len(self):,} rows: {self.to_csv(csv_file)}"
        if sheet_file is not None:
            n_cards = min(top, len(self)) + min(worst, max(0, len(self) - top))
            n_cards += self.asked.query is not None
            with progress("thumbnails", n_cards, "images") as bar:
                self.to_html(sheet_file, top, worst, bar.update)
            yield f"wrote a contact sheet of {n_cards:,} images: {sheet_file}"
        if copy_to is not None:
            n_copies = len(self.copy_to(copy_to, top))
            yield f"copied {n_copies:,} files into {copy_to}; the originals are where they were"

    def notes(self, top: int, worst: int = 0, layout: "Layout | None" = None) -> Iterator[str]:
        """What to say below a table of the first `top` and the last `worst` images; with its data set's files
        also how to look at them."""
        from iaa.library.opening import has_photographs

        rest = f" and the last {min(worst, len(self) - top):,}" if worst else ""
        is_cut = top + worst < len(self)
        yield f"{len(self):,} images ranked" + (f"; shown: the first {top:,}{rest}" if is_cut else "")
        yield from self.remarks()
        if layout is not None and len(self) and has_photographs(layout):
            yield "To look at them: the same command with --sheet FILE.html"

    def remarks(self) -> list[str]:
        """What should be known about the order, a sentence each: how it agrees with the ratings, whether it
        says anything, which images have no rank."""
        said = []
        if self.result is not None:
            metrics = {"accuracy": "accuracy", "SRCC": "srcc", "PLCC": "plcc"}
            texts = {name: metric_text(getattr(self.result, key)) for name, key in metrics.items()}
            measured = ", ".join(f"{name} {text}" for name, text in texts.items() if text)
            where = f"{self.result.n_test:,} test images of split {self.result.split_name}"
            said.append(f"on the {where}: {measured}")
        if self.why_not:
            said.append(f"not measured: {self.why_not}")
        scores = self.columns[self.score_name]
        if len(scores) > 1 and scores[0] == scores[-1]:
            said.append("every image has the same score: this ranks nothing here")
        if self.n_failed:
            said.append(f"{self.n_failed:,} images could not be read and have no rank")
        if self.n_unscored:
            n = f"{self.n_unscored:,}"
            said.append(f"{n} images have a vector of zeros, which is like nothing, and have no rank")
        return said

    def to_html(
        self,
        path: Path | str,
        top: int = 60,
        worst: int = 0,
        on_done: Callable[[int], Any] | None = None,
    ) -> Path:
        """Write a contact sheet of the first `top` and the last `worst` images: HTML that needs no network
        and no script, complete or not at all; returns its path. Of more than `sheets.MAX_INSIDE` images, the
        thumbnails lie beside it, in the folder STEM_pictures, which a sheet of that name made anew replaces.

        An image that cannot be read is a placeholder with the reason. Raises UsageError where there are no
        photographs or that folder has other files, SpaceError where the file cannot be written.
        """
        path = Path(path)
        sections: list[Section] = [("Best" if self.score_name == "score" else "Closest", self.best(top))]
        if worst:
            sections.append(("Worst", self.rows(max(top, len(self) - worst))))
        if self.asked.query:
            sections.insert(0, ("The picture", [self.asked.query]))
        photographs = self.photographs()
        rows = [row for _, each in sections for row in each]
        asked = self.asked
        about = ", ".join([f"{asked.backbone}/{asked.output}", *map(str, asked.facts.values())])
        facts = [f"{about}; {len(self):,} images ranked"]
        pictures = path.with_name(f"{path.stem}_pictures")
        with ExitStack() as places:
            partial = places.enter_context(whole_file(path))
            address = None
            if len(rows) > MAX_INSIDE:
                _check_replaceable(pictures)
                kept = places.enter_context(whole_folder(pictures))
                kept.mkdir()
                address = beside(kept, pictures.name)
            with partial.open("w", encoding="utf-8", errors="backslashreplace") as handle:
                thumbnails = photographs.thumbnails(rows, on_done)
                handle.writelines(page(self.title, facts, sections, thumbnails, self.score_name, address))
            if address is not None and pictures.exists():
                shutil.rmtree(pictures)
        return path

    def copy_to(self, folder: Path | str, top: int) -> list[Path]:
        """Copy the files of the first `top` images into a folder, named by rank; returns the copies.

        Raises UsageError where there are no photographs, or a name there is taken by another file.
        """
        return self.photographs().copy(self.best(top), folder)

    def photographs(self) -> Photographs:
        """The photographs behind the rows. Raises UsageError for vectors that were imported without."""
        found = self._photographs()
        if found is None:
            raise UsageError(
                f"{self.asked.dataset} has no photographs, its vectors were imported by their ids alone. "
                "Import them into a data set that has"
            )
        return found

    def _repr_html_(self) -> str:
        """The first images with their scores, for notebooks."""
        try:
            photographs = self.photographs()
        except Exception:  # a table can be shown whatever has become of the photographs
            return super()._repr_html_()
        rows = self.best(N_PICTURES)
        thumbnails = photographs.thumbnails(rows)
        return strip(self.title, rows, thumbnails, self.score_name, len(self) - len(rows))
