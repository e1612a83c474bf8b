"""What the page's frame promises, read from its files."""

import re

from tests.web.browser.fake import WEB


def test_every_module_is_fetched_at_once() -> None:
    """A module that is not named in the head is found only when another one was read: a wait after a wait."""
    page = (WEB / "templates" / "page.html").read_text(encoding="utf-8")
    named = set(re.findall(r'(?:modulepreload" href|script type="module" src)="/static/([^"]+)"', page))
    assert named == {path.name for path in (WEB / "static").glob("*.js")} - {"types.js"}


def test_nothing_of_the_page_is_elsewhere() -> None:
    for path in [*(WEB / "static").rglob("*"), WEB / "templates" / "page.html"]:
        if path.is_file():
            text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
            assert not re.search(
                r"https?://|@import|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text
            ), path


def test_no_word_of_the_workshop_is_on_the_page() -> None:
    """Photographers read photograph, folder, group; what looks at them is told under "Details" alone."""
    for path in (WEB / "static").glob("*.js"):
        texts = re.findall(r'"[^"\n]*"|`[^`]*`', path.read_text(encoding="utf-8"))
        assert not re.search(
            r"\b(backbone|digest|embedding|dataset)s?\b", " ".join(t for t in texts if " " in t)
        ), path
