"""The page with 20,000 photographs in Chromium: how soon it is seen, how smoothly it scrolls, what the tab
takes.

    python benchmarks/page_browser.py [--n 20000] [--repeats 5]

The library is planted (tests/web/browser/fake.py) and answers from a process of its own, with thumbnails of
about 20 KB as the real one makes them. Longest tasks are those of the tab's main thread in Chromium's trace.
"""

import argparse
import json
import multiprocessing
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.web.browser.fake import Fake, Server, drawn

PAINTED = """
window.seen = {};
new MutationObserver(() => {
  if (document.querySelector(".tile")) seen.tile ??= performance.now();
  if (document.querySelector(".tile canvas:not([hidden])")) seen.picture ??= performance.now();
}).observe(document, {childList: true, subtree: true, attributes: true});
"""


def serve(n: int, port: Any) -> None:
    """Answers until it is ended."""
    sizes = [[(480, 320), (320, 480), (480, 360)][row % 3] for row in range(n)]
    taken = [1.6e9 + row * 3000.0 for row in range(n)]
    fake = Fake([f"IMG_{row:05d}.jpg" for row in range(n)], drawn(sizes, 60), sizes, taken=list(taken))
    for row in range(60):
        fake.picture(row, 480)
    fake.answer("GET", "/api/photographs", {}, b"")
    order = fake.order({"by": ["score"]})
    fake.order = lambda query: order  # type: ignore[method-assign]
    port.send(Server(fake).port)
    port.recv()


def measure(url: str, repeats: int) -> list[tuple[str, str, str]]:
    """Rows of the table: what, measured, wanted."""
    from playwright.sync_api import sync_playwright

    names = ("chromium-headless-shell", "chromium", "google-chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    if chromium is None:
        raise SystemExit("no Chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        paints: dict[str, list[float]] = {"first paint": [], "first tile": [], "first thumbnail": []}
        for _ in range(repeats):
            context = browser.new_context(viewport={"width": 1440, "height": 900})
            page = context.new_page()
            page.add_init_script(PAINTED)
            page.goto(url)
            page.wait_for_function("() => window.seen.picture")
            seen = page.evaluate("window.seen")
            paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
            for name, value in zip(paints, (paint, seen["tile"], seen["picture"]), strict=True):
                paints[name].append(value)
            context.close()
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        page = context.new_page()
        page.goto(url)
        page.wait_for_selector(".tile:not([hidden]) canvas:not([hidden])")
        page.wait_for_timeout(1500)
        slow = {"wheel": scroll(browser, page, wheel), "jumps of the scroll bar": scroll(browser, page, jump)}
        memory = memory_of(browser, page)
        n_elements = page.evaluate("document.querySelectorAll('*').length")
        browser.close()
    rows = [
        (
            name,
            f"{statistics.median(values):.0f} ms (slowest of {repeats}: {max(values):.0f})",
            "1000 ms" if "tile" not in name else "",
        )
        for name, values in paints.items()
    ]
    for name, tasks in slow.items():
        longest, own = max(wall for wall, _ in tasks), max(cpu for _, cpu in tasks)
        n_long = sum(wall > 50 for wall, _ in tasks)
        text = f"{n_long} of {len(tasks)}; longest {longest:.0f} ms ({own:.0f} ms of processor)"
        rows.append((f"tasks over 50 ms while scrolling, {name}", text, "0"))
    rows.append(("memory of the tab (PSS)", f"{memory:.0f} MB", "500 MB"))
    rows.append(("elements of the page", str(n_elements), ""))
    return rows


def wheel(page: Any) -> None:
    page.mouse.move(800, 500)
    for _ in range(120):
        page.mouse.wheel(0, 350)
        page.wait_for_timeout(40)


def jump(page: Any) -> None:
    for share in (0.2, 0.9, 0.4, 0.7, 0.1, 1.0, 0.5, 0.0):
        page.evaluate(
            "s => { const e = document.getElementById('scroller');"
            " e.scrollTop = s * (e.scrollHeight - e.clientHeight); }",
            share,
        )
        page.wait_for_timeout(500)


def scroll(browser: Any, page: Any, way: Any) -> list[tuple[float, float]]:
    """Milliseconds of each task of the tab's main thread during it, by the clock and of the processor: where
    other programs run, too, only the second are the page's own."""
    browser.start_tracing(
        page=page, categories=["toplevel", "disabled-by-default-devtools.timeline", "devtools.timeline"]
    )
    way(page)
    events = json.loads(browser.stop_tracing())["traceEvents"]
    threads = {
        (event["pid"], event["tid"])
        for event in events
        if event.get("name") == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    # Of several tabs' threads the page's is the one that ran its scripts.
    script = {(event["pid"], event["tid"]) for event in events if event.get("name") == "FireAnimationFrame"}
    return [
        (event["dur"] / 1000, event.get("tdur", event["dur"]) / 1000)
        for event in events
        if event.get("ph") == "X"
        and event["name"].endswith("RunTask")
        and (event["pid"], event["tid"]) in threads & script
    ]


def memory_of(browser: Any, page: Any) -> float:
    """Megabytes of the largest renderer: its share of memory that processes have in common counted once."""
    processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    pss = []
    for process in processes:
        if process["type"] == "renderer":
            lines = Path(f"/proc/{process['id']}/smaps_rollup").read_text(encoding="utf-8").splitlines()
            pss += [int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")]
    return max(pss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(options.n, theirs), daemon=True)
    server.start()
    try:
        rows = measure(f"http://127.0.0.1:{ours.recv()}/", options.repeats)
    finally:
        server.terminate()
    print(f"{options.n:,} photographs")
    for what, measured, wanted in rows:
        print(f"{what:<54}{measured:<56}{wanted}")


if __name__ == "__main__":
    main()
