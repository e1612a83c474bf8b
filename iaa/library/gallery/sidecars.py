"""Stars of other programs into a gallery, and its own into sidecars: what the page asks of `iaa xmp`."""

from typing import Any

from iaa.library.errors import UsageError
from iaa.library.extras import missing_extra
from iaa.library.gallery.gallery import Gallery, GalleryError
from iaa.library.gallery.questions import WORDS_HEAD, Questions
from iaa.library.layout import Layout
from iaa.library.names import ME
from iaa.library.rating.ratings import DatasetRatings
from iaa.library.xmp import read_xmp, write_stars
from store import StoreError


def read_sidecars(gallery: Gallery, is_done: bool, rater: str = ME) -> dict[str, Any]:
    """What sidecars and photographs say, taken over as ratings if `is_done`; places that differ are left out.
    Raises GalleryError."""
    layout = _layout(gallery)
    try:
        read = read_xmp(layout, rater, is_added=is_done)
    except (UsageError, StoreError, ModuleNotFoundError) as error:
        raise _refusal(error) from error
    return {
        "done": is_done,
        "act": read.act,
        "n_found": len(read.found),
        "n_new": read.n_new,
        "n_conflicts": len(read.conflicts),
        "problems": [f"{place}: {why}" for place, why in read.problems],
    }


def write_sidecars(
    gallery: Gallery, questions: Questions, head: str | None, is_done: bool, rater: str = ME
) -> dict[str, Any]:
    """What becomes of each sidecar with a person's own stars, or with those of a head that fits the gallery's
    vectors; written if `is_done`. Raises GalleryError."""
    layout = _layout(gallery)
    known = [score.name for score in questions.scores() if score.name != WORDS_HEAD]
    if head is not None and head not in known:
        raise GalleryError(f"there is no score {head!r} that gives stars; there are: {', '.join(known)}")
    if head is None and not DatasetRatings(layout).placed(rater):
        raise GalleryError("nothing is rated yet: rate a few photographs with the keys 1 to 5", 409)
    try:
        written = write_stars(layout, head, None if head else rater, is_done)
    except (UsageError, StoreError, ModuleNotFoundError) as error:
        raise _refusal(error) from error
    counts = written.counts
    names = ("new", "changed", "same", "kept")
    problems = [f"{each.sidecar.name}: {each.why}" for each in written if each.what == "problem"]
    return {"done": is_done, **{f"n_{name}": counts[name] for name in names}, "problems": problems}


def _layout(gallery: Gallery) -> Layout:
    if gallery.layout is None:
        raise GalleryError("the photographs are still being looked for; ask again in a while", 409)
    return gallery.layout


def _refusal(error: Exception) -> GalleryError:
    return GalleryError(missing_extra(error) or str(error), 409)
