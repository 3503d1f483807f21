"""Makes the README's moving picture from the explorer's own page: `python benchmarks/moving_picture.py STORE`.

Each frame is a link of the explorer, opened in headless Chromium and photographed once nothing moves. STORE is the
demo's (`make demo`).
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

from PIL import Image
from playwright.sync_api import Page, sync_playwright

SERVE = "from actstore.cli.commands import main; main()"
#: Pixels of the page, and of the picture.
PAGE, PICTURE = (1440, 900), (1152, 720)
#: Milliseconds that a frame stays, and for which nothing may change before it is taken.
STAYS, STILL = 1100, 700
LARGEST = 1_500_000
PATIENT = {"patient": "patient001", "frame": 1}
#: A layer near the input, the bottleneck and a layer near the output, each with one of its channels.
DEEPER = (("L03", 2), ("L15", 36), ("L20", 1))


def scenes() -> Iterator[dict[str, object]]:
    """What each frame shows, as the fields of a link."""
    here = {**PATIENT, "slice": 4, "condition": "brightness(LV, 0.1)", "layer": "L08", "channel": 5}
    yield here
    yield from ({**here, "channel": channel} for channel in (11, 13))
    yield from ({**here, "slice": number} for number in (3, 5, 6))
    yield from ({**here, "layer": layer, "channel": channel} for layer, channel in DEEPER)
    yield from ({**here, "condition": f"brightness({name}, 0.1)"} for name in ("RV", "MYO"))


@contextmanager
def served(store: str) -> Iterator[str]:
    """The address of an explorer of ``store``, ended afterwards."""
    command = [sys.executable, "-c", SERVE, "explore", store, "--port", "0", "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield next(word for line in process.stdout for word in line.split() if word.startswith("http://"))
        finally:
            process.kill()


def photograph(page: Page, address: str) -> Image.Image:
    """The page at ``address`` once two photographs in a row are equal."""
    page.goto(address)
    page.wait_for_function("Number(document.documentElement.dataset.shown) > 1")
    before = b""
    while (now := page.screenshot()) != before:
        before = now
        page.wait_for_timeout(STILL)
    return Image.open(io.BytesIO(now)).convert("RGB").resize(PICTURE, Image.Resampling.LANCZOS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/images/explorer.webp"))
    given = parser.parse_args()
    found = os.environ.get("ACTSTORE_CHROMIUM") or shutil.which("chromium")
    with served(given.store) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": PAGE[0], "height": PAGE[1]})
        page.set_default_timeout(60_000)
        frames = [photograph(page, f"{address.rstrip('/')}/?{urlencode(scene)}") for scene in scenes()]
        browser.close()
    frames[0].save(given.output, save_all=True, append_images=frames[1:], duration=STAYS, loop=0, quality=72, method=6)
    size = given.output.stat().st_size
    print(f"{given.output}: {len(frames)} frames, {size / 1e6:.2f} MB")
    if size > LARGEST:
        sys.exit(f"{size} bytes are more than {LARGEST}: take fewer frames or a lower quality")


if __name__ == "__main__":
    main()
