"""Everything that is known of one photograph."""

from typing import Any

from iaa.library.gallery.gallery import Gallery
from iaa.library.gallery.rows import STATES, shown

_FACTS = ("camera", "lens", "exposure", "aperture", "iso", "focal", "bias")


def facts_of(gallery: Gallery, row: int) -> dict[str, Any]:
    """What is known of a row's photograph, as JSON has it; None where something is not known."""
    listing, rows = gallery.listing, gallery.rows
    assert listing is not None
    content = rows.content(row)
    look = gallery.looks.of([content]).get(content) if gallery.looks is not None and content else None
    size, time = listing.size_and_time(row)
    taken = rows.taken[row].item()
    reason = rows.reason.get(row, "")
    if size < 0 and not reason:
        reason = "the file is no longer there"
    return {
        "key": listing.keys[row],
        "name": shown(listing.files[row].rpartition("/")[2]),
        "file": shown(listing.files[row]),
        "size_bytes": size if size >= 0 else None,
        "width": rows.width[row].item(),
        "height": rows.height[row].item(),
        "taken": None if taken != taken else taken,
        **{name: None if look is None else look.facts.get(name) for name in _FACTS},
        "state": STATES[rows.state[row]],
        "reason": shown(reason),
        "changed": [size, time] != rows.now[row].tolist(),
        "exact_copies": [listing.keys[other] for other in rows.of_content(content) if other != row],
    }
