"""MLSP's head of three layers, trained on the stored features of any backbone."""

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from iaa.library.errors import UsageError
from iaa.library.layout import Layout
from iaa.library.opening import embedded_paths, open_embedded
from iaa.library.progress import Progress, Say, log, show_progress
from iaa.library.results import shown_results
from iaa.library.table import Table
from store import open_features, open_targets
from store.digests import digest_of_json
from store.durable import write_json
from store.file_names import file_stem, place

if TYPE_CHECKING:
    from analysis.results.methods import MethodResult

PREDICTIONS, CARD = "predictions.csv", "stack.json"


@dataclass(frozen=True)
class Stacked:
    """A trained head: where it lies, how training went, and what it reaches on the test images."""

    folder: Path
    card: dict[str, Any]
    result: "MethodResult"

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {**self.card, "folder": self.folder, "result": asdict(self.result)}

    def table(self) -> Table:
        """Metrics with their intervals."""
        return shown_results([self.result])

    def notes(self) -> list[str]:
        """How training went, where the scores are, and the probe to compare with."""
        card = self.card
        identity = card["identity"]
        return [
            f"best epoch {card['best_epoch']} of {card['n_epochs']}, {card['seconds']:,.0f} s; "
            f"{card['n_fitted']:,} images to learn from, {card['n_held_out']:,} held out",
            f"scores of all images: {self.folder / PREDICTIONS}",
            f"Beside it, linear: iaa probe --dataset {identity['dataset']} --backbone {identity['backbone']} "
            f"--output {identity['output']}",
        ]


def which_features(layout: Layout, given: str) -> tuple[str, str]:
    """Backbone and output of "BACKBONE.OUTPUT", such as mlsp.narrow. Raises UsageError with what there is."""
    known: dict[str, tuple[str, str]] = {}
    for path in embedded_paths(layout):
        with open_features(path) as features:
            known |= {f"{features.backbone}.{name}": (features.backbone, name) for name in features.outputs}
    if given in known:
        return known[given]
    backbone = given.rpartition(".")[0]
    from iaa.library.backbones import is_known

    if backbone and is_known(backbone) and not layout.features_of(backbone).exists():
        open_embedded(layout, backbone)  # says how to make them
    raise UsageError(
        f"no features {given!r} of {layout.dataset}: expected BACKBONE.OUTPUT, one of "
        f"{', '.join(known) or 'none yet: iaa embed --backbone mlsp'}"
    )


def train_from_features(
    layout: Layout,
    given: str,
    seed: int = 0,
    device: str = "auto",
    n_boot: int = 1000,
    say: Say = log,
    progress: Progress | None = None,
    **changes: Any,
) -> Stacked:
    """Train MLSP's head on stored features (`BACKBONE.OUTPUT`), or go on with it; a finished one stays as
    it is. `changes` are fields of finetune.stacked.StackSettings.

    Raises UsageError, FinetuneError, RatingsError; IdentityError for features of other images.
    """
    from analysis.evidence.bootstrap import Prediction, bootstrap_metrics
    from analysis.probing.probes import join_rows
    from analysis.results.methods import METRICS, MethodResult
    from embed.backbones.device import pick_device
    from finetune.stacked import StackSettings, predict_stack, train_stack
    from finetune.targets import build_lesson

    backbone, output = which_features(layout, given)
    settings = StackSettings(seed=seed, **changes)
    targets = open_targets(layout.targets)
    lesson = build_lesson(targets, settings.held_out)
    with open_embedded(layout, backbone) as features:
        rows = join_rows(features, targets)
        usable = rows.split == "train"
        in_file = {name: row for row, name in enumerate(features.image_id.tolist())}

        def at(listed: np.ndarray) -> np.ndarray:
            found = np.array([in_file[name] for name in targets.image_id[listed].tolist()], np.int64)
            return np.sort(found[usable[found]])

        fitted, held_out = at(lesson.fitted), at(lesson.held_out)
        identity = {
            "dataset": layout.dataset,
            "split_name": targets.split_name,
            "backbone": backbone,
            "output": output,
            "features": features.digest,
            "targets": targets.digest,
            "settings": settings.to_json(),
        }
        stem = f"{file_stem(backbone)}.{output}.{digest_of_json(identity)[:10]}"
        folder = place(layout.finetuned, stem, "backbone")
        mean = rows.y[:, 0]
        with ExitStack() as shown:
            bar: Any = None

            def on_step(epoch: int, step: int, n_steps: int, loss: float) -> None:
                nonlocal bar
                if step == 1:
                    shown.close()
                    bar = shown.enter_context((progress or show_progress)(f"epoch {epoch}", n_steps, "steps"))
                bar.update(1)
                bar.set_postfix_str(f"squared error {loss:.4f}")

            def on_epoch(entry: dict[str, float]) -> None:
                say(
                    f"epoch {entry['epoch']:.0f}, rate {entry['rate']:g}: squared error "
                    f"{entry['train_loss']:.4f} train, {entry['held_out_loss']:.4f} held out, SRCC "
                    f"{entry['held_out_srcc']:.4f} held out"
                )

            def read(some: np.ndarray) -> np.ndarray:
                values: np.ndarray = features.read(output, some)
                return values

            model, state = train_stack(
                read, fitted, held_out, mean, features.outputs[output], settings, folder, pick_device(device),
                on_step, on_epoch,
            )  # fmt: skip
        ok = np.flatnonzero(features.ok)
        scores = np.full(features.n_images, np.nan)
        scores[ok] = predict_stack(model, read, ok)
        test = rows.test
        prediction = Prediction(scores[test], scores[test] > targets.threshold)
        measured = bootstrap_metrics(
            mean[test], rows.is_high[test], prediction, n_boot, np.random.default_rng(seed), METRICS
        )
        result = MethodResult(
            "stacked", "head of three layers (MLSP's)", backbone, output, layout.dataset, targets.split_name,
            len(rows.train), len(test), seed, **measured, detail={"n_boot": n_boot},
            digests={"features": features.digest, "targets": targets.digest},
        )  # fmt: skip
        columns = {"image_id": features.image_id.tolist(), "score": scores.tolist()}
    Table("scores", columns).to_csv(folder / PREDICTIONS)
    card = {
        "identity": identity,
        "best_epoch": state.best_epoch,
        "n_epochs": state.epoch,
        "n_fitted": len(fitted),
        "n_held_out": len(held_out),
        "seconds": state.seconds,
    }
    write_json(folder / CARD, card)
    return Stacked(folder, card, result)
