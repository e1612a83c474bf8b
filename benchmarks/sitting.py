"""A sitting from a fresh folder, in Chromium: `python benchmarks/sitting.py [FOLDER] [--n 60] [--early]`.

`iaa open` of a folder that was never seen, on the backbone that runs offline; photographs of the queue are
rated by keys as soon as each stands, by somebody who likes bright pictures; then a few more in the order that
was learned. --early opens the queue at once, while photographs are still being looked at. Wall times.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BACKBONE = "efficientnet_lite0.in1k"
ALT = "[...document.querySelectorAll('#sitting .rate-one img')].filter(one => one.alt).at(-1)"
STANDS = f"old => {{ const i = {ALT}; return i && i.alt !== old && i.complete && i.naturalWidth > 0; }}"
N_MORE = 5
PATIENCE = 120


def open_folder(folder: Path, data: Path, said: Path) -> tuple[subprocess.Popen[bytes], str]:
    """The program behind the page, and the page's address."""
    command = [sys.executable, "-m", "iaa", "open", str(folder), "--no-browser", "-b", BACKBONE]
    with said.open("wb") as out:
        program = subprocess.Popen(command, env=os.environ | {"IAA_DATA": str(data)}, stdout=out, stderr=out)
    end = time.monotonic() + PATIENCE
    while not (found := re.search(r"http://\S+", said.read_text(encoding="utf-8"))):
        if program.poll() is not None or time.monotonic() > end:
            program.kill()
            raise SystemExit(said.read_text(encoding="utf-8"))
        time.sleep(0.02)
    return program, found[0]


def stars_of(page: Any) -> dict[str, int]:
    """One to five stars by the mean colour of each photograph: by its name."""
    listed = page.evaluate("fetch('/api/photographs').then(answer => answer.json())")
    light = [sum(int(c[at : at + 2], 16) for at in (1, 3, 5)) if c else 380 for c in listed["colour"]]
    return {name: 1 + min(4, value // 154) for name, value in zip(listed["name"], light, strict=True)}


def wait_until_looked_at(page: Any) -> None:
    while page.evaluate("fetch('/api/state').then(answer => answer.json())")["phase"] != "ready":
        page.wait_for_timeout(100)


def sit(page: Any, n: int) -> list[float]:
    """Rates photographs of the queue; seconds from each key until the next photograph stands."""
    took, stars = [], stars_of(page)
    page.wait_for_function(STANDS, arg="", polling=10)
    for _ in range(n):
        name = page.evaluate(f"{ALT}.alt")
        start = time.perf_counter()
        page.keyboard.press(str(stars[name]))
        page.wait_for_function(STANDS, arg=name, polling=10)
        took.append(time.perf_counter() - start)
    return took


def rate_in_order(page: Any) -> tuple[list[float], float]:
    """Seconds from a key to the stars on the photograph, and of sorting anew."""
    took = []
    for _ in range(N_MORE):
        place = page.evaluate("document.querySelector('.tile.active').id")
        label = page.evaluate("id => document.getElementById(id).ariaLabel", place)
        now = re.search(r"(\d) stars?\b", label)
        key = int(now[1]) % 5 + 1 if now else 1
        start = time.perf_counter()
        page.keyboard.press(str(key))
        page.wait_for_function(
            "([id, text]) => document.getElementById(id).ariaLabel.includes(text)",
            arg=[place, f"{key} star"], polling=5,
        )  # fmt: skip
        took.append(time.perf_counter() - start)
    again = page.get_by_role("button", name="Re-sort")
    again.wait_for()
    start = time.perf_counter()
    page.keyboard.press("s")
    again.wait_for(state="hidden")
    return took, time.perf_counter() - start


def main() -> None:
    """Parse, open, rate, print."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="photographs, some hundreds")
    parser.add_argument("--n", type=int, default=60)
    parser.add_argument("--early", action="store_true")
    given = parser.parse_args()
    if given.folder is None:
        return print("skipped: name a folder of some hundred photographs")
    chromium = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium"))), None)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        start = time.perf_counter()
        program, address = open_folder(given.folder, Path(scratch) / "data", Path(scratch) / "said")

        def tell(what: str) -> None:
            print(f"{time.perf_counter() - start:6.1f} s  {what}", flush=True)

        try:
            tell("the address is printed")
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1300, "height": 850})
            page.goto(address)
            page.wait_for_selector("#tile-0 canvas:not([hidden])")
            tell("the first thumbnail stands")
            if not given.early:
                wait_until_looked_at(page)
                tell("all are looked at")
            page.keyboard.press("r")
            page.wait_for_function(STANDS, arg="", polling=10, timeout=PATIENCE * 1000)
            tell("the first of the queue stands")
            took = sit(page, given.n)
            usual, slowest = 1000 * statistics.median(took), 1000 * max(took)
            tell(f"{given.n} rated: {usual:.0f} ms a key, {slowest:.0f} at most")
            page.keyboard.press("Escape")
            page.locator("#order select").select_option(label="My taste")
            page.wait_for_selector('#tile-0[aria-label*="My taste"]', state="attached")
            page.locator("#order select").blur()
            tell("all in the order that was learned")
            keys, resort = rate_in_order(page)
            keys = [1000 * each for each in keys]
            tell(f"key to stars {statistics.median(keys):.0f} ms, sorted anew {1000 * resort:.0f} ms")
            browser.close()
        finally:
            program.terminate()
            program.wait()


if __name__ == "__main__":
    main()
