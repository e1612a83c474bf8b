"""Predictions of one's own methods, added to a data set and shown in its report."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iaa.library.errors import UsageError
from iaa.library.layout import Layout
from iaa.library.results import metric_text
from iaa.library.table import Table
from store import MissingFileError, open_targets
from store.file_names import place

if TYPE_CHECKING:
    from analysis.results.methods import MethodResult


@dataclass(frozen=True)
class Added:
    """What was added, and what it reaches on the data set's test images."""

    path: Path
    result: "MethodResult"

    @property
    def notes(self) -> list[str]:
        """What should be known about it."""
        found, detail = self.result, self.result.detail
        missing = detail["n_missing_test"]
        said = [f"wrote {self.path}", *detail["remarks"]]
        if missing:
            said.append(f"{missing:,} test images have no prediction and are left out")
        if found.split_name != _split_of(self.path):
            said.append(f"made on the split {found.split_name}: shown in the report, never compared")
        return [*said, f"Next: iaa report --dataset {found.dataset}"]

    def table(self) -> Table:
        """Its metrics in a row."""
        return _table(found.dataset if (found := self.result) else "", [self.result])

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {"path": str(self.path), "result": asdict(self.result)}


def add_results(
    layout: Layout,
    predictions: Path | str | Mapping[str, Sequence[Any]],
    name: str,
    split: str | None = None,
    overwrite: bool = False,
    n_boot: int = 1000,
) -> Added:
    """Add a method's predictions: a CSV or Parquet file, or its columns as a dictionary. Columns are image_id
    (or a file's name) and score, class, or a share per vote level (p_1, p_2, ...).

    `split` is the one that the method was made on (default: the data set's own). Raises OwnResultsError for
    what cannot be taken, UsageError where the name is taken.
    """
    from analysis.results.own import evaluate_own, parse, write_own

    targets = open_targets(layout.targets)
    if not targets.is_rated:
        raise UsageError(f"data set {layout.dataset} has no ratings to measure predictions against")
    path = place(layout.folder / "results", _stem(name), "result", ".json")
    if path.exists() and not overwrite:
        raise UsageError(
            f"{layout.dataset} has results called {name!r}: --overwrite replaces them, or take another name"
        )
    columns, cells, where = _columns(predictions)
    own = parse(columns, cells, targets, name, split or targets.split_name, where)
    result, _ = evaluate_own(own, targets, n_boot)
    write_own(path, own)
    return Added(path, result)


def list_results(layout: Layout, n_boot: int = 200) -> Table:
    """The methods added to a data set, with what they reach."""
    from analysis.results.own import evaluate_own, read_own

    targets = open_targets(layout.targets)
    found = [evaluate_own(read_own(path), targets, n_boot)[0] for path in own_files(layout)]
    return _table(layout.dataset, found)


def remove_results(layout: Layout, name: str) -> Path:
    """Delete a method's predictions; returns the file that is gone. Raises MissingFileError with the names
    there are."""
    path = place(layout.folder / "results", _stem(name), "result", ".json")
    if not path.exists():
        known = ", ".join(p.stem for p in own_files(layout)) or "none"
        raise MissingFileError(
            f"data set {layout.dataset} has no results called {name!r}; there are: {known}"
        )
    path.unlink()
    return path


def own_files(layout: Layout) -> list[Path]:
    """The files of added results, by name."""
    return sorted((layout.folder / "results").glob("*.json"))


def _columns(
    given: Path | str | Mapping[str, Sequence[Any]],
) -> tuple[list[str], dict[str, Sequence[str]], str]:
    if isinstance(given, Mapping):
        lengths = {len(values) for values in given.values()}
        if len(lengths) != 1:
            raise UsageError(f"the columns differ in length: { {k: len(v) for k, v in given.items()} }")
        return list(given), {name: [str(v) for v in values] for name, values in given.items()}, "predictions"
    from store.tables import column_text, read_table

    table = read_table(Path(given))
    return (
        list(table.column_names),
        {name: column_text(table, name) for name in table.column_names},
        str(given),
    )


def _stem(name: str) -> str:
    return "_".join(name.split())


def _split_of(path: Path) -> str:
    return open_targets(path.parents[1] / "targets.h5").split_name


def _table(dataset: str, results: "Sequence[MethodResult]") -> Table:
    cells: dict[str, Sequence[Any]] = {
        "name": [r.method for r in results],
        "split": [r.split_name for r in results],
        "n": [r.n_test for r in results],
        "missing": [r.detail["n_missing_test"] for r in results],
        **{m: [metric_text(getattr(r, m)) for r in results] for m in ("accuracy", "srcc", "plcc")},
    }
    return Table(f"Results added to {dataset}", cells)
