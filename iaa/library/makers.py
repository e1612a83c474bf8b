"""What makes parts in a process that others started: the backbones are loaded once, then part after part."""

import os
import platform
import shutil
import socket
import tempfile
import uuid
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iaa.library.embedding import How, load_for_run
from iaa.library.errors import UsageError
from iaa.library.layout import Layout
from iaa.library.remotes import note_plans

if TYPE_CHECKING:
    from embed.handing_out import Made, Task
    from embed.images.table import ImageTable
    from embed.options import Options
    from store.parts import Plan
    from store.remote_run import RemoteRun

DECIDING = (
    "image-aesthetics-store", "torch", "torchvision", "timm", "open-clip-torch", "transformers",
    "onnxruntime", "numpy", "pillow", "simplejpeg",
)  # fmt: skip
"""Packages whose versions decide about rows."""
N_LOOKED_AT = 8


class ClusterError(UsageError):
    """The machines cannot share the run; the message says which and why."""


@dataclass(frozen=True)
class Job:
    """What every maker of a run is told. Paths are absolute, and the same on all machines."""

    layout: Layout
    names: Sequence[str]
    how: How
    options: "Options"
    seen: Mapping[int, tuple[str, str]]
    """(path, SHA-256) of a few images by their rows, as the driver reads them."""


@dataclass(frozen=True)
class Opened:
    """What a maker would make, and with what."""

    plans: "dict[str, Plan]"
    """By backbone, without ids."""
    batch_size: int
    used: dict[str, Any]


def versions() -> dict[str, str]:
    """What must be the same everywhere: Python, this program's sources, and the packages that decide."""
    from embed.finished import program_digest

    found = {"Python": ".".join(platform.python_version_tuple()[:2])}
    for name in DECIDING:
        try:
            found[name] = version(name).partition("+")[0]  # builds for CPUs and GPUs differ behind it
        except PackageNotFoundError:
            found[name] = "none"
    return found | {"sources of embed/": program_digest()[:12]}


def check_versions(mine: Mapping[str, str], theirs: Mapping[str, str], where: str) -> None:
    """Raise ClusterError naming every package that is another on the other machine."""
    names = dict.fromkeys([*mine, *theirs])
    wrong = [n for n in names if mine.get(n) != theirs.get(n)]
    if wrong:
        lines = [f"  {n}: {theirs.get(n, 'none')} there, {mine.get(n, 'none')} here" for n in wrong]
        raise ClusterError(
            "\n".join([f"{where} has other versions, which would make other rows:", *lines])
            + "\nInstall the same on all machines, best from one image (deploy/Dockerfile)"
        )


def look_at_some(table: "ImageTable") -> dict[int, tuple[str, str]]:
    """(path, SHA-256) of a few images over the whole list by their rows; '' for what cannot be read."""
    rows = (
        sorted({i * (len(table) - 1) // (N_LOOKED_AT - 1) for i in range(N_LOOKED_AT)}) if len(table) else []
    )
    return {row: (str(table.absolute(row)), _sha256(table, row)) for row in rows}


def _sha256(table: "ImageTable", row: int) -> str:
    import hashlib

    from embed.images.decode import ImageError, read_bytes

    try:
        return hashlib.sha256(read_bytes(table.absolute(row))).hexdigest()
    except ImageError:
        return ""


class Maker:
    """Makes parts of a run that another process began and will finish."""

    def __init__(self) -> None:
        self.where = f"process {os.getpid()} on {socket.gethostname()}"

    def hello(self) -> tuple[str, dict[str, str]]:
        """Where it runs, and what is installed there."""
        return self.where, versions()

    def open(self, job: Job, table: "ImageTable") -> Opened:
        """Load the backbones. Raises ClusterError where images cannot be read here as the driver reads them,
        and whatever loading raises."""
        from embed.pipeline import feature_path, feature_plans

        for row, (path, expected) in job.seen.items():
            if expected and (found := _sha256(table, row)) != expected:
                what = "has other bytes" if found else "cannot be read"
                raise ClusterError(
                    f"{path} {what} for {self.where}, and can be read where the run was started. "
                    f"All machines need the images at one path: mount {table.location} there"
                )
        self._table = table
        self._scratch: Path | None = None
        features = job.layout.features
        if job.options.remote is not None:  # no folder is shared: what is made here leaves at once
            features = self._scratch = Path(tempfile.mkdtemp(prefix="iaa-parts-"))
            weakref.finalize(self, shutil.rmtree, features, ignore_errors=True)
            if not job.how.overwrite:
                note_plans(job.options.remote, job.names, features)
        begun = [] if self._scratch is None else [self._scratch]
        self._loaded, engines, n_batch = load_for_run(job.layout, job.names, job.how, begun)
        # How many failed is for the driver to judge, who sees all parts.
        self._options = replace(job.options, batch_size=n_batch, max_failed_share=1.0)
        plans = feature_plans(table, self._loaded, features, self._options)
        tag = f".{uuid.uuid4().hex[:8]}"  # two that make one part write different temporary files
        self._plans = {name: replace(plan, tag=tag) for name, plan in plans.items()}
        used = {
            "batch_size": n_batch,
            "n_threads": self._options.n_threads,
            "precision": sorted({b.precision for b in self._loaded}),
            "device": sorted({str(b.device) for b in self._loaded}),
            "engine": engines,
        }
        paths = {name: feature_path(job.layout.features, name) for name in plans}
        told = {name: replace(plan, path=paths[name], ids={}, tag="") for name, plan in plans.items()}
        return Opened(told, n_batch, used)

    def make(self, task: "Task", crashes: Path) -> "Made":
        """Make one part and leave it in the store; notes of crashes are kept in a folder that all see, or
        where none is shared for this process alone.

        Raises ClusterError where the run's folder is not here what it is for the driver, RemoteError.
        """
        from embed.crashes import suspect
        from embed.encoding import embed_parts
        from embed.handing_out import Made
        from embed.options import Timings
        from store import open_features
        from store.parts import open_part
        from store.remote_run import RemoteRun
        from store.run import Run

        runs = {}
        for name in task.backbones:
            plan, remote = self._plans[name], self._options.remote
            there = None if remote is None else RemoteRun(remote, plan)
            self._check_begun(plan, there)
            runs[name] = Run(plan, open_features, None, there)
            runs[name].todo = [task.part]
        if self._scratch is not None:
            crashes = self._scratch / "crashes"
        if task.n_ended > 1:
            first, stop = runs[task.backbones[0]].plan.parts[task.part]
            suspect(crashes, range(first, stop))
        crashes.mkdir(parents=True, exist_ok=True)
        backbones = [b for b in self._loaded if b.id in runs]
        seconds = Timings()
        options = replace(self._options, crash_folder=crashes)
        embed_parts(self._table, backbones, runs, options, None, seconds)
        n_failed, reason = 0, ""
        for run in runs.values():
            with open_part(run.plan, task.part) as part:
                reasons = part.strings("failures/reason").tolist()
            if self._scratch is not None:
                run.plan.part_path(task.part).unlink()
            n_failed, reason = max(n_failed, len(reasons)), reasons[-1] if reasons else reason
        shutil.rmtree(crashes, ignore_errors=True)
        first, stop = run.plan.parts[task.part]
        return Made(task.part, stop - first, n_failed, reason, seconds)

    def _check_begun(self, plan: "Plan", there: "RemoteRun | None") -> None:
        from store.digests import digest_of_json
        from store.parts import begun_plan

        if there is not None:
            if not there.is_begun():
                raise ClusterError(f"{self.where} does not find the run that it is to share in {there}")
            return
        begun = begun_plan(plan.path, plan.ids)
        if begun is None or digest_of_json(begun.described()) != digest_of_json(plan.described()):
            what = "nothing" if begun is None else "another run"
            raise ClusterError(
                f"{self.where} finds {what} at {plan.folder}, where the run that it is to share was begun. "
                "All machines need the data root at one path: mount it there, and name it with --data"
            )
