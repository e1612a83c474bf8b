"""A data set with everything stored about it, opened once for the pages that speak of it."""

import logging
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from analysis.probing.probes import ProbeFit, fit_all
from analysis.results.finetuning import TrainingRun, read_runs
from analysis.results.methods import MethodResult, is_report_run, read_results, write_results
from analysis.results.own import evaluate_own, read_own
from analysis.results.predictions import Predicted, read_predictions, result_name, write_predictions
from store import Features, Prompts, Targets, open_features, open_prompts, open_targets

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
PROMPT_SETS = ("fixed", "context")


class NothingToShowError(Exception):
    """A page has nothing to say about this data set; the text says why."""

    def _render_traceback_(self) -> list[str]:
        """One line in Jupyter in the place of a traceback: nothing went wrong."""
        return [f"Nothing to show: {self}"]


@dataclass(frozen=True)
class Study:
    """What pages ask of a data set; it is opened by `open_study`."""

    dataset: str
    folder: Path
    images: Path
    report: Path
    targets: Targets
    features: dict[str, Features]
    """By backbone, fine-tuned ones apart."""
    tuned: dict[str, Features]
    seed: int
    n_boot: int
    _fits: dict[tuple[bool, ...], list[ProbeFit]] = field(default_factory=dict, repr=False)

    @property
    def n_train(self) -> int:
        """Training images."""
        return int(np.count_nonzero(self.targets.split == "train"))

    @property
    def n_test(self) -> int:
        """Test images."""
        return int(np.count_nonzero(self.targets.split == "test"))

    @property
    def can_fit(self) -> bool:
        """Whether there is something to learn from and to test on."""
        return self.targets.is_rated and min(self.n_train, self.n_test) >= 10 and bool(self.features)

    @property
    def rng(self) -> np.random.Generator:
        """A new generator from the report's seed."""
        return np.random.default_rng(self.seed)

    @cached_property
    def prompts(self) -> dict[str, dict[str, Prompts | None]]:
        """The encoded prompt sets (`fixed`, `context`; None where one is missing) of the backbones that have
        any."""
        found = {}
        for name, features in self.features.items():
            files = {
                kind: self.folder / "prompts" / f"paper_{kind}" / features.path.name for kind in PROMPT_SETS
            }
            if any(file.exists() for file in files.values()):
                found[name] = {kind: open_prompts(f) if f.exists() else None for kind, f in files.items()}
        return found

    @cached_property
    def runs(self) -> list[TrainingRun]:
        """The finished fine-tunings of these backbones."""
        runs = read_runs(self.folder / "finetuned", self.dataset)
        return [run for run in runs if run.id in self.tuned and run.backbone in self.features]

    @cached_property
    def config(self) -> dict[str, Any]:
        """The data set's settings; empty where there are none."""
        file = self.folder / "dataset.toml"
        return tomllib.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

    def fits(self, unit_norm: tuple[bool, ...] = (False, True)) -> list[ProbeFit]:
        """Probes on every output of every backbone, fitted once."""
        if unit_norm not in self._fits:
            if (False, True) in self._fits:
                self._fits[unit_norm] = [f for f in self._fits[False, True] if f.ridge.unit_norm in unit_norm]
            else:
                found = fit_all(
                    list(self.features.values()),
                    self.targets,
                    unit_norm=unit_norm,
                    seed=self.seed,
                    cache=self.folder / "derived",
                )
                self._fits[unit_norm] = found
        return self._fits[unit_norm]

    def close(self) -> None:
        """Let go of the files."""
        opened: list[Features | Prompts] = [*self.features.values(), *self.tuned.values()]
        if "prompts" in self.__dict__:
            opened += [file for kinds in self.prompts.values() for file in kinds.values() if file is not None]
        for file in opened:
            file.close()

    def keep(self, name: str, results: Sequence[MethodResult], predicted: Mapping[str, Predicted]) -> Path:
        """Write results and predictions where the report's other pages find them; executed by itself, a
        notebook writes beside itself and leaves the report alone."""
        folder = self.report / "results" if is_report_run(str(self.report)) else Path.cwd() / "results"
        folder.mkdir(parents=True, exist_ok=True)
        write_results(folder / f"{name}.json", results)
        write_predictions(folder / f"{name}.npz", predicted)
        return folder

    def found(self) -> tuple[list[MethodResult], dict[str, Predicted]]:
        """What the report's pages found: results and predictions of these backbones."""
        folder = self.report / "results"
        results = read_results(sorted(folder.glob("*.json")))
        chosen = [r for r in results if not r.backbone or r.backbone in self.features]
        predicted = read_predictions(sorted(folder.glob("*.npz")))
        for path in sorted((self.folder / "results").glob("*.json")) if self.targets.is_rated else ():
            result, said = evaluate_own(read_own(path), self.targets, self.n_boot, self.seed)
            chosen.append(result)
            if said is not None:
                predicted[result_name(result)] = said
        return chosen, predicted


def open_study(
    dataset: str,
    dataset_dir: str,
    images_dir: str,
    report_dir: str,
    backbones: Sequence[str] = (),
    seed: int = 0,
    n_boot: int = 1000,
) -> Study:
    """Open a data set for a page. Folders that are not found from here are looked for from the notebooks'
    folder, so that a notebook opens from anywhere.

    Raises MissingFileError where the data set has no list of images.
    """
    logging.getLogger("analysis.probing.probes").setLevel(logging.ERROR)  # tables say which solver was taken
    folder = _place(dataset_dir)
    opened = [open_features(path) for path in sorted((folder / "features").glob("*.h5"))]
    tuned = {f.backbone: f for f in opened if f.provenance.get("finetune") is not None}
    frozen = {
        f.backbone: f for f in opened if (f.backbone in backbones if backbones else f.backbone not in tuned)
    }
    return Study(
        dataset,
        folder,
        _place(images_dir),
        _place(report_dir),
        open_targets(folder / "targets.h5"),
        frozen,
        tuned,
        seed,
        n_boot,
    )


def _place(given: str) -> Path:
    path = Path(given)
    return path if path.is_absolute() or path.exists() else (NOTEBOOKS / path).resolve()
