"""Teaching in a real Chromium: by keys, by clicks, on a phone, in two tabs, with many clips."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("selenium.webdriver")

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.support.index_fixtures import embeddings, identity, record
from tests.support.teach_fixtures import build_page, class_of
from tests.support.web_fixtures import build_site, running
from tests.web.test_page import Page, browser, until  # noqa: F401  (a fixture)
from vidfeat.datasets.labels import read_labels
from vidfeat.index import VideoIndex
from vidfeat.store.writer import write_store

pytestmark = pytest.mark.slow
NAMES = [f"{kind}/v{number}.mp4" for number in range(3) for kind in ("waves", "balls", "stars")]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    made = build_site(tmp_path_factory.mktemp("site"), NAMES, seconds=2.0)
    made.labels = made.folder / "INDEX/labels.csv"
    with running(made.app) as address:
        made.address = address
        yield made


@pytest.fixture
def page(browser, site):  # noqa: F811
    site.labels.unlink(missing_ok=True)  # the server notices
    yield Page(browser, site.address)
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def press(page: Page, *keys: str) -> None:
    ActionChains(page.browser).send_keys(*keys).perform()


def labelled(site) -> list[tuple[str, str]]:
    if not site.labels.exists():
        return []
    return [(row.path, row.label) for row in read_labels(site.labels).rows]


def ready(page: Page) -> None:
    until(lambda: page.js("return window.lesson && lesson.grid.total > 0"), "the lesson")


def wait_for_labels(page: Page, count: int) -> None:
    until(
        lambda: (
            page.js("return lesson.classes.reduce((sum, one) => sum + one.labels, 0)") == count
            and page.js("return lesson.queue.then(() => true)")
        ),
        f"{count} labels",
    )


def current(page: Page) -> dict:
    return page.js("return lesson.grid.items.get(lesson.grid.at)")


def test_a_lesson_by_keys_alone(page, site, tmp_path):
    page.open()
    page.tiles(9)
    press(page, "t")
    ready(page)
    # Without a class, the field for one has the focus.
    until(lambda: page.js("return document.activeElement.id") == "new-class", "the field")
    press(page, "waves", Keys.ENTER)
    press(page, "n")
    press(page, "balls", Keys.ENTER, "n", "stars", Keys.ENTER)
    assert [chip.text.split()[1] for chip in page.all(".class-chip")] == ["waves", "balls", "stars"]
    for count in range(1, 10):
        clip = current(page)
        press(page, str(1 + ["waves", "balls", "stars"].index(class_of(clip["path"]))))
        wait_for_labels(page, count)
        assert len(labelled(site)) == count
    assert all(label == class_of(path) for path, label in labelled(site))
    # The keys of the classes stay, whichever had the first label.
    assert [chip.text.split()[1] for chip in page.all(".class-chip")] == ["waves", "balls", "stars"]
    press(page, "z")
    wait_for_labels(page, 8)
    assert len(labelled(site)) == 8
    press(page, "q")
    until(lambda: page.all("#lesson-quality table"), "precision")
    assert page.js("return document.querySelectorAll('#lesson-quality circle').length") >= 1
    page.shot(tmp_path, "precision")
    press(page, "q")
    # Several at once: a selection by Shift and arrows.
    first = current(page)["path"]
    press(page, Keys.ARROW_RIGHT)
    ActionChains(page.browser).key_down(Keys.SHIFT).send_keys(Keys.ARROW_RIGHT).key_up(
        Keys.SHIFT
    ).perform()
    assert page.js("return lesson.picked.size") == 2, first
    press(page, "1")
    wait_for_labels(page, 10)
    press(page, "z")
    wait_for_labels(page, 8)
    # Esc ends the selection first, then the lesson.
    press(page, "x")
    assert page.js("return lesson.picked.size") == 1
    press(page, Keys.ESCAPE)
    assert page.js("return lesson.picked.size") == 0
    assert page.js("return lesson.on")
    press(page, Keys.ESCAPE)
    until(lambda: not page.js("return lesson.on"), "the end")
    assert "9 videos" in page.status()
    assert not page.complaints()


def test_clicks_selection_and_search_results(page, site):
    page.open("#teach")
    ready(page)
    page.one("#new-class").send_keys(
        "waves",
        Keys.ENTER,
    )
    page.one(".class-chip").click()
    clip = page.one("#lesson-grid .tile.at")
    path = clip.get_attribute("title")
    clip.click()
    wait_for_labels(page, 1)
    assert labelled(site) == [(path, "waves")]
    page.one(".class-chip").click()  # not armed any more: a click plays
    page.one("#lesson-select").click()
    for tile in page.all("#lesson-grid .tile")[:3]:
        tile.click()
    assert page.js("return lesson.picked.size") == 3
    page.one(".class-chip").click()
    wait_for_labels(page, 4)
    # A result of a search, under the pointer; then the segment on the bar.
    page.js("lesson.page.search(lesson.grid.items.get(0))")
    until(lambda: "like" in page.status(), "results")
    result = page.tiles(3)[0]
    ActionChains(page.browser).move_to_element(result).send_keys("1").perform()
    wait_for_labels(page, 5)
    assert labelled(site)[-1][0] == result.get_attribute("title")
    until(lambda: page.all("#grid .taught"), "the mark on the result")
    page.js(
        "const f = document.getElementById('from'), t = document.getElementById('to');"
        "f.value = 0.2; t.value = 1.4; f.oninput(); document.getElementById('track').focus()"
    )
    ActionChains(page.browser).move_to_element(page.one("#track")).send_keys("1").perform()
    until(
        lambda: (
            (0.2, 1.4)
            in [(row.start_seconds, row.end_seconds) for row in read_labels(site.labels).rows]
        ),
        "the segment's label",
    )
    press(page, Keys.ESCAPE)
    until(lambda: page.js("return lesson.here"), "back to the lesson")
    assert not page.complaints()


def teach(page: Page, count: int) -> None:
    page.js(
        "lesson.added.add('waves'); lesson.added.add('other'); lesson.names = ['waves', 'other']"
    )
    for _ in range(count):
        page.browser.execute_async_script(
            "const done = arguments[0], item = lesson.grid.items.get(0);"
            "lesson.give(item.path.startsWith('waves') ? 'waves' : 'other', [item]).then(done)"
        )


def test_find_all_save_and_a_second_tab(page, site, tmp_path):
    page.open("#teach")
    ready(page)
    teach(page, 12)
    page.one("#lesson-find").click()
    until(lambda: "segments of" in page.one("#lesson-status").text, "what was found")
    link = page.one("#lesson-csv").get_attribute("href")
    table = page.browser.execute_async_script(
        "const done = arguments[1]; fetch(arguments[0]).then((a) => a.text()).then(done)", link
    )
    assert table.startswith("path,start_seconds,end_seconds,label,score,clips\n")
    page.shot(tmp_path, "found")
    page.one("#lesson-save").click()
    press(page, Keys.ENTER)
    until(lambda: "vidfeat classify" in page.one("#save-note").text, "the saved head")
    assert (site.folder / "INDEX/heads/head/head.json").exists()
    page.one("#save-cancel").click()
    # Another tab labels the same clip differently: both say so, and the later one holds.
    before = labelled(site)
    page.js("const s = document.getElementById('lesson-order'); s.value = 'labelled'; s.onchange()")
    until(lambda: "the newest first" in page.one("#lesson-status").text, "the labelled ones")
    path = current(page)["path"]
    said = page.browser.execute_async_script(
        """const done = arguments[0], clip = lesson.grid.items.get(lesson.grid.at).clip;
        fetch('api/teach/label', { method: 'POST', headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ spans: [{ clip }], label: 'third', tab: 'another' }) })
          .then((a) => a.json()).then((value) => done(value.labels))"""
    )
    assert said == len(before)
    press(page, "1")
    note = "Replaced labels of another page: third"
    until(lambda: note in page.one("#lesson-toast").text, "the note")
    assert (path, "waves") in labelled(site)
    assert "third" not in dict(labelled(site)).values()
    assert not page.complaints()


@pytest.mark.parametrize("width", [390, 360])
def test_on_a_phone(page, site, width, tmp_path):
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    page.open("#teach")
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    ready(page)
    teach(page, 8)
    until(lambda: page.all("#lesson-quality table"), "precision")

    def fits(where: str) -> None:
        assert page.js("return document.documentElement.scrollWidth <= innerWidth"), where
        page.shot(tmp_path, f"phone-{width}-{where}")

    fits("lesson")
    assert page.js("return lesson.grid.columns") == 2
    page.one(".class-chip").click()
    page.all("#lesson-grid .tile")[1].click()
    wait_for_labels(page, 9)
    page.js("document.getElementById('lesson-details').open = true")
    fits("precision")
    page.js("document.getElementById('lesson-details').open = false")
    page.js("scrollTo(0, 900)")
    # The chips stay in reach.
    assert page.js("return document.getElementById('classes').getBoundingClientRect().top") < 60
    fits("scrolled")
    page.js(
        "scrollTo(0, 0); const s = document.getElementById('lesson-order');"
        "s.value = 'found:waves'; s.onchange()"
    )
    until(lambda: "segments of" in page.one("#lesson-status").text, "what was found")
    fits("found")
    page.js("location.hash = 'v=' + encodeURIComponent('waves/v0.mp4')")
    until(lambda: "like" in page.status(), "results")
    fits("results")
    assert not page.complaints()


def test_results_as_csv_and_the_filmstrip(page, site):
    page.open("#v=waves%2Fv0.mp4")
    page.tiles(8)
    until(
        lambda: page.js(
            "const p = [...document.querySelectorAll('#track-strip img')];"
            "return p.length >= 4 && p.every((one) => one.complete && one.naturalWidth > 0)"
        ),
        "the filmstrip",
    )
    seconds = page.js(
        "return [...document.querySelectorAll('#track-strip img')]"
        ".map((one) => Number(new URL(one.src).searchParams.get('t')))"
    )
    assert seconds == sorted(seconds)
    assert 0 < seconds[0] < seconds[-1] < 2
    table = page.browser.execute_async_script(
        """const done = arguments[0];
        URL.createObjectURL = (blob) => { blob.text().then(done); return 'data:,'; };
        document.getElementById('save-results').click()"""
    )
    lines = table.splitlines()
    assert lines[0] == "rank,path,start_seconds,end_seconds,score,label"
    assert len(lines) == 9
    shown = [tile.get_attribute("title") for tile in page.all("#grid .tile")]
    assert [line.split(",")[1] for line in lines[1:]] == shown


def test_a_read_only_page_offers_nothing_that_it_refuses(browser, site, tmp_path):  # noqa: F811
    made = build_page(site.folder, site.index, read_only=True)
    with running(made.app) as address:
        page = Page(browser, address)
        page.open("#teach")
        page.tiles(9)
        assert not page.one("#show-teach").is_displayed()
        assert not page.one("#choose-file").is_displayed()
        press(page, "t")
        assert page.js("return window.lesson === undefined")
        page.open("#v=waves%2Fv0.mp4")
        page.tiles(8)
        assert page.one("#save-results").is_displayed()


def test_100000_clips_scroll_and_learn(browser, tmp_path, capsys):  # noqa: F811
    """Only what is near the window exists; the new order comes while a person blinks."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((40, 256)).astype(np.float32)
    rows = []
    for number in range(2000):
        noise = rng.standard_normal((50, 256)).astype(np.float32)
        name = f"kind{number % 4}/v{number:05d}.mp4"
        rows.append((record(name, 50), embeddings(centres[number % 40] + 0.8 * noise)))
    write_store(tmp_path / "f.h5", identity(256), rows)
    index = VideoIndex.build(tmp_path / "f.h5", tmp_path / "INDEX", kind="flat")
    with running(build_page(tmp_path, index).app) as address:
        page = Page(browser, address)
        page.open("#teach")
        ready(page)
        assert page.js("return lesson.grid.total") == 100_000
        times = []
        for _ in range(12):
            times.append(
                page.browser.execute_async_script(
                    "const done = arguments[0], item = lesson.grid.items.get(0);"
                    "const began = performance.now();"
                    "lesson.give(item.path.split('/')[0], [item])"
                    ".then(() => done(performance.now() - began))"
                )
            )
            time.sleep(0.2)
        assert page.js("return lesson.grid.total") == 100_000 - 12
        page.js("scrollTo(0, document.documentElement.scrollHeight / 2)")
        until(lambda: page.js("return lesson.grid.items.size") > 60, "the middle")
        until(lambda: page.all("#lesson-grid .tile"), "tiles")
        assert len(page.all("#lesson-grid .tile")) < 200
        page.js("lesson.grid.go(lesson.grid.total - 1)")
        until(lambda: page.js("return lesson.grid.tiles.has(lesson.grid.total - 1)"), "the end")
        page.shot(tmp_path, "100000")
    with capsys.disabled():
        print(f"\n100,000 clips: label to new order {np.median(times):.0f} ms in the middle")
