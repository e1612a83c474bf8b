"""Sealed files in an object store: an S3 server on this machine, and what goes wrong with one."""

import json
from dataclasses import replace

import numpy as np
import pytest

from store import (
    IdentityError,
    IntegrityError,
    MissingFileError,
    Status,
    StoreError,
    open_features,
    verify_file,
)
from store import objects as objects_module
from store.features import FEATURES_SCHEMA
from store.file_names import UnsafeNameError
from store.objects import LostObjectError, Objects, RemoteError, check_url
from store.parts import Plan, begin, write_part
from store.remote import Remote, object_name, open_remote, pull, push
from store.remote_run import RemoteRun, begun_names, begun_plans
from store.run import claimed
from store.shards import ShardedFile, shard_folder

NAME = "features/b.h5"
N_ROWS, PART = 180, 50
MATRIX = np.random.default_rng(1).standard_normal((N_ROWS, 2)).astype(np.float32)


def plan_in(folder, **more):
    identity = {"backbone": "b", "images": "1234"} | more
    ids = {"image_id": np.arange(N_ROWS).astype("U6")}
    return Plan(folder / NAME, FEATURES_SCHEMA, identity, {"v": 1}, N_ROWS, ids, "", PART)


def arrays_of(plan, index, shift=0.0):
    start, stop = plan.parts[index]
    status, rows = np.full(stop - start, Status.OK, np.uint8), MATRIX[start:stop] + np.float32(shift)
    status[0], rows[0] = Status.FAILED, np.nan
    failures = {"failures/row": np.array([0]), "failures/reason": np.array(["empty file"])}
    return {"status": status, "outputs/embedding": rows, **failures}


def work(folder, remote, worker=None, is_sharded=False, **more):
    """A run, or a worker's share of one: the parts it made, and those that are left."""
    plan = replace(plan_in(folder, **more), is_sharded=is_sharded)
    with claimed(plan, open_features, worker, RemoteRun(remote, plan)) as run:
        made = run.begin()
        for index in made:
            run.write(index, arrays_of(plan, index))
        return made, run.finish()


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return alone(tmp_path_factory.mktemp("one"))


def alone(folder, **more):
    """The file of a run that knows no object store."""
    plan = plan_in(folder, **more)
    with claimed(plan, open_features) as run:
        for index in run.begin():
            run.write(index, arrays_of(plan, index))
        run.finish()
    return plan.path


@pytest.fixture
def remote(in_memory):
    return open_remote(in_memory, "mine")


@pytest.fixture
def on_s3(s3):
    return open_remote(s3, "mine")


def digest_of(path):
    with open_features(path) as features:
        return features.digest


@pytest.mark.parametrize("kind", ["remote", "on_s3"])
def test_objects_are_made_once_listed_and_removed(kind, request, tmp_path):
    objects = request.getfixturevalue(kind).objects
    assert objects.sizes("") == {} and objects.read("a/b") is None
    assert objects.create("a/b", b"one") and not objects.create("a/b", b"two")
    assert (
        objects.read("a/b") == b"one" and objects.sizes("a") == {"b": 3} and objects.sizes("") == {"a/b": 3}
    )
    objects.write("a/b", b"three")
    file = tmp_path / "file"
    objects.download("a/b", file)
    assert file.read_bytes() == b"three"
    objects.upload(file, "a/c")
    objects.remove("a/b")
    objects.remove("a/b")
    assert objects.sizes("a") == {"c": 5}
    with pytest.raises(LostObjectError, match="a/b is not there"):
        objects.download("a/b", file)


@pytest.mark.parametrize(("kind", "is_sharded"), [("remote", False), ("on_s3", True)])
def test_workers_without_a_shared_folder_make_the_file_of_one_process(
    kind, request, one, tmp_path, is_sharded
):
    remote = request.getfixturevalue(kind)
    machines = [tmp_path / name for name in ("m1", "m2", "m3")]
    assert work(machines[0], remote, (1, 2), is_sharded) == ([0, 2], [1, 3])
    assert begun_names(remote) == [NAME]
    assert work(machines[1], remote, (2, 2), is_sharded) == ([1, 3], [])
    assert digest_of(machines[1] / NAME) == digest_of(one)
    assert push(remote, machines[1] / NAME, NAME) and not push(remote, machines[1] / NAME, NAME)
    run = RemoteRun(remote, plan_in(machines[1]))
    run.clean_up(remote.noted(NAME).objects)
    assert begun_names(remote) == [] and remote.names() == [NAME]
    n_left = 5 if is_sharded else 1  # the manifest and the parts that are its shards; or the file alone
    assert len(remote.objects.sizes("objects")) == n_left
    path = machines[2] / NAME
    assert pull(remote, NAME, path) and not pull(remote, NAME, path)
    assert verify_file(path).is_intact and digest_of(path) == digest_of(one)
    with open_features(path) as features:
        assert isinstance(features.file, ShardedFile) == is_sharded
        assert np.array_equal(features.read("embedding")[1:PART], MATRIX[1:PART])


def test_a_worker_that_comes_back_on_another_machine_makes_nothing_twice(remote, one, tmp_path):
    work(tmp_path / "m1", remote, (1, 2))
    assert work(tmp_path / "other", remote, (1, 2)) == ([], [1, 3])
    # one that was killed before its part was named sends what it has
    run = RemoteRun(remote, plan_in(tmp_path / "m1"))
    run.parts()
    run.withdraw(2)
    assert work(tmp_path / "m1", remote, (1, 2)) == ([], [1, 3])
    assert work(tmp_path / "m2", remote) == ([1, 3], []) and digest_of(tmp_path / "m2" / NAME) == digest_of(
        one
    )


def test_the_first_of_two_that_make_a_part_is_followed_by_all(on_s3, tmp_path):
    """Their vectors may differ in their last bits."""
    remote = on_s3
    plans = [plan_in(tmp_path / name) for name in ("m1", "m2")]
    for plan, shift in zip(plans, (0.0, 1e-6), strict=True):
        begin(plan)
        run = RemoteRun(remote, plan)
        run.begin()
        write_part(plan, 0, arrays_of(plan, 0, shift))
        run.keep(0)
    work(tmp_path / "m3", remote)
    work(tmp_path / "m2", remote)
    digests = {digest_of(tmp_path / name / NAME) for name in ("m2", "m3")}
    assert len(digests) == 1
    with open_features(tmp_path / "m2" / NAME) as features:
        assert np.array_equal(features.read("embedding")[1:PART], MATRIX[1:PART])


def test_workers_with_other_settings_are_refused(remote, tmp_path):
    work(tmp_path / "m1", remote, (1, 2))
    with pytest.raises(IdentityError, match=r"(?s)holds an unfinished run.*precision.*--overwrite"):
        work(tmp_path / "m2", remote, (2, 2), precision="bfloat16")
    plan = plan_in(tmp_path / "m3", precision="bfloat16")
    RemoteRun(remote, plan).begin(overwrite=True)
    (described,) = begun_plans(remote, NAME).values()
    assert described["identity"]["precision"] == "bfloat16" and not remote.objects.sizes("objects")


def test_two_that_begin_at_one_moment_with_other_settings_are_refused_both(remote, tmp_path, monkeypatch):
    mine, theirs = (RemoteRun(remote, plan_in(tmp_path, seed=seed)) for seed in (1, 2))
    write = Objects.write

    def meanwhile(self, name, content):
        monkeypatch.setattr(Objects, "write", write)
        theirs.begin()
        write(self, name, content)

    monkeypatch.setattr(Objects, "write", meanwhile)
    for run in (mine, theirs):
        with pytest.raises(IdentityError, match=r"(?s)unfinished run.*seed.*--overwrite"):
            run.begin()
    mine.begin(overwrite=True)
    assert list(begun_plans(remote, NAME)) == [mine._own]


@pytest.mark.parametrize("plan", [b"{", b"[]", b'{"schema": "iaa/features"}'])
def test_a_plan_that_is_none_is_refused(remote, tmp_path, plan):
    remote.objects.write(f"runs/{NAME}/{'a' * 64}/plan.json", plan)
    with pytest.raises(RemoteError, match="is no plan"):
        work(tmp_path / "m1", remote)


@pytest.mark.parametrize("what", ["flipped", "cut", "lost", "other", "note", "note of nothing"])
def test_a_part_that_is_not_what_its_note_says_is_made_again(remote, one, tmp_path, what):
    work(tmp_path / "m1", remote, (1, 2))
    run = RemoteRun(remote, plan_in(tmp_path / "m1"))
    note = run.parts()[2]
    key = object_name(note.digest)
    content = remote.objects.read(key)
    if what == "flipped":
        at = content.index(MATRIX[PART * 2 + 1].tobytes())
        remote.objects.write(key, content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    elif what == "cut":
        remote.objects.write(key, content[:-1])
    elif what == "lost":
        remote.objects.remove(key)
    elif what == "other":
        other = remote.objects.read(object_name(run.parts()[0].digest))
        assert len(other) == len(content)
        remote.objects.write(key, other)
    else:
        said = {"digest": "f" * 64, "n_bytes": 3, "n_failed": 0} if what == "note of nothing" else {}
        remote.objects.write(run._key(2), json.dumps(said).encode())
    if what in ("flipped", "other"):  # its size says nothing: found when it is read
        with pytest.raises(
            StoreError, match=r"1 of 4 parts in memory://.* are damaged or lost .* number 2: .*mine/objects/"
        ):
            work(tmp_path / "m2", remote)
    made, left = work(tmp_path / "m2", remote)
    assert 2 in made and not left and digest_of(tmp_path / "m2" / NAME) == digest_of(one)


@pytest.mark.parametrize(
    ("is_sharded", "what"), [(False, "flipped"), (True, "flipped"), (True, "lost"), (True, "swapped")]
)
def test_a_finished_file_is_fetched_whole_or_not_at_all(remote, tmp_path, what, is_sharded):
    work(tmp_path / "m1", remote, None, is_sharded)
    push(remote, tmp_path / "m1" / NAME, NAME)
    named = remote.noted(NAME)
    digest = named.shards[1][0] if is_sharded else named.file
    content = remote.objects.read(object_name(digest))
    if what == "flipped":
        at = content.index(MATRIX[PART + 1].tobytes())
        remote.objects.write(object_name(digest), content[:at] + b"\0" + content[at + 1 :])
    elif what == "lost":
        remote.objects.remove(object_name(digest))
    else:
        remote.objects.upload(alone(tmp_path / "m2", other="yes"), object_name(digest))
    path = tmp_path / "m3" / NAME
    message = {"flipped": "is damaged", "lost": "is not there", "swapped": "is another file"}[what]
    with pytest.raises(StoreError, match=message):
        pull(remote, NAME, path)
    assert not path.exists() and not list(path.parent.glob("*.partial"))
    remote.objects.write(object_name(digest), content)
    assert pull(remote, NAME, path) and verify_file(path).is_intact


def test_a_pull_that_was_stopped_fetches_the_rest(remote, tmp_path, monkeypatch):
    work(tmp_path / "m1", remote, None, True)
    push(remote, tmp_path / "m1" / NAME, NAME)
    path = tmp_path / "m2" / NAME
    pull(remote, NAME, path)
    shards = sorted(shard_folder(path).iterdir())
    shards[0].unlink()
    shards[1].write_bytes(shards[1].read_bytes()[:-1])
    path.unlink()
    fetched = []
    download = Objects.download
    monkeypatch.setattr(
        Objects, "download", lambda self, name, file: (fetched.append(name), download(self, name, file))
    )
    pull(remote, NAME, path)
    assert len(fetched) == 3 and verify_file(path).is_intact  # the two and the manifest


def test_what_is_here_or_there_is_not_replaced_unasked(remote, tmp_path):
    work(tmp_path / "m1", remote, None, True)
    push(remote, tmp_path / "m1" / NAME, NAME)
    RemoteRun(remote, plan_in(tmp_path / "m1")).clean_up(remote.noted(NAME).objects)
    work(tmp_path / "m2", remote, None, True, seed=1)
    mine, theirs = tmp_path / "m2" / NAME, tmp_path / "m1" / NAME
    with pytest.raises(IdentityError, match=r"has another features/b.h5 .* --overwrite"):
        push(remote, mine, NAME)
    with pytest.raises(IdentityError, match=r"is another file .* stays. Replace it: --overwrite"):
        pull(remote, NAME, mine)
    assert push(remote, mine, NAME, overwrite=True)
    RemoteRun(remote, plan_in(mine.parent.parent, seed=1)).clean_up(remote.noted(NAME).objects)
    assert len(remote.objects.sizes("objects")) == 5  # nothing of the file before
    assert pull(remote, NAME, theirs, overwrite=True) and digest_of(theirs) == digest_of(mine)
    assert len(list(shard_folder(theirs).iterdir())) == 4


def test_a_damaged_file_is_not_sent(remote, one, tmp_path):
    content = one.read_bytes()
    at = content.index(MATRIX[7].tobytes())
    damaged = tmp_path / "b.h5"
    damaged.write_bytes(content[:at] + b"\0" + content[at + 1 :])
    with pytest.raises(IntegrityError, match="rows 0 to 179 are not what was written"):
        push(remote, damaged, NAME)
    assert remote.names() == [] and remote.objects.sizes("objects") == {}


@pytest.mark.parametrize(
    "note",
    [b"{", b"[]", b"\xff", b'{"digest": "../../x"}', b'{"shards": 3}'],
)
def test_a_note_that_is_none_is_refused(remote, tmp_path, note):
    remote.objects.write(f"files/{NAME}.json", note)
    with pytest.raises(RemoteError, match="is no note of a file"):
        pull(remote, NAME, tmp_path / NAME)


@pytest.mark.parametrize(
    "name", ["features/../../x.h5", "features/a/b.h5", "x.h5", "logs/x.h5", "features/.h5"]
)
def test_names_lead_nowhere_else(remote, name):
    remote.objects.write(f"files/{name}.json", b"{}")
    with pytest.raises((RemoteError, UnsafeNameError)):
        remote.names()


def test_what_is_not_there_and_who_may_not(s3, tmp_path, monkeypatch):
    with pytest.raises(MissingFileError, match=f"has no {NAME}"):
        pull(open_remote(s3, "mine"), NAME, tmp_path / NAME)
    with pytest.raises(RemoteError, match=r"There is no such bucket"):
        open_remote("s3://no-such-bucket/x", "mine")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    objects_module._filesystem.cache_clear()
    with pytest.raises(RemoteError, match=r"AWS_PROFILE, or AWS_ACCESS_KEY_ID"):
        open_remote(s3, "mine")


def test_a_server_that_does_not_answer(s3, monkeypatch):
    import s3fs

    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    objects_module._filesystem.cache_clear()
    with pytest.raises(RemoteError, match=r"cannot be listed: .*Is the network up.*AWS_ENDPOINT_URL"):
        open_remote(s3, "mine")


def test_an_upload_in_pieces_is_there_once_it_is_complete(on_s3, tmp_path, monkeypatch):
    import s3fs

    file, back = tmp_path / "file", tmp_path / "back"
    file.write_bytes(bytes(11 * 2**20))
    called = []
    call = s3fs.S3FileSystem._call_s3

    async def dying(self, method, *given, **more):
        called.append(method)
        if method == "complete_multipart_upload" and called.count(method) == 1:
            raise OSError("the line is gone")
        return await call(self, method, *given, **more)

    async def killed(self, *_):
        """Nobody tidies up after a process that is killed."""

    monkeypatch.setattr(s3fs.core, "calculate_chunksize", lambda *_, **__: 5 * 2**20)
    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", dying)
    monkeypatch.setattr(s3fs.S3FileSystem, "_abort_mpu", killed)
    with pytest.raises(RemoteError, match="the line is gone.* run the same command again"):
        on_s3.objects.upload(file, "large")
    assert called.count("upload_part") == 3 and on_s3.objects.sizes("") == {}
    on_s3.objects.upload(file, "large")
    on_s3.objects.download("large", back)
    assert back.read_bytes() == file.read_bytes()


@pytest.mark.parametrize("url", ["/mnt/shared", "file:///mnt/shared", "https://host/x", "s3://", "data"])
def test_what_is_no_object_store(url):
    with pytest.raises(RemoteError, match=r"s3://BUCKET/FOLDER"):
        check_url(url)


def test_a_protocol_that_nobody_knows():
    with pytest.raises(RemoteError, match=r"xx.* Expected a URL such as s3://BUCKET/FOLDER"):
        open_remote("xx://bucket/folder", "mine")


def test_a_package_that_is_missing_is_named(monkeypatch):
    import fsspec

    def missing(url, **_):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "url_to_fs", missing)
    objects_module._filesystem.cache_clear()
    with pytest.raises(RemoteError, match=r"needs s3fs: pip install 'image-aesthetics-store\[s3\]'"):
        Objects("s3://bucket/x").sizes("")


def test_a_server_without_conditions_is_asked_first(on_s3, monkeypatch):
    remote = on_s3
    from botocore.exceptions import ClientError

    filesystem, _ = objects_module._filesystem(remote.objects.url)
    pipe = filesystem.pipe_file

    def refuses(path, content, mode="overwrite"):
        if mode == "create":
            raise ClientError({"Error": {"Code": "NotImplemented"}}, "PutObject")
        pipe(path, content)

    monkeypatch.setattr(filesystem, "pipe_file", refuses)
    assert remote.objects.create("a", b"one") and not remote.objects.create("a", b"two")
    assert remote.objects.read("a") == b"one"


def test_a_remote_is_sent_to_other_processes(s3):
    import pickle

    assert pickle.loads(pickle.dumps(Remote(s3, "mine"))) == Remote(s3, "mine")
