"""The page in a real Chromium: searching, playing, dropping, the map, at two window sizes."""

# ruff: noqa: E402  (what may be missing is asked for before it is imported)

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
webdriver = pytest.importorskip("selenium.webdriver")

from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.support.index_fixtures import embeddings, identity, record
from tests.support.web_fixtures import build_site, running
from vidfeat.index import VideoIndex
from vidfeat.store.writer import write_store

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)
# A browser on two busy cores takes its time: these run with `make slow`.
pytestmark = pytest.mark.slow

SIZES = {"wide": (1360, 860), "narrow": (400, 800)}
NAMES = ["a/v0.mp4", "b/v1.mp4", "a/v2.mp4", "b/v3.mp4", "b/v4.mp4", "a/v5.mp4", "b/old.avi"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory):
    made = build_site(tmp_path_factory.mktemp("site"), NAMES, seconds=4.0)
    with running(made.app) as address:
        made.address = address
        yield made


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory):
    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("no Chromium: install the packages chromium and chromium-driver")
    options = Options()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=Service(driver))
    found.set_script_timeout(120)
    yield found
    found.quit()


def until(condition: Callable[[], object], what: str, seconds: float = 60) -> object:
    """Wait for something; the machine may be busy."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s for {what}")


class Page:
    """The page, in the words of who uses it."""

    def __init__(self, browser, address: str) -> None:
        self.browser, self.address = browser, address

    def open(self, where: str = "", size: str = "wide") -> None:
        self.browser.set_window_size(*SIZES[size])
        self.browser.get("about:blank")
        self.browser.get(f"{self.address}/{where}")
        until(lambda: self.js("return document.readyState") == "complete", "the page")

    def js(self, script: str, *values):
        return self.browser.execute_script(script, *values)

    def all(self, selector: str):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str):
        return until(lambda: self.all(selector), selector)[0]

    def tiles(self, least: int = 1):
        return until(
            lambda: (found := self.all(".tile")) and len(found) >= least and found, "tiles"
        )

    def status(self) -> str:
        return self.one("#status").text

    def shot(self, folder: Path, name: str) -> None:
        self.browser.save_screenshot(str(folder / f"{name}.png"))

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.browser.get_log("browser")]


@pytest.fixture
def page(browser, site) -> Page:
    return Page(browser, site.address)


def number_of(site, path: str) -> int:
    return site.index.videos.paths.index(path)


@pytest.mark.parametrize("size", SIZES)
def test_open_search_and_play(page, site, size, tmp_path):
    page.open(size=size)
    tiles = page.tiles(7)
    assert "7 videos" in page.status()
    until(
        lambda: page.js(
            "return [...document.querySelectorAll('.pic img')].slice(0,4)"
            ".every(i => i.complete && i.naturalWidth > 0)"
        ),
        "thumbnails",
    )
    assert page.js("return document.documentElement.scrollWidth <= innerWidth")
    next(tile for tile in tiles if "v0.mp4" in tile.text).click()
    until(lambda: "like" in page.status(), "results")
    assert page.js("return location.hash") == "#v=a%2Fv0.mp4"
    results = page.tiles(6)
    assert len(results) == 6
    assert "a/v0.mp4" not in {tile.get_attribute("title") for tile in results}
    # The result plays where it stands, from the second that matches.
    chosen = next(tile for tile in results if tile.get_attribute("title").endswith(".mp4"))
    start = float(chosen.get_attribute("data-start"))
    page.js("arguments[0].scrollIntoView({block: 'center'}); arguments[0].click()", chosen)
    video = until(
        lambda: page.js(
            "const v = document.querySelector('.tile.plays video.on');"
            "return v && v.currentTime > 0 && !v.paused && !v.seeking ? "
            "[v.currentTime, v.currentSrc] : null"
        ),
        "a playing result",
    )
    assert video[0] >= start - 0.05
    assert "/media/" in video[1]
    assert page.js("return document.querySelectorAll('.tile.plays').length") == 1
    page.shot(tmp_path, f"search-{size}")
    page.browser.back()
    until(lambda: "7 videos" in page.status(), "all videos")
    assert not page.complaints()


def test_avi_plays(page, site):
    page.open("#v=a%2Fv0.mp4")
    page.tiles(6)
    tile = page.one(f'.tile[data-id="{number_of(site, "b/old.avi")}"]')
    page.js("arguments[0].scrollIntoView({block: 'center'}); arguments[0].click()", tile)
    source = until(
        lambda: page.js(
            "const v = document.querySelector('.tile.plays video.on');"
            "return v && v.currentTime > 0.1 ? v.currentSrc : null"
        ),
        "the AVI",
    )
    assert "/clip/" in source
    start = float(tile.get_attribute("data-start"))
    assert f"start={start:g}" in source
    assert page.js("return Number(document.querySelector('.tile.plays video').dataset.offset)") == (
        pytest.approx(start)
    )


def test_a_long_avi_plays_anywhere(browser, tmp_path_factory):
    """Only a minute is transcoded at a time: a click behind it fetches the segment around it."""
    seconds = 80.0
    names = ["a/v0.mp4", "b/old.avi"]
    site = build_site(tmp_path_factory.mktemp("long"), names, seconds=seconds)
    with running(site.app) as address:
        page = Page(browser, address)
        page.open("#v=b%2Fold.avi")
        until(lambda: page.js("return document.getElementById('player').duration > 0"), "a player")
        assert page.js("return document.getElementById('player').duration") < 61
        track = page.one("#track")
        across = int(track.size["width"] * (72 / seconds - 0.5))
        ActionChains(browser).move_to_element_with_offset(track, across, 0).click().perform()
        place = until(
            lambda: page.js(
                "const v = document.getElementById('player');"
                "return v.vidfeat.offset > 0 && v.currentTime > 0 && !v.seeking ? "
                "[v.vidfeat.offset, v.currentTime] : null"
            ),
            "the segment behind the first minute",
        )
        assert place[0] + place[1] == pytest.approx(72, abs=4)
        page.browser.get("about:blank")  # its requests end before the server does


@pytest.mark.parametrize("size", SIZES)
def test_search_by_a_segment(page, site, size, tmp_path):
    page.open("#v=a%2Fv2.mp4", size)
    page.tiles(6)
    until(lambda: page.js("return document.getElementById('player').duration > 0"), "the player")
    track = page.one("#track")
    width = track.size["width"]
    ActionChains(page.browser).move_to_element_with_offset(
        track, int(-0.25 * width), 0
    ).click_and_hold().move_by_offset(int(0.15 * width), 0).move_by_offset(
        int(0.10 * width), 0
    ).release().perform()
    start, end = (float(page.one(name).get_attribute("value")) for name in ("#from", "#to"))
    assert start == pytest.approx(1.0, abs=0.15)
    assert end == pytest.approx(2.0, abs=0.15)
    page.one("#search-segment").click()
    until(lambda: "s=" in page.js("return location.hash"), "the segment in the address")
    until(lambda: "0:01.0" in page.status() or "0:00.8" in page.status(), "results")
    assert page.one("#whole").is_displayed()
    page.shot(tmp_path, f"segment-{size}")
    # The keys I and O do the same where it plays.
    page.js("const p = document.getElementById('player'); p.pause(); p.currentTime = 0.5")
    until(lambda: page.js("return !document.getElementById('player').seeking"), "the seek")
    page.js("document.activeElement.blur()")
    ActionChains(page.browser).send_keys("i").perform()
    assert float(page.one("#from").get_attribute("value")) == pytest.approx(0.5, abs=0.1)


DROP = """
const [bytes, name, done] = arguments;
const data = new Uint8Array(bytes);
const type = name.endsWith('avi') ? 'video/x-msvideo' : 'video/mp4';
const file = new File([data], name, { type });
const transfer = new DataTransfer();
transfer.items.add(file);
for (const kind of ['dragenter', 'dragover', 'drop']) {
  const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
  window.dispatchEvent(new DragEvent(kind, options));
}
done(true);
"""


@pytest.mark.parametrize("name", ["b/v3.mp4", "b/old.avi"])
def test_drop_a_file(page, site, name):
    page.open()
    page.tiles(7)
    data = list((site.root / name).read_bytes())
    page.browser.execute_async_script(DROP, data, f"mine.{name[-3:]}")
    until(lambda: "like" in page.status(), "results of the dropped file")
    assert page.js("return location.hash").startswith("#u=")
    assert page.tiles()[0].get_attribute("title") == name
    until(
        lambda: page.js("return document.getElementById('player').currentTime > 0"),
        "the dropped video to play",
    )
    assert page.js("return document.getElementById('drop').hidden")


@pytest.mark.parametrize("width", [320, 360, 390, 480, 700])
def test_nothing_runs_out_of_a_narrow_page(page, width, tmp_path):
    screen = {"width": width, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        for where in ("", "#v=a%2Fv0.mp4&s=1&e=2", "#map"):
            page.open(where)
            until(lambda: page.js("return document.readyState === 'complete'"), "the page")
            time.sleep(0.3)
            out = page.js(
                "return [...document.querySelectorAll('header *, main *')].filter(e => "
                "!e.closest('.tile, .hidden, #track, #canvas, svg') && e.offsetWidth && "
                "e.getBoundingClientRect().right > innerWidth + 1)"
                ".map(e => e.id || e.className || e.tagName)"
            )
            assert out == [], where
            assert page.js("return document.documentElement.scrollWidth <= innerWidth"), where
            page.shot(tmp_path, f"narrow-{width}-{len(where)}")
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_filters_and_keys(page, tmp_path):
    page.open()
    page.tiles(7)
    page.one("#text").send_keys("v1")
    until(lambda: len(page.all(".tile")) == 1, "the filter by name")
    page.one("#text").clear()
    page.one("#text").send_keys(" ", Keys.BACKSPACE, Keys.ESCAPE)
    page.one("#folder-button").click()
    until(lambda: len(page.all(".folder-row")) == 3, "the folders")
    page.shot(tmp_path, "folders")
    page.one('.folder-row[data-path="b"]').click()
    until(lambda: len(page.all(".tile")) == 4, "the filter by folder")
    page.one("#folder-button").click()
    page.one('.folder-row[data-path=""]').click()
    until(lambda: len(page.all(".tile")) == 7, "no filter")
    page.js("const f = document.getElementById('label'); f.value = 'odd'; f.onchange()")
    until(lambda: len(page.all(".tile")) == 3, "the filter by label")
    page.js("const f = document.getElementById('label'); f.value = ''; f.onchange()")
    page.tiles(7)
    keys = ActionChains(page.browser)
    keys.send_keys(Keys.ARROW_RIGHT).send_keys(Keys.ARROW_RIGHT).perform()
    focused = page.js(
        "return [...document.querySelectorAll('.tile')].indexOf(document.activeElement)"
    )
    assert focused == 1
    ActionChains(page.browser).send_keys(Keys.ENTER).perform()
    until(lambda: "like" in page.status(), "the search by Enter")
    page.one("#keys").click()
    ActionChains(page.browser).send_keys(Keys.ESCAPE).perform()
    until(lambda: not page.js("return document.getElementById('help').open"), "no dialog")
    assert "like" in page.status(), "Esc closes the dialog and leaves the results"
    page.one("#text").send_keys("v3")
    until(lambda: len(page.all(".tile")) == 1, "results by name")
    assert page.js("return location.hash").startswith("#v=")
    page.one("#text").clear()
    page.one("#text").send_keys(" ", Keys.BACKSPACE, Keys.ESCAPE)
    ActionChains(page.browser).send_keys(Keys.ARROW_RIGHT).perform()
    ActionChains(page.browser).send_keys("s").perform()
    until(lambda: "s=" in page.js("return location.hash"), "the search with a result")
    ActionChains(page.browser).send_keys(Keys.ESCAPE).perform()
    until(lambda: "7 videos" in page.status(), "all videos")


@pytest.mark.parametrize("size", SIZES)
def test_map(page, site, size, tmp_path):
    page.open("#map", size)
    until(lambda: page.js("return window.clipMap && clipMap.state") == "ready", "the map", 120)
    assert page.js("return clipMap.count") == len(site.index)
    place = page.js(
        "const b = clipMap.canvas.getBoundingClientRect();"
        "return [...Array(clipMap.count).keys()].map(i => [i,"
        "(clipMap.x[i] * clipMap.scale + clipMap.left) / clipMap.ratio,"
        "(clipMap.y[i] * clipMap.scale + clipMap.top) / clipMap.ratio])"
        ".find(([i, x, y]) => x > 30 && y > 30 && x < b.width - 60 && y < b.height - 160)"
    )
    canvas = page.one("#canvas")
    across = int(place[1] - canvas.size["width"] / 2)
    down = int(place[2] - canvas.size["height"] / 2)
    pointer = ActionChains(page.browser).move_to_element_with_offset(canvas, across, down)
    pointer.perform()
    until(lambda: not page.js("return document.getElementById('tip').hidden"), "the tip")
    until(
        lambda: page.js("return document.querySelector('#tip img').naturalWidth > 0"), "its picture"
    )
    before = page.js("return [clipMap.left, clipMap.scale]")
    ActionChains(page.browser).click_and_hold().move_by_offset(40, 10).release().perform()
    assert page.js("return clipMap.left") != before[0]
    page.js("clipMap.zoom(2)")
    assert page.js("return clipMap.scale") > before[1]
    page.js("clipMap.showAll()")
    # A filter holds here too: what does not pass is faint, and is not pointed at.
    here = "clipMap.nearest(...[...arguments].map((value) => value * clipMap.ratio))"
    assert page.js(f"return {here}", place[1], place[2]) >= 0
    choose = "const f = document.getElementById('label'); f.value = arguments[0]; f.onchange()"
    page.js(choose, "odd")
    until(lambda: page.js("return clipMap.someOut"), "the filter on the map")
    passed = page.js(
        "return [...new Set([...clipMap.video].filter((_, i) => !clipMap.out[i]))].sort()"
    )
    odd = ["b/v1.mp4", "b/v3.mp4", "a/v5.mp4"]
    assert passed == sorted(number_of(site, path) for path in odd)
    page.shot(tmp_path, f"map-filtered-{size}")
    page.js(choose, "")
    until(lambda: not page.js("return clipMap.someOut"), "no filter")
    page.shot(tmp_path, f"map-{size}")
    ActionChains(page.browser).move_to_element_with_offset(canvas, across, down).click().perform()
    until(lambda: "like" in page.status(), "the search from the map")
    assert "s=" in page.js("return location.hash")


PAN = """
const done = arguments[arguments.length - 1];
const frames = [];
clipMap.frames.length = 0;
let last = performance.now(), count = 0;
const step = (now) => {
  frames.push(now - last);
  last = now;
  clipMap.move(Math.round(9 * Math.cos(count / 20)), Math.round(7 * Math.sin(count / 15)));
  if (count % 60 === 30) clipMap.zoom(1.4);
  if (count % 60 === 59) clipMap.zoom(1 / 1.4);
  if (++count < 240) requestAnimationFrame(step);
  else done([frames.slice(5), clipMap.frames.slice(5)]);
};
requestAnimationFrame(step);
"""


@pytest.mark.slow
def test_map_of_50000_points_is_fluid(browser, tmp_path, capsys):
    """Frame times while panning and zooming; the drawing itself is a small part of a frame."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((60, 16)) * 2
    rows = []
    for number in range(500):
        vectors = centres[number % 60] + np.cumsum(rng.standard_normal((110, 16)) * 0.3, axis=0)
        name = f"kind{number % 12:02d}/v{number:03d}.mp4"
        rows.append((record(name, 110), embeddings(vectors.astype(np.float32))))
    write_store(tmp_path / "f.h5", identity(16), rows)
    index = VideoIndex.build(tmp_path / "f.h5", tmp_path / "INDEX")
    from vidfeat.web.server import ServeOptions, make_app

    app = make_app(index, ServeOptions(cache=tmp_path / "cache"))
    with running(app) as address:
        page = Page(browser, address)
        page.open("#map")
        until(lambda: page.js("return window.clipMap && clipMap.state") == "ready", "the map", 300)
        assert page.js("return clipMap.count") == 50_000
        page.js("clipMap.showAll()")
        time.sleep(1)
        frames, drawing = browser.execute_async_script(PAN)
        page.shot(tmp_path, "map-50000")
    with capsys.disabled():
        print(
            f"\n50,000 points: frames {np.median(frames):.1f} ms in the middle, "
            f"{np.percentile(frames, 95):.1f} ms at the 95th percentile; drawing "
            f"{np.median(drawing):.1f} ms, {np.percentile(drawing, 95):.1f} ms"
        )
    # No assertion on the clock of a shared machine, but for what would be no map at all.
    assert np.median(drawing) < 100
