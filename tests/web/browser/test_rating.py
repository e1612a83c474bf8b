"""Rating in a real browser: by keys, by pointer, by touch; kept, undone, refused, learned from."""

import re
import time
from itertools import pairwise
from typing import Any

import pytest

from tests.web.browser.conftest import (
    Open,
    assert_accessible,
    attribute_is,
    comes_to,
    sights,
    text_is,
    until,
)
from tests.web.browser.fake import Fake
from tests.web.browser.test_page import count_is, first_is, hash_is, hash_of

pytestmark = pytest.mark.browser

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
TEXT, ACCENT = [28, 28, 28], [23, 99, 184]
"""What stands out on the map under the pointer, and what is selected, in the light."""
WORKSHOP = re.compile(r"\b(head|backbone|rater|embedding|vector|SRCC)s?\b")


def label(page: Any, place: int) -> str:
    return page.locator(f"#tile-{place}").get_attribute("aria-label")


def label_has(page: Any, place: int, text: str) -> None:
    page.wait_for_selector(f'#tile-{place}[aria-label*="{text}"]', state="attached")


def label_lacks(page: Any, place: int, text: str) -> None:
    page.wait_for_selector(f'#tile-{place}:not([aria-label*="{text}"])', state="attached")


def active_is(page: Any, place: int) -> None:
    attribute_is(page, ".tile.active", "id", f"tile-{place}")


def toast_is(page: Any, text: str) -> None:
    page.wait_for_function("t => document.querySelector('#toast span')?.textContent === t", arg=text)


def asked(library: Fake, what: str) -> list[Any]:
    return [body for name, body in library.asked if name == what]


def name_in(page: Any, selector: str) -> str:
    page.wait_for_selector(f"{selector} img[alt]:not([alt=''])", state="attached")
    return page.locator(f"{selector} img[alt]:not([alt=''])").last.get_attribute("alt")


def test_keys_rate_and_go_on(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    first_is(page, "IMG_0059.png")
    for key in ["4", "x", "p", "2"]:
        page.keyboard.press(key)
    label_has(page, 0, "4 stars")
    label_has(page, 1, "rejected")
    label_has(page, 2, "picked")
    label_has(page, 3, "2 stars")
    active_is(page, 4)
    until(page, lambda: library.stars == {59: 4, 56: 2} and library.flags == {58: -1, 57: 1})
    # Quietly, but always: without hover or focus, as many stars as there are.
    page.mouse.move(640, 780)
    shown = page.locator("#tile-0 .small-stars").bounding_box()
    assert shown["width"] == pytest.approx(48, abs=1)
    page.locator("#tile-1 .small-flag").wait_for(state="visible")
    page.locator("#tile-4 .tile-marks").wait_for(state="hidden")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("0")
    label_lacks(page, 3, "stars")
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    page.keyboard.press("u")
    label_lacks(page, 1, "rejected")
    until(page, lambda: library.stars == {59: 4} and library.flags == {57: 1})


def test_a_rating_shows_before_it_is_kept(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    first_is(page, "IMG_0059.png")
    page.route("**/api/ratings", lambda route: None if route.request.method == "POST" else route.continue_())
    page.keyboard.press("4")
    label_has(page, 0, "4 stars")
    active_is(page, 1)
    assert not library.stars
    page.unroute("**/api/ratings")
    # It was never answered: leaving would lose it, and the browser asks.
    page.on("dialog", lambda dialog: dialog.accept())


def test_what_is_refused_is_taken_back_and_said(open_page: Open, library: Fake) -> None:
    library.refusing = "this rating could not be kept: the disk is full"
    library.stars = {58: 1.0}
    page = open_page(library)
    page.expected_problems.append("507")
    label_has(page, 1, "1 star")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("5")
    toast_is(page, f"Not kept: IMG_0058.jpg: 5 stars. {library.refusing}")
    page.locator("#toast.problem").wait_for(state="visible")
    label_has(page, 1, "1 star")
    label_lacks(page, 1, "5 stars")
    library.refusing = ""
    page.get_by_role("button", name="Try again").click()
    label_has(page, 1, "5 stars")
    until(page, lambda: library.stars == {58: 5})


def test_what_cannot_be_undone_stays_and_is_said(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    page.expected_problems.append("507")
    first_is(page, "IMG_0059.png")
    page.keyboard.press("5")
    until(page, lambda: library.stars == {59: 5})
    library.refusing = "the disk is full"
    page.keyboard.press("Control+z")
    toast_is(page, "Not undone: IMG_0059.png: 5 stars. the disk is full")
    label_has(page, 0, "5 stars")
    library.refusing = ""
    page.get_by_role("button", name="Try again").click()
    label_lacks(page, 0, "stars")
    until(page, lambda: library.stars == {})


def test_a_rating_without_a_program_is_taken_back(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    page.expected_problems.append("ERR_EMPTY_RESPONSE")
    first_is(page, "IMG_0059.png")
    library.gone = True
    page.keyboard.press("3")
    page.locator(
        "#toast", has_text="Not kept: IMG_0059.png: 3 stars. The program behind this page"
    ).wait_for()
    label_lacks(page, 0, "3 stars")


def test_undo_goes_back_one_by_one_and_says_what(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    first_is(page, "IMG_0059.png")
    for key in ["4", "2", "5"]:
        page.keyboard.press(key)
    toast_is(page, "IMG_0057.jpg: 5 stars")
    page.keyboard.press("Control+z")
    toast_is(page, "Undone: IMG_0057.jpg: 5 stars")
    label_lacks(page, 2, "stars")
    page.wait_for_selector("#tile-2.active", state="attached")
    page.keyboard.press("Meta+z")
    toast_is(page, "Undone: IMG_0058.jpg: 2 stars")
    label_lacks(page, 1, "stars")
    until(page, lambda: library.stars == {59: 4})
    page.get_by_role("button", name="Redo").click()
    until(page, lambda: library.stars == {59: 4, 58: 2})
    page.get_by_role("button", name="Undo", exact=True).click()
    until(page, lambda: library.stars == {59: 4})
    assert len(asked(library, "undo")) == 3 and all(one["act"] for one in asked(library, "undo"))


def test_undo_gives_back_what_was_there_before(open_page: Open, library: Fake) -> None:
    library.stars = {59: 3.0}
    page = open_page(library)
    label_has(page, 0, "3 stars")
    page.keyboard.press("1")
    label_has(page, 0, "1 star")
    page.keyboard.press("Control+z")
    label_has(page, 0, "3 stars")
    until(page, lambda: library.stars == {59: 3})


def test_undo_of_what_was_rated_before_the_page_was_opened(open_page: Open, library: Fake) -> None:
    library.keep({"key": "k000050", "kind": "stars", "value": 5})
    page = open_page(library)
    label_has(page, 9, "5 stars")
    page.keyboard.press("Control+z")
    toast_is(page, "Undone, from earlier: IMG_0050.jpg: 5 stars")
    label_lacks(page, 9, "stars")
    page.get_by_role("button", name="Redo").click()
    label_has(page, 9, "5 stars")
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    toast_is(page, "There is nothing left to undo.")


def test_undo_takes_ratings_and_selections_in_their_order(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    first_is(page, "IMG_0059.png")
    page.keyboard.press("3")
    page.locator("#tile-5").click()
    page.keyboard.press("Control+z")
    page.locator("#actions").wait_for(state="hidden")
    label_has(page, 0, "3 stars")
    page.keyboard.press("Control+z")
    label_lacks(page, 0, "stars")


def test_a_whole_selection_is_rated_and_undone_as_one(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    first_is(page, "IMG_0059.png")
    page.locator("#tile-0").click()
    page.locator("#tile-3").click(modifiers=["Shift"])
    page.keyboard.press("5")
    toast_is(page, "4 photographs: 5 stars")
    until(page, lambda: library.stars == dict.fromkeys([56, 57, 58, 59], 5))
    sent = [said for what, said in library.asked if what == "ratings"]
    assert len(sent) == 1 and len(sent[0]["keys"]) == 4  # all of it is kept, or nothing
    active_is(page, 3)
    # The focus outside the selection: only what has the focus is meant.
    page.keyboard.press("ArrowRight")
    page.keyboard.press("1")
    until(page, lambda: library.stars.get(55) == 1 and library.stars[56] == 5)
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    until(page, lambda: library.stars == {})


def test_filters_of_stars_picks_and_rejects(open_page: Open, library: Fake) -> None:
    library.stars = {59: 5.0, 58: 4.0, 57: 3.5, 40: 4.0}
    library.flags = {56: -1, 55: -1, 54: 1}
    page = open_page(library)
    label_has(page, 0, "5 stars")
    rail = page.locator("#rail")
    counts = {"5 stars": 1, "4 stars": 2, "3 stars": 1, "2 stars": 0}
    for name, n in (counts | {"Unrated": 56, "Picked": 1, "Rejected": 2}).items():
        choice = rail.locator(".choice", has=page.get_by_label(name, exact=True))
        comes_to(page, choice.locator(".count").text_content, str(n))
    rail.get_by_label("Rejected").check()
    count_is(page, "2 of 60")
    first_is(page, "IMG_0056.jpg")
    page.keyboard.press("u")
    count_is(page, "1 of 60")
    first_is(page, "IMG_0055.jpg")
    page.keyboard.press("Control+z")
    count_is(page, "2 of 60")
    page.locator("#line").get_by_role("button", name="Without: rejected").click()
    rail.get_by_role("button", name="At least 4 stars").click()
    count_is(page, "3 of 60")
    text_is(page, "#line .chip", "at least 4 stars")
    hash_is(page, "#stars=5&stars=4")
    page.reload()
    count_is(page, "3 of 60")
    rail.get_by_label("Unrated").check()
    count_is(page, "59 of 60")
    rail.get_by_role("button", name="Clear all filters").click()
    count_is(page, "60")


def test_unrated_ones_leave_as_they_are_rated(open_page: Open, library: Fake) -> None:
    page = open_page(library, "#stars=0")
    first_is(page, "IMG_0059.png")
    page.keyboard.press("ArrowRight")
    for n, key in enumerate(["3", "4", "5"]):
        page.keyboard.press(key)
        count_is(page, f"{59 - n} of 60")
        page.wait_for_selector("#tile-1.active", state="attached")
    until(page, lambda: library.stars == {58: 3, 57: 4, 56: 5})


def test_one_photograph_is_rated_by_keys_and_by_pointer(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    first_is(page, "IMG_0059.png")
    page.keyboard.press("Enter")
    page.keyboard.press("4")
    page.get_by_role("heading", name="IMG_0058.jpg").first.wait_for()
    page.keyboard.press("x")
    page.get_by_role("heading", name="IMG_0057.jpg").first.wait_for()
    stars = page.locator("#viewer").get_by_role("group", name="Rate this photograph")
    stars.get_by_role("button", name="3 stars").click()
    comes_to(page, lambda: stars.get_by_role("button", name="3 stars").get_attribute("aria-pressed"), "true")
    comes_to(page, page.locator("#viewer .star.on").count, 3)
    # The pointer stays with what it pointed at.
    text_is(page, "#viewer-name", "IMG_0057.jpg")
    stars.get_by_role("button", name="Pick").click()
    until(page, lambda: library.stars == {59: 4, 57: 3} and library.flags == {58: -1, 57: 1})
    stars.get_by_role("button", name="3 stars").click()
    until(page, lambda: library.stars == {59: 4})
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    page.get_by_role("heading", name="IMG_0058.jpg").first.wait_for()
    until(page, lambda: library.stars == {59: 4} and library.flags == {})


def points_of_map(page: Any) -> dict[str, tuple[float, float]]:
    """Where pictures lie on the map, by the name that the map says under the pointer."""
    page.locator("#map canvas").wait_for()
    page.wait_for_timeout(500)
    box = page.locator("#map canvas").bounding_box()
    found = {}
    for y in range(30, int(box["height"]) - 90, 60):
        for x in range(30, int(box["width"]) - 30, 45):
            place = (box["x"] + x, box["y"] + y)
            page.mouse.move(*place)
            page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
            if page.locator("#map .map-label").is_visible():
                found.setdefault(page.locator("#map .map-label").text_content(), place)
    return found


def map_says(page: Any, text: str) -> None:
    page.wait_for_function("t => document.querySelector('.map-label').textContent === t", arg=text)


def n_pixels(page: Any, colour: list[int]) -> int:
    """How many of the map's pixels have this colour."""
    n = page.evaluate(
        """([r, g, b]) => {
            const canvas = document.querySelector("#map canvas");
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            let n = 0;
            for (let i = 0; i < data.length; i += 4)
                n += data[i] === r && data[i + 1] === g && data[i + 2] === b && data[i + 3] === 255;
            return n;
        }""",
        colour,
    )
    return int(n)


def test_the_map_rates_what_is_under_the_pointer(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    first_is(page, "IMG_0059.png")
    page.keyboard.press("m")
    points = points_of_map(page)
    assert len(points) > 5
    (name, place), (other, _) = list(points.items())[:2]
    row, left_alone = library.names.index(name), library.names.index(other)
    page.mouse.move(*place)
    page.keyboard.press("4")
    until(page, lambda: n_pixels(page, TEXT) > 200)
    map_says(page, f"{name} \u00b7 4 stars")
    toast_is(page, f"{name}: 4 stars")
    page.keyboard.press("x")
    map_says(page, f"{name} \u00b7 4 stars \u00b7 rejected")
    page.keyboard.press("p")
    map_says(page, f"{name} \u00b7 4 stars \u00b7 picked")
    page.keyboard.press("u")
    page.keyboard.press("0")
    map_says(page, name)
    page.keyboard.press("Control+z")
    map_says(page, f"{name} \u00b7 4 stars")
    until(page, lambda: library.stars == {row: 4} and library.flags == {} and left_alone != row)
    # Beside all of them no photograph is meant, also not the one that was focused before.
    page.mouse.move(5, 5)
    page.keyboard.press("5")
    toast_is(page, "Point at a photograph, or select some, to rate them.")
    assert library.stars == {row: 4}
    page.keyboard.press("Escape")
    first_is(page, "IMG_0059.png")
    label_lacks(page, 0, "stars")


def test_the_map_rates_what_was_drawn_around(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    first_is(page, "IMG_0059.png")
    page.keyboard.press("m")
    points = points_of_map(page)
    canvas = page.locator("#map canvas").bounding_box()
    top, middle, bottom = (
        canvas["y"] + 4,
        canvas["x"] + canvas["width"] / 2,
        canvas["y"] + canvas["height"] - 4,
    )
    right = {library.names.index(name): place for name, place in points.items() if place[0] > middle + 80}
    inside = {library.names.index(name): place for name, place in points.items() if place[0] < middle - 80}
    end = list(right.values())[-1]
    page.keyboard.down("Shift")
    page.mouse.move(canvas["x"] + 4, top)
    page.mouse.down()
    for corner in [(middle, top), (middle, bottom), (canvas["x"] + 4, bottom), (canvas["x"] + 4, top), end]:
        page.mouse.move(*corner, steps=3)
    page.mouse.up()
    page.keyboard.up("Shift")
    page.wait_for_function("() => parseInt(document.querySelector('.actions-count').textContent) > 1")
    n = int(page.locator(".actions-count").text_content().split()[0])
    until(page, lambda: n_pixels(page, ACCENT) > 200)
    # The hand rests on another photograph now: it means those that it has just drawn around.
    page.mouse.move(end[0] + 2, end[1])
    page.keyboard.press("3")
    toast_is(page, f"{n} photographs: 3 stars")
    until(page, lambda: len(library.stars) == n and set(inside) <= set(library.stars))
    # Pointed at, one that is not among them is rated alone, one of them with all.
    alone, place = next((row, place) for row, place in right.items() if row not in library.stars)
    page.mouse.move(*place, steps=5)
    page.keyboard.press("5")
    until(page, lambda: library.stars.get(alone) == 5 and len(library.stars) == n + 1)
    page.mouse.move(*next(iter(inside.values())), steps=5)
    page.keyboard.press("p")
    until(page, lambda: len(library.flags) == n and alone not in library.flags)
    page.keyboard.press("Control+z")
    until(page, lambda: library.flags == {})


def test_the_chosen_one_of_several_is_rated(open_page: Open, library: Fake) -> None:
    page = open_page(
        library, "#compare=k000010&compare=k000011&compare=k000012", wait="#compare:not([hidden])"
    )
    page.keyboard.press("2")
    page.keyboard.press("5")
    page.keyboard.press("x")
    until(page, lambda: library.stars == {10: 2, 11: 5} and library.flags == {12: -1})
    pane = page.locator("#compare .compare-pane").nth(1)
    comes_to(page, pane.locator(".star.on").count, 5)
    pane.get_by_role("button", name="1 star", exact=True).click()
    until(page, lambda: library.stars == {10: 2, 11: 1})


def test_the_queue_goes_on_and_says_how_far_it_is(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    first_is(page, "IMG_0059.png")
    order = library.next(60)["keys"]
    page.keyboard.press("r")
    assert name_in(page, "#sitting .rate-one") == library.names[library.keys.index(order[0])]
    hash_is(page, "#mode=rate")
    page.keyboard.press("4")
    page.keyboard.press("s")
    page.keyboard.press("x")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("p")
    rows = [library.keys.index(key) for key in order]
    until(page, lambda: library.stars == {rows[0]: 4} and library.flags == {rows[2]: -1, rows[4]: 1})
    page.get_by_text("3 photographs rated in this sitting").wait_for()
    page.locator(".sitting-verdict", has_text="7 more ratings until it can be told").wait_for()
    # Back to the one that was picked, which shows so; stars as well.
    page.keyboard.press("ArrowLeft")
    attribute_is(page, "#sitting .flag[aria-label=Pick]", "aria-pressed", "true")
    page.keyboard.press("5")
    until(page, lambda: library.stars == {rows[0]: 4, rows[4]: 5})
    for n_rated in range(3, 25):
        # Nobody rates what is not shown: where the next ones are still on their way, a key does nothing.
        page.locator("#sitting .stars button:enabled").first.wait_for()
        page.keyboard.press("3")
        until(page, lambda n_rated=n_rated: len(library.stars) == n_rated)
    page.locator(".sitting-verdict", has_text="Better than the general score").wait_for()
    page.locator(".sitting-side", has_text="74 % of the time (60 % to 100 %)").wait_for()
    assert not WORKSHOP.search(page.locator("#sitting").text_content())
    page.keyboard.press("Escape")
    page.wait_for_selector("#sitting", state="hidden")
    hash_is(page, "")
    page.keyboard.press("Control+z")
    until(page, lambda: len(library.stars) == 23)


def test_the_queue_waits_for_the_first_photographs_to_be_looked_at(open_page: Open, library: Fake) -> None:
    """It asks now and then: without a rest it would ask hundreds of times a second, of a busy program."""
    asked_at = []

    def not_yet(route: Any) -> None:
        asked_at.append(time.monotonic())
        route.fulfill(
            status=409, json={"detail": "no photograph has been looked at yet; ask again in a while"}
        )

    page = open_page(library)
    page.expected_problems.append("409")
    page.route("**/api/next*", not_yet)
    page.keyboard.press("r")
    page.get_by_text("None has been looked at yet: they come as soon as some are.").wait_for()
    until(page, lambda: len(asked_at) == 3)
    rests = [after - before for before, after in pairwise(asked_at)]
    assert min(rests) > 1, rests
    page.unroute("**/api/next*")
    assert name_in(page, "#sitting .rate-one").startswith("IMG_")


def test_the_queue_asks_of_no_moment_twice(open_page: Open, library: Fake) -> None:
    """Groups may be found after it was said what to rate next: two bursts here, of 10 to 13 and of 20 to 22."""
    rows = [12, 10, 40, 21, 13, 22, 50]
    library.next = lambda n: {  # type: ignore[method-assign]
        "keys": [library.keys[row] for row in rows if row not in library.stars][:n], "pair": [], "pairs": []
    } | library.stamp()  # fmt: skip
    page = open_page(library)
    first_is(page, "IMG_0059.png")
    page.get_by_label(re.compile("Bursts")).wait_for()
    page.keyboard.press("r")
    shown = []
    for _ in range(4):
        shown.append(name_in(page, "#sitting .rate-one"))
        page.keyboard.press("3")
        page.wait_for_timeout(100)
    assert [library.names.index(name) for name in shown] == [12, 40, 21, 50]
    page.get_by_text("Nothing is left to ask.").wait_for()


def test_the_queue_ends_and_shows_again_what_was_skipped(open_page: Open, library: Fake) -> None:
    library.stars = {row: 3.0 for row in range(57)}
    page = open_page(library, "#mode=rate", wait="#sitting:not([hidden])")
    name_in(page, "#sitting .rate-one")
    page.keyboard.press("4")
    page.keyboard.press("s")
    page.keyboard.press("2")
    page.get_by_text("Nothing is left to ask. Of photographs of one moment one is enough.").wait_for()
    until(page, lambda: len(library.stars) == 59)
    page.get_by_role("button", name="Look again, skipped ones too").click()
    name_in(page, "#sitting .rate-one")
    page.keyboard.press("1")
    until(page, lambda: len(library.stars) == 60)


def test_the_queue_undoes_and_shows_it_again(open_page: Open, library: Fake) -> None:
    page = open_page(library, "#mode=rate", wait="#sitting:not([hidden])")
    first = name_in(page, "#sitting .rate-one")
    page.keyboard.press("5")
    page.wait_for_function(
        "n => document.querySelector('#sitting .rate-one img:last-child')?.alt !== n", arg=first
    )
    page.keyboard.press("Control+z")
    page.wait_for_function(
        "n => [...document.querySelectorAll('#sitting .rate-one img')].at(-1)?.alt === n", arg=first
    )
    until(page, lambda: library.stars == {} and len(asked(library, "undo")) == 1)
    page.get_by_text("0 photographs rated in this sitting").wait_for()
    library.refusing = "the disk is full"
    page.expected_problems.append("507")
    page.keyboard.press("2")
    toast_is(page, f"Not kept: {first}: 2 stars. the disk is full")
    page.get_by_text("0 photographs rated in this sitting").wait_for()


def test_which_of_two(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    first_is(page, "IMG_0059.png")
    page.keyboard.press("r")
    page.keyboard.press("r")
    hash_is(page, "#mode=pairs")

    def two() -> list[str]:
        page.wait_for_function(
            "() => [...document.querySelectorAll('#sitting .rate-pane')]"
            ".every(p => p.querySelector('img[alt]:not([alt=\"\"])'))"
        )
        return page.evaluate(
            "[...document.querySelectorAll('#sitting .rate-pane')]"
            ".map(p => p.querySelector('img[alt]:not([alt=\"\"])').alt)"
        )

    pairs = [two()]
    assert pairs[0] == [library.names[library.keys.index(key)] for key in library.next(20)["pair"]]
    for key in ["a", "b", "=", "s"]:
        n = len(library.pairs)
        page.keyboard.press(key)
        if key != "s":
            until(page, lambda n=n: len(library.pairs) == n + 1)
        page.wait_for_function(
            "before => [...document.querySelectorAll('#sitting .rate-pane')]"
            ".map(p => [...p.querySelectorAll('img[alt]:not([alt=\"\"])')].at(-1)?.alt)"
            ".every((alt, place) => alt && alt !== before[place])",
            arg=pairs[-1],
        )
        pairs.append(two())
    said = [([library.names[a], library.names[b]], value) for a, b, value in library.pairs]
    assert said == [(pairs[0], 1), (pairs[1], -1), (pairs[2], 0)]
    assert len({frozenset(pair) for pair in pairs}) == 5
    page.get_by_text("3 pairs compared in this sitting").wait_for()
    page.get_by_role("button", name="Left is better").click()
    toast_is(page, f"{pairs[4][0]} is better than {pairs[4][1]}")
    until(page, lambda: len(library.pairs) == 4)
    page.keyboard.press("Control+z")
    until(page, lambda: len(library.pairs) == 3)
    page.wait_for_function(
        "two => [...document.querySelectorAll('#sitting .rate-pane')]"
        ".every((p, place) => [...p.querySelectorAll('img')].at(-1)?.alt === two[place])",
        arg=pairs[4],
    )


def test_my_order_waits_until_it_is_asked_for(open_page: Open, library: Fake) -> None:
    library.stars = {10: 5.0, 40: 1.0}
    page = open_page(library)
    page.locator("#order select").select_option(label="My taste")
    first_is(page, "IMG_0010.jpg")
    label_has(page, 0, "My taste")
    until(page, lambda: "order=taste" in hash_of(page))
    before = [label(page, place).split(",")[0] for place in range(12)]
    place_before = page.locator("#tile-9").bounding_box()
    page.locator("#order select").blur()
    page.get_by_role("button", name="Re-sort").wait_for(state="hidden")
    page.keyboard.press("1")
    page.get_by_role("button", name="Re-sort").wait_for()
    label_has(page, 0, "1 star")
    active_is(page, 1)
    assert [label(page, place).split(",")[0] for place in range(12)] == before
    assert page.locator("#tile-9").bounding_box() == place_before
    page.keyboard.press("s")
    page.wait_for_selector(
        '#tile-59[aria-label^="IMG_0010"], #tile-0:not([aria-label^="IMG_0010"])', state="attached"
    )
    best = library.names[library.order({"by": ["taste"]})["rows"][0]]
    first_is(page, best)
    page.get_by_role("button", name="Re-sort").wait_for(state="hidden")
    page.keyboard.press("5")
    page.get_by_role("button", name="Re-sort").click()
    best = library.names[library.order({"by": ["taste"]})["rows"][0]]
    first_is(page, best)


def test_my_order_before_anything_is_rated(open_page: Open, library: Fake) -> None:
    page = open_page(library, "#order=taste")
    page.get_by_text("nothing is rated yet: by name until something is").wait_for()
    first_is(page, "IMG_0000.jpg")
    page.locator("#taste").wait_for(state="hidden")
    page.keyboard.press("5")
    page.locator("#taste", has_text="1 photograph rated").wait_for()
    first_is(page, "IMG_0000.jpg")
    label_has(page, 0, "My taste")


def test_what_ratings_are_worth_is_said_in_photographers_words(open_page: Open, library: Fake) -> None:
    library.stars = {row: 1.0 + row % 5 for row in range(12)}
    page = open_page(library)
    line = page.locator("#taste")
    line.get_by_text("12 photographs rated · not better than the general score yet: about 30 more").wait_for()
    line.get_by_role("button", name="What your ratings are worth").click()
    dialog = page.locator("dialog")
    dialog.get_by_text(
        "tell the better one 74 % of the time (60 % to 100 %), the general score 62 %"
    ).wait_for()
    dialog.locator("summary").click()
    row = "Of two photographs, the better one toldyour ratings74 %60 % to 100 %12"
    comes_to(page, dialog.locator("tbody tr").first.text_content, row)
    assert not WORKSHOP.search(dialog.text_content())
    # Another window rates meanwhile: what is open says what is said at the foot.
    library.stars |= {row: 1.0 + row % 5 for row in range(12, 24)}
    library.keep({"key": "k000030", "kind": "stars", "value": 2})
    page.evaluate("dispatchEvent(new Event('focus'))")
    dialog.get_by_text("25 photographs rated: better than the general score.").wait_for()
    assert dialog.locator("details").get_attribute("open") is not None
    dialog.get_by_role("button", name="Show photographs in my order").click()
    first_is(page, library.names[library.order({"by": ["taste"]})["rows"][0]])
    comes_to(page, page.locator("#order select").input_value, "taste")


def test_stars_of_other_programs_and_for_them(open_page: Open, library: Fake) -> None:
    page = open_page(library, "#order=name")
    first_is(page, "IMG_0000.jpg")
    page.get_by_label("More", exact=True).click()
    page.get_by_role("button", name="Take over stars of other programs…").click()
    dialog = page.locator("dialog")
    dialog.get_by_text(
        "2 photographs have stars, or are rejected, in sidecars or in the files themselves; 2 of these ratings "
        "are new here. 1 photograph is rated differently in two places: left out."
    ).wait_for()
    dialog.get_by_text("IMG_0007.jpg.xmp: it is no XML").wait_for()
    assert library.stars == {}
    dialog.get_by_role("button", name="Take over 2 ratings").click()
    toast_is(page, "2 ratings taken over.")
    label_has(page, 3, "5 stars")
    page.get_by_role("button", name="Undo").click()
    label_lacks(page, 3, "stars")
    until(page, lambda: library.stars == {})
    page.get_by_label("More", exact=True).click()
    page.get_by_role("button", name="Write stars for other programs…").click()
    dialog.get_by_text(
        "3 new sidecars, 2 left as they are, since somebody gave other stars there."
    ).wait_for()
    dialog.get_by_label("Whose stars").select_option(index=1)
    dialog.get_by_role("button", name="Write 60 sidecars").click()
    toast_is(page, "60 sidecars written.")
    written = asked(library, "write_sidecars")
    assert [body["do"] for body in written] == [False, False, True]
    assert written[0]["head"] is None and written[1]["head"] == written[2]["head"] != ""


def test_another_window_rates_too(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    first_is(page, "IMG_0059.png")
    page.keyboard.press("4")
    until(page, lambda: library.stars == {59: 4})
    library.keep({"key": "k000058", "kind": "stars", "value": 2})
    # With the next rating it is noticed that there were more,
    page.keyboard.press("ArrowRight")
    page.keyboard.press("3")
    label_has(page, 1, "2 stars")
    label_has(page, 2, "3 stars")
    library.keep({"key": "k000059", "kind": "flag", "value": -1})
    page.evaluate("dispatchEvent(new Event('focus'))")
    # and when the page is looked at again.
    label_has(page, 0, "4 stars, rejected")


def test_a_phone_rates_by_touch(open_page: Open, library: Fake) -> None:
    page = open_page(library, **PHONE)
    first_is(page, "IMG_0059.png")
    page.locator("#tile-1").tap()
    star = page.locator("#viewer").get_by_role("button", name="4 stars")
    box = star.bounding_box()
    assert min(box["width"], box["height"]) >= 40 and box["x"] >= 0 and box["x"] + box["width"] <= 390
    star.tap()
    until(page, lambda: library.stars == {58: 4})
    page.get_by_role("button", name="Undo", exact=True).first.tap()
    until(page, lambda: library.stars == {})
    page.locator("#viewer").get_by_label("Back to all photographs").tap()
    page.get_by_role("button", name="Rate these next").tap()
    first = name_in(page, "#sitting .rate-one")
    page.locator("#sitting").get_by_role("button", name="5 stars").tap()
    until(page, lambda: library.stars == {library.names.index(first): 5})
    page.locator("#sitting").get_by_role("button", name="Reject").tap()
    until(page, lambda: len(library.flags) == 1)
    page.get_by_role("button", name="Two at a time").tap()
    page.get_by_role("button", name="Lower is better").tap()
    until(page, lambda: len(library.pairs) == 1 and library.pairs[0][2] == -1)
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_rating_by_keyboard_alone(open_page: Open, library: Fake) -> None:
    """Twelve of the queue, a pair, one taken back, out, the library in my order, the rejects aside."""
    page = open_page(library)
    first_is(page, "IMG_0059.png")
    press = page.keyboard.press
    press("r")
    name_in(page, "#sitting .rate-one")
    for key in ["5", "4", "x", "1", "s", "3", "2", "5", "5", "1", "4", "3", "2"]:
        press(key)
    press("r"), press("a"), press("Control+z"), press("Escape")
    page.wait_for_selector("#sitting", state="hidden")
    until(page, lambda: len(asked(library, "undo")) == 1)
    assert len(library.stars) == 11 and len(library.flags) == 1 and library.pairs == []
    press("?")
    keys = page.locator("dialog").text_content()
    for does in [
        "stars, and on to the next",
        "reject",
        "rate these next",
        "undo the last rating",
        "the left one is better",
    ]:
        assert does in keys
    press("Escape")
    for _ in range(40):
        press("Tab")
        if page.evaluate("document.activeElement.ariaLabel") == "Details: what your ratings are worth":
            break
    else:
        pytest.fail("Tab does not lead to what the ratings are worth")
    press("Enter")
    page.locator("dialog").wait_for()
    for _ in range(6):
        press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Show photographs in my order":
            break
    press("Enter")
    first_is(page, library.names[library.order({"by": ["taste"]})["rows"][0]])


STATES = {
    "grid": ("", []),
    "my order": ("#order=taste", []),
    "viewer": ("#open=k000012", ["x"]),
    "compare": ("#compare=k000010&compare=k000011", []),
    "queue": ("#mode=rate", ["4"]),
    "pairs": ("#mode=pairs", ["a"]),
    "keys": ("#mode=rate", ["?"]),
}


@sights(("light", 390))
def test_axe_finds_nothing_serious(open_page: Open, library: Fake, axe: str, scheme: str, width: int) -> None:
    library.stars = {row: 1.0 + row % 5 for row in range(0, 60, 4)}
    library.flags = {57: -1, 58: 1}
    assert_accessible(open_page, library, axe, STATES, "#rail .choice.rated", scheme, width)
