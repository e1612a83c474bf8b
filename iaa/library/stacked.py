"""MLSP's heads of several layers, trained on the stored features of any backbone."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from iaa.library.backbones import is_known
from iaa.library.errors import UsageError
from iaa.library.layout import Layout
from iaa.library.opening import embedded_paths, open_embedded
from iaa.library.progress import Progress, Say, log, show_progress
from iaa.library.results import shown_results
from iaa.library.table import Table
from store import Features, Targets, open_features, open_targets
from store.digests import digest_of_json
from store.durable import write_json
from store.file_names import file_stem, place

if TYPE_CHECKING:
    from analysis.evidence.bootstrap import Difference
    from analysis.probing.probes import JoinedRows
    from analysis.results.methods import MethodResult
    from analysis.results.stacked import Stack
    from finetune.stacked import StackSettings

PROBED_UP_TO = 5e7
"""Numbers of all training images up to which a ridge probe is fitted beside the head."""


@dataclass(frozen=True)
class Stacked:
    """A trained head: where it lies, how training went, and what it reaches on the test images."""

    folder: Path
    card: dict[str, Any]
    results: "list[MethodResult]"
    """The head, and beside it the ridge probe of the same features where it is quickly fitted."""
    differences: "list[Difference]"
    """Head minus ridge probe, paired."""

    @property
    def result(self) -> "MethodResult":
        """What the head reaches."""
        return self.results[0]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        results = [asdict(result) for result in self.results]
        differences = [asdict(difference) for difference in self.differences]
        return {**self.card, "folder": self.folder, "results": results, "differences": differences}

    def table(self) -> Table:
        """Metrics with their intervals."""
        return shown_results(self.results)

    def notes(self) -> list[str]:
        """How training went, where the scores are, and the probe to compare with."""
        card = self.card
        identity = card["identity"]
        said = [
            f"best epoch {card['best_epoch']} of {card['n_epochs']}, {card['seconds']:,.0f} s; "
            f"{card['n_fitted']:,} images to learn from, {card['n_held_out']:,} held out",
            f"scores of all images: {self.folder / 'predictions.csv'}",
        ]
        said += [
            f"{d.metric.upper()} of the head minus that of the ridge probe on the same features, paired: "
            f"{d.value:+.4f} [{d.low:+.4f}, {d.high:+.4f}], p {d.p_value:.3f}"
            for d in self.differences
        ]
        if len(self.results) == 1:
            said.append(
                f"Beside it, linear: iaa probe --dataset {identity['dataset']} --backbone "
                f"{identity['backbone']} --output {card['probe_output']}"
            )
        return said


def which_features(layout: Layout, given: str) -> tuple[str, str]:
    """Backbone and output of "BACKBONE.OUTPUT", such as mlsp.narrow. Raises UsageError with what there is."""
    known: dict[str, tuple[str, str]] = {}
    for path in embedded_paths(layout):
        with open_features(path) as features:
            known |= {f"{features.backbone}.{name}": (features.backbone, name) for name in features.outputs}
    if given in known:
        return known[given]
    if backbone := missing_backbone(layout, given):
        open_embedded(layout, backbone)  # says how to make them
    raise UsageError(
        f"no features {given!r} of {layout.dataset}: expected BACKBONE.OUTPUT, one of "
        f"{', '.join(known) or 'none yet: iaa embed --backbone mlsp'}"
    )


def missing_backbone(layout: Layout, given: str) -> str:
    """The known backbone of "BACKBONE.OUTPUT" where nothing is embedded with it yet; else ''."""
    backbone = given.rpartition(".")[0]
    return backbone if backbone and is_known(backbone) and not layout.features_of(backbone).exists() else ""


def choose_settings(features: Features, output: str, preset: str | None) -> "tuple[str, StackSettings]":
    """The name and the settings of the head for an output: of a preset, or of the one that fits it.

    Raises FinetuneError for an unknown preset, and for one that cannot read the output.
    """
    from finetune.errors import FinetuneError
    from finetune.stacked import GRID, STACKS

    name, dim = f"{features.backbone}.{output}", features.outputs[output]
    cells = features.provenance.get("cells", {})
    grid = cells.get(output) if isinstance(cells, Mapping) else None
    preset = preset or ("wide" if grid else "narrow")
    if preset not in STACKS:
        raise FinetuneError(
            f"--from-features has the presets {', '.join(STACKS)}, not {preset!r}; without --preset the "
            "one that fits the features is taken"
        )
    expected = f"{GRID[0]} x {GRID[1]}"
    if preset == "wide" and not grid:
        raise FinetuneError(
            f"the wide head reads vectors of {expected} cells, and {name} is one vector of {dim:,} numbers. "
            "Leave --preset out, or take wide features: --from-features mlsp_wide.wide"
        )
    if preset == "narrow" and grid:
        narrow = next((other for other in features.outputs if other not in cells), "")
        instead = f", or take {features.backbone}.{narrow}" if narrow else ""
        raise FinetuneError(
            f"the narrow head reads one vector, and {name} has one for each of {grid[0]} x {grid[1]} cells, "
            f"{dim:,} numbers in all. Leave --preset out{instead}"
        )
    if grid and (list(grid) != list(GRID) or dim % (GRID[0] * GRID[1])):
        raise FinetuneError(
            f"{name} has {dim:,} numbers of {' x '.join(map(str, grid))} cells; the wide head reads "
            f"{expected} cells of one length. Embed them with mlsp_wide or mlsp_v3_wide"
        )
    return preset, STACKS[preset]


def train_from_features(
    layout: Layout,
    given: str,
    seed: int = 0,
    device: str = "auto",
    n_boot: int = 1000,
    say: Say = log,
    progress: Progress | None = None,
    preset: str | None = None,
    **changes: Any,
) -> Stacked:
    """Train a head of MLSP's on stored features (`BACKBONE.OUTPUT`), or go on with it; a finished one stays
    as it is. `preset` is `narrow` or `wide`; None: what fits the features. `changes` are fields of
    finetune.stacked.StackSettings.

    Raises UsageError, FinetuneError, RatingsError; IdentityError for features of other images.
    """
    from analysis.probing.probes import join_rows, probed_outputs
    from analysis.results.stacked import CARD, PREDICTIONS, Stack, digest_of_file
    from embed.backbones.device import pick_device
    from finetune.stacked import predict_stack, train_stack
    from finetune.targets import build_lesson

    backbone, output = which_features(layout, given)
    targets = open_targets(layout.targets)
    with open_embedded(layout, backbone) as features:
        head, published = choose_settings(features, output, preset)
        settings = replace(published, seed=seed, **changes)
        lesson = build_lesson(targets, settings.held_out)
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
                read, fitted, held_out, rows.y[:, 0], features.outputs[output], settings, folder,
                pick_device(device), on_step, on_epoch,
            )  # fmt: skip
        ok = np.flatnonzero(features.ok)
        scores = np.full(features.n_images, np.nan)
        with (progress or show_progress)("scoring all images", len(ok), "images") as bar:
            scores[ok] = predict_stack(model, read, ok, settings.batch_size, bar.update)
        columns = {"image_id": features.image_id.tolist(), "score": scores.tolist()}
        Table("scores", columns).to_csv(folder / PREDICTIONS)
        card = {
            "identity": identity,
            "head": head if settings == replace(published, seed=seed) else "other",
            "probe_output": output if output in probed_outputs(features) else "narrow",
            "best_epoch": state.best_epoch,
            "n_epochs": state.epoch,
            "n_fitted": len(fitted),
            "n_held_out": len(held_out),
            "n_trainable": sum(p.numel() for p in model.parameters()),
            "seconds": state.seconds,
            "predictions_sha256": digest_of_file(folder / PREDICTIONS),
        }
        write_json(folder / CARD, card)
        stack = Stack(folder, card, scores)
        return Stacked(folder, card, *_beside(layout, stack, features, targets, rows, n_boot, seed, say))


def _beside(
    layout: Layout,
    stack: "Stack",
    features: Features,
    targets: Targets,
    rows: "JoinedRows",
    n_boot: int,
    seed: int,
    say: Say,
) -> "tuple[list[MethodResult], list[Difference]]":
    """What the head reaches, and the ridge probe of the same features where it is quickly fitted."""
    from analysis.probing.probes import evaluate_probe, fit_probes
    from analysis.results.predictions import Predicted, compare_methods
    from analysis.results.stacked import evaluate_stack

    result, said = evaluate_stack(stack, features, targets, n_boot, seed)
    output = stack.source[1]
    if len(rows.train) * features.outputs[output] > PROBED_UP_TO:
        return [result], []
    say("fitting a ridge probe on the same features")
    fit = fit_probes(features, targets, output, seed=seed, cache=layout.derived, rows=rows)
    ridge = next(r for r in evaluate_probe(fit, n_boot) if r.key == "probe.ridge")
    probed = Predicted(fit.test_id, fit.y_test, fit.is_high_test, fit.prediction("ridge"))
    return [result, ridge], compare_methods({"head": said, "ridge": probed}, "srcc", n_boot, seed)
