"""Progress: a verb opens a bar per stage and moves it; who calls it may bring bars of its own."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from iaa.library.lines import Lines

logger = logging.getLogger(__name__)

Say = Callable[[str], None]
"""Takes a sentence about what is going on."""


class Bar(Protocol):
    """What a verb does with a bar; those of tqdm can it."""

    n: Any
    initial: Any
    """What was done before: it counts, but not for the rate."""

    def update(self, n: int = 1) -> Any:
        """`n` more are done."""

    def set_postfix_str(self, text: str) -> Any:
        """A few words beside the bar, such as how many failed."""


Progress = Callable[[str, int, str], AbstractContextManager[Bar]]
"""Opens a bar: description, total (0 where nobody knows), unit."""


def log(text: str) -> None:
    """Say a sentence in the log."""
    logger.info("%s", text)


@contextmanager
def show_progress(
    description: str,
    total: int,
    unit: str,
    say: Say = log,
    is_hidden: bool = False,
    initial: int = 0,
    stays: bool = True,
) -> Iterator[Any]:
    """The default: a bar with rate and time left in notebooks and on terminals, lines (`say`) elsewhere."""
    if not is_hidden and (not total or not (sys.stderr.isatty() or _is_notebook())):
        with Lines(description, total, unit, say, initial) as lines:
            yield lines
        return
    from tqdm.auto import tqdm

    with tqdm(
        total=total,
        desc=description,
        unit=f" {unit}",
        disable=is_hidden,
        dynamic_ncols=True,
        smoothing=0.1,
        initial=initial,
        leave=stays,
    ) as bar:
        yield bar


def _is_notebook() -> bool:
    """True in a Jupyter kernel, where bars are widgets or text below the cell."""
    shell = sys.modules.get("IPython")
    current = shell.get_ipython() if shell is not None else None
    return current is not None and hasattr(current, "kernel")
