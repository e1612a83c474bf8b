"""What goes into sidecars besides stars, and only on request: colour labels, keywords, the group.

Which words mean what is the photographer's own: programs name their labels differently, even by language. So
each is a rule, KEY=TEXT, with a number of stars, `reject`, `best` (the suggested best of its group) or `rest`
(the others of that group) for KEY.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from iaa.library.errors import UsageError
from iaa.library.layout import Layout
from iaa.library.opening import embedded_backbones, existing_head

KEYS = ("1", "2", "3", "4", "5", "reject", "best", "rest")
_GROUPED = {"best", "rest"}
Rules = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Marks:
    """What is wanted beside the stars of one photograph; None: nobody asked, so what is there stays."""

    label: str | None = None
    """'': no rule holds for it, so a label of ours goes."""
    keywords: tuple[str, ...] | None = None
    group: Mapping[str, str | None] | None = None
    """Properties of our namespace; None removes one."""


def parse_rules(option: str, given: Sequence[str] | None) -> Rules | None:
    """Rules from KEY=TEXT; None where none is given. Raises UsageError."""
    rules = []
    for each in given or []:
        key, sign, text = (part.strip() for part in each.partition("="))
        if key not in KEYS or not sign or not text or not text.isprintable():
            raise UsageError(
                f"{option} takes KEY=TEXT, where KEY is one of {', '.join(KEYS)}, such as "
                f"{option} 5=Green; not {each!r}"
            )
        rules.append((key, text))
    return rules or None


def marks_of(
    layout: Layout,
    stars: Mapping[str, Mapping[str, Any]],
    labels: Rules | None = None,
    keywords: Rules | None = None,
    with_group: bool = False,
    head: str | None = None,
) -> dict[str, Marks]:
    """By image_id the marks of photographs with these stars (-1: rejected). Of several rules for a label the
    first that holds counts; keywords are all those that hold. Groups are looked for where a rule or
    `with_group` needs them, the best by `head`, then sharpness (`iaa groups`)."""
    asked = {key for key, _ in [*(labels or []), *(keywords or [])]}
    groups = _groups(layout, head) if with_group or asked & _GROUPED else {}
    return {
        name: _marks(float(values["stars"]), groups.get(name), labels, keywords, with_group)
        for name, values in stars.items()
    }


def _marks(
    stars: float,
    group: Mapping[str, str | None] | None,
    labels: Rules | None,
    keywords: Rules | None,
    with_group: bool,
) -> Marks:
    place = None if group is None else group["GroupPlace"]
    holding = {"reject" if stars < 0 else f"{stars:.0f}"}
    if place is not None:
        holding.add("best" if place == "1" else "rest")
    label = None if labels is None else next((text for key, text in labels if key in holding), "")
    words = None if keywords is None else [text for key, text in keywords if key in holding]
    return Marks(
        label,
        None if words is None else tuple(dict.fromkeys(words)),
        (group or _NO_GROUP) if with_group else None,
    )


_NO_GROUP: dict[str, str | None] = {"Group": None, "GroupKind": None, "GroupPlace": None}


def _groups(layout: Layout, head: str | None) -> dict[str, dict[str, str | None]]:
    """By image_id its group: the first of its names, its kind, and the photograph's place in it (1: the
    suggested best; None where members are not ranked)."""
    from analysis.probing.heads import load_head
    from iaa.library.groups import group_photographs

    if head is not None:
        backbone = load_head(existing_head(layout.root, head)).backbone
    else:
        backbone = embedded_backbones(layout)[0]
    members: dict[int, list[dict[str, Any]]] = {}
    for row in group_photographs(layout, backbone, head=head).rows():
        members.setdefault(row["group"], []).append(row)
    return {
        row["image_id"]: {
            "Group": min(each["image_id"] for each in rows),
            "GroupKind": row["kind"],
            "GroupPlace": None if row["order"] is None else str(row["order"]),
        }
        for rows in members.values()
        for row in rows
    }
