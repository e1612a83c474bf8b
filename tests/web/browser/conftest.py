"""A real browser for the page. Every page that a test opens must end without an error in its console: what
the page's policy forbids (a script, a style, a foreign address) is one."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.web.browser.fake import SLOWER, Fake, Server, drawn

REPOSITORY = Path(__file__).resolve().parents[3]
NODE = REPOSITORY / "build" / "node"
"""Where `make check-page` installs what comes from npm."""

AXE = "axe-core@4.14.1"

Open = Callable[..., Any]

SECONDS = 20
"""How long a test waits for what a page is to show."""

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
"""Any will do. The first has no window to draw around the page, which takes as much of a processor as the page."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium; the tests are skipped where it or Playwright is missing."""
    api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    if chromium is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with api.sync_playwright() as playwright:
        # No sandbox: as root, as in a container, Chromium has none.
        running = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    """Opens the page of a `Fake` (or of an address), waits until its first photograph stands."""
    servers: list[Server] = []
    contexts: list[Any] = []
    problems: list[str] = []

    def open_it(library: Fake | str, address: str = "", wait: str = "#tile-0", **context: Any) -> Any:
        if isinstance(library, Fake):
            servers.append(Server(library))
            library = servers[-1].url
        contexts.append(browser.new_context(**({"viewport": {"width": 1280, "height": 800}} | context)))
        page = contexts[-1].new_page()
        page.set_default_timeout(SECONDS * 1000)
        if SLOWER > 1:
            slow = {"rate": SLOWER}
            contexts[-1].new_cdp_session(page).send("Emulation.setCPUThrottlingRate", slow)
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.expected_problems = []
        page.goto(library + address)
        if wait:
            page.wait_for_selector(wait, state="attached")
        return page

    yield open_it
    pages = [page for context in contexts for page in context.pages]
    expected = [part for page in pages for part in getattr(page, "expected_problems", [])]
    for context in contexts:
        context.close()
    for server in servers:
        server.close()
    unexpected = [problem for problem in problems if not any(part in problem for part in expected)]
    assert unexpected == []


def comes_to(page: Any, read: Callable[[], Any], expected: Any) -> None:
    """Waits until `read` gives what is expected. A page answers a key or a click when its turn comes, not before
    the driver goes on: what is read once, at once, is right on a quiet machine alone."""
    end = time.monotonic() + SECONDS
    while (value := read()) != expected and time.monotonic() < end:
        page.wait_for_timeout(20)
    assert value == expected


def until(page: Any, holds: Callable[[], bool]) -> None:
    """Waits for something that holds sooner or later; as long as for anything else in a page."""
    comes_to(page, lambda: bool(holds()), True)


def text_is(page: Any, selector: str, text: str) -> None:
    """Waits until the first element of this selector says this text, and nothing else."""
    comes_to(page, page.locator(selector).first.text_content, text)


def attribute_is(page: Any, selector: str, name: str, value: str) -> None:
    """Waits until the first element of this selector has this value of an attribute."""
    comes_to(page, lambda: page.locator(selector).first.get_attribute(name), value)


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe; the test is skipped where it is not and cannot be had from npm."""
    source = NODE / "node_modules" / "axe-core" / "axe.min.js"
    if not source.is_file():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("axe-core is not here, and neither is npm to get it")
        command = [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(NODE), AXE]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        except subprocess.TimeoutExpired:
            pytest.skip("axe-core is not here, and npm does not answer")
        if done.returncode or not source.is_file():
            pytest.skip(f"axe-core is not here, and npm cannot get it: {done.stderr.strip()[-200:]}")
    return source.read_text(encoding="utf-8")


def sights(*by_default: tuple[str, int]) -> Any:
    """Light and dark, on a phone and on a desk; those that are not looked at by default are slow tests."""
    four = [(scheme, width) for scheme in ("dark", "light") for width in (390, 1440)]
    marked = [each if each in by_default else pytest.param(*each, marks=pytest.mark.slow) for each in four]
    return pytest.mark.parametrize(("scheme", "width"), marked)


def serious(page: Any, axe: str) -> dict[str, list[str]]:
    """What axe finds serious or critical on a page: the first places by rule."""
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return {
        violation["id"]: [n["html"][:150] + n["failureSummary"][:200] for n in violation["nodes"][:3]]
        for violation in found
        if violation["impact"] in ("serious", "critical")
    }


def assert_accessible(
    open_page: Open,
    library: Fake,
    axe: str,
    states: Mapping[str, tuple[str, list[str]]],
    wait: str,
    scheme: str,
    width: int,
) -> None:
    """Axe finds nothing serious in any of these states: an address of the page, and keys that are pressed."""
    found = {}
    for name, (address, keys) in states.items():
        size = {"width": width, "height": 844}
        page = open_page(library, address, wait=wait, viewport=size, color_scheme=scheme)
        page.wait_for_timeout(400)
        for key in keys:
            page.keyboard.press(key)
        page.wait_for_timeout(300)
        found |= {(name, rule): nodes for rule, nodes in serious(page, axe).items()}
        page.context.close()
    assert not found, "\n".join(f"{where}: {what}" for where, what in found.items())


@pytest.fixture
def library() -> Fake:
    """Sixty photographs: k000000 is liked least, k000059 most; lakes on every sixth, dogs on every fourth."""
    n = 60
    sizes = [[(3000, 2000), (2000, 3000), (2400, 2400)][row % 3] for row in range(n)]
    day = 86_400.0
    fake = Fake(
        [f"IMG_{row:04d}.{'png' if row % 10 == 9 else 'jpg'}" for row in range(n)],
        drawn(sizes),
        sizes,
        folders=["coast" if row < 20 else "town/old" if row < 50 else "" for row in range(n)],
        taken=[None if row >= 55 else 1_700_000_000 + row * day for row in range(n)],
        scores=[3 + row / 10 for row in range(n)],
        sharpness=[(row * 37 % 60) / 60 for row in range(n)],
    )
    fake.likeness = {
        "lake": [0.9 - row / 1000 if row % 6 == 0 else 0.1 for row in range(n)],
        "dog": [0.9 - row / 1000 if row % 4 == 0 else 0.1 for row in range(n)],
        "k000007": [1 - abs(row - 7) / 60 for row in range(n)],
        "sent": [1 - abs(row - 12) / 60 for row in range(n)],
    }
    fake.groups = [
        {"id": "c", "kind": "copies", "rows": [5, 4], "ranked": True},
        {"id": "b1", "kind": "burst", "rows": [12, 10, 11, 13], "ranked": True},
        {"id": "b2", "kind": "burst", "rows": [22, 20, 21], "ranked": True},
        {"id": "e", "kind": "bracket", "rows": [30, 31, 32], "ranked": False},
    ]
    return fake
