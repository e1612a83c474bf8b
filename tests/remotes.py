"""An S3 server on 127.0.0.1 for the tests, and one that dies where it is told to."""

import itertools
import threading

import pytest

from store import objects
from store.objects import Objects

_number = itertools.count()


@pytest.fixture(scope="session")
def s3_server():
    server = pytest.importorskip("moto.server", reason="moto is not installed")
    pytest.importorskip("s3fs")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    yield "http://{}:{}".format(*running.get_host_and_port())
    running.stop()


def environment(server):
    """What says where the server is, and who asks."""
    return {
        "AWS_ENDPOINT_URL": server, "AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests",
        "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip


@pytest.fixture
def s3(s3_server, monkeypatch, tmp_path):
    """URL of a folder in a bucket of its own; the environment says where and who, as for users."""
    import boto3

    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment(s3_server).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    bucket = f"bucket-{next(_number)}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    objects._filesystem.cache_clear()
    yield f"s3://{bucket}/some/folder"
    objects._filesystem.cache_clear()


@pytest.fixture
def in_memory(tmp_path):
    """URL of an empty object store in this process, which is faster."""
    pytest.importorskip("fsspec")
    return f"memory://{tmp_path}"


class Killed(BaseException):
    """The process is gone."""


class Dying:
    """Counts what is written to object stores, and dies after the n-th time."""

    def __init__(self, monkeypatch):
        self.n, self.lock = 0, threading.Lock()
        self.dies_at = None
        for name in ("upload", "create", "write", "remove"):
            monkeypatch.setattr(Objects, name, self._counted(name, getattr(Objects, name)))

    def _counted(self, name, act):
        def counted(objects, *given):
            with self.lock:  # other threads end with it
                if self.dies_at is not None and self.n >= self.dies_at:
                    raise Killed
                self.n += 1
                done = act(objects, *given)
                if self.n == self.dies_at:
                    raise Killed
                return done

        return counted

    def arm(self, at):
        self.n, self.dies_at = 0, at
