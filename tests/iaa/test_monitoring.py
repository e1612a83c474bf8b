"""What machines watch: logs as JSON, a run's numbers for Prometheus."""

import json
import logging
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

from iaa.cli.console import LOG_FORMAT, JsonFormatter, at_work, note, progress
from iaa.library.metrics import write_metrics
from iaa.library.supervision import how_to_go_on
from store.errors import SpaceError

TOLD = {
    "dataset": 'my "set"\n2',
    "files": [
        {"backbone": "demo_vit", "n_images": 12, "n_failed": 1, "n_new": 7, "n_left": 0},
        {"backbone": "demo_clip", "n_images": 12, "n_failed": 2, "n_new": 0, "n_left": 5},
    ],
    "images_per_second": 3.5,
    "seconds": {"read": 0.25, "wall": 2.0},
}


def objects(text):
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def as_json(monkeypatch):
    monkeypatch.setenv(LOG_FORMAT, "json")


def test_every_line_on_stderr_is_an_object(as_json, run, capsys):
    code, out, err = run("status", "--dataset", "nope")
    lines = objects(err)
    assert (code, out) == (1, "") and [line["level"] for line in lines] == ["error", "error"]
    assert lines[0]["message"].startswith("error: no data set 'nope'")
    assert all(set(line) == {"time", "level", "logger", "message"} for line in lines)
    code, out, err = run("status", "--nope")
    assert (code, out) == (2, "") and "No such option" in objects(err)[0]["message"]
    note("zwei\nZeilen \x1b[31m\u202e")
    assert [line["message"] for line in objects(capsys.readouterr().err)] == ["zwei\nZeilen \x1b[31m\u202e"]


def test_progress_is_lines_even_on_a_terminal(as_json, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr("iaa.library.lines.FIRST_SECONDS", 0.0)
    with progress("embedding", 4, "images") as bar:
        bar.update(2)
        bar.tick()
        bar.update(2)
    first, last = objects(capsys.readouterr().err)
    assert first["message"].startswith("embedding: 2 of 4 images (50%)")
    assert last["message"].startswith("embedding: 4 of 4 images (100%)")
    with at_work("reading") as bar:
        bar.tick()
    assert objects(capsys.readouterr().err)[0]["message"].startswith("reading: ")


def test_a_traceback_is_a_field():
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        record = logging.LogRecord("store", logging.WARNING, "f", 1, "no %s", ("luck",), sys.exc_info())
    line = json.loads(JsonFormatter().format(record))
    assert (line["level"], line["logger"], line["message"]) == ("warning", "store", "no luck")
    assert "ZeroDivisionError" in line["exception"] and line["time"].endswith("+00:00")


def test_what_to_type_again_is_the_verbs(capsys):
    said = how_to_go_on(["--log-format", "json", "embed", "-d", "a b"])
    assert said == "Every finished part is kept. To go on: iaa --log-format json embed -d 'a b'"


def test_a_runs_numbers_are_read_back_by_prometheus_own_parser(tmp_path):
    file = tmp_path / "iaa.prom"
    write_metrics(None, TOLD)
    write_metrics(file, TOLD, now=1e9)
    found = {
        (s.name, s.labels.get("backbone") or s.labels.get("stage")): s.value
        for family in text_string_to_metric_families(file.read_text("utf-8"))
        for s in family.samples
        if s.labels["dataset"] == TOLD["dataset"]
    }
    assert found == {
        ("iaa_images", "demo_vit"): 12,
        ("iaa_images", "demo_clip"): 12,
        ("iaa_images_failed", "demo_vit"): 1,
        ("iaa_images_failed", "demo_clip"): 2,
        ("iaa_images_new", "demo_vit"): 7,
        ("iaa_images_new", "demo_clip"): 0,
        ("iaa_images_left", "demo_vit"): 0,
        ("iaa_images_left", "demo_clip"): 5,
        ("iaa_images_per_second", None): 3.5,
        ("iaa_stage_seconds", "read"): 0.25,
        ("iaa_stage_seconds", "wall"): 2.0,
        ("iaa_run_completed_timestamp_seconds", None): 1e9,
    }
    with pytest.raises(SpaceError, match="nowhere"):
        write_metrics(tmp_path / "nowhere" / "iaa.prom", TOLD)


def test_metrics_are_of_images(run, tmp_path):
    assert run("embed", "-d", "demo", "-p", "paper_fixed", "--metrics", tmp_path / "m")[0] == 2
