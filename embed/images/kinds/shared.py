"""What kinds of data sets share: settings of all, and of those with ratings the split and what is said of
ratings that have no file."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

from embed.images import options as setting
from embed.images.config import DatasetConfig
from embed.images.errors import DatasetError
from embed.images.files import natural_key
from embed.images.options import Option
from embed.images.table import TEST_SHARE, hash_split

N_COMPARED = 2000
"""Files looked through for names like those that were not found."""

IMAGES: dict[str, Option] = {
    "images": setting.path(
        "folder of the photographs with all its subfolders, tar files (a pattern), or a URL of either"
    ),
    "exclude": setting.patterns(
        "names or patterns of what is left out besides previews and waste, such as drafts,*_small.jpg"
    ),
    "shard_in_id": setting.flag(
        "true lets the ids of images in tar files begin with the tar's name (default false)"
    ),
}
RANDOM: dict[str, Option] = {
    "test_share": setting.number(
        f"with split random: share of test images (default {TEST_SHARE})",
        "a share between 0 and 1 such as 0.1",
        lambda share: 0 < share < 1,
    ),
    "split_seed": setting.whole("with split random: another number draws other test images (default 0)"),
}


def exif(default: str) -> Option:
    """The setting `exif_rotate`, whose default is said."""
    return setting.flag(f"true turns images as their EXIF orientation says (default {default})")


def check_random(options: Mapping[str, Any]) -> str:
    """What is wrong with settings of a random split where the split is another."""
    if (split := options.get("split", "random")) != "random":
        for key in RANDOM:
            if key in options:
                return f'{key} is for split "random", but split is {split!r}'
    return ""


def random_split(config: DatasetConfig, image_id: np.ndarray) -> np.ndarray:
    """'train' or 'test' per image, as the settings say."""
    options = config.options
    return hash_split(
        image_id, float(options.get("test_share", TEST_SHARE)), int(options.get("split_seed", 0))
    )


def require_some(
    config: DatasetConfig,
    there: np.ndarray,
    location: str,
    listed: np.ndarray,
    files: Sequence[str],
    hint: str,
) -> None:
    """Raise DatasetError, with what either side is called, where no rated image has a file; `hint` says what
    names should be."""
    if there.any():
        return
    message = f"none of the {len(there):,} rated images of {config.name!r} is in {location}, which holds "
    names = listed[:3].tolist()
    message += f"{len(files):,} image files. Rated: {', '.join(map(repr, names))}, ..."
    if files:
        some = sorted(files, key=natural_key)[:N_COMPARED]
        close = [n for name in names for n in get_close_matches(name, some, 1, 0.5)]
        shown = dict.fromkeys([*close, *some[:3]])
        message += f" Files: {', '.join(map(repr, list(shown)[:3]))}, ..."
    if len(names):
        message += f" Right folder? {hint}"
    raise DatasetError(message)
