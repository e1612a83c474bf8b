"""Who is let in, what may change anything, and what a browser may do with the answers: real requests each."""

import socket
import zlib

import pytest

from iaa.library.errors import UsageError
from iaa.library.gallery.gallery import Settings
from iaa.web.security import MAX_BODY, Door
from iaa.web.serving import check_token
from tests.web.conftest import HOSTILE, TOKEN

PATHS = ["/", "/api/library", "/api/photographs", "/static/main.js", "/docs", "/openapi.json", "/nothing"]
WRITES = ["/api/copy", "/api/csv", "/api/zip", "/api/reveal", "/api/stop", "/api/start", "/api/pictures"]


@pytest.mark.parametrize("path", PATHS)
def test_nothing_without_the_token(client, path):
    for given in (None, "Bearer ", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \xe9"):
        answer = client.get(path, Authorization=given)
        assert answer.status == 401
        assert b"mine" not in answer.body and b"img0" not in answer.body
    assert client.get(path, Authorization=None, Cookie=f"iaa-{client.port}=wrong").status == 401


def test_without_the_token_a_page_says_where_to_find_it(client):
    answer = client.get("/", Authorization=None)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert b"open the address that iaa printed" in answer.body
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_first_visit_moves_the_token_into_a_cookie(client):
    answer = client.get(f"/?token={TOKEN}", Authorization=None)
    assert (answer.status, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Path=/" in cookie
    seen = client.get("/", Authorization=None, Cookie=cookie.partition(";")[0])
    assert seen.status == 200 and b"<title>mine" in seen.body
    assert client.get("/?token=wrong", Authorization=None).status == 401


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:{port}",
        "127.0.0.1.evil.example:{port}",
        "127.0.0.1:1",
        "",
        "127.0.0.1",
        "127.0.0.1:{port}@evil.example",
        "evil@127.0.0.1:{port}",
        "10.0.0.1:{port}",
    ],
)
def test_a_foreign_host_name_is_refused_with_and_without_the_token(client, host):
    """DNS rebinding: a page of evil.example, whose name was made to point to this machine."""
    answer = client.get("/api/library", Host=host.format(port=client.port))
    assert answer.status == 400


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST:{port}", "[::1]:{port}"])
def test_own_host_names_are_known(client, host):
    assert client.get("/api/library", Host=host.format(port=client.port)).status == 200


@pytest.mark.parametrize("path", WRITES)
def test_what_writes_must_come_from_the_page_itself(client, path):
    cookie = {"Authorization": None, "Cookie": f"iaa-{client.port}={TOKEN}"}
    for origin in (
        "http://evil.example",
        "null",
        f"http://127.0.0.1:{client.port + 1}",
        "http://127.0.0.1",
        None,
    ):
        answer = client.post(path, {}, Origin=origin, **cookie)
        assert answer.status == 403, origin
    assert client.post(path, {}, Origin="http://evil.example").status == 403
    own = client.post(path, {}, Origin=f"http://127.0.0.1:{client.port}", **cookie)
    assert own.status not in (401, 403) or path == "/api/reveal"
    assert client.get(path, **cookie).status in (404, 405)


def test_nothing_but_own_files_runs(client):
    answer = client.get("/")
    rules = dict(rule.strip().split(" ", 1) for rule in answer.headers["content-security-policy"].split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == "'self'"
    assert rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    for path in ("/", "/api/library", "/api/none", "/docs"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
    for path in ("/", "/docs"):
        page = client.get(path).body.decode()
        assert "<script>" not in page and " onload=" not in page and "style=" not in page
        assert "https://" not in page


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static//etc/passwd",
        "/static/..%2fapp.py",
        "/api/photographs/..%2f..%2fdataset.toml/picture",
        "/api/photographs/img0.jpg/thumbnail",
        "/api/pictures/..%2f..%2fetc%2fpasswd",
    ],
)
def test_no_path_of_a_request_reaches_a_folder(client, path):
    assert client.get(path).status == 404


def test_names_of_copies_lead_nowhere(client, embedded):
    key = client.key("img0.jpg")
    for name in ("../out", "/tmp/out", "..", "a/b", "", " ", ".hidden", "a\\b", "x\0y", "C:out", "con"):
        answer = client.post("/api/copy", {"keys": [key], "name": name})
        assert answer.status in (400, 422), name
    there = {path.name for path in (embedded / "data" / "mine").rglob("*")}
    assert not there & {"out", "b", "y", "img0.jpg.partial"} and not (embedded / "data" / "out").exists()


def test_sent_pictures_are_bounded_by_bytes_and_pixels(client, monkeypatch):
    assert client.ask("POST", "/api/pictures", b"", Content_Length=str(MAX_BODY + 1)).status == 413
    with socket.create_connection(("127.0.0.1", client.port)) as raw:  # of unknown length, and too long
        head = f"POST /api/pictures HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n"
        head += f"Authorization: Bearer {TOKEN}\r\nTransfer-Encoding: chunked\r\n\r\n"
        raw.sendall(head.encode())
        chunk = b"%x\r\n" % 2**20 + bytes(2**20) + b"\r\n"
        try:
            for _ in range(MAX_BODY // 2**20 + 1):
                raw.sendall(chunk)
            raw.sendall(b"0\r\n\r\n")
        except OSError:
            pass  # it may hang up before all is sent
        else:
            assert b" 413 " in raw.recv(100)
    huge = b"\x89PNG\r\n\x1a\n"
    for kind, content in (
        (b"IHDR", (60_000).to_bytes(4) * 2 + b"\x08\x02\0\0\0"),
        (b"IDAT", zlib.compress(bytes(1000))),
        (b"IEND", b""),
    ):
        huge += len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)
    answer = client.post("/api/pictures", huge)
    assert answer.status == 415 and "limit" in answer.json["detail"]
    for junk in (b"", b"<svg onload=alert(1)>", b"GIF89a"):
        assert client.post("/api/pictures", junk).status == 415


@pytest.mark.skipif(not HOSTILE, reason="names")
def test_hostile_names_are_data_and_nothing_else(client):
    listed = client.get("/api/photographs")
    assert listed.headers["content-type"] == "application/json"
    assert HOSTILE in listed.json["name"]
    assert b"<img" not in client.get("/").body


def test_another_host_needs_a_token_and_says_so():
    with pytest.raises(UsageError, match=r"--host 0\.0\.0\.0 lets other machines in: choose a token"):
        check_token("0.0.0.0", None)
    with pytest.raises(UsageError, match="at least 16"):
        check_token("0.0.0.0", "short")
    with pytest.raises(UsageError, match="letters"):
        check_token("127.0.0.1", "with a space and more")
    check_token("0.0.0.0", TOKEN)
    check_token("127.0.0.1", None)


def test_on_all_addresses_any_address_is_its_name_but_no_foreign_name(open_page, embedded):
    client = open_page(
        Settings(embedded / "data", "mine", is_embedding=False), host="0.0.0.0", names=["photos.lan"]
    )
    for host, status in (("192.168.1.7", 200), ("photos.lan", 200), ("evil.example", 400)):
        assert client.get("/api/library", Host=f"{host}:{client.port}").status == status
    answer = client.post("/api/reveal", {"key": client.key("img0.jpg")})
    assert answer.status == 403 and "another machine" in answer.json["detail"]


def test_the_token_is_compared_without_telling_how_much_is_right(monkeypatch):
    import hmac

    asked = []
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: asked.append((a, b)) or a == b)
    assert Door(TOKEN, 1, frozenset()).is_token(TOKEN)
    assert not Door(TOKEN, 1, frozenset()).is_token(TOKEN[:-1])
    assert len(asked) == 2
