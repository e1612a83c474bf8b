"""A decoder that kills its process: the run goes on, and the culprit is a failed row."""

import json
import signal

import numpy as np
import pytest

from embed.batching import Encoder
from embed.crashes import CrashNotes, find_culprits, rows_in_flight
from embed.options import Decoding
from store import open_features

CRASHING_DECODER = """
import os, signal
import simplejpeg
whole = simplejpeg.decode_jpeg_header
def header(data, *arguments, **options):
    if b"KILL" in data:
        os.kill(os.getpid(), signal.{signal})
    return whole(data, *arguments, **options)
simplejpeg.decode_jpeg_header = header
"""


@pytest.fixture
def crashing(tmp_path, photographs):
    """A folder whose sitecustomize makes simplejpeg crash on marked files, and a way to mark them."""
    folder = tmp_path / "crashing"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(CRASHING_DECODER.format(signal="SIGSEGV"))

    def mark(*rows):
        for row in rows:
            file = photographs / f"{row:02d}.jpg"
            file.write_bytes(file.read_bytes() + b"KILL")
        return folder

    return mark


def test_rows_in_flight_outlive_their_process_and_are_forgotten_when_done(tmp_path):
    notes = CrashNotes(tmp_path)
    with notes.watch(7):
        assert rows_in_flight(tmp_path) == [7]
        again = CrashNotes(tmp_path)
    assert again.suspects == [7] and again.culprits == {}
    again.convict({7: "the decoder crashed (SIGSEGV)"})
    assert CrashNotes(tmp_path).suspects == []
    assert CrashNotes(tmp_path).culprits == {7: "the decoder crashed (SIGSEGV)"}


def test_a_culprit_of_another_list_of_images_is_forgotten(tmp_path):
    """Rows are numbers: photographs that came since have moved them."""
    CrashNotes(tmp_path, "one list").convict({7: "the decoder crashed (SIGSEGV)"})
    assert CrashNotes(tmp_path, "one list").culprits == {7: "the decoder crashed (SIGSEGV)"}
    assert CrashNotes(tmp_path, "another").culprits == {}


@pytest.mark.parametrize(
    ("culprits", "others"), [((4,), (3,)), pytest.param((4, 9), (3, 5), marks=pytest.mark.slow)]
)
def test_only_the_image_that_kills_is_a_culprit(photographs, crashing, monkeypatch, culprits, others):
    folder = crashing(*culprits)
    monkeypatch.syspath_prepend(str(folder))
    paths = {row: photographs / f"{row:02d}.jpg" for row in sorted(culprits + others)}
    found = find_culprits(paths, Decoding(max_pixels=10**9))
    assert found == dict.fromkeys(culprits, "the decoder crashed (SIGSEGV)")


@pytest.mark.slow
def test_the_run_goes_on_without_the_culprits(done, photographs, crashing, tmp_path):
    for name in ("with", "without"):
        code, _, err = done("dataset", "add", name, "--kind", "folder", "--images", photographs)
        assert code == 0, err
    code, _, err = done("embed", "-d", "without", "-b", "demo_clip")
    assert code == 0, err
    code, out, err = done(
        "embed", "-d", "with", "-b", "demo_clip", "--json", "--threads", "2", extra=crashing(4, 17)
    )
    assert code == 0, err
    assert "a decoder crashed the run (SIGSEGV)" in err
    assert json.loads(out)["files"][0]["n_failed"] == 2
    with (
        open_features(tmp_path / "data/with/features/demo_clip.h5") as features,
        open_features(tmp_path / "data/without/features/demo_clip.h5") as whole,
    ):
        assert features.failures == {row: "the decoder crashed (SIGSEGV)" for row in (4, 17)}
        assert (features.file.view("source_size")[[4, 17]] > 0).all()
        ok = features.ok
        np.testing.assert_array_equal(features.read("embedding", ok), whole.read("embedding", ok))


@pytest.mark.slow
def test_a_run_that_is_killed_for_another_reason_is_not_tried_for_ever(done, photographs, tmp_path):
    assert done("dataset", "add", "mine", "--kind", "folder", "--images", photographs)[0] == 0
    assert callable(Encoder.encode)  # what is replaced below
    killer = tmp_path / "killer"
    killer.mkdir()
    (killer / "sitecustomize.py").write_text(
        "import embed.encoding, os, signal\n"
        "embed.encoding.Encoder.encode = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    code, _, err = done("embed", "-d", "mine", "-b", "demo_clip", extra=killer)
    assert code == 128 + signal.SIGKILL
    assert "ended by SIGKILL (out of memory?)" in err and "To go on: iaa embed -d mine" in err
