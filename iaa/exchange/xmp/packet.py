"""An XMP packet as a tree: read without trust, changed in a few properties, all else kept as it was."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lxml import etree

MAX_BYTES = 4 * 2**20
"""Larger than any program writes beside a photograph."""
OURS = "http://ns.image-aesthetics-store/1.0/"
XMP = "http://ns.adobe.com/xap/1.0/"
DIGIKAM = "http://www.digikam.org/ns/1.0/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_META = "adobe:ns:meta/"
_PREFIXES = {"iaa": OURS, "xmp": XMP, "digiKam": DIGIKAM, "rdf": _RDF, "x": _META}
RATING, LABEL, PICK = f"{{{XMP}}}Rating", f"{{{XMP}}}Label", f"{{{DIGIKAM}}}PickLabel"
STARS = f"{{{OURS}}}Stars"
"""Stars that this program wrote into Rating: they are nobody's, and may be changed by it."""
GIVEN = f"{{{OURS}}}Given"
"""What a person gave in this program, as it was written into Rating."""
_DESCRIPTION = f"{{{_RDF}}}Description"
_EMPTY = (
    "<?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?>\n"
    f"<x:xmpmeta xmlns:x='{_META}' x:xmptk='image-aesthetics-store'>\n"
    f" <rdf:RDF xmlns:rdf='{_RDF}'>\n"
    f"  <rdf:Description rdf:about='' xmlns:xmp='{XMP}' xmlns:iaa='{OURS}'/>\n"
    " </rdf:RDF>\n</x:xmpmeta>\n<?xpacket end='w'?>"
)


class XmpError(Exception):
    """A packet that cannot be read, or not be changed without harm."""


@dataclass(frozen=True)
class Said:
    """What a packet says about its photograph."""

    rating: float | None
    """-1 rejected, 0 unrated, 1 to 5 stars; None: nothing is said."""
    label: str
    flag: int
    """1 picked, -1 rejected, 0 nothing is said."""
    is_ours: bool
    """The rating was made by this program from a score: no person gave it."""
    is_given_here: bool
    """It is what a person gave in this program."""


class Packet:
    """A packet that was read, or a new one. Raises XmpError for what is no XMP, or not to be trusted."""

    def __init__(self, data: bytes | None = None) -> None:
        self.has_declaration = data is not None and b"<?xml" in _plain(data[:200])
        self.tree = _parsed(_EMPTY.encode() if data is None else data)
        self.encoding = self.tree.docinfo.encoding or "UTF-8"
        self._descriptions = list(_descriptions(self.tree))
        if not self._descriptions:
            raise XmpError("it has no rdf:Description, so it is no XMP")

    def get(self, name: str) -> str | None:
        """A simple property, None where it is not there. Raises XmpError where it is there twice, unlike."""
        found = {text for _, _, text in self._places(name)}
        if len(found) > 1:
            raise XmpError(f"it says {_short(name)} twice: {', '.join(sorted(found))}")
        return found.pop() if found else None

    def said(self) -> Said:
        """Stars, label and flag. Raises XmpError for a rating that is none."""
        rating = _number(RATING, self.get(RATING))
        if rating is not None and not -1 <= rating <= 5:
            raise XmpError(f"its Rating is {rating:g}, expected -1 to 5")
        pick = _number(PICK, self.get(PICK))
        ours, given = (_number(name, self.get(name)) for name in (STARS, GIVEN))
        flag = {1.0: -1, 3.0: 1}.get(pick or 0.0, 0)
        if rating == -1:
            flag = -1
        is_said = rating is not None
        return Said(
            rating, self.get(LABEL) or "", flag, is_said and rating == ours, is_said and rating == given
        )

    def change(self, values: Mapping[str, str | None]) -> bool:
        """Set simple properties, None removes one; True if anything is another than before."""
        is_changed = False
        for name, value in values.items():
            if self.get(name) == value:
                continue
            is_changed = True
            places = list(self._places(name))
            for element, is_attribute, _ in places:
                if value is None and is_attribute:
                    del element.attrib[name]
                elif value is None:
                    parent = element.getparent()
                    assert parent is not None
                    parent.remove(element)
                elif is_attribute:
                    element.set(name, value)
                else:
                    element.text = value
            if not places and value is not None:
                self._descriptions[0].set(name, value)
        return is_changed

    def to_bytes(self) -> bytes:
        """The packet in its own encoding, with all that was around it."""
        is_declared = self.has_declaration or None
        return bytes(etree.tostring(self.tree, encoding=self.encoding, xml_declaration=is_declared))

    def _places(self, name: str) -> Iterator[tuple[etree._Element, bool, str]]:
        """Where a property stands: its element (or the description it is an attribute of), and its text."""
        for description in self._descriptions:
            value = description.get(name)
            if value is not None:
                yield description, True, value
            for child in description.iterchildren(name):
                if len(child):
                    raise XmpError(f"its {_short(name)} is not a simple value")
                yield child, False, (child.text or "").strip()


def _descriptions(tree: etree._ElementTree) -> Iterator[etree._Element]:
    for rdf in tree.iter(f"{{{_RDF}}}RDF"):
        yield from rdf.iterchildren(_DESCRIPTION)


def _parsed(data: bytes) -> etree._ElementTree:
    if len(data) > MAX_BYTES:
        raise XmpError(f"it has {len(data):,} bytes, more than the {MAX_BYTES:,} that are read of XMP")
    if b"<!DOCTYPE" in _plain(data).upper() or b"<!ENTITY" in _plain(data).upper():
        raise XmpError("it declares a document type, which XMP never does")
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, huge_tree=False,
        remove_blank_text=False, strip_cdata=False,
    )  # fmt: skip
    try:
        # Inside photographs packets end in zeros or spaces.
        tree = etree.ElementTree(etree.fromstring(_trimmed(data), parser))
    except (etree.XMLSyntaxError, ValueError, LookupError) as error:
        raise XmpError(f"it is no XML: {str(error)[:200]}") from error
    if tree.docinfo.internalDTD is not None or any(isinstance(node, etree._Entity) for node in tree.iter()):
        raise XmpError("it has entities of its own, which XMP never has")
    return tree


def _plain(data: bytes) -> bytes:
    """The ASCII of text in any width of Unicode."""
    return data.replace(b"\0", b"")


def _trimmed(data: bytes) -> bytes:
    """Without what stands around; text of two or four bytes a letter as it is."""
    is_wide = b"\0" in data[:4] or data[:2] in (b"\xff\xfe", b"\xfe\xff")
    return data if is_wide else data.strip(b"\0 \t\r\n")


def _number(name: str, text: str | None) -> float | None:
    if text is None or not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise XmpError(f"its {_short(name)} is {text[:40]!r}, no number")
    return value


def _short(name: str) -> str:
    return name.rpartition("}")[2]


for _prefix, _namespace in _PREFIXES.items():
    etree.register_namespace(_prefix, _namespace)
