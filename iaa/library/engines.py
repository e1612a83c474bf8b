"""Which engine computes a backbone: the one asked for, else that of its file, else the fastest."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from iaa.library.errors import UsageError
from iaa.library.layout import cache_folder
from iaa.library.progress import Say, log
from store import StoreError, open_features
from store.identity import complete
from store.parts import begun_identity

if TYPE_CHECKING:
    from embed.backbones.loading import Backbone

AUTO = "auto"


def engine_folder() -> Path:
    """Where exported models are kept, for all data roots."""
    return cache_folder() / "engines"


def check_engine(asked: str) -> None:
    """Raise UsageError for what is no engine; one that schedules instead of computing is told its option."""
    from embed.backbones.spec import ENGINES

    if asked == "ray":
        raise UsageError("Ray computes nothing, it hands out parts: --ray auto. --engine says what computes")
    if asked not in (AUTO, *ENGINES):
        raise UsageError(f"--engine is one of {', '.join((AUTO, *ENGINES))}, not {asked!r}")


def begun_by(path: Path) -> str:
    """The engine of the unfinished run that is to make a file; '' where there is none."""
    identity = begun_identity(path)
    return str(complete(identity)["engine"]) if identity else ""


def made_by(path: Path) -> str:
    """The engine that made a finished file; '' where there is none that can be opened."""
    try:
        if path.exists():
            with open_features(path) as features:
                return str(complete(features.identity)["engine"])
    except StoreError:  # told by the run itself, which opens it, too
        pass
    return ""


def choose_engine(backbone: "Backbone", asked: str, made: str = "", say: Say = log) -> dict[str, Any]:
    """Let an engine compute a backbone's images: the one asked for; with `auto` the one that `made` earlier
    rows, else the fastest that is exact. What was chosen, as JSON values: `name`, and `why_not` where the
    fastest cannot.

    Raises EngineUnavailable where only the engine asked for, or that of earlier rows, will do.
    """
    from embed.backbones.exports import EngineUnavailable
    from embed.backbones.spec import TORCH

    wanted = made or backbone.fastest_engine if asked == AUTO else asked
    try:
        session = backbone.use_engine(wanted, engine_folder())
    except EngineUnavailable as error:
        if made and asked == AUTO:
            error.add_note(
                f"The rows that are there were made by {made}, and engines are not mixed. Embed all anew: "
                f"--overwrite --engine {TORCH}"
            )
        if made or asked != AUTO:
            raise
        say(f"{backbone.id}: {TORCH} computes, which is slower here: {error}")
        return {"name": TORCH, "why_not": str(error)}
    if session is None:
        return {"name": TORCH}
    exported = "exported and checked now" if session.is_new else "from the kept export"
    say(
        f"{backbone.id}: {wanted} {session.versions[wanted]} computes, {exported} (within "
        f"{session.difference:.0e} of {TORCH})"
    )
    return {"name": wanted, "difference": session.difference}
