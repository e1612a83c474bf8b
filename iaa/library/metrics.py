"""A run's counts, rate and seconds as Prometheus' text format, for collectors that watch a folder."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from store.durable import whole_file


def write_metrics(path: Path | None, told: Mapping[str, Any], now: float | None = None) -> None:
    """Write what a finished run told (Embedded.to_dict, WorkersDone.to_dict); nothing without a path.

    Gauges, each with `dataset`: `iaa_images`, `iaa_images_failed`, `iaa_images_new` and `iaa_images_left` per
    backbone, `iaa_images_per_second`, `iaa_stage_seconds` per stage, `iaa_run_completed_timestamp_seconds`. A
    run that fails writes none, so an old time is the sign of it. The file appears complete or not at all.

    Raises SpaceError where it cannot be written.
    """
    if path is None:
        return
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry = CollectorRegistry()
    dataset = told["dataset"]

    def gauge(name: str, what: str, *labels: str) -> Gauge:
        return Gauge(f"iaa_{name}", what, ["dataset", *labels], registry=registry)

    counts = {
        "n_images": gauge("images", "Rows of the feature file", "backbone"),
        "n_failed": gauge("images_failed", "Rows whose image could not be read", "backbone"),
        "n_new": gauge("images_new", "Rows that this run made", "backbone"),
        "n_left": gauge("images_left", "Rows that other workers have still to make", "backbone"),
    }
    for file in told["files"]:
        for name, metric in counts.items():
            metric.labels(dataset, file["backbone"]).set(file[name])
    rate = gauge("images_per_second", "Rows made per second of the run")
    rate.labels(dataset).set(told["images_per_second"])
    stages = gauge("stage_seconds", "Seconds per stage; read to resize summed over threads", "stage")
    for stage, seconds in told.get("seconds", {}).items():
        stages.labels(dataset, stage).set(seconds)
    when = gauge("run_completed_timestamp_seconds", "When the run was complete")
    when.labels(dataset).set(time.time() if now is None else now)
    with whole_file(path) as partial:
        partial.write_bytes(generate_latest(registry))
