"""Stars in and out of XMP: other programs' ratings become ratings here, and ours become sidecars.

Photographs are read and never written. A sidecar that is there keeps everything else in it, and a rating that
a person gave, in whatever program, is never replaced: what this program wrote itself is known by a property
in a namespace of its own.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from iaa.library.errors import UsageError
from iaa.library.layout import Layout
from iaa.library.names import ME, STARS_FROM
from iaa.library.opening import existing_head, head_base
from iaa.library.rating.ratings import DatasetRatings
from iaa.library.table import Table
from iaa.library.xmp_marks import Marks, marks_of, parse_rules
from store.ratings import Rating

if TYPE_CHECKING:
    from iaa.exchange.xmp.files import Naming, Sidecars

_N_SHOWN = 20
What = Literal["new", "changed", "same", "kept", "problem"]


@dataclass(frozen=True)
class Written:
    """What becomes of a photograph's sidecar."""

    image_id: str
    sidecar: Path
    what: What
    """new, changed; same: nothing is to be changed; kept: a person's rating stands there; problem."""
    stars: float | None
    """To be written; -1 rejects."""
    why: str = ""


@dataclass
class Read:
    """What other programs say about photographs."""

    found: dict[str, tuple[float, str]] = field(default_factory=dict)
    """By image_id the stars (-1: rejected) and where they stand."""
    labels: dict[str, str] = field(default_factory=dict)
    conflicts: list[tuple[str, list[tuple[float, str]]]] = field(default_factory=list)
    """Photographs about which two places say different things, with both."""
    problems: list[tuple[str, str]] = field(default_factory=list)
    """Places that cannot be read, and why."""
    n_ours: int = 0
    """Ratings that this program wrote from scores: nobody's."""
    n_new: int = 0
    """Ratings that are not known yet, or are others than before."""
    act: int = 0
    """By which they can be undone."""

    def notes(self, dataset: str, rater: str, is_dry: bool = False) -> Iterator[str]:
        """What was found, what was added of it and what was not, and how it can be taken back."""
        by_value = Counter(value for value, _ in self.found.values())
        said = [f"{n:,} {'rejected' if v < 0 else f'with {v:g}'}" for v, n in sorted(by_value.items())]
        yield f"{len(self.found):,} photographs are rated: {', '.join(said) or 'none'}"
        verb = "would be added" if is_dry else "were added"
        yield f"{self.n_new:,} of them are new and {verb} as ratings of {rater}"
        if self.n_ours:
            yield f"{self.n_ours:,} were written by this program from scores, and are nobody's"
        for name, places in self.conflicts[:_N_SHOWN]:
            yield f"{name}: " + "; ".join(f"{value:g} in {place}" for value, place in places)
        if n := len(self.conflicts):
            yield f"{n:,} are said to be two things and were left out: --newest takes the newest"
        for place, why in self.problems[:_N_SHOWN]:
            yield f"{place}: {why}"
        if self.act:
            yield f"To take it back: iaa rate undo -d {dataset} --rater {rater} --act {self.act}"


class Writing(list[Written]):
    """What becomes of the sidecars of a data set; of each that is concerned."""

    def __init__(self, dataset: str, written: Sequence[Written], is_written: bool) -> None:
        super().__init__(written)
        self.dataset = dataset
        self.is_written = is_written

    @property
    def counts(self) -> Counter[str]:
        """How many sidecars are new, changed, the same, kept, or a problem."""
        return Counter(each.what for each in self)

    def table(self) -> Table:
        """A row per sidecar."""
        columns: dict[str, list[Any]] = {
            "image_id": [each.image_id for each in self],
            "what": [each.what for each in self],
            "stars": [each.stars for each in self],
            "sidecar": [str(each.sidecar) for each in self],
            "why": [each.why for each in self],
        }
        return Table(f"{self.dataset}: sidecars", columns)

    def shown(self) -> Table:
        """The first of those that are not the same as before, for people."""
        changed = Writing(self.dataset, [e for e in self if e.what != "same"][:_N_SHOWN], self.is_written)
        columns = changed.table().columns
        names = {"photograph": columns["image_id"], "what": columns["what"], "stars": columns["stars"]}
        sidecars = [each.sidecar.name for each in changed]
        return Table(f"{self.dataset}: sidecars", {**names, "sidecar": sidecars, "why": columns["why"]})

    def to_dict(self) -> dict[str, Any]:
        """Counts and a dictionary per sidecar."""
        told = {"dataset": self.dataset, "written": self.is_written, "counts": dict(self.counts)}
        return told | {"sidecars": self.table().rows()}

    def notes(self) -> Iterator[str]:
        """Counts, and how to do it where it was only said."""
        yield ", ".join(f"{n:,} {what}" for what, n in self.counts.items()) or "nothing to write"
        if not self.is_written and self.counts["new"] + self.counts["changed"]:
            yield "Nothing was written. To do it: the same again with --write"


def read_xmp(layout: Layout, rater: str = ME, newest: bool = False, is_added: bool = True) -> Read:
    """Take stars and rejects from sidecars and from inside photographs over as ratings of `rater`; what is
    known already is not added again.

    Where two places differ nothing is taken, unless the `newest` file is to win. With `is_added` False
    nothing is kept. Raises UsageError for photographs that lie in no folder.
    """
    ratings = DatasetRatings(layout)
    contents, photographs, sidecars = _photographs(ratings, "full")
    read = Read()
    present = ratings.present(rater).rows()
    known = {(row["image_id"], row["kind"]): row["value"] for row in present}
    is_rated = {row["image_id"] for row in present}
    for name, photograph, each in zip(contents, photographs, sidecars, strict=True):
        said = _said(name, photograph, each, read, name in is_rated)
        values = {value for value, _ in said}
        if not said:
            continue
        if len(values) > 1 and not newest:
            read.conflicts.append((name, said))
            continue
        if len(values) > 1:
            said.sort(key=lambda found: Path(found[1]).stat().st_mtime_ns)
        read.found[name] = said[-1]
    new = []
    for name, (value, _) in read.found.items():
        kind: Literal["flag", "stars"] = "flag" if value < 0 else "stars"
        if known.get((name, kind)) != value:
            new.append(Rating(kind, value, *ratings.photograph(name)))
    read.n_new = len(new)
    if is_added and new:
        read.act = ratings.add_all(new, rater, "xmp")
    return read


def _said(
    name: str, photograph: Path, sidecars: "Sidecars", read: Read, is_rated: bool
) -> list[tuple[float, str]]:
    """Ratings by people in every place of a photograph's XMP, with the place; of one that is rated here,
    those given elsewhere."""
    from iaa.exchange.xmp.files import read_embedded, read_sidecar
    from iaa.exchange.xmp.packet import XmpError

    places: list[tuple[Path, Callable[[Path], Any]]] = [(path, read_sidecar) for path in sidecars.there]
    places.append((photograph, read_embedded))
    found = []
    for path, reader in places:
        try:
            packet = reader(path)
            said = None if packet is None else packet.said()
        except XmpError as error:
            read.problems.append((str(path), str(error)))
            continue
        if said is None:
            continue
        if said.label and not said.is_label_ours:
            read.labels[name] = said.label
        if said.is_ours:
            read.n_ours += 1
        elif said.is_given_here and is_rated:
            continue
        elif said.flag < 0:
            found.append((-1.0, str(path)))
        elif said.rating:
            found.append((said.rating, str(path)))
    return found


def parse_percentiles(text: str) -> list[float]:
    """Percentiles from text. Raises UsageError."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--stars-from takes four numbers, such as 20,50,80,95; not {text!r}") from None


def stars_of_head(
    layout: Layout, head: str, stars_from: Sequence[float] = STARS_FROM
) -> dict[str, dict[str, Any]]:
    """By image_id the stars that a head's percentile gives, and what goes with them into the sidecar."""
    from iaa.library.scoring import rank_by_head

    if (
        len(stars_from) != 4
        or list(stars_from) != sorted(stars_from)
        or not 0 <= stars_from[0] <= stars_from[3] <= 100
    ):
        raise UsageError(
            "stars by percentile are four ascending numbers from 0 to 100, from which on there are two, "
            f"three, four and five stars, such as 20,50,80,95; not {', '.join(f'{x:g}' for x in stars_from)}"
        )
    ranking = rank_by_head(layout, head, n_boot=1)
    with_stars = 1 + np.searchsorted(np.asarray(stars_from), ranking.columns["percentile"], side="right")
    files = head_base(existing_head(layout.root, head))
    digest = hashlib.sha256(Path(f"{files}.safetensors").read_bytes()).hexdigest()
    return {
        name: {
            "stars": float(stars),
            "Score": f"{score:.4f}",
            "Percentile": f"{percentile:.1f}",
            "Head": str(ranking.asked.facts["head"]),
            "HeadDigest": digest,
            "Backbone": f"{ranking.asked.backbone}/{ranking.asked.output}",
        }
        for name, stars, score, percentile in zip(
            ranking.columns["image_id"], with_stars.tolist(), ranking.columns[ranking.score_name],
            ranking.columns["percentile"], strict=True,
        )
    }  # fmt: skip


def stars_of_rater(layout: Layout, rater: str) -> dict[str, dict[str, Any]]:
    """By image_id what a person gave here: stars, or -1 for a photograph that is rejected."""
    found: dict[str, dict[str, Any]] = {}
    for row in DatasetRatings(layout).present(rater).rows():
        if row["kind"] == "stars":
            found.setdefault(row["image_id"], {})["stars"] = row["value"]
    for row in DatasetRatings(layout).present(rater).rows():
        if row["kind"] == "flag" and row["value"] < 0:
            found[row["image_id"]] = {"stars": -1.0}
    if not found:
        raise UsageError(f"{rater} has given no stars in {layout.dataset}")
    return found


def write_stars(
    layout: Layout,
    head: str | None = None,
    rater: str | None = None,
    is_written: bool = False,
    stars_from: Sequence[float] = STARS_FROM,
    labels: Sequence[str] | None = None,
    keywords: Sequence[str] | None = None,
    group: bool = False,
    naming: "Naming" = "full",
) -> Writing:
    """Stars into sidecars, by a head's percentiles or a rater's own; labels and keywords by rules KEY=TEXT,
    and the group of each photograph. Raises UsageError unless it is clear whose stars."""
    if (head is None) == (rater is None):
        raise UsageError("say whose stars: --head NAME (by its scores), or --rater NAME (a person's own)")
    rules = parse_rules("--label", labels), parse_rules("--keyword", keywords)
    stars = stars_of_rater(layout, str(rater)) if head is None else stars_of_head(layout, head, stars_from)
    marks = marks_of(layout, stars, *rules, group, head=head)
    return write_xmp(layout, stars, head is None, is_written, naming, marks)


def write_xmp(
    layout: Layout,
    stars: Mapping[str, Mapping[str, Any]],
    by_person: bool,
    is_written: bool = False,
    naming: "Naming" = "full",
    marks: Mapping[str, Marks] | None = None,
) -> Writing:
    """Put stars into sidecars (by image_id, as `stars_of_head` and `stars_of_rater` give them), or only say
    what would become of each (`is_written` False).

    A rating that a person gave is kept: in a sidecar, or inside the photograph. `by_person`: these stars are
    a person's, too, so they are not marked as ours. `marks`: labels, keywords and groups
    (xmp_marks.marks_of); those that a person gave stay, too. A second run changes nothing.
    """
    ratings = DatasetRatings(layout)
    contents, photographs, sidecars = _photographs(ratings, naming)
    found = []
    for name, photograph, each in zip(contents, photographs, sidecars, strict=True):
        if name in stars:
            values = dict(stars[name])
            if not by_person and any(content := ratings.photograph(name)[1]):
                values["Digest"] = content.hex()
            wanted = (marks or {}).get(name, Marks())
            found.append(_write_one(name, photograph, each, values, by_person, is_written, wanted))
    return Writing(layout.dataset, found, is_written)


def _write_one(
    name: str,
    photograph: Path,
    sidecars: "Sidecars",
    values: Mapping[str, Any],
    by_person: bool,
    is_written: bool,
    marks: Marks,
) -> Written:
    from iaa.exchange.xmp.files import read_embedded, read_sidecar, write_sidecar
    from iaa.exchange.xmp.packet import GIVEN, OURS, RATING, STARS, Packet, XmpError

    target, wanted = sidecars.write, float(values["stars"])
    place = target
    try:
        is_new = not sidecars.there
        packet = Packet() if is_new else read_sidecar(target)
        people = []
        for other in [path for path in sidecars.there if path != target]:
            place = other
            people.append(read_sidecar(other).said())
        place = photograph
        if (embedded := read_embedded(photograph)) is not None:
            people.append(embedded.said())
        place = target
        own = packet.said()
        people.append(own)
        given = [said for said in people if not said.is_ours and (said.rating or said.flag < 0)]
        if by_person:  # what she gave here before is no other opinion
            given = [said for said in given if not said.is_given_here]
        kept = next((said for said in given if (-1.0 if said.flag < 0 else said.rating) != wanted), None)
        changes: dict[str, str | None] = {
            f"{{{OURS}}}{key}": str(value) for key, value in values.items() if key != "stars"
        }
        if not given:
            text = str(round(wanted))
            changes |= {RATING: text, STARS: None if by_person else text, GIVEN: text if by_person else None}
        elif not own.is_ours:
            changes[STARS] = None
        if kept is not None and is_new:
            return Written(name, target, "kept", kept.rating, "a person rated it inside the photograph")
        is_changed = packet.change(changes | {f"{{{OURS}}}{k}": v for k, v in (marks.group or {}).items()})
        why = ["a person's rating stands there"] if kept is not None else []
        if marks.label is not None:
            theirs = next((said.label for said in people if said.label and not said.is_label_ours), "")
            is_changed |= packet.change_label("" if theirs else marks.label)
            if theirs and theirs != marks.label:
                why.append(f"a person's label {theirs!r} stands there")
        if marks.keywords is not None:
            inside = [] if embedded is None else embedded.keywords()
            is_changed |= packet.change_keywords(marks.keywords, inside)
        if is_changed and is_written:
            write_sidecar(target, packet.to_bytes())
        if kept is not None:
            return Written(name, target, "kept", kept.rating, "; ".join(why))
        what: What = ("new" if is_new else "changed") if is_changed else "same"
        return Written(name, target, what, wanted, "; ".join(why))
    except XmpError as error:
        return Written(name, target, "problem", wanted, f"{place}: {error}. It is left as it is")


def _photographs(ratings: DatasetRatings, naming: "Naming") -> tuple[list[str], list[Path], "list[Sidecars]"]:
    from embed.images.datasets import build_table, load_config
    from iaa.exchange.xmp.files import sidecars_of
    from iaa.library.opening import has_photographs

    layout = ratings.layout
    table = build_table(load_config(layout.root, layout.dataset)) if has_photographs(layout) else None
    files = [] if table is None else [table.absolute(row) for row in range(len(table))]
    if table is None or not all(isinstance(file, Path) for file in files):
        raise UsageError(
            f"{layout.dataset} lies in no folder, so there are no sidecars beside its photographs"
        )
    paths = [Path(str(file)) for file in files]
    return table.image_id.tolist(), paths, sidecars_of(paths, naming)
