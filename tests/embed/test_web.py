"""Images behind a web server that is slow, lies, sends too much, too little, or somewhere else."""

import io
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

import embed.images.sources.urls
import embed.images.sources.web
from embed.images.errors import DatasetError
from embed.images.sources import open_source
from embed.options import Decoding
from embed.reading import load_row


def jpeg(seed):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def tar_of(**members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(f"{name}.jpg")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


FILES = {
    "/p/1.jpg": jpeg(1),
    "/p/2.jpg": jpeg(2),
    "/p/s/3.jpg": jpeg(3),
    "/t.tar": tar_of(a=jpeg(4), b=jpeg(5)),
}


class Server(BaseHTTPRequestHandler):
    """Files by path, folders as pages of links; `manners` of the server changes what is sent."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        self.server.asked.append(self.path)
        special = self.server.manners.get(self.path)
        if special is not None:
            return special(self, with_body)
        if self.path in FILES:
            return self.send(FILES[self.path], with_body=with_body)
        inside = [f for f in FILES if f.startswith(self.path.rstrip("/") + "/")]
        if not inside:
            return self.send(b"", 404)
        folder = self.path.rstrip("/") + "/"
        links = {f[len(folder) :].partition("/")[0] + "/" * ("/" in f[len(folder) :]) for f in inside}
        page = "".join(f'<a href="{link}">x</a>' for link in sorted({*links, "../", "file:///etc/passwd"}))
        return self.send(page.encode(), kind="text/html", with_body=with_body)

    def send(
        self,
        data,
        status=200,
        kind="application/octet-stream",
        length=None,
        with_body=True,
        ranges=True,
        **more,
    ):
        asked = self.headers.get("Range")
        if asked and ranges and status == 200:
            first, last = (int(n) for n in asked.removeprefix("bytes=").split("-"))
            more["Content-Range"] = f"bytes {first}-{min(last, len(data) - 1)}/{len(data)}"
            data, status = data[first : last + 1], 206
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        for name, value in more.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if with_body:
            self.wfile.write(data)
        if length is not None:
            self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(embed.images.sources.urls, "PAUSE", 0.01)
    running = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    running.daemon_threads = True
    running.manners, running.asked = {}, []
    running.url = f"http://127.0.0.1:{running.server_port}"
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


def reason(server, path="1.jpg"):
    source = open_source(f"{server.url}/p", "d")
    row = load_row(source.at(path), Decoding(max_pixels=10**6))
    assert row.pixels is None
    return row.reason


def test_a_folder_and_a_tar_are_read(server):
    source = open_source(f"{server.url}/p", "d")
    assert sorted(source.files) == ["1.jpg", "2.jpg", "s/3.jpg"]
    assert source.at("s/3.jpg").read_bytes() == FILES["/p/s/3.jpg"]
    assert sorted(open_source(f"{server.url}/*.tar", "d").files) == ["a.jpg", "b.jpg"]
    with pytest.raises(DatasetError, match="would follow every link"):
        open_source(f"{server.url}/**.tar", "d")
    tar = open_source(f"{server.url}/t.tar", "d")
    assert sorted(tar.files) == ["a.jpg", "b.jpg"] and tar.at("b.jpg").read_bytes() == jpeg(5)


def test_redirections_lead_to_the_web_alone(server):
    def to(target):
        return lambda handler, _: handler.send(b"", 302, Location=target)

    source = open_source(f"{server.url}/p", "d")
    server.manners["/p/1.jpg"] = to(f"{server.url}/p/2.jpg")
    assert source.at("1.jpg").read_bytes() == FILES["/p/2.jpg"]
    for target in ("file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "gopher://127.0.0.1/"):
        server.manners["/p/1.jpg"] = to(target)
        assert reason(server).startswith("cannot read: NonHttpUrlRedirectClientError")
    server.manners["/p/1.jpg"] = to(f"{server.url}/p/1.jpg")
    assert "TooManyRedirects" in reason(server) and server.asked.count("/p/1.jpg") < 40
    server.manners["/t.tar"] = to("file:///etc/passwd")
    with pytest.raises(DatasetError, match="t.tar"):
        open_source(f"{server.url}/t.tar", "d")


def test_what_may_pass_is_tried_three_times_and_counted(server):
    def busy_twice(handler, _):
        is_busy = server.asked.count("/p/1.jpg") < 3
        handler.send(b"" if is_busy else FILES["/p/1.jpg"], 503 if is_busy else 200)

    server.manners["/p/1.jpg"] = busy_twice
    source = open_source(f"{server.url}/p", "d")
    assert source.at("1.jpg").read_bytes() == FILES["/p/1.jpg"]
    server.manners["/p/1.jpg"] = lambda handler, _: handler.send(b"", 503)
    assert "503" in reason(server) and reason(server).endswith("(3 tries)")
    server.manners["/p/1.jpg"] = lambda handler, _: handler.send(b"", 403)
    n_before = len(server.asked)
    assert "403" in reason(server) and server.asked[n_before:].count("/p/1.jpg") == 1


def test_lengths_that_lie_are_failed_rows(server):
    data = FILES["/p/1.jpg"]
    server.manners["/p/1.jpg"] = lambda handler, _: handler.send(data, length=len(data) + 1000)
    assert "ClientPayloadError" in reason(server) and "(3 tries)" in reason(server)
    server.manners["/p/1.jpg"] = lambda handler, _: handler.send(data, length=len(data) // 2)
    assert reason(server).startswith(("cannot decode: damaged JPEG", "cannot read: ClientResponseError"))
    assert "\n" not in reason(server)


def test_an_answer_without_end_stops_at_the_limit(server, monkeypatch):
    monkeypatch.setattr(embed.images.sources.web, "MAX_ANSWER", 2**20)
    monkeypatch.setattr(embed.images.sources.web, "MAX_PAGE", 2**20)

    def endless(handler, _):
        handler.send_response(200)
        handler.send_header("Content-Type", "image/jpeg" if "jpg" in handler.path else "text/html")
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        try:
            while True:
                handler.wfile.write(bytes(2**16))
        except OSError:
            server.asked.append("stopped")

    server.manners["/p/1.jpg"] = endless
    assert reason(server) == "cannot read: the server sends more than 1,048,576 bytes"
    server.manners["/p/"] = server.manners["/p"] = endless
    with pytest.raises(DatasetError, match="cannot be listed: the server sends more than 1,048,576 bytes"):
        open_source(f"{server.url}/p", "d")


def test_a_silent_server_is_given_up(server, monkeypatch):
    monkeypatch.setattr(embed.images.sources.web, "SILENT_SECONDS", 0.3)
    monkeypatch.setattr(embed.images.sources.urls, "N_TRIES", 1)
    source = open_source(f"{server.url}/p", "d")
    server.manners["/p/1.jpg"] = lambda handler, _: time.sleep(3)
    started = time.perf_counter()
    row = load_row(source.at("1.jpg"), Decoding(max_pixels=10**6))
    assert row.pixels is None and "cannot read: " in row.reason and time.perf_counter() - started < 2.5


def test_a_server_that_ignores_ranges_never_gives_other_bytes(server):
    tar = FILES["/t.tar"]
    source = open_source(f"{server.url}/t.tar", "d")
    server.manners["/t.tar"] = lambda handler, body: handler.send(tar, ranges=False, with_body=body)
    for name in source.files:
        row = load_row(source.at(name), Decoding(max_pixels=10**6))
        assert "does not send parts of a file" in row.reason

    def shifted(handler, body):
        handler.send(tar[512:1536], 206, Content_Range=f"bytes 512-1535/{len(tar)}", with_body=body)

    server.manners["/t.tar"] = shifted
    assert "does not send parts" in load_row(source.at("a.jpg"), Decoding(max_pixels=10**6)).reason


def test_folders_without_end_are_an_error(server, monkeypatch):
    monkeypatch.setattr(embed.images.sources.urls, "MAX_WEB_FOLDERS", 50)

    class Endless(dict):
        def get(self, path, default=None):
            page = b'<a href="a/">a</a><a href="b/">b</a><a href="1.jpg">1</a>'
            return lambda handler, body: handler.send(page, kind="text/html", with_body=body)

    server.manners = Endless()
    with pytest.raises(DatasetError, match="has folders in folders without end .51 so far"):
        open_source(f"{server.url}/p", "d")


def test_without_aiohttp_the_message_names_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "embed.images.sources.web", None)
    with pytest.raises(DatasetError, match="pip install aiohttp"):
        open_source("http://127.0.0.1:9/p", "d")
