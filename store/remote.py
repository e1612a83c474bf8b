"""A data set's sealed files in an object store, for machines that share no folder.

    s3://bucket/prefix/ava/objects/<digest>.h5                     sealed files, each under its content digest
    s3://bucket/prefix/ava/files/features/vit_b32.openai.h5.json   a note: which of them a finished file is
    s3://bucket/prefix/ava/runs/...                                the same of an unfinished run's parts

What was written under a digest is never another thing, so uploads need no order and no locks. A file is there
from the moment its note is, one small object that appears whole. Whoever reads checks what comes against the
digest in the note (docs/file-format.md).
"""

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from store.durable import make_folder, space_error, whole_file
from store.errors import IdentityError, IntegrityError, MissingFileError, StoreError
from store.file_names import check_name
from store.json_files import parse_json
from store.locks import lock_path, write_lock
from store.objects import LostObjectError, Objects, RemoteError, check_url
from store.sealed import SealedFile
from store.shards import ShardedFile, flush_shards, open_arrays, remove_unnamed, shard_path

N_AT_ONCE = 8
FOLDERS = {"features": 2, "captions": 2, "prompts": 3}
"""Folders of a data set whose files go along, and how many names a path there has."""
TARGETS = "targets.h5"

OnBytes = Callable[[int], object]


@dataclass(frozen=True)
class Named:
    """What a note says of a finished file."""

    digest: str
    """Content digest: of a file in shards, that of the one file."""
    file: str
    """Digest under which the file lies; of a file in shards, that of its manifest."""
    n_bytes: int
    shards: tuple[tuple[str, int], ...]
    """(digest, bytes) of each shard."""
    identity: Mapping[str, Any]

    @property
    def objects(self) -> dict[str, int]:
        """Bytes of each object by its digest."""
        return {self.file: self.n_bytes, **dict(self.shards)}


@dataclass(frozen=True)
class Remote:
    """A data set's place in an object store."""

    url: str
    dataset: str

    @property
    def objects(self) -> Objects:
        """What lies there."""
        return Objects(f"{self.url}/{self.dataset}")

    def names(self) -> list[str]:
        """Names of the finished files, as `features/vit_b32.openai.h5`. Raises RemoteError."""
        found = sorted(self.objects.sizes("files"))
        return [checked(name.removesuffix(".json")) for name in found if name.endswith(".json")]

    def noted(self, name: str) -> Named | None:
        """What a file is; None where there is none of that name. Raises RemoteError."""
        content = self.objects.read(_note(name))
        return None if content is None else _parsed(f"{self.objects.url}/{_note(name)}", content)


def open_remote(url: str, dataset: str) -> Remote:
    """A data set's place in an object store, which must answer. Raises RemoteError."""
    remote = Remote(check_url(url), dataset)
    remote.objects.sizes("files")
    return remote


def checked(name: str) -> str:
    """The name of a file in a data set's folder, if it is one that goes along and leads nowhere else. Raises
    RemoteError, UnsafeNameError."""
    parts = name.split("/")
    if name != TARGETS and FOLDERS.get(parts[0]) != len(parts):
        raise RemoteError(f"{name[:100]!a} is no file of a data set that is kept in an object store")
    for part in parts:
        check_name(part, "file")
    return name


def _note(name: str) -> str:
    return f"files/{name}.json"


def object_name(digest: str) -> str:
    """Where a sealed file lies, by its content digest."""
    return f"objects/{digest}.h5"


def is_digest(value: Any) -> bool:
    """True for 64 hex digits."""
    return isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef")


def _parsed(where: str, content: bytes) -> Named:
    try:
        found = parse_json(content.decode())
        shards = tuple((digest, n_bytes) for digest, n_bytes in found["shards"])
        named = Named(found["digest"], found["file"], found["n_bytes"], shards, dict(found["identity"]))
        digests = [named.digest, *named.objects]
        if not all(map(is_digest, digests)) or not all(type(n) is int for n in named.objects.values()):
            raise ValueError("no digests and sizes")
        return named
    except (KeyError, TypeError, ValueError) as error:
        raise RemoteError(
            f"{where} is no note of a file: damaged, or of another version. Push again"
        ) from error


def push(
    remote: Remote, path: Path, name: str, overwrite: bool = False, on_bytes: OnBytes | None = None
) -> bool:
    """Send a finished file and name it; False where it was there already.

    What was sent by a push that was stopped is not sent again. With `overwrite` another file of that name is
    replaced, and what only that one was made of removed.

    Raises IdentityError where another file has the name, StoreError for a file that is missing or damaged,
    RemoteError.
    """
    with open_arrays(path) as file:
        mine, files = _described(file)
        there = remote.noted(checked(name))
        if there is not None and there.digest != mine.digest and not overwrite:
            raise IdentityError(
                f"{remote.objects.url} has another {name} ({there.digest[:12]}; the one here is "
                f"{mine.digest[:12]}) and keeps it. Fetch that one, or replace it: --overwrite"
            )
        if there is not None and there.file == mine.file:
            return False
        sizes = remote.objects.sizes("objects")
        todo = [digest for digest, n in mine.objects.items() if sizes.get(f"{digest}.h5") != n]

        def send(digest: str) -> None:
            with SealedFile(files[digest], is_held=False) as sealed:
                sealed.check_all()
                if sealed.digest != digest:
                    raise IntegrityError(f"{files[digest]} is not the file that {path} names")
            remote.objects.upload(files[digest], object_name(digest))
            if on_bytes is not None:
                on_bytes(mine.objects[digest])

        in_threads(send, todo)
    content = json.dumps(asdict(mine), sort_keys=True).encode()
    if there is None and not remote.objects.create(_note(name), content):
        return push(remote, path, name, overwrite, on_bytes)  # somebody was first: is it the same?
    if there is not None:
        remote.objects.write(_note(name), content)
        for digest in set(there.objects) - set(mine.objects):
            remote.objects.remove(object_name(digest))
    return True


def _described(file: SealedFile | ShardedFile) -> tuple[Named, dict[str, Path]]:
    if isinstance(file, SealedFile):
        return Named(file.digest, file.digest, file.n_bytes, (), file.identity), {file.digest: file.path}
    files = {digest: shard_path(file.path, digest) for digest in file.shards}
    shards = tuple((digest, path.stat().st_size) for digest, path in files.items())
    manifest = file.manifest
    named = Named(file.digest, manifest.digest, manifest.n_bytes, shards, file.identity)
    return named, {manifest.digest: file.path, **files}


def pull(
    remote: Remote,
    name: str,
    path: Path,
    overwrite: bool = False,
    on_bytes: OnBytes | None = None,
    is_claimed: bool = False,
) -> bool:
    """Fetch a finished file; False where it is here already.

    Shards come first and what is here of them stays, so a pull that was stopped goes on. The file has its
    name here when it is whole. `is_claimed` says that this process holds the file's lock already.

    Raises MissingFileError where there is none, IdentityError where another file is here (unless
    `overwrite`), BusyError, IntegrityError for what is not what its digest says, RemoteError, SpaceError.
    """
    there = remote.noted(checked(name))
    if there is None:
        raise MissingFileError(
            f"{remote.objects.url} has no {name}. What it has: iaa pull without --backbone"
        )
    try:
        make_folder(path.parent)
    except OSError as error:
        raise space_error(path, error) from error
    with nullcontext() if is_claimed else write_lock(lock_path(path)):
        try:
            with open_arrays(path) as file:
                if file.digest == there.digest:
                    return False
                if not overwrite:
                    raise IdentityError(
                        f"{path} is another file ({file.digest[:12]}) than {name} at {remote.objects.url} "
                        f"({there.digest[:12]}) and stays. Replace it: --overwrite"
                    )
        except MissingFileError:
            pass
        except IntegrityError:
            if not overwrite:
                raise

        def fetch(digest: str) -> None:
            target = shard_path(path, digest)
            if not _is_whole(target, digest):
                fetch_sealed(remote.objects, digest, target)
            if on_bytes is not None:
                on_bytes(there.objects[digest])

        try:
            in_threads(fetch, (digest for digest, _ in there.shards))
            if there.shards:
                flush_shards(path)
            fetch_sealed(remote.objects, there.file, path)
        except LostObjectError as error:
            error.add_note(f"{name} names it. If {name} was replaced meanwhile, pull again; else push again")
            raise
        except IntegrityError as error:
            error.add_note("Remove that object, then push again from where the file is whole")
            raise
        if on_bytes is not None:
            on_bytes(there.n_bytes)
        with open_arrays(path) as file:
            if file.digest != there.digest:
                raise IntegrityError(f"{_note(name)} at {remote.objects.url} says another digest. Push again")
        remove_unnamed(path)
    return True


def fetch_sealed(objects: Objects, digest: str, path: Path) -> None:
    """A sealed file by its digest, read through before it has its name here. Raises IntegrityError for any
    other bytes, LostObjectError, RemoteError, SpaceError."""
    where = f"{objects.url}/{object_name(digest)}"
    try:
        make_folder(path.parent)
    except OSError as error:
        raise space_error(path, error) from error
    with whole_file(path) as partial:
        objects.download(object_name(digest), partial)
        try:
            with SealedFile(partial) as file:
                file.check_all()
                found = file.digest
        except StoreError as error:
            raise IntegrityError(f"{where} is damaged: {_first_line(error)}") from error
        if found != digest:
            raise IntegrityError(f"{where} is another file, of digest {found[:12]}")


def _is_whole(path: Path, digest: str) -> bool:
    try:
        with SealedFile(path, is_held=False) as file:
            file.check_all()
            return file.digest == digest
    except StoreError:
        return False


def _first_line(error: StoreError) -> str:
    """What is wrong, without the temporary name and what to do about files of this machine."""
    return str(error).splitlines()[0].partition(" is damaged: ")[2].split(". Restore")[0] or str(error)


def in_threads(act: Callable[[Any], object], each: Iterable[Any]) -> None:
    """Do something for several at once; of what fails, the first is raised, and no more are begun."""
    with ThreadPoolExecutor(N_AT_ONCE, thread_name_prefix="remote") as pool:
        futures = [pool.submit(act, one) for one in each]
        try:
            for future in futures:
                future.result()
        except BaseException:
            for future in futures:
                future.cancel()
            raise
