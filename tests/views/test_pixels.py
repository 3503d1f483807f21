"""Colours of single pixels."""

from __future__ import annotations

import io
from typing import Any

import holoviews as hv
import numpy as np
import pytest
from matplotlib import image as files
from matplotlib.colors import to_rgb
from numpy.typing import NDArray

from actstore import views
from actstore.views.figures import pixels
from actstore.views.figures.theme import DIVERGING, FAINT


@pytest.fixture(autouse=True)
def _backends() -> None:
    assert views  # loads both backends of HoloViews


def colours(nan: str) -> set[tuple[int, ...]]:
    """The colours, in red, green and blue of 0 to 255, of a map that is 0 above and NaN below, drawn by Matplotlib."""
    values = np.zeros((8, 8), np.float32)
    values[4:] = np.nan
    figure = hv.render(pixels.image(values, DIVERGING, (-1, 1), nan=nan), backend="matplotlib")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    file.seek(0)
    found: NDArray[Any] = np.rint(files.imread(file)[..., :3] * 255).astype(int)
    return {tuple(colour) for colour in found.reshape(-1, 3).tolist()}


def test_nan_is_not_drawn_as_zero_is() -> None:
    faint = tuple(round(255 * part) for part in to_rgb(FAINT))
    zero = (247, 247, 247)
    assert {faint, zero} <= colours(FAINT)
    assert zero in colours("transparent")
    assert faint not in colours("transparent")


@pytest.mark.parametrize("nan", [FAINT, "transparent"])
def test_nan_has_the_same_colour_on_pages(nan: str) -> None:
    drawn = hv.render(pixels.image(np.zeros((2, 2), np.float32), DIVERGING, (-1, 1), nan=nan), backend="bokeh")
    mappers = [one.glyph.color_mapper for one in drawn.renderers if hasattr(one.glyph, "color_mapper")]
    assert [mapper.nan_color for mapper in mappers] == ["rgba(0, 0, 0, 0)" if nan == "transparent" else nan]
