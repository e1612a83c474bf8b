"""The parts of an unfinished run in an object store, where workers that share no folder put and find them.

    runs/<file>/<digest of the plan>/plan.json          what is being made
    runs/<file>/<digest of the plan>/part-00012.json    a note: which object that part is

A part is there from the moment its note is. Of two workers that make one part, the first to write the note is
followed by all. What is there is looked at without trust: a part whose object is missing, or is not what the
note says, is no part, and is made again.
"""

import json
import logging
import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from store.digests import digest_of_json
from store.errors import IdentityError, IntegrityError, StoreError
from store.identity import check_identity
from store.json_files import parse_json
from store.objects import LostObjectError, RemoteError
from store.parts import PLAN_NOTE, Plan, clean_up, open_part
from store.remote import OnBytes, Remote, fetch_sealed, in_threads, is_digest, object_name, pull

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PartNote:
    """What a note says of a part."""

    digest: str
    n_bytes: int
    n_failed: int


class RemoteRun:
    """A run's parts in an object store. Every method raises RemoteError."""

    def __init__(self, remote: Remote, plan: Plan) -> None:
        self.remote, self.plan = remote, plan
        self._objects = remote.objects
        self.name = f"features/{plan.path.name}"
        self._outer = f"runs/{self.name}"
        self._own = digest_of_json(plan.described())
        self._known: dict[int, PartNote] = {}
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return f"{self._objects.url}/{self._outer}"

    def begin(self, overwrite: bool = False) -> None:
        """Write down the plan. Raises IdentityError where a run of another plan is there; with `overwrite`
        that one is discarded."""
        self._check_alone(overwrite)
        content = json.dumps(self.plan.described(), sort_keys=True).encode()
        self._objects.write(f"{self._outer}/{self._own}/{PLAN_NOTE}", content)
        self._check_alone(False)  # another may have begun at the same moment

    def _check_alone(self, overwrite: bool) -> None:
        for digest, described in begun_plans(self.remote, self.name).items():
            if digest == self._own:
                continue
            if overwrite:
                self._discard(digest)
                continue
            asked = json.loads(json.dumps(self.plan.described()))
            advice = "Finish it with its own settings, or discard it and start anew: --overwrite"
            check_identity(described, asked, f"{self} holds an unfinished run that", advice)
            raise IdentityError(f"{self} holds an unfinished run of another plan. {advice}")

    def is_begun(self) -> bool:
        """True if the plan is there."""
        return self._objects.read(f"{self._outer}/{self._own}/{PLAN_NOTE}") is not None

    def parts(self) -> dict[int, PartNote]:
        """The parts that are there, by number; a note whose object is missing or has another size is
        removed, so that the part is made again."""
        numbers, whole = self._look(self._objects.sizes(f"{self._outer}/{self._own}"))
        for index in numbers.difference(whole):
            logger.warning("part %d in %s is lost and will be made again", index, self)
            self.withdraw(index)
        return whole

    def written(self) -> dict[int, tuple[PartNote, float | None]]:
        """The parts that are there, and when each was noted, where the store tells. Nothing is removed."""
        listed = self._objects.listed(f"{self._outer}/{self._own}")
        _, whole = self._look(listed)
        return {index: (note, listed[_note(index)][1]) for index, note in whole.items()}

    def _look(self, listed: Collection[str]) -> tuple[set[int], dict[int, PartNote]]:
        """Numbers of the notes that are listed, and the notes whose objects are there in their size."""
        numbers = {index for index in range(len(self.plan.parts)) if _note(index) in listed}
        with self._lock:
            self._known = {index: note for index, note in self._known.items() if index in numbers}
        in_threads(self._read, sorted(numbers.difference(self._known)))
        sizes = self._objects.sizes("objects")
        known = dict(self._known)
        return numbers, {i: n for i, n in known.items() if sizes.get(f"{n.digest}.h5") == n.n_bytes}

    @property
    def parts_seen(self) -> dict[int, PartNote]:
        """The parts that were there when that was asked last."""
        return dict(self._known)

    def _read(self, index: int) -> None:
        content = self._objects.read(self._key(index))
        try:
            found = parse_json((content or b"").decode())
            note = PartNote(found["digest"], found["n_bytes"], found["n_failed"])
            if not is_digest(note.digest) or type(note.n_bytes) is not int or type(note.n_failed) is not int:
                return
        except (KeyError, TypeError, ValueError):
            return
        with self._lock:
            self._known[index] = note

    def keep(self, index: int) -> None:
        """Send a part that is here and name it, unless another worker's is there."""
        with open_part(self.plan, index) as part:
            n_failed = int(part.arrays["failures/row"][0][0])
            note = {"digest": part.digest, "n_bytes": part.n_bytes, "n_failed": n_failed}
            self._objects.upload(part.path, object_name(part.digest))
        if not self._objects.create(self._key(index), json.dumps(note, sort_keys=True).encode()):
            logger.info("part %d was in %s before: that one counts", index, self)

    def withdraw(self, index: int) -> None:
        """Remove the note of a part and the object that it names: it is no part any more."""
        with self._lock:
            note = self._known.pop(index, None)
        self._objects.remove(self._key(index))
        if note is not None:
            self._objects.remove(object_name(note.digest))

    def fetch(self, parts: Mapping[int, PartNote], on_bytes: OnBytes | None = None) -> None:
        """Have these parts here, each the one that its note names, or the file, where another worker has
        finished it and tidied up meanwhile. Raises StoreError where some are damaged: they are withdrawn, so
        that they are made again."""
        problems: dict[int, StoreError] = {}

        def fetch(index: int) -> None:
            bring(index)
            if on_bytes is not None:
                on_bytes(parts[index].n_bytes)

        def bring(index: int) -> None:
            try:
                with open_part(self.plan, index) as part:
                    if part.digest == parts[index].digest:
                        return
            except StoreError:
                pass
            try:
                fetch_sealed(self._objects, parts[index].digest, self.plan.part_path(index))
                open_part(self.plan, index).close()
            except (IntegrityError, IdentityError, LostObjectError) as error:
                problems[index] = error

        in_threads(fetch, sorted(parts))
        if problems and not self.take_finished():
            for index in problems:
                self.withdraw(index)
                self.plan.part_path(index).unlink(missing_ok=True)
            first = min(problems)
            raise StoreError(
                f"{len(problems)} of {len(self.plan.parts)} parts in {self} are damaged or lost and do not "
                f"count any more, the first number {first}: {problems[first]}. Run iaa embed --remote again, "
                "or the workers again that made them; all other parts are kept"
            )

    def take_finished(self) -> bool:
        """Have the file here where another worker has finished it; False where none has. The caller holds its
        lock."""
        named = self.remote.noted(self.name)
        if named is None or dict(named.identity) != json.loads(json.dumps(dict(self.plan.identity))):
            return False
        pull(self.remote, self.name, self.plan.path, is_claimed=True)
        clean_up(self.plan)
        return True

    def clean_up(self, kept: Iterable[str] = ()) -> None:
        """Remove the notes of a run that is finished, and objects that are not `kept` as shards. The plan
        goes last: a kill meanwhile leaves a run that is cleaned up again."""
        self._discard(self._own, kept)

    def _discard(self, digest: str, kept: Iterable[str] = ()) -> None:
        folder = f"{self._outer}/{digest}"
        kept = {f"{each}.h5" for each in kept}

        def remove(name: str) -> None:
            content = self._objects.read(f"{folder}/{name}") or b"{}"
            try:
                found = parse_json(content.decode()).get("digest")
            except (ValueError, AttributeError):
                found = None
            if is_digest(found) and f"{found}.h5" not in kept:
                self._objects.remove(object_name(found))
            self._objects.remove(f"{folder}/{name}")

        names = self._objects.sizes(folder)
        in_threads(remove, (name for name in names if name != PLAN_NOTE))
        self._objects.remove(f"{folder}/{PLAN_NOTE}")

    def _key(self, index: int) -> str:
        return f"{self._outer}/{self._own}/{_note(index)}"


def _note(index: int) -> str:
    return f"part-{index:05d}.json"


def begun_plans(remote: Remote, name: str) -> dict[str, dict[str, Any]]:
    """The plans of unfinished runs of a file, by their digest: one, unless two were begun at one moment.

    Raises RemoteError, also for a plan that is none.
    """
    found = {}
    for listed in remote.objects.sizes(f"runs/{name}"):
        digest, _, note = listed.partition("/")
        if note != PLAN_NOTE:
            continue
        content = remote.objects.read(f"runs/{name}/{listed}")
        if content is None:
            continue
        try:
            described = parse_json(content.decode())
            if digest_of_json(plan_of(described, Path(name)).described()) != digest:
                raise ValueError("another digest")
        except (KeyError, TypeError, ValueError) as error:
            raise RemoteError(
                f"{remote.objects.url}/runs/{name}/{listed} is no plan: damaged, or of another version. "
                "Remove it, and start the run anew"
            ) from error
        found[digest] = described
    return found


def plan_of(described: Mapping[str, Any], path: Path) -> Plan:
    """The plan of a file from what is written down of it. Raises KeyError, TypeError, ValueError for anything
    else."""
    fields = (described["schema"], dict(described["identity"]), dict(described["provenance"]))
    return Plan(path, *fields, described["n_rows"], {}, ".merge-of-parts", described["part_rows"])


def begun_names(remote: Remote) -> list[str]:
    """Names of the files of which unfinished runs are there."""
    listed = remote.objects.sizes("runs")
    return sorted({name.rsplit("/", 2)[0] for name in listed if name.endswith(f"/{PLAN_NOTE}")})
