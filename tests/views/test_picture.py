"""A figure as a page carries it: what shows when pointed at, and colours for dark pages."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from actstore.views.figures import marks, pixels
from actstore.views.figures.theme import DIVERGING, GREY, grid, panel
from actstore.views.report.picture import UNITS, on_page, save_picture


def test_marks_lie_where_they_are_drawn_and_say_their_values(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": [0, 1], "y": [0, 1], "layer": ["L01", "</script>"], "mad": [0.123456, np.nan]})
    frame = pd.concat([frame, frame.assign(x=np.nan)])
    png = tmp_path / "a.png"
    figure = panel([marks.dots(frame, "x", "y", "#ff00ff", size=20)], (200, 100), xlim=(-1, 2), ylim=(-1, 2))
    written = save_picture(figure, png, tmp_path / "a.svg")
    assert "</" not in written
    first, second = json.loads(written)
    assert [first[4], second[4]] == ["layer L01 · mad 0.12 · y 0", "layer </script> · mad – · y 1"]
    picture = Image.open(png).convert("RGB")
    for left, top, right, bottom, _ in (first, second):
        assert (left, top) == (right, bottom), "a point"
        red, green, blue = picture.getpixel((left * picture.width // UNITS, top * picture.height // UNITS))
        assert red > 200
        assert blue > 200
        assert green < 120


def test_names_are_no_formulas(tmp_path: Path) -> None:
    for name in ("$$M$$", "a $ b $ c", r"$\nothing$"):
        figure = panel([marks.dots(pd.DataFrame({"x": [0], "y": [0]}), "x", "y", "#ff00ff")], (200, 100), title=name)
        save_picture(figure, tmp_path / "a.png", tmp_path / "a.svg")


def test_a_page_gets_dark_colours_and_the_file_does_not(tmp_path: Path) -> None:
    values = np.linspace(-1, 1, 12).reshape(3, 4)
    panels = [panel([pixels.image(values, cmap, (-1, 1), colorbar=True)], (90, 90)) for cmap in (DIVERGING, GREY)]
    save_picture(grid(panels, 2, (90, 90)), tmp_path / "a.png", tmp_path / "a.svg")
    file = (tmp_path / "a.svg").read_text(encoding="utf-8")
    page = on_page(file)
    assert "prefers-color-scheme" not in file
    assert page.count("prefers-color-scheme: dark") == page.count('filter id="turned"') == 1
    # Of two images with a colour bar each, only those on both sides of 0 are turned.
    assert file.count('id="centred') == file.count('id="bar-of') == 1
