"""An XMP packet as a tree: read without trust, changed in a few properties, all else kept as it was."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lxml import etree

MAX_BYTES = 4 * 2**20
"""Larger than any program writes beside a photograph."""
OURS = "http://ns.image-aesthetics-store/1.0/"
XMP = "http://ns.adobe.com/xap/1.0/"
DC = "http://purl.org/dc/elements/1.1/"
DIGIKAM = "http://www.digikam.org/ns/1.0/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_META = "adobe:ns:meta/"
_PREFIXES = {"iaa": OURS, "xmp": XMP, "dc": DC, "digiKam": DIGIKAM, "rdf": _RDF, "x": _META}
RATING, LABEL, PICK = f"{{{XMP}}}Rating", f"{{{XMP}}}Label", f"{{{DIGIKAM}}}PickLabel"
STARS = f"{{{OURS}}}Stars"
"""Stars that this program wrote into Rating: they are nobody's, and may be changed by it."""
GIVEN = f"{{{OURS}}}Given"
"""What a person gave in this program, as it was written into Rating."""
LABELLED = f"{{{OURS}}}Label"
"""The label that this program wrote into Label."""
SUBJECT, WORDS = f"{{{DC}}}subject", f"{{{OURS}}}Keywords"
"""Keywords, and which of them this program wrote (a JSON list)."""
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
    is_label_ours: bool = False
    """The label was made by this program: no person gave it."""


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
        is_said, label = rating is not None, self.get(LABEL) or ""
        is_label_ours = bool(label) and label == self.get(LABELLED)
        return Said(
            rating, label, flag, is_said and rating == ours, is_said and rating == given, is_label_ours
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

    def change_label(self, label: str) -> bool:
        """Set the label ('' takes ours away) unless a person's stands there; True if anything changes."""
        there, ours = self.get(LABEL) or "", self.get(LABELLED)
        if there and there != ours:
            return self.change({LABELLED: None})
        if not label:
            return self.change({LABELLED: None} | ({} if ours is None else {LABEL: None}))
        return self.change({LABEL: label, LABELLED: label})

    def change_keywords(self, wanted: Sequence[str], inside: Sequence[str] = ()) -> bool:
        """Let `wanted` be the keywords of ours, beside those that people gave; True if anything changes.

        `inside`: the keywords in the photograph itself. A sidecar that had none repeats them, as programs
        would take its list for all there are. A keyword that a person gave, too, is hers.
        """
        there, ours = self.keywords(), self._our_keywords()
        theirs = [word for word in there if word not in ours]
        added = [word for word in dict.fromkeys(wanted) if word not in (theirs if there else inside)]
        if not there and added:
            theirs = list(dict.fromkeys(inside))
        is_changed = self._set_keywords([*theirs, *added])
        listed = json.dumps(added, ensure_ascii=False) if added else None
        return self.change({WORDS: listed}) or is_changed

    def keywords(self) -> list[str]:
        """The keywords. Raises XmpError where they are no list."""
        return [(item.text or "").strip() for item in self._items()]

    def _our_keywords(self) -> set[str]:
        """Those that this program wrote. Raises XmpError."""
        text = self.get(WORDS)
        try:
            listed = json.loads(text) if text else []
            if not isinstance(listed, list) or not all(isinstance(word, str) for word in listed):
                raise ValueError
        except ValueError as error:
            raise XmpError(f"its iaa:Keywords is {str(text)[:40]!r}, no list") from error
        return set(listed)

    def _items(self) -> list[etree._Element]:
        found = [child for each in self._descriptions for child in each.iterchildren(SUBJECT)]
        lists = [container for child in found for container in child]
        is_list = all(len(child) == 1 and not (child.text or "").strip() for child in found)
        if len(found) > 1 or not is_list or any(each.get(SUBJECT) for each in self._descriptions):
            raise XmpError("its subject, the keywords, is not one list")
        items = [item for container in lists for item in container.iterchildren(f"{{{_RDF}}}li")]
        if any(len(item) for item in items):
            raise XmpError("its keywords are not simple values")
        return items

    def _set_keywords(self, words: Sequence[str]) -> bool:
        items = self._items()
        if [(item.text or "").strip() for item in items] == list(words):
            return False
        known = set()
        for item in items:
            word = (item.text or "").strip()
            if word in words:
                known.add(word)
            else:
                container = item.getparent()
                assert container is not None
                container.remove(item)
        new = [word for word in words if word not in known]
        if new or known:
            container = self._list()
            for word in new:
                etree.SubElement(container, f"{{{_RDF}}}li").text = word
        else:
            for each in self._descriptions:
                for child in list(each.iterchildren(SUBJECT)):
                    each.remove(child)
        return True

    def _list(self) -> etree._Element:
        for each in self._descriptions:
            for child in each.iterchildren(SUBJECT):
                return child[0]
        return etree.SubElement(etree.SubElement(self._descriptions[0], SUBJECT), f"{{{_RDF}}}Bag")

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
