"""The pictures of the search page in docs/images: rendered videos, an index, ``serve``, Chromium.

    python tests/bench/page_pictures.py [--videos FOLDER] [--out docs/images]

Needs Debian's packages chromium and chromium-driver, and selenium. The videos, features and index
in FOLDER are reused by the next run. Look at the pictures before you commit them.
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
VIDFEAT = str(Path(sys.executable).with_name("vidfeat"))
SIZE = (1360, 757)
SHOWN = (
    "[...document.images].filter(i => i.src && i.getBoundingClientRect().top < 800 && "
    "i.getBoundingClientRect().width).every(i => i.complete && i.naturalWidth)"
)
MAP_STATE = "return window.clipMap && clipMap.state"
# The canvas position of the clip nearest to a point left of the middle.
A_CLIP = """
const box = clipMap.canvas.getBoundingClientRect();
const places = [...Array(clipMap.count).keys()].map((i) => [
  (clipMap.x[i] * clipMap.scale + clipMap.left) / clipMap.ratio,
  (clipMap.y[i] * clipMap.scale + clipMap.top) / clipMap.ratio]);
const far = ([x, y]) => Math.hypot(x - 0.42 * box.width, y - 0.35 * box.height);
return places.sort((a, b) => far(a) - far(b))[0];
"""


def make_index(folder: Path) -> Path:
    """Make videos of every kind of scene, their features by the bundled network, and the index."""
    from tests.support.rendered_videos import render_folder

    index = folder / "index/videos"
    if not index.is_dir():
        if not (folder / "videos").is_dir():
            render_folder(folder / "videos", 6, 6.0, width=320, height=180)
        subprocess.run(
            [VIDFEAT, "extract", "videos", "-o", "videos.h5", "--model", "bundled"],
            cwd=folder,
            check=True,
        )
        subprocess.run(
            [VIDFEAT, "index", "videos.h5", "-o", index, "--make-parents"], cwd=folder, check=True
        )
    return index


def wait_for(condition: Callable[[], object], what: str, seconds: float = 240) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"no {what} after {seconds:g} s")
        time.sleep(0.2)


def take(address: str, out: Path) -> None:
    """Open the pages in Chromium and save screenshots."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    from tests.web.test_page import FLAGS

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in FLAGS:
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": SIZE[0], "height": SIZE[1], "deviceScaleFactor": 1, "mobile": False},
        )
        take_search(browser, f"{address}/#v=rain/rain_01.mp4&s=2.2&e=4.5")
        save(browser, out / "search-page.png")
        take_map(browser, f"{address}/#map")
        save(browser, out / "search-map.png")
    finally:
        browser.quit()


def take_search(browser: Any, address: str) -> None:
    """Save the results of a segment, while the query plays."""
    browser.get(address)
    wait_for(
        lambda: browser.execute_script("return document.querySelectorAll('.tile').length"),
        "results",
    )
    wait_for(lambda: browser.execute_script(f"return {SHOWN}"), "pictures")
    browser.execute_script(
        "const p = document.getElementById('player'); p.loop = true; p.currentTime = 2.5; p.play()"
    )
    time.sleep(5)  # the player hides its buttons


def take_map(browser: Any, address: str) -> None:
    """Save the map in dark colours, with the mouse on a clip."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    browser.get("about:blank")
    browser.get(address)
    browser.execute_script("document.getElementById('theme').click()")
    wait_for(lambda: browser.execute_script(MAP_STATE) == "ready", "map")
    x, y = browser.execute_script(A_CLIP)
    canvas = browser.find_element(By.ID, "canvas")
    size = canvas.size
    pointer = ActionChains(browser).move_to_element_with_offset(
        canvas, int(x - size["width"] / 2), int(y - size["height"] / 2)
    )
    pointer.perform()
    wait_for(
        lambda: browser.execute_script("return document.querySelector('#tip img').naturalWidth"),
        "the picture of a clip",
    )
    time.sleep(1)


def save(browser: Any, path: Path) -> None:
    """Save what is shown, in as few bytes as possible."""
    from PIL import Image

    picture = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(path)


def main(arguments: list[str] | None = None) -> None:
    """Make the index, serve it, take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=Path, metavar="FOLDER")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/images")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = given.videos or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        index = make_index(folder.resolve())
        command = [VIDFEAT, "serve", index, "--port", "0", "--cache", folder / "cache"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            found = re.search(r"http://\S+:\d+", server.stdout.readline())
            assert found is not None
            try:
                take(found[0], given.out)
            finally:
                server.terminate()


if __name__ == "__main__":
    main(sys.argv[1:])
