"""What can be done next with a data set, as a value: for the command line's last line, and for others."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from iaa.library.backbones import has_text
from iaa.library.embedding import DEFAULT_SETS, failure_reasons
from iaa.library.layout import Layout
from iaa.library.opening import open_embedded
from iaa.library.table import Table
from store import open_prompts, open_targets
from store.errors import Hint

if TYPE_CHECKING:
    from embed.pipeline import Outcome


def next_step(
    layout: Layout, backbones: Sequence[str], weights: Mapping[str, Path] | None = None
) -> Hint | None:
    """What works now that images are embedded, whatever the data set has: prompts or words where a backbone
    reads texts, a probe where there are ratings, else a search by a picture; None where none has a vector."""
    opened = f"iaa.open_dataset({layout.dataset!r})"
    reading = [name for name in backbones if has_text(name)]
    is_rated = open_targets(layout.targets).is_rated
    if reading:
        asked = f"--dataset {layout.dataset} --backbone {reading[0]}"
        file = (weights or {}).get(reading[0])
        if file is not None:  # texts go through the very weights that made the vectors
            asked += f" --weights {shlex.quote(str(file))}"
        if is_rated:
            call = f"{opened}.embed_prompts({reading[0]!r}, 'paper_fixed')"
            return Hint(f"iaa embed --prompts paper_fixed {asked}", call)
        call = f"{opened}.rank(high='beautiful', low='ugly', backbone={reading[0]!r})"
        return Hint(f"iaa rank --high beautiful --low ugly {asked}", call)
    if is_rated:
        named = "".join(f" --backbone {name}" for name in backbones)
        return Hint(f"iaa probe --dataset {layout.dataset}{named}", f"{opened}.fit_probe({backbones[0]!r})")
    with open_embedded(layout, backbones[0]) as features:
        names = features.image_id[features.ok]
    if not len(names):
        return None
    like = str(names[0])
    asked = f"--like {shlex.quote(like)} --dataset {layout.dataset} --backbone {backbones[0]}"
    return Hint(f"iaa search {asked}", f"{opened}.search(like={like!r}, backbone={backbones[0]!r})")


def next_after_prompts(layout: Layout, made: Table) -> Hint | None:
    """What works now that these prompt files are made; None where nothing can be ranked by them."""
    first = made.rows()[0]
    asked = f"--dataset {layout.dataset} --backbone {first['backbone']}"
    opened = f"iaa.open_dataset({layout.dataset!r})"
    if not layout.features_of(first["backbone"]).exists():
        return Hint(f"iaa embed {asked}", f"{opened}.embed({first['backbone']!r})")
    if first["prompts"] in DEFAULT_SETS and open_targets(layout.targets).is_rated:
        return Hint(f"iaa prompts evaluate {asked}")
    if {1, -1} <= set(open_prompts(first["path"]).polarity.tolist()):
        return Hint(
            f"iaa rank --prompts {first['prompts']} {asked}", f"{opened}.rank(prompts={first['prompts']!r})"
        )
    return None


def notes_on(
    layout: Layout,
    outcomes: "Sequence[Outcome]",
    backbones: Sequence[str],
    told: str = "",
    weights: Mapping[str, Path] | None = None,
    remote: str | None = None,
) -> Iterator[str]:
    """Failed rows by reason, what is left to other workers, what was there to do, and what is next."""
    for path, reasons in failure_reasons(outcomes).items():
        yield f"failed rows of {path} by reason (all of them: iaa info {path}):"
        yield from (f"  {count:>6}  {reason}" for reason, count in reasons.most_common(5))
    if n_left := max((o.n_left for o in outcomes), default=0):
        yield (
            f"{n_left:,} rows are left to other workers, and the last one to finish joins the parts. Start "
            "one that was stopped again. Should the parts stay apart: "
            f"iaa embed --dataset {layout.dataset} --merge{f' --remote {remote}' if remote else ''}"
        )
        return
    if told:
        yield told
    if step := next_step(layout, backbones, weights):
        yield f"Next: {step.command}"
