"""The page in a real browser, before a library of which everything is known."""

import re
import time
from pathlib import Path
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
from tests.web.browser.fake import Fake, drawn

pytestmark = pytest.mark.browser


def first_is(page: Any, name: str) -> None:
    """Waits until the first photograph is the one of this name."""
    page.wait_for_selector(f'#tile-0[aria-label^="{name}"]', state="attached")


def count_is(page: Any, text: str) -> None:
    page.wait_for_function("text => document.getElementById('title-count').textContent === text", arg=text)


def selected_is(page: Any, n: str) -> None:
    """Waits until as many photographs are selected."""
    text_is(page, ".actions-count", f"{n} selected")


def hash_of(page: Any) -> str:
    return page.evaluate("location.hash")


def hash_is(page: Any, expected: str) -> None:
    """Waits until the address has this after its #."""
    comes_to(page, lambda: hash_of(page), expected)


def box_of(page: Any, selector: str) -> dict[str, float]:
    return page.evaluate(
        "s => { const { x, y, width, height } = document.querySelector(s).getBoundingClientRect();"
        " return { x, y, width, height }; }",
        selector,
    )


def test_opening_shows_the_best_first_with_counts(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    first_is(page, "IMG_0059.png")
    attribute_is(page, "#tile-0", "aria-label", "IMG_0059.png, Liked by people 8.90, better than 99 %")
    page.wait_for_selector('#tile-1[aria-label^="IMG_0058.jpg"]', state="attached")
    comes_to(page, lambda: page.locator("#title").text_content().split(), ["holiday", "60"])
    assert page.title() == "holiday"
    page.hover("#tile-1")
    text_is(page, "#tile-1 .tile-score", "8.80")


def test_rows_fill_the_width_and_keep_proportions(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    first_is(page, "IMG_0059.png")
    tiles = page.evaluate(
        "[...document.querySelectorAll('.tile:not([hidden])')]"
        ".map(t => { const b = t.getBoundingClientRect();"
        " return {place: +t.id.slice(5), x: b.x, y: Math.round(b.y), right: b.right,"
        " ratio: b.width / b.height}; })"
    )
    grid = box_of(page, ".grid")
    lines: dict[int, list[dict[str, float]]] = {}
    for tile in tiles:
        lines.setdefault(tile["y"], []).append(tile)
    full = sorted(lines.values(), key=lambda line: line[0]["y"])[:-1]
    assert len(full) >= 2
    for line in full:
        assert max(tile["right"] for tile in line) == pytest.approx(grid["x"] + grid["width"], abs=1)
    for tile in tiles:
        width, height = library.sizes[59 - int(tile["place"])]
        assert tile["ratio"] == pytest.approx(width / height, rel=0.01)


def test_orders_and_their_reverse(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    page.locator("#order select").select_option("name")
    first_is(page, "IMG_0000.jpg")
    page.get_by_label("The other way round").click()
    first_is(page, "IMG_0059.png")
    page.locator("#order select").select_option("time")
    first_is(page, "IMG_0054.jpg")
    page.locator("#order select").select_option("sharp")
    best = max(range(60), key=lambda row: library.sharpness[row] or 0)
    first_is(page, f"IMG_{best:04d}")


def test_months_stand_above_their_photographs(open_page: Open, library: Fake) -> None:
    page = open_page(library, "#order=time&reversed=1")
    first_is(page, "IMG_0000.jpg")
    # From 14 November 2023 on, one a day: 17 in November.
    text_is(page, ".grid-heading", "November 202317")


def test_another_head_and_a_pair_of_words(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    head = page.get_by_label("What gives the score")
    head.select_option("fresh")
    first_is(page, "IMG_0000.jpg")
    until(page, lambda: "head=fresh" in hash_of(page))
    head.select_option(label="Between two words…")
    page.get_by_label("Best are those that look").fill("lake")
    page.get_by_label("rather than").fill("dog")
    page.get_by_role("button", name="Score by these").click()
    first_is(page, "IMG_0006.jpg")


def test_filters_count_what_they_would_leave(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    page.get_by_label("town/old").check()
    count_is(page, "30 of 60")
    ending = page.locator(".choice", has_text="PNG")
    comes_to(page, ending.locator(".count").text_content, "3")
    ending.locator("input").check()
    count_is(page, "3 of 60")
    # A choice's own count ignores itself: another folder says what it would add.
    comes_to(page, page.locator(".choice", has_text="coast").locator(".count").text_content, "2")
    page.locator("#line").get_by_role("button", name="Without: PNG").click()
    count_is(page, "30 of 60")
    page.get_by_role("button", name="Clear all filters").click()
    count_is(page, "60")


def test_brushing_the_histogram_by_pointer_and_by_keys(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    first_is(page, "IMG_0059.png")
    plot = page.locator("#rail .histogram").first.bounding_box()
    page.mouse.move(plot["x"] + plot["width"] / 2, plot["y"] + 20)
    page.mouse.down()
    page.mouse.move(plot["x"] + plot["width"] + 20, plot["y"] + 20, steps=5)
    page.mouse.up()
    count_is(page, "30 of 60")
    until(page, lambda: "score=" in hash_of(page))
    handle = page.get_by_role("slider", name="Score, from")
    handle.focus()
    handle.press("End")
    count_is(page, "1 of 60")
    handle.press("Delete")
    count_is(page, "60")


def test_what_failed_is_apart_with_its_reason(open_page: Open, library: Fake) -> None:
    library.states[3] = "failed"
    library.reasons[3] = 'not a JPEG: it begins with "<html>"'
    page = open_page(library)
    count_is(page, "59")
    page.get_by_label("Show only these").check()
    count_is(page, "1")
    text_is(page, "#tile-0 .tile-reason", library.reasons[3])
    attribute_is(page, "#tile-0", "aria-label", f"IMG_0003.jpg, {library.reasons[3]}")


def test_searching_by_words_that_refine_each_other(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    first_is(page, "IMG_0059.png")
    page.keyboard.press("/")
    page.keyboard.type("lake")
    page.keyboard.press("Enter")
    first_is(page, "IMG_0000.jpg")
    page.wait_for_selector('#tile-1[aria-label^="IMG_0006"]', state="attached")
    page.keyboard.type("dog")
    page.keyboard.press("Enter")
    page.wait_for_selector('#tile-1[aria-label^="IMG_0012"]', state="attached")
    page.get_by_role("button", name="Stop searching for lake").click()
    page.wait_for_selector('#tile-1[aria-label^="IMG_0004"]', state="attached")
    page.get_by_role("button", name="Stop searching for dog").click()
    first_is(page, "IMG_0059.png")


def test_likeness_can_be_brushed_and_then_ordered_by_score(open_page: Open, library: Fake) -> None:
    page = open_page(library, "#texts=lake&order=alike")
    first_is(page, "IMG_0000.jpg")
    handle = page.get_by_role("slider", name="Likeness, from")
    handle.focus()
    for _ in range(4):
        handle.press("PageUp")
    count_is(page, "10 of 60")
    page.locator("#order select").select_option("best")
    first_is(page, "IMG_0054.jpg")


def test_dropping_a_picture(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    first_is(page, "IMG_0059.png")
    transfer = page.evaluate_handle(
        "async () => { const blob = await (await fetch('/api/photographs/k000001/thumbnail')).blob();"
        " const t = new DataTransfer(); t.items.add(new File([blob], 'mine.jpg', {type: 'image/jpeg'}));"
        " return t; }"
    )
    page.dispatch_event("body", "dragenter", {"dataTransfer": transfer})
    page.locator("#drop-veil").wait_for(state="visible")
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    first_is(page, "IMG_0012.jpg")
    page.locator("#drop-veil").wait_for(state="hidden")
    page.get_by_role("button", name="Stop searching for your picture").wait_for(state="visible")


def test_a_picture_that_cannot_be_read_is_refused_in_words(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    page.expected_problems.append("415")
    page.set_input_files(
        "input[type=file]", {"name": "x.jpg", "mimeType": "image/jpeg", "buffer": b"no picture"}
    )
    page.get_by_text("this is no picture that can be read").wait_for()


def test_without_words_the_box_says_why_and_offers_names(open_page: Open, library: Fake) -> None:
    library.words = False
    page = open_page(library)
    page.keyboard.press("/")
    page.keyboard.type("0007")
    page.locator(".offer.explanation", has_text="--backbone vit_b32.openai").wait_for()
    page.keyboard.press("Enter")
    count_is(page, "1 of 60")
    first_is(page, "IMG_0007.jpg")


def test_one_photograph_fits_is_enlarged_to_its_pixels_and_moved(open_page: Open, library: Fake) -> None:
    asked: list[str] = []
    page = open_page(library, device_scale_factor=2)
    page.on("request", lambda request: asked.append(request.url))
    first_is(page, "IMG_0059.png")
    page.dblclick("#tile-1")
    page.wait_for_selector("#viewer .picture img[alt='IMG_0058.jpg']")
    stage, picture = box_of(page, "#viewer .stage"), box_of(page, "#viewer .picture")
    assert picture["height"] == pytest.approx(stage["height"], abs=1)
    # Neighbours are on their way before anybody asks for them.
    until(page, lambda: all(any(f"{key}/picture" in url for url in asked) for key in ("k000057", "k000059")))
    page.keyboard.press("z")
    width, height = library.sizes[58]
    until(page, lambda: box_of(page, "#viewer .picture")["width"] == pytest.approx(width / 2, abs=1))
    enlarged = box_of(page, "#viewer .picture")
    assert enlarged["height"] == pytest.approx(height / 2, abs=1)
    page.wait_for_function("() => document.querySelectorAll('#viewer .picture img').length === 3")
    page.mouse.move(400, 400)
    page.mouse.down()
    page.mouse.move(420, 500, steps=4)
    page.mouse.up()
    until(page, lambda: box_of(page, "#viewer .picture")["y"] - enlarged["y"] == pytest.approx(100, abs=2))
    assert box_of(page, "#viewer .picture")["x"] - enlarged["x"] == pytest.approx(20, abs=2)
    page.keyboard.press("z")
    comes_to(page, lambda: box_of(page, "#viewer .picture"), picture)


def test_facts_beside_it(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    first_is(page, "IMG_0059.png")
    page.keyboard.press("Enter")
    panel = page.locator("#viewer .facts")
    panel.get_by_text("Fujifilm X-T4").wait_for()
    text = panel.text_content()
    for part in [
        "8.90",
        "Better than 99 % of the library",
        "1/250 s · f/2.8 · ISO 400 · 35 mm · −0.33 EV",
        "2000 × 3000" if 59 % 3 == 1 else "2400 × 2400",
        "2.3 MB",
    ]:
        assert part in text
    page.keyboard.press("i")
    panel.wait_for(state="hidden")
    page.keyboard.press("i")
    panel.get_by_role("button", name="lake").click()
    first_is(page, "IMG_0000.jpg")
    page.locator("#viewer").wait_for(state="hidden")


def test_walking_keeps_the_grid_beside_and_back_leads_out(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    first_is(page, "IMG_0059.png")
    page.keyboard.press("Enter")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.get_by_role("heading", name="IMG_0056.jpg").first.wait_for()
    text_is(page, ".viewer-title .quiet", "4 of 60")
    page.go_back()
    page.wait_for_selector("#viewer", state="hidden")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="IMG_0056.jpg").first.wait_for()
    page.keyboard.press("Escape")
    page.wait_for_selector("#viewer", state="hidden")
    comes_to(page, lambda: page.evaluate("document.activeElement.className"), "grid")


def test_keys_that_come_faster_than_frames(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    first_is(page, "IMG_0059.png")
    page.evaluate(
        "() => { for (const key of ['Enter', 'ArrowRight', 'ArrowRight', 'ArrowRight', 'Escape', 'ArrowRight', ' '])"
        " document.body.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true})); }"
    )
    selected_is(page, "1")
    attribute_is(page, "#tile-4", "aria-selected", "true")
    page.locator("#viewer").wait_for(state="hidden")
    hash_is(page, "")


def test_more_like_this(open_page: Open, library: Fake) -> None:
    page = open_page(library, "#order=name")
    page.locator("#tile-7").click()
    page.keyboard.press("l")
    first_is(page, "IMG_0007.jpg")
    page.locator("#search .chip", has_text=re.compile("^like IMG_0007")).wait_for()
    page.wait_for_selector("#tile-1:is([aria-label^=IMG_0006], [aria-label^=IMG_0008])", state="attached")


def test_comparing_moves_all_together_and_keeps_one(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    first_is(page, "IMG_0059.png")
    for place in (0, 3, 6):
        page.locator(f"#tile-{place}").click(modifiers=["Control"])
    page.keyboard.press("c")
    page.wait_for_selector("#compare .compare-pane >> nth=2")
    page.wait_for_selector("#compare .picture img[alt]:not([alt=''])")
    page.keyboard.press("z")

    def boxes(side: str) -> list[float]:
        return page.evaluate(
            "side => [...document.querySelectorAll('#compare .picture')]"
            ".map(p => p.getBoundingClientRect()[side])",
            side,
        )

    # All three are square and of one size: enlarged alike.
    until(page, lambda: boxes("width") == pytest.approx([2400.0] * 3, abs=1))
    stage = page.locator("#compare .stage").first.bounding_box()
    aside = [x - 60 for x in boxes("x")]
    page.mouse.move(stage["x"] + 100, stage["y"] + 100)
    page.mouse.down()
    page.mouse.move(stage["x"] + 40, stage["y"] + 100, steps=3)
    page.mouse.up()
    until(page, lambda: boxes("x") == pytest.approx(aside, abs=1))
    page.keyboard.press("ArrowRight")
    page.keyboard.press("k")
    page.wait_for_selector("#compare", state="hidden")
    selected_is(page, "1")
    attribute_is(page, "#tile-3", "aria-selected", "true")
    page.keyboard.press("Control+z")
    selected_is(page, "3")


def test_five_cannot_be_compared(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    first_is(page, "IMG_0059.png")
    page.locator("#tile-0").click()
    page.locator("#tile-4").click(modifiers=["Shift"])
    page.keyboard.press("c")
    page.get_by_text("Select two to four photographs").wait_for()
    page.locator("#compare").wait_for(state="hidden")


def test_groups_as_stacks_and_the_top_of_each(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    first_is(page, "IMG_0059.png")
    page.keyboard.press("g")
    page.get_by_text("4 groups, 12 photographs").wait_for()
    headings = ["Exact copies1", "Bursts2", "Brackets1"]
    comes_to(page, lambda: [h.text_content() for h in page.locator(".grid-heading").all()], headings)
    for place, n in enumerate("2343"):
        text_is(page, f"#tile-{place} .tile-badge", n)
    page.wait_for_selector(
        '#tile-2[aria-label^="IMG_0012.jpg, on top of burst, 4 photographs"]', state="attached"
    )
    page.get_by_role("button", name="Select the top of each").click()
    selected_is(page, "4")
    page.keyboard.press("Escape")
    # The sharpest of each burst: order by sharpness, and the tops are those.
    page.locator("#order select").select_option("sharp")
    sharpest = max([10, 11, 12, 13], key=lambda row: library.sharpness[row] or 0)
    page.wait_for_function(
        "name => [...document.querySelectorAll('.tile.stack')].some(t => t.ariaLabel.startsWith(name))",
        arg=f"IMG_{sharpest:04d}",
    )
    page.locator("#order select").select_option("best")
    page.wait_for_selector('#tile-2[aria-label^="IMG_0012"]')
    page.locator("#tile-2").dblclick()
    page.get_by_text("burst of 4 photographs").wait_for()
    first_is(page, "IMG_0012")
    text_is(page, "#tile-0 .tile-note", "suggested")
    page.keyboard.press("Escape")
    page.get_by_text("4 groups, 12 photographs").wait_for()
    page.keyboard.press("g")
    count_is(page, "60")


def test_groups_lie_as_stacks_among_the_others(open_page: Open, library: Fake) -> None:
    page = open_page(library, "#order=name")
    page.get_by_label("Show groups as stacks").check()
    page.wait_for_function("() => document.querySelectorAll('.tile.stack:not([hidden])').length >= 2")
    attribute_is(page, "#tile-0", "aria-setsize", str(60 - 12 + 4))
    page.get_by_label(re.compile("Bursts")).check()
    count_is(page, "7 of 60")


def test_a_region_of_the_map(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    first_is(page, "IMG_0059.png")
    page.keyboard.press("m")
    canvas = page.locator("#map canvas").bounding_box()
    page.wait_for_timeout(500)
    page.keyboard.down("Shift")
    x, y, width, height = canvas["x"], canvas["y"], canvas["width"], canvas["height"]
    page.mouse.move(x + 4, y + 4)
    page.mouse.down()
    for corner in [
        (x + width / 2, y + 4),
        (x + width / 2, y + height - 4),
        (x + 4, y + height - 4),
        (x + 4, y + 4),
    ]:
        page.mouse.move(*corner, steps=3)
    page.mouse.up()
    page.keyboard.up("Shift")
    left = sum(library.x < 0.5)
    selected_is(page, str(left))
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    selected_is(page, "60")


def test_selecting_as_in_file_managers(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    first_is(page, "IMG_0059.png")
    page.locator("#tile-2").click()
    selected_is(page, "1")
    page.locator("#tile-5").click(modifiers=["Shift"])
    selected_is(page, "4")
    page.locator("#tile-3").click(modifiers=["Control"])
    selected_is(page, "3")
    page.locator("#tile-0").click()
    selected_is(page, "1")
    page.keyboard.press("Control+a")
    selected_is(page, "60")
    page.keyboard.press("Control+z")
    selected_is(page, "1")
    page.keyboard.press("Escape")
    page.locator("#actions").wait_for(state="hidden")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    selected_is(page, "3")
    page.keyboard.press("Shift+ArrowLeft")
    selected_is(page, "2")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    selected_is(page, "3")


def test_selection_outlives_filters_and_orders(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    first_is(page, "IMG_0059.png")
    page.locator("#tile-0").click()
    page.get_by_label("coast").check()
    count_is(page, "20 of 60")
    selected_is(page, "1")


def test_copy_csv_zip(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    first_is(page, "IMG_0059.png")
    page.get_by_label("More", exact=True).click()
    page.get_by_role("button", name="Select the first…").click()
    page.get_by_label("How many").fill("30")
    page.keyboard.press("Enter")
    selected_is(page, "30")
    page.get_by_role("button", name="Copy to a folder…").click()
    assert page.get_by_label("Into a new folder named").input_value() == "Best of holiday"
    assert "The originals stay where and as they are" in page.locator("dialog").text_content()
    page.keyboard.press("Enter")
    page.get_by_text("30 photographs copied to /photographs/copies/Best of holiday").wait_for()
    [(what, asked)] = [one for one in library.asked if one[0] == "copy"]
    assert (what, asked["name"]) == ("copy", "Best of holiday")
    assert asked["keys"] == [f"k{row:06d}" for row in range(59, 29, -1)]
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    assert download.value.suggested_filename == "holiday.csv"
    assert Path(download.value.path()).read_text(encoding="utf-8").split()[0] == "k000059"
    assert next(asked for what, asked in library.asked if what == "csv")["order"] == "by=score&head=liked"
    with page.expect_download() as download:
        page.get_by_role("button", name="Zip").click()
    assert download.value.suggested_filename == "holiday.zip"


def test_a_copy_that_cannot_be_made_is_said(
    open_page: Open, library: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = (
        507,
        "application/json",
        b'{"detail": "no space is left on the disk of /photographs/copies: nothing was copied"}',
    )
    post = library.post
    monkeypatch.setattr(library, "post", lambda what, body: refusal if what == "copy" else post(what, body))
    page = open_page(library)
    page.expected_problems.append("507")
    first_is(page, "IMG_0059.png")
    page.locator("#tile-0").click()
    page.get_by_role("button", name="Copy to a folder…").click()
    page.keyboard.press("Enter")
    page.get_by_text("no space is left on the disk").wait_for()
    selected_is(page, "1")


def test_reload_shows_the_same(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    first_is(page, "IMG_0059.png")
    page.keyboard.press("/")
    page.keyboard.type("lake")
    page.keyboard.press("Enter")
    first_is(page, "IMG_0000.jpg")
    page.keyboard.press("Escape")
    page.get_by_label("town/old").check()
    count_is(page, "30 of 60")
    page.locator("#tile-1").dblclick()
    page.wait_for_selector("#viewer:not([hidden])")
    name = page.locator(".viewer-name").first.text_content()
    address = hash_of(page)
    page.reload()
    page.wait_for_selector("#viewer:not([hidden])")
    text_is(page, ".viewer-name", name)
    hash_is(page, address)
    page.keyboard.press("Escape")
    count_is(page, "30 of 60")
    text_is(page, "#search .chip", "lake")


def test_back_undoes_a_filter(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    page.get_by_label("coast").check()
    count_is(page, "20 of 60")
    page.go_back()
    count_is(page, "60")
    comes_to(page, page.get_by_label("coast").is_checked, False)


HOSTILE = [
    "<img src=x onerror=document.title='hit'>.jpg",
    "\"><script>document.title='hit'</script>.jpg",
    "javascript:document.title='hit'.jpg",
    "{{7*7}}${7*7}.jpg",
    "\u202egpj.exe.jpg",
    "a" * 200 + ".jpg",
    "?key=1&v=2#x%2e%2e.jpg",
]


def test_hostile_names_are_text(open_page: Open) -> None:
    sizes = [(300, 200)] * len(HOSTILE)
    folders = [f"../{name[:-4]}" for name in HOSTILE]
    library = Fake(HOSTILE, drawn(sizes), sizes, folders=folders, title="<b onclick=alert(1)>Holiday</b>")
    library.groups = [{"id": "<i>", "kind": "copies", "rows": [0, 1], "ranked": True}]
    library.states[6], library.reasons[6] = "failed", "<img src=x onerror=document.title='hit'>"
    page = open_page(library, "#order=name")
    page.wait_for_function("() => document.querySelectorAll('.tile:not([hidden])').length === 6")
    # A title is text, too, and nothing has changed it.
    assert page.title() == library.title
    names = sorted(page.locator(".tile:not([hidden]) .tile-name").all_text_contents())
    assert names == sorted(HOSTILE[:6])
    page.keyboard.press("Enter")
    page.locator("#viewer .facts-list").wait_for()
    for place in range(6):
        page.wait_for_function(
            "place => document.querySelector('.viewer-title .quiet').textContent.startsWith(String(place))",
            arg=place + 1,
        )
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+a")
    page.locator("#tile-0").click()
    page.locator("#tile-1").click(modifiers=["Control"])
    page.keyboard.press("c")
    page.wait_for_selector("#compare:not([hidden])")
    page.keyboard.press("Escape")
    page.keyboard.press("l")
    page.wait_for_selector("#search .chip")
    assert page.title() == library.title
    assert page.locator("img[src='x'], b[onclick], #rail b, .tile script").count() == 0


def test_a_phone(open_page: Open, library: Fake) -> None:
    page = open_page(
        library, viewport={"width": 390, "height": 844}, device_scale_factor=2, has_touch=True, is_mobile=True
    )
    first_is(page, "IMG_0059.png")
    page.locator("#rail").wait_for(state="hidden")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    widths = page.evaluate(
        "[...document.querySelectorAll('.tile:not([hidden])')].map(t => t.getBoundingClientRect().width)"
    )
    assert min(widths) > 90
    page.locator("#rail-button").tap()
    page.wait_for_function(
        "() => Math.abs(document.getElementById('rail').getBoundingClientRect().bottom - innerHeight) < 1"
    )
    sheet = page.locator("#rail").bounding_box()
    assert sheet["y"] > 100 and sheet["y"] + sheet["height"] == pytest.approx(844, abs=2)
    page.locator("#rail").get_by_label("coast").check()
    page.locator("#rail").get_by_label("Close the filters").tap()
    count_is(page, "20 of 60")
    page.locator("#tile-1").tap()
    page.wait_for_selector("#viewer:not([hidden])")
    touch = page.context.new_cdp_session(page)

    def swipe(start: int, end: int) -> None:
        touch.send(
            "Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": start, "y": 400}]}
        )
        for x in range(start, end, 20 if end > start else -20):
            touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": x, "y": 400}]})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    swipe(300, 80)
    page.wait_for_function("() => document.querySelector('.viewer-title .quiet').textContent === '3 of 20'")
    swipe(80, 300)
    page.wait_for_function("() => document.querySelector('.viewer-title .quiet').textContent === '2 of 20'")
    # Chromium takes a tap right after a swipe for the end of its fling.
    page.wait_for_timeout(600)
    page.get_by_label("Back to all photographs").first.tap()
    page.wait_for_selector("#viewer", state="hidden")
    # Held, a photograph is selected; then a tap selects, too.
    tile = page.locator("#tile-0").bounding_box()
    touch.send(
        "Input.dispatchTouchEvent",
        {"type": "touchStart", "touchPoints": [{"x": tile["x"] + 60, "y": tile["y"] + 60}]},
    )
    page.wait_for_timeout(600)
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    selected_is(page, "1")
    page.locator("#tile-2").tap()
    selected_is(page, "2")


def test_by_keyboard_alone(open_page: Open, library: Fake) -> None:
    """Search, narrow, look, select three, compare, keep, copy: no pointer."""
    page = open_page(library)
    first_is(page, "IMG_0059.png")
    press, write = page.keyboard.press, page.keyboard.type
    press("/"), write("lake"), press("Enter")
    page.wait_for_selector('#tile-1[aria-label^="IMG_0006"]', state="attached")
    press("Escape")
    press("ArrowRight"), press("Enter")
    page.wait_for_selector("#viewer:not([hidden])")
    press("Space"), press("ArrowRight"), press("Space"), press("Escape")
    page.wait_for_selector("#viewer", state="hidden")
    selected_is(page, "2")
    press("c")
    page.wait_for_selector("#compare:not([hidden])")
    press("ArrowRight"), press("k")
    page.wait_for_selector("#compare", state="hidden")
    selected_is(page, "1")
    for _ in range(60):
        press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Copy to a folder…":
            break
    else:
        pytest.fail("Tab does not lead to Copy")
    press("Enter"), write("from keys"), press("Enter")
    page.get_by_text("1 photograph copied to /photographs/copies/from keys").wait_for()
    assert library.asked[-1] == ("copy", {"keys": ["k000012"], "name": "from keys"})
    press("?")
    page.locator("dialog").get_by_role("heading", name="Keys").wait_for(state="visible")
    press("Escape")
    page.locator("dialog").wait_for(state="detached")


def test_the_focus_stays_inside_what_covers_the_page(open_page: Open, library: Fake) -> None:
    page = open_page(library)
    first_is(page, "IMG_0059.png")
    page.keyboard.press("Enter")
    page.wait_for_selector("#viewer:not([hidden])")
    for _ in range(25):
        page.keyboard.press("Tab")
        assert page.evaluate(
            "document.activeElement === document.body || document.activeElement.closest('#viewer') !== null"
        )


def test_photographs_come_while_they_are_looked_at(open_page: Open, library: Fake) -> None:
    library.states = ["ok"] * 20 + ["waiting"] * 40
    library.phase = "embedding"
    page = open_page(library)
    first_is(page, "IMG_0019.png")
    status = page.locator("#status")
    status.get_by_text("Looking at photographs: 20 of 60 · 14/s · a few seconds left").wait_for()
    page.get_by_text("40 photographs not looked at yet, at the end").wait_for()
    page.locator("#tile-3").click()
    library.states = ["ok"] * 59 + ["failed"]
    library.reasons[59] = "truncated"
    library.news()
    first_is(page, "IMG_0058.jpg")
    selected_is(page, "1")
    page.locator("#status").get_by_role("button", name="Pause").click()
    page.locator(".status-text").get_by_text("Paused at 60 of 60 · 1 could not be read").wait_for()
    library.phase = "ready"
    page.wait_for_timeout(200)
    page.locator("#status").get_by_role("button", name="Go on").click()
    comes_to(page, lambda: [what for what, _ in library.asked], ["stop", "start"])


def test_photographs_that_come_and_go_keep_the_selection(open_page: Open, library: Fake) -> None:
    library.phase = "embedding"
    page = open_page(library, "#order=name")
    first_is(page, "IMG_0000.jpg")
    page.locator("#tile-4").click()
    for name in ["names", "sizes", "folders", "taken", "states", "reasons", "sharpness", "scores", "colours"]:
        getattr(library, name).pop(59)
    library.likeness = {}
    library.groups = []
    library.news(listing=True)
    count_is(page, "59")
    attribute_is(page, "#tile-4", "aria-selected", "true")


def test_a_server_that_is_gone_and_comes_back(open_page: Open, library: Fake) -> None:
    library.phase = "embedding"
    page = open_page(library)
    page.expected_problems.append("ERR_EMPTY_RESPONSE")
    first_is(page, "IMG_0059.png")
    library.gone = True
    page.get_by_text("The program behind this page does not answer").first.wait_for()
    # What is here can still be looked through.
    page.locator("#tile-1").click()
    selected_is(page, "1")
    library.gone = False
    page.locator("#status").get_by_text("Looking at photographs").wait_for()
    selected_is(page, "1")


def test_an_old_list_is_fetched_anew(open_page: Open, library: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    order, refused = library.order, []

    def refuse_once(query: dict[str, list[str]]) -> Any:
        if not refused:
            refused.append(query)
            return order(query) | {"listing": "an older one"}
        return order(query)

    monkeypatch.setattr(library, "order", refuse_once)
    page = open_page(library)
    first_is(page, "IMG_0059.png")
    assert refused


def test_nothing_here_three_and_strange_shapes(open_page: Open) -> None:
    page = open_page(Fake([], drawn([]), [], phase="ready"), wait="#empty h2")
    page.get_by_text("No photograph here").wait_for()
    sizes = [(8000, 1000), (900, 1600), (600, 400)]
    page = open_page(Fake(["pano.jpg", "phone.jpg", "c.jpg"], drawn(sizes), sizes), "#order=name")
    page.wait_for_function("() => document.querySelectorAll('.tile:not([hidden])').length === 3")
    for place in range(3):
        box = page.locator(f"#tile-{place}").bounding_box()
        assert box["height"] > 40 and box["width"] > 40
    page = open_page(Fake(["a.jpg"], drawn([(3, 2)]), [(3, 2)], states=["failed"]), wait="#empty h2")
    page.get_by_text("No photograph here could be read").wait_for()
    page = open_page(Fake(["a.jpg"], drawn([(3, 2)]), [(3, 2)]), "#name=zzz", wait="#empty h2")
    page.get_by_text("No photograph passes these filters").wait_for()


def test_dark_and_light_by_system_and_by_hand(open_page: Open, library: Fake) -> None:
    page = open_page(library, color_scheme="dark")

    def ground() -> tuple[int, ...]:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return tuple(int(part) for part in re.findall(r"\d+", colour)[:3])

    comes_to(page, ground, (44, 44, 44))  # L* 18
    page.get_by_label("Dark or light").click()
    comes_to(page, ground, (238, 238, 238))  # L* 94
    page.reload()
    comes_to(page, ground, (238, 238, 238))


GREYS = ["ground", "bar", "raised", "pressed", "line", "border", "text", "quiet", "empty", "surround"]


def test_greys_are_neutral(open_page: Open, library: Fake) -> None:
    for scheme in ("dark", "light"):
        page = open_page(library, color_scheme=scheme)
        for name in GREYS:
            colour = page.evaluate(
                "name => { const e = document.body.appendChild(document.createElement('i'));"
                " e.style.color = `var(--${name})`; const c = getComputedStyle(e).color;"
                " e.remove(); return c; }",
                name,
            )
            red, green, blue = re.findall(r"\d+", colour)[:3]
            assert red == green == blue, (scheme, name, colour)


def test_twenty_thousand_are_a_few_elements(open_page: Open) -> None:
    n = 20_000
    sizes = [[(480, 320), (320, 480), (480, 360)][row % 3] for row in range(n)]
    page = open_page(Fake([f"P{row:05d}.jpg" for row in range(n)], drawn(sizes), sizes), "#order=name")
    first_is(page, "P00000.jpg")
    count_is(page, "20,000")
    page.keyboard.press("End")
    page.wait_for_selector("#tile-19999", state="attached")
    page.wait_for_selector('#tile-19999[aria-label^="P19999.jpg"]', state="attached")
    assert page.locator(".tile").count() < 250
    start = time.monotonic()
    page.keyboard.press("Control+a")
    selected_is(page, "20,000")
    assert time.monotonic() - start < 5
    page.keyboard.press("Home")
    page.wait_for_selector("#tile-0", state="attached")


STATES = {
    "grid": ("", []),
    "time": ("#order=time", []),
    "selection": ("", ["Control+a"]),
    "search": ("#texts=lake&order=alike", ["/", "x"]),
    "groups": ("#view=groups", []),
    "map": ("#view=map", []),
    "viewer": ("#open=k000012", []),
    "compare": ("#compare=k000010&compare=k000011&compare=k000012", []),
    "keys": ("", ["?"]),
    "failed": ("#failed=1", []),
    "nothing": ("#name=zzz", []),
}


@sights(("dark", 390), ("light", 1440))
def test_axe_finds_nothing_serious(open_page: Open, library: Fake, axe: str, scheme: str, width: int) -> None:
    library.states[3], library.phase = "failed", "embedding"
    assert_accessible(open_page, library, axe, STATES, "#rail .choice", scheme, width)
