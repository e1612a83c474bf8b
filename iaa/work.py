"""The steps that several commands share: load a data set, keep its targets, load backbones."""

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from iaa.console import at_work, note
from iaa.paths import Layout
from store import Features, MissingFileError, Targets, open_features, write_targets
from store.csv_files import write_rows
from store.targets import images_of_targets

if TYPE_CHECKING:
    from analysis.results import MethodResult, Metric
    from embed.datasets import DatasetConfig, ImageTable
    from embed.loading import Backbone


def targets_of(table: "ImageTable") -> Targets:
    """What people said about the images, as the store keeps it."""
    import numpy as np

    n_levels = 0 if table.votes is None else table.votes.shape[1]
    return Targets(
        image_id=table.image_id,
        path=table.path,
        votes=table.votes,
        scores=table.scores,
        levels=np.arange(1, n_levels + 1, dtype=np.int64) if n_levels else None,
        threshold=table.threshold,
        split=table.split,
        split_name=table.split_name,
        dataset=table.dataset,
        columns=dict(table.columns),
    )


def load_table(
    layout: Layout, quiet: bool = False, worker: tuple[int, int] | None = None
) -> "tuple[DatasetConfig, ImageTable]":
    """The data set's image table; its targets file and lists of gaps are brought up to date."""
    from embed.datasets import build_table, load_config

    config = load_config(layout.root, layout.dataset)
    with at_work(f"listing the images of {layout.dataset}"):
        table = build_table(config, layout.root, progress=not quiet)
    provenance = {"kind": config.kind, "exif_rotate": config.exif_rotate}
    tag = ".{}-of-{}".format(*worker) if worker else ""
    write_targets(layout.targets, targets_of(table), {"images": table.digest}, provenance, tag)
    for name, gaps in (
        ("labels_without_file", table.missing_files),
        ("files_without_label", table.unlabelled_files),
    ):
        listed = layout.logs / f"{name}.txt"
        try:
            listed.parent.mkdir(parents=True, exist_ok=True)
            text = "".join(f"{gap}\n" for gap in gaps)
            listed.write_text(text, encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            note(f"{listed} cannot be written: {error.strerror}")
        if gaps and not quiet:
            note(f"{len(gaps):,} {name.replace('_', ' ')}: listed in {listed}")
    return config, table


def load_backbones(
    ids: list[str],
    weights: dict[str, Path],
    device: str,
    precision: str = "float32",
    root: Path | None = None,
) -> "list[Backbone]":
    """The backbones, loaded on the device, which is named; with a data root, fine-tuned ones, too."""
    from embed.device import describe_device, pick_device
    from embed.loading import load_backbone

    chosen = pick_device(device)
    note(f"device: {describe_device(chosen)}")
    loaded: list[Backbone] = []
    for name in ids:
        if root is not None and is_tuned(name):
            from finetune.tuned import find_tuned, load_tuned

            loaded.append(load_tuned(find_tuned(root, name), chosen, precision))
        else:
            loaded.append(load_backbone(name, weights.get(name), chosen, precision))
            for remark in loaded[-1].remarks:
                note(remark)
    return loaded


def is_tuned(backbone_id: str) -> bool:
    """True for ids of fine-tuned backbones, `<backbone>+finetuned.<digest>`."""
    return "+finetuned." in backbone_id


def has_text(backbone_id: str) -> bool:
    """True if prompts can be encoded; a fine-tuned image tower is no longer what its text tower goes with."""
    from embed.backbones import resolve_backbone

    return not is_tuned(backbone_id) and resolve_backbone(backbone_id).has_text


def log_run(layout: Layout, entry: dict[str, Any]) -> None:
    """Append one line to the side log, the only place for clocks and durations."""
    stamped = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **entry}
    try:
        layout.logs.mkdir(parents=True, exist_ok=True)
        with (layout.logs / "runs.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(stamped) + "\n")
    except OSError as error:  # the work is done; no number depends on the log
        note(f"no line was added to {layout.logs / 'runs.jsonl'}: {error.strerror}")


def open_embedded(layout: Layout, backbone: str) -> Features:
    """The data set's feature file of a backbone.

    Raises MissingFileError with the command that makes it, DatasetError for an unknown data set.
    """
    path = layout.features_of(backbone)
    if not path.exists():
        check_known(layout)
        there = ", ".join(sorted(p.stem for p in layout.features.glob("*.h5"))) or "none"
        raise MissingFileError(
            f"{path} does not exist; embedded with: {there}. "
            f"Make it: iaa embed --dataset {layout.dataset} --backbone {backbone}"
        )
    return _of_this_list(layout, open_features(path, {"backbone": backbone}))


def open_only_embedded(layout: Layout) -> Features:
    """The data set's feature file, where there is one. Raises typer.BadParameter where one must be chosen."""
    paths = sorted(layout.features.glob("*.h5"))
    if len(paths) > 1:
        raise _several(layout, [open_features(path) for path in paths])
    if not paths:
        check_known(layout)
        raise MissingFileError(
            f"{layout.features} has no feature file. Make one: iaa embed --dataset {layout.dataset}"
        )
    return _of_this_list(layout, open_features(paths[0]))


def _several(layout: Layout, opened: list[Features]) -> typer.BadParameter:
    choices = " or ".join(f"--backbone {features.backbone}" for features in opened)
    return typer.BadParameter(f"{layout.dataset} is embedded with several: choose one by {choices}")


def _of_this_list(layout: Layout, features: Features) -> Features:
    """The features, if they are of the images that the data set lists. Raises IdentityError."""
    if layout.targets.exists():
        features.check_images(images_of_targets(layout.targets))
    return features


def open_clip_features(layout: Layout, backbone: str | None) -> Features:
    """The features of the backbone asked for, or of the only one whose space has prompts."""
    if backbone is not None:
        features = open_embedded(layout, backbone)
        if "embedding" not in features.outputs:
            raise typer.BadParameter(f"{backbone} has no joint embedding; prompts need a CLIP-like backbone")
        return features
    check_known(layout)
    opened = [open_features(path) for path in sorted(layout.features.glob("*.h5"))]
    fitting = [f for f in opened if "embedding" in f.outputs and not is_tuned(f.backbone)]
    if len(fitting) > 1:
        raise _several(layout, fitting)
    if not fitting:
        there = ", ".join(features.backbone for features in opened) or "none"
        raise MissingFileError(
            f"{layout.features} has no features of a backbone with a text tower (there: {there}). Make them, "
            f"with published weights: iaa embed --dataset {layout.dataset} --backbone vit_b32.openai; "
            "or, to try the commands only, with weights that know nothing but the synthetic demo: "
            f"iaa embed --dataset {layout.dataset} --backbone demo_clip"
        )
    return _of_this_list(layout, fitting[0])


def note_demo(backbone: str, dataset: str) -> None:
    """Say so where one of the demo's backbones is asked about photographs."""
    if backbone.startswith("demo_") and dataset != "demo":
        note(f"{backbone} knows nothing but a synthetic world: its answers say nothing about photographs")


def check_known(layout: Layout) -> None:
    """Raises DatasetError for an unknown data set, and lists the known; imported vectors need no config."""
    if not layout.folder.is_dir():
        from embed.datasets import load_config

        load_config(layout.root, layout.dataset)


def image_files(targets: Targets, image_ids: list[str]) -> list[str]:
    """File of each image, relative to the data set's folder of photographs."""
    file_of = dict(zip(targets.image_id.tolist(), targets.path.tolist(), strict=True))
    return [file_of.get(name, "") for name in image_ids]


def best_and_worst(table: list[dict[str, Any]], top: int) -> tuple[list[Any], list[Any]]:
    """The first and the last `top` rows of a ranking; none is in both."""
    return table[:top], table[max(top, len(table) - top) :]


def shown_of(n_shown: int, n_all: int) -> str:
    """What to add to a count of ranked images of which the best and the worst are shown."""
    return "" if n_shown == n_all else f"; shown: the first and the last {n_shown // 2}"


def check_file_place(path: Path | None, option: str = "--csv") -> None:
    """Say before the work, not after it, that the file of an option cannot be written, or is of another
    kind than what it would be replaced by."""
    if path is None:
        return
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise typer.BadParameter(f"{option} {path}: not a file in a folder that exists")
    kinds = {"--csv": (".csv", ".tsv", ".txt"), "--sheet": (".html", ".htm")}[option]
    if option == "--csv" and path.suffix.lower() in (".html", ".htm", ".h5"):
        raise typer.BadParameter(f"{option} {path}: call it {path.stem}.csv")
    if path.is_file() and path.suffix.lower() not in kinds:
        raise typer.BadParameter(f"{option} {path} exists and is no {kinds[0]} file: it is left as it is")


def write_csv(path: Path, columns: list[str], rows: list[dict[str, Any]]) -> None:
    """Write `--csv`, safe to open in a spreadsheet; a file that cannot be written is a typer.BadParameter."""
    try:
        with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as handle:
            delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
            write_rows(handle, columns, ([row[column] for column in columns] for row in rows), delimiter)
    except OSError as error:
        raise typer.BadParameter(f"--csv {path} cannot be written: {error.strerror}") from error
    note(f"wrote {len(rows):,} rows: {path}")


def result_title(result: "MethodResult") -> str:
    """Data set, split and sizes, for the title of a table of results."""
    sizes = f"{result.n_train:,} train, {result.n_test:,} test"
    return f"{result.dataset}, split {result.split_name}: {sizes}"


def metric_cells(result: "MethodResult") -> list[str]:
    """Accuracy, SRCC and PLCC with their intervals as table cells; empty where not measured."""
    return [interval_cell(metric) for metric in (result.accuracy, result.srcc, result.plcc)]


def interval_cell(metric: "Metric | None") -> str:
    """A metric with its interval, where it has one."""
    if metric is None:
        return ""
    if math.isnan(metric.value):
        return "not defined"
    if math.isnan(metric.low):
        return f"{metric.value:.4f}"
    return f"{metric.value:.4f} [{metric.low:.4f}, {metric.high:.4f}]"
