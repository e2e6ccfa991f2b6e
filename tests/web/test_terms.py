"""Search by text and by several examples in a real Chromium, at two window sizes."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("selenium.webdriver")

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.support.web_fixtures import build_site, running
from tests.web.test_page import SIZES, Page, browser, until  # noqa: F401 (a fixture)

pytestmark = pytest.mark.slow

NAMES = ["a/v0.mp4", "b/v1.mp4", "a/v2.mp4", "b/v3.mp4", "b/v,4.mp4"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory):
    made = build_site(tmp_path_factory.mktemp("site"), NAMES, seconds=2.0, texts=True)
    with running(made.app) as address:
        made.address = address
        yield made


@pytest.fixture
def page(browser, site) -> Page:  # noqa: F811
    return Page(browser, site.address)


def titles(page: Page) -> list[str]:
    return page.js("return [...document.querySelectorAll('#grid .tile')].map(t => t.title)")


def chips(page: Page) -> list[str]:
    return page.js(
        "return [...document.querySelectorAll('.term')].map(t => "
        "(t.classList.contains('negative') ? 'not ' : '') + t.querySelector('b').textContent)"
    )


@pytest.mark.parametrize("size", SIZES)
def test_the_text_box(page: Page, size: str, tmp_path) -> None:
    page.open(size=size)
    page.tiles(5)
    page.one("#phrase").send_keys("v2", Keys.ENTER)
    until(lambda: "like v2" in page.status(), "results of the phrase")
    assert titles(page)[0] == "a/v2.mp4"
    assert page.js("return location.hash") == "#phrase=v2"
    assert page.js("return document.documentElement.scrollWidth <= innerWidth")
    page.one("#phrase").send_keys("-v0", Keys.ENTER)
    until(lambda: "not v0" in page.status(), "results without a phrase")
    assert chips(page) == ["v2", "not v0"]
    assert page.js("return location.hash") == "#phrase=v2&not_phrase=v0"
    page.shot(tmp_path, f"text-{size}")
    # A bookmark opens the same search; back leads to the one before.
    page.open("#phrase=v1&not_phrase=v3", size)
    until(lambda: "like v1, not v3" in page.status(), "the bookmark")
    assert titles(page)[0] == "b/v1.mp4"
    page.one('.term.negative [aria-label="Remove v3"]').click()
    page.one("#more-like-these").click()
    until(lambda: page.status().find("like v1,") >= 0 and "not" not in page.status(), "v1 alone")
    page.browser.back()
    until(lambda: "not v3" in page.status(), "the search before")
    page.one("#clear-terms").click()
    until(lambda: "5 videos" in page.status(), "all videos")
    assert chips(page) == []
    assert not page.complaints()


@pytest.mark.parametrize("size", SIZES)
def test_more_like_these(page: Page, site, size: str, tmp_path) -> None:
    page.open("#v=a%2Fv0.mp4&s=0.2&e=1", size)
    page.tiles(4)
    until(lambda: "like" in page.status(), "results")
    first, second = titles(page)[:2]
    pick = "const [n, sign] = arguments; document.querySelectorAll('#grid .tile')[n]"
    page.js(f"{pick}.querySelector('.picks .' + sign).click()", 0, "for")
    page.js(f"{pick}.querySelector('.picks .' + sign).click()", 1, "against")
    name = [path.rpartition("/")[2] for path in (first, second)]
    assert chips(page) == ["v0.mp4", name[0], f"not {name[1]}"]
    assert len(page.all(".tile.example")) == len(page.all(".tile.counter-example")) == 1
    page.shot(tmp_path, f"picked-{size}")
    # A filter leaves what was picked.
    page.one("#text").send_keys("v")
    time.sleep(0.5)  # the filter asks once typing rests
    until(lambda: "like" in page.status(), "filtered results")
    assert len(chips(page)) == 3
    page.js("document.getElementById('more-like-these').click()")
    until(lambda: "#like=" in page.js("return location.hash"), "the examples in the address")
    until(lambda: f"v0.mp4 and {first}, not {second}" in page.status(), "results of all of them")
    assert set(titles(page)) == set(NAMES) - {"a/v0.mp4", first, second}
    until(
        lambda: page.js(
            "return [...document.querySelectorAll('.term img')].every(i => i.naturalWidth > 0)"
        ),
        "pictures of the examples",
    )
    page.one("#text").clear()
    page.one("#text").send_keys(" ", Keys.BACKSPACE, Keys.ESCAPE)
    # Keys: plus and minus on a tile, D for the text box, and both kinds in one search.
    page.js("document.querySelector('#grid .tile').focus()")
    ActionChains(page.browser).send_keys("-").perform()
    assert len(chips(page)) == 4
    ActionChains(page.browser).send_keys("-").perform()
    assert len(chips(page)) == 3
    ActionChains(page.browser).send_keys("d").perform()
    assert page.js("return document.activeElement.id") == "phrase"
    ActionChains(page.browser).send_keys("v3", Keys.ENTER).perform()
    until(lambda: "phrase=v3" in page.js("return location.hash"), "a phrase beside examples")
    until(lambda: "v3" in page.status(), "its results")
    assert not page.complaints()


def test_without_a_text_tower_there_is_no_text_box(browser, tmp_path_factory) -> None:  # noqa: F811
    plain = build_site(tmp_path_factory.mktemp("plain"), NAMES[:3], seconds=1.0)
    with running(plain.app) as address:
        page = Page(browser, address)
        page.open()
        tiles = page.tiles(3)
        assert not page.all("#phrase")
        assert not page.one("#terms").is_displayed()
        page.js("arguments[0].querySelector('.picks .for').click()", tiles[0])
        page.js("arguments[0].querySelector('.picks .for').click()", tiles[1])
        page.one("#more-like-these").click()
        until(lambda: page.all(".tile .rank"), "results")
        assert len(titles(page)) == 1
        page.browser.get("about:blank")


@pytest.mark.parametrize("width", [320, 360, 390])
def test_nothing_runs_out_of_a_narrow_page(page: Page, width: int, tmp_path) -> None:
    screen = {"width": width, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        where = "#phrase=a+man+jumps+over+a+very+high+fence+in+the+rain&like=0,1,a%2Fv0.mp4"
        page.open(f"{where}&not_phrase=snow")
        page.tiles(4)
        out = page.js(
            "return [...document.querySelectorAll('header *, main *')].filter(e => "
            "!e.closest('.tile, .hidden, #track, #canvas, svg, .term') && e.offsetWidth && "
            "e.getBoundingClientRect().right > innerWidth + 1)"
            ".map(e => e.id || e.className || e.tagName)"
        )
        assert out == []
        assert page.js("return document.documentElement.scrollWidth <= innerWidth")
        page.shot(tmp_path, f"narrow-{width}")
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
