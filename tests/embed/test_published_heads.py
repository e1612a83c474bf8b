"""Published heads: fetched once and checked, from a server of the test; all that can go wrong on the way."""

import hashlib
import http.server
import io
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from embed.backbones import published_heads
from embed.backbones.laion import EXPECTED_DIM
from embed.backbones.published_heads import PUBLISHED, HeadUnavailable, fetch_head
from embed.backbones.registry import resolve_backbone

fork = multiprocessing.get_context("fork") if sys.platform == "linux" else None


def checkpoint(seed=0):
    """A head for ViT-B/32 as LAION's are saved."""
    generator = torch.Generator().manual_seed(seed)
    data = io.BytesIO()
    torch.save({"weight": torch.randn(1, 512, generator=generator), "bias": torch.zeros(1)}, data)
    return data.getvalue()


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        what, content = self.path.split("/")[1], self.server.content
        self.server.asked[what] += 1
        if what == "moved":
            self.send_response(302)
            self.send_header("Location", "/whole/h.pth")
            self.end_headers()
            return
        self.send_response(404 if what == "missing" else 200)
        if what == "page":
            content = b"<!doctype html><html>log in</html>"
        if what not in ("endless", "cut"):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if what in ("half", "cut"):
            content = content[: len(content) // 2]
        try:
            if what == "slow":
                for start in range(0, len(content), 100):
                    self.wfile.write(content[start : start + 100])
                    time.sleep(0.02)
            elif what == "endless":
                while True:
                    self.wfile.write(content)
            else:
                self.wfile.write(content)
        except OSError:
            pass  # who asked has gone

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as made:
        made.content, made.asked = checkpoint(), Counter()
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def head_at(server, what, is_known=True):
    digest = hashlib.sha256(server.content).hexdigest() if is_known else ""
    url = f"http://127.0.0.1:{server.server_port}/{what}/h.pth"
    return replace(PUBLISHED["laion-b32"], url=url, sha256=digest)


def left_in(folder):
    return sorted(path.name for path in folder.rglob("*"))


def test_the_registry_is_of_known_backbones_and_says_what_it_does_not_know():
    for head in PUBLISHED.values():
        assert head.licence and head.url.startswith("https://github.com/") and head.what
        assert len(head.sha256) in (0, 64) and ("no SHA-256 known" in head.trust) == (not head.sha256)
        if head.is_fetched:
            assert head.backbone in EXPECTED_DIM and resolve_backbone(head.backbone)
            assert head.file.endswith(".pth")
    assert not PUBLISHED["aesthetic-v2.5"].is_fetched and "AGPL" in PUBLISHED["aesthetic-v2.5"].licence


def test_the_digest_we_know_is_of_the_file_we_have(shared_data):
    file = shared_data / "laion_heads" / PUBLISHED["laion-b32"].file
    assert hashlib.sha256(file.read_bytes()).hexdigest() == PUBLISHED["laion-b32"].sha256


@pytest.mark.parametrize("what", ["whole", "moved"])
def test_it_is_fetched_once_and_kept(server, tmp_path, what):
    head, came = head_at(server, what), []
    path, digest = fetch_head(head, tmp_path / "c", came.append)
    assert path.read_bytes() == server.content and digest == head.sha256 and sum(came) >= len(server.content)
    assert fetch_head(head, tmp_path / "c") == (path, digest)
    assert server.asked["whole"] == 1 and left_in(tmp_path / "c") == ["h.pth"]
    plain = tmp_path / "plain"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode, "not for its owner alone, as temporary files are"


def test_damage_on_the_disk_is_fetched_again(server, tmp_path):
    head = head_at(server, "whole")
    (tmp_path / "h.pth").write_bytes(server.content[:-9])
    assert fetch_head(head, tmp_path)[0].read_bytes() == server.content


@pytest.mark.parametrize(
    ("what", "is_known", "said"),
    [
        ("half", True, "the connection broke before all of it had come"),
        ("half", False, "the connection broke before all of it had come"),
        ("cut", True, "gave another file than h.pth: expected the SHA-256 known to us"),
        ("cut", False, "damaged or cut short"),
        ("page", False, "is a web page"),
        ("missing", True, "404"),
        ("endless", False, "more than 100,000 bytes, which no such head has"),
    ],
)
def test_what_is_no_whole_head_is_not_kept(server, tmp_path, what, is_known, said, monkeypatch):
    monkeypatch.setattr(published_heads, "MAX_BYTES", 100_000)
    head = head_at(server, what, is_known)
    with pytest.raises(HeadUnavailable) as raised:
        fetch_head(head, tmp_path)
    message = str(raised.value)
    assert said in message and head.url in message and f"put it to {tmp_path / 'h.pth'}" in message
    assert "iaa head import FILE --backbone vit_b32.openai --save laion-b32" in message
    assert left_in(tmp_path) == []


def test_another_file_than_the_known_one_is_refused(server, tmp_path):
    head = head_at(server, "whole")
    server.content = checkpoint(seed=1)
    with pytest.raises(HeadUnavailable, match=f"expected the SHA-256 known to us, {head.sha256}"):
        fetch_head(head, tmp_path)
    assert left_in(tmp_path) == []


def test_without_a_known_digest_the_first_fetch_is_trusted_and_said(server, tmp_path, caplog):
    head = head_at(server, "whole", is_known=False)
    path, digest = fetch_head(head, tmp_path)
    assert f"taken on trust and later fetches must equal it ({tmp_path / 'h.pth.sha256'})" in caplog.text
    assert (tmp_path / "h.pth.sha256").read_text() == f"{digest}  h.pth\n"
    caplog.clear()
    fetch_head(head, tmp_path)
    assert not caplog.text, "said once"
    path.unlink()
    server.content = checkpoint(seed=1)
    with pytest.raises(HeadUnavailable, match="of the first fetch.*remove .*h.pth.sha256"):
        fetch_head(head, tmp_path)
    (tmp_path / "h.pth.sha256").unlink()
    assert fetch_head(head, tmp_path)[1] != digest
    (tmp_path / "h.pth.sha256").write_text("rubbish")
    with pytest.raises(HeadUnavailable, match="holds no SHA-256"):
        fetch_head(head, tmp_path)


def test_without_a_network_it_says_which_file_from_where_to_where(server, tmp_path):
    head = head_at(server, "whole")
    closed = replace(head, url="http://127.0.0.1:9/h.pth")
    with pytest.raises(HeadUnavailable) as raised:
        fetch_head(closed, tmp_path)
    message = str(raised.value)
    assert "h.pth did not come from http://127.0.0.1:9/h.pth: no connection to 127.0.0.1." in message
    assert f"put it to {tmp_path / 'h.pth'}" in message
    (tmp_path / "h.pth").write_bytes(server.content)  # as it says
    assert fetch_head(closed, tmp_path)[1] == head.sha256


def test_what_is_only_named_is_never_fetched(tmp_path):
    with pytest.raises(HeadUnavailable, match=r"AGPL-3\.0 .* neither shipped nor fetched"):
        fetch_head(PUBLISHED["aesthetic-v2.5"], tmp_path / "c")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(("target", "is_safe"), [("http://b/x", False), ("https://b/x", True), ("/x", True)])
def test_no_server_leads_from_https_to_less(target, is_safe):
    response = SimpleNamespace(is_redirect=True, url="https://a/x", headers={"location": target})
    if is_safe:
        published_heads._stay_safe(response)
    else:
        with pytest.raises(OSError, match="nobody vouches for"):
            published_heads._stay_safe(response)


@pytest.mark.skipif(fork is None, reason="processes are forked")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_two_processes_at_once_fetch_once(server, tmp_path):
    head = head_at(server, "slow", is_known=False)
    both = [fork.Process(target=fetch_head, args=(head, tmp_path)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0] and server.asked["slow"] == 1
    assert (tmp_path / "h.pth").read_bytes() == server.content
    assert left_in(tmp_path) == ["h.pth", "h.pth.sha256"]


@pytest.mark.skipif(fork is None, reason="processes are forked")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fetch_that_was_killed_leaves_nothing_in_the_way(server, tmp_path):
    head = head_at(server, "slow")
    process = fork.Process(target=fetch_head, args=(head, tmp_path))
    process.start()
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*.download/tmp*")) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL and not (tmp_path / "h.pth").exists()
    assert list(tmp_path.glob("*.download")), "it was killed on the way"
    fetch_head(head_at(server, "whole"), tmp_path)
    assert left_in(tmp_path) == ["h.pth"] and (tmp_path / "h.pth").read_bytes() == server.content
