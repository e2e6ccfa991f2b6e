"""The pictures of the search page in docs/images: rendered videos, an index, ``serve``, Chromium.

    python tests/bench/page_pictures.py [--videos FOLDER] [--out docs/images]

Needs Debian's packages chromium and chromium-driver, and selenium. What is made in FOLDER (videos,
features, index) is used again by the next run. Look at the pictures before they are committed.
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

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
VIDFEAT = str(Path(sys.executable).with_name("vidfeat"))
SIZE = (1360, 757)
# name of the picture: address, and what must be there before it is taken
PICTURES = {
    "search-page.png": ("#v=rain/rain_01.mp4&s=2.2&e=4.5", ".tile"),
    "search-map.png": ("#map", "canvas"),
}


def make_index(folder: Path) -> Path:
    """Videos of every kind of scene, their features by the bundled network, and the index."""
    from tests.support.rendered_videos import render_folder

    index = folder / "videos.index"
    if not index.is_dir():
        if not (folder / "videos").is_dir():
            render_folder(folder / "videos", 6, 6.0, width=320, height=180)
        subprocess.run(
            [VIDFEAT, "extract", "videos", "-o", "videos.h5", "--model", "bundled"],
            cwd=folder,
            check=True,
        )
        subprocess.run([VIDFEAT, "index", "videos.h5", "-o", index, "--whiten"],
                       cwd=folder, check=True)  # fmt: skip
    return index


def wait_for(condition: Callable[[], object], what: str, seconds: float = 240) -> None:
    """Until it holds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"no {what} after {seconds:g} s")
        time.sleep(0.2)


def take(address: str, out: Path) -> None:
    """Open each address in Chromium and save what it shows."""
    from PIL import Image
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    from tests.web.test_page import FLAGS

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*FLAGS, f"--window-size={SIZE[0]},{SIZE[1]}"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": SIZE[0], "height": SIZE[1], "deviceScaleFactor": 1, "mobile": False},
        )
        for name, (where, selector) in PICTURES.items():
            browser.get("about:blank")
            browser.get(f"{address}/{where}")
            wait_for(
                lambda selector=selector: browser.execute_script(
                    "return document.querySelectorAll(arguments[0]).length > 0 && "
                    "[...document.images].filter(i => i.getBoundingClientRect().top < 800)"
                    ".every(i => i.complete)",
                    selector,
                ),
                name,
            )
            time.sleep(15)  # the player's first frame, and the map's own fading in
            picture = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
            picture.quantize(256, dither=Image.Dither.NONE).save(out / name, optimize=True)
            print(out / name)
    finally:
        browser.quit()


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
