"""One fine-tuning from data set and backbone to a finished, recorded, tuned backbone."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from embed.backbones.loading import Backbone
from embed.options import Options
from finetune.errors import FinetuneError
from finetune.model import build_model
from finetune.settings import Settings
from finetune.sources import Source
from finetune.targets import Lesson
from finetune.training import Progress, train
from finetune.tuned import MARK, read_record, save_tuned
from store import Targets
from store.digests import digest_of_json
from store.durable import write_json
from store.file_names import file_stem, place
from store.locks import write_lock

PLAN = "plan.json"


@dataclass(frozen=True)
class Run:
    """A fine-tuning before it starts: what it is made from decides its id and its folder."""

    identity: dict[str, Any]
    folder: Path
    lesson: Lesson
    settings: Settings
    output: str

    @property
    def id(self) -> str:
        """Id of the backbone it makes: `<backbone>+finetuned.<digest of the identity>`."""
        return f"{self.identity['backbone']}{MARK}{digest_of_json(self.identity)[:10]}"


def plan_run(
    backbone: Backbone,
    targets: Targets,
    images_digest: str,
    lesson: Lesson,
    settings: Settings,
    options: Options,
    runs_folder: Path,
    output: str | None = None,
) -> Run:
    """The run for exactly this combination. `output` is what the new layer is put on: by default the first,
    for CLIP what comes before its projection.

    Raises FinetuneError for an output that the backbone does not have.
    """
    chosen = output or next(iter(backbone.outputs))
    if chosen not in backbone.outputs:
        known = ", ".join(backbone.outputs)
        raise FinetuneError(f"backbone {backbone.id!r} has no output {chosen!r}; it has {known}")
    identity = {
        "dataset": targets.dataset,
        "split_name": targets.split_name,
        "images": images_digest,
        "targets": targets.digest,
        "backbone": backbone.id,
        **backbone.weights_identity,
        "output": chosen,
        "preprocessing": {**backbone.recipe.to_json(), **options.decoding_identity()},
        "settings": settings.to_json(),
    }
    digest = digest_of_json(identity)[:10]
    folder = place(runs_folder, f"{file_stem(backbone.id)}.{digest}", "backbone")
    return Run(identity, folder, lesson, settings, chosen)


def finetune(
    run: Run,
    backbone: Backbone,
    make_source: Callable[[], Source],
    on_step: Callable[[Progress], None] | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
) -> dict[str, Any]:
    """Train, or go on training, and keep the result; returns the record. A finished run is left alone.

    The backbone's own weights are changed on the way. Raises BusyError if another process is at it.
    """
    record = read_record(run.folder)
    if record is not None:
        return record
    with write_lock(run.folder / ".lock"):
        write_json(run.folder / PLAN, {"id": run.id, "identity": run.identity})
        model = build_model(backbone, run.output, len(run.lesson.levels), run.settings)
        n_trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
        source = make_source()
        state = train(model, source, run.lesson, run.settings, run.folder, on_step, on_epoch)
        best = state.history[state.best_epoch - 1]
        save_tuned(
            run.folder,
            backbone,
            model,
            {
                "id": run.id,
                "identity": run.identity,
                "levels": run.lesson.levels.tolist(),
                "n_trainable": n_trainable,
                "n_train": run.lesson.n_train,
                "n_fitted": best["n_fitted"],
                "n_held_out": best["n_held_out"],
                "best_epoch": state.best_epoch,
                "n_epochs": state.epoch,
                "best": best,
                "stopped": "no improvement" if state.epoch < run.settings.max_epochs else "max_epochs",
                "seconds": state.seconds,
                "device": backbone.device.type,
                "torch": torch.__version__,
                "failures": {str(row): reason for row, reason in sorted(source.failures.items())},
            },
        )
    record = read_record(run.folder)
    assert record is not None
    return record
