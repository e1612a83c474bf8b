"""The page before the real server and real vectors: the two halves fit."""

import pytest

from tests.web.browser.conftest import Open, text_is
from tests.web.conftest import FAILED, TOKEN, Client

pytestmark = pytest.mark.browser


def test_open_search_look_group_copy(client: Client, open_page: Open, embedded) -> None:
    page = open_page(
        f"http://127.0.0.1:{client.port}/?token={TOKEN}", viewport={"width": 1280, "height": 800}
    )
    n = len([state for state in client.get("/api/photographs").json["state"] if state != "failed"])
    page.wait_for_function("n => document.getElementById('title-count').textContent === n", arg=str(n))
    page.wait_for_selector("#tile-0 canvas:not([hidden])")
    assert "token" not in page.url
    page.keyboard.press("/")
    page.keyboard.type("a red circle")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('#order select').value === 'alike'")
    found = client.get("/api/order?by=search&text=a+red+circle").json
    names = client.get("/api/photographs").json["name"]
    page.wait_for_function(
        "name => document.getElementById('tile-0').ariaLabel.startsWith(name)", arg=names[found["rows"][0]]
    )
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    page.wait_for_selector("#viewer .picture img[alt]:not([alt=''])")
    page.locator("#viewer .facts-list").get_by_text("megapixels").wait_for()
    page.keyboard.press("Escape")
    page.get_by_label("Show only these").check()
    text_is(page, "#tile-0 .tile-name", FAILED)
    assert page.locator("#tile-0 .tile-reason").text_content()
    page.get_by_label("Show only these").uncheck()
    page.keyboard.press("g")
    page.locator(".line-text", has_text="group").wait_for(timeout=60_000)
    page.get_by_role("button", name="Select the top of each").click()
    page.get_by_role("button", name="Copy to a folder…").click()
    page.get_by_label("Into a new folder named").fill("tops")
    page.keyboard.press("Enter")
    page.get_by_text("copied to").wait_for()
    assert list((embedded / "data" / "mine" / "copies" / "tops").iterdir())


def test_without_the_token_there_is_no_page(client: Client, open_page: Open) -> None:
    page = open_page(f"http://127.0.0.1:{client.port}/", wait="")
    page.expected_problems.append("401")
    assert page.locator("#scroller").count() == 0
    assert "token" in page.locator("body").text_content()
