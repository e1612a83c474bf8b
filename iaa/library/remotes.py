"""A data set's files to an object store and back, and what a run that shares its parts there needs of it."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iaa.library.errors import UsageError
from iaa.library.layout import Layout
from iaa.library.progress import Progress, Say, log, show_progress
from iaa.library.table import Table
from store import IdentityError, MissingFileError
from store.durable import write_json
from store.features import FEATURES_SCHEMA
from store.file_names import backbone_file, file_stem
from store.parts import PLAN_NOTE, begin, begun_plan
from store.remote import FOLDERS, TARGETS, Named, Remote, open_remote
from store.remote import pull as fetch_file
from store.remote import push as send_file
from store.remote_run import RemoteRun, begun_names, begun_plans, plan_of

if TYPE_CHECKING:
    from embed.images.datasets import ImageTable
    from embed.options import Outcome


@dataclass(frozen=True)
class MovedFile:
    """A file that is now here and there."""

    name: str
    digest: str
    n_bytes: int
    n_shards: int
    is_new: bool
    """False where it was there already."""
    path: Path


class Moved(list[MovedFile]):
    """What a push or a pull came to."""

    def __init__(self, files: Iterable[MovedFile], where: str, verb: str) -> None:
        super().__init__(files)
        self.where, self.verb = where, verb

    def table(self) -> Table:
        """A row per file."""
        columns: dict[str, list[Any]] = {
            "file": [each.name for each in self],
            "bytes": [each.n_bytes for each in self],
            "shards": [each.n_shards or "" for each in self],
            "digest": [each.digest[:12] for each in self],
            "": [self.verb if each.is_new else "there already" for each in self],
        }
        return Table(self.where, columns)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {"remote": self.where, "files": [asdict(each) for each in self]}

    def to_frame(self) -> Any:
        """A pandas DataFrame, a row per file."""
        return self.table().to_frame()

    def notes(self) -> list[str]:
        """How many were moved."""
        n_new, n_bytes = sum(f.is_new for f in self), sum(f.n_bytes for f in self if f.is_new)
        return [f"{self.verb} {n_new:,} of {len(self):,} files, {n_bytes:,} bytes"]


def push(
    layout: Layout,
    url: str,
    backbones: Sequence[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Moved:
    """Send a data set's finished files to an object store: features, targets, prompts and captions, or those
    of some backbones. Photographs and ratings stay where they are.

    Raises UsageError where there is nothing to send, IdentityError where a file there is another (unless
    `overwrite`), StoreError for damaged ones, RemoteError.
    """
    files = {name: layout.folder / name for name in _names_here(layout) if _is_of(name, backbones)}
    if not set(files) - {TARGETS}:
        raise UsageError(
            f"{layout.folder} has no finished file{_asked(backbones)} to send. "
            f"Next: iaa embed -d {layout.dataset}"
        )
    remote = open_remote(url, layout.dataset)
    with (progress or show_progress)(f"sending to {remote.objects.url}", 0, "B") as bar:
        moved = [_sent(remote, name, path, overwrite, bar) for name, path in files.items()]
    return Moved(moved, remote.objects.url, "sent")


def _sent(remote: Remote, name: str, path: Path, overwrite: bool, bar: Any = None) -> MovedFile:
    is_new = send_file(remote, path, name, overwrite, None if bar is None else bar.update)
    named = remote.noted(name)
    assert named is not None
    return _moved(name, named, path, is_new)


def _moved(name: str, named: Named, path: Path, is_new: bool) -> MovedFile:
    n_bytes = sum(named.objects.values())
    return MovedFile(name, named.digest, n_bytes, len(named.shards), is_new, path)


def pull(
    layout: Layout,
    url: str,
    backbones: Sequence[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Moved:
    """Fetch a data set's files from an object store, those of some backbones or all, checked against their
    digests.

    Raises UsageError where there is nothing to fetch, IdentityError where another file is here (unless
    `overwrite`), IntegrityError for damaged objects, RemoteError.
    """
    remote = open_remote(url, layout.dataset)
    names = [name for name in remote.names() if _is_of(name, backbones)]
    if not set(names) - {TARGETS}:
        begun = begun_names(remote)
        what = f"; unfinished runs: {', '.join(begun)}" if begun else ""
        raise UsageError(f"{remote.objects.url} has no finished file{_asked(backbones)}{what}")
    moved = []
    with (progress or show_progress)(f"fetching from {remote.objects.url}", 0, "B") as bar:
        for name in names:
            is_new = fetch_file(remote, name, layout.folder / name, overwrite, bar.update)
            named = remote.noted(name)
            assert named is not None
            moved.append(_moved(name, named, layout.folder / name, is_new))
    return Moved(moved, remote.objects.url, "fetched")


def _asked(backbones: Sequence[str] | None) -> str:
    return f" of {', '.join(backbones)}" if backbones else ""


def _names_here(layout: Layout) -> list[str]:
    found = [
        path.relative_to(layout.folder).as_posix()
        for folder, depth in FOLDERS.items()
        for path in sorted((layout.folder / folder).glob("*/" * (depth - 2) + "*.h5"))
    ]
    return [*found, *([TARGETS] if layout.targets.exists() else [])]


def _is_of(name: str, backbones: Sequence[str] | None) -> bool:
    """Targets belong to every backbone, captions to none."""
    if not backbones or name == TARGETS:
        return True
    return Path(name).stem in {file_stem(each) for each in backbones} and not name.startswith("captions/")


def take_up(
    remote: Remote,
    layout: Layout,
    names: Sequence[str],
    table: "ImageTable",
    overwrite: bool = False,
    say: Say = log,
) -> None:
    """Bring here what a run has to know: finished files, and the plans of runs that were begun elsewhere, so
    that batches, engine and parts are theirs.

    Raises IdentityError where a finished file is of another list of images (unless `overwrite`).
    """
    for backbone in names:
        path = layout.features_of(backbone)
        name = f"features/{path.name}"
        there = remote.noted(name)
        if there is not None:
            if path.exists() or overwrite:
                continue
            if there.identity.get("images") != table.digest:
                raise IdentityError(
                    f"{name} at {remote.objects.url} is of another list of images than the {len(table):,} "
                    "here. Fetch and update it (iaa pull, iaa embed --update, iaa push --overwrite), or "
                    "start anew: --overwrite"
                )
            say(f"{name} is finished at {remote.objects.url}: it is fetched")
            fetch_file(remote, name, path)
        elif not overwrite and not path.exists() and note_plans(remote, [backbone], layout.features):
            say(f"a run of {backbone} was begun at {remote.objects.url}: it goes on")


def note_plans(remote: Remote, names: Sequence[str], folder: Path) -> bool:
    """Note in a folder of features what runs make that were begun elsewhere, unless runs were begun here.
    True if there was one."""
    is_one = False
    for backbone in names:
        path = backbone_file(folder, backbone)
        plans = list(begun_plans(remote, f"features/{path.name}").values())
        if len(plans) == 1 and begun_plan(path, {}) is None:
            write_json(path.with_name(f"{path.name}.parts") / PLAN_NOTE, plans[0])
            is_one = True
    return is_one


def hand_over(
    remote: Remote,
    layout: Layout,
    outcomes: "Sequence[Outcome]",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Send files that are finished here, and tidy up after their runs."""
    finished = [outcome for outcome in outcomes if outcome.digest]
    if not finished:
        return
    with (progress or show_progress)(f"sending to {remote.objects.url}", 0, "B") as bar:
        for outcome in finished:
            name = f"features/{outcome.path.name}"
            _sent(remote, name, outcome.path, overwrite, bar)
            _tidy(remote, name)
        if layout.targets.exists():
            _sent(remote, TARGETS, layout.targets, True, bar)


def _tidy(remote: Remote, name: str) -> None:
    """Remove the parts of a run whose file is finished."""
    named = remote.noted(name)
    for described in begun_plans(remote, name).values():
        if named is not None and described["identity"] == dict(named.identity):
            RemoteRun(remote, plan_of(described, Path(name))).clean_up(named.objects)


def fetch_runs(
    remote: Remote, layout: Layout, backbones: Sequence[str] | None, progress: Progress | None = None
) -> list[Path]:
    """Bring here all parts of runs that are complete at a remote, to be joined: the files that will be made.

    Raises StoreError for a run of which parts are missing, and where two plans were begun.
    """
    wanted = {f"features/{layout.features_of(name).name}" for name in backbones or []}
    begun = [name for name in begun_names(remote) if not wanted or name in wanted]
    paths = []
    for name in begun:
        path = layout.folder / name
        plans = list(begun_plans(remote, name).values())
        if len(plans) != 1 or plans[0].get("schema") != FEATURES_SCHEMA:
            raise IdentityError(
                f"{len(plans)} runs of {name} with different settings are in "
                f"{remote.objects.url}/runs/{name}. Start all workers anew with the same settings: "
                "--overwrite on the first"
            )
        plan = plan_of(plans[0], path)
        run = RemoteRun(remote, plan)
        there = run.parts()
        if missing := len(plan.parts) - len(there):
            raise MissingFileError(
                f"{run}: {missing} of {len(plan.parts)} parts are still to be made. Start the workers again "
                "that are not done"
            )
        begin(plan)
        n_bytes = sum(note.n_bytes for note in there.values())
        with (progress or show_progress)(f"fetching the parts of {path.stem}", n_bytes, "B") as bar:
            run.fetch(there, bar.update)
        paths.append(path)
    return paths
