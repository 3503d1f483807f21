"""The figures: the paper's 1 to 4 remade, every channel of the fifth convolution, and the nets' statistics."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lesions.data import Clean, Kind, clean_slices, with_lesions
from lesions.statistic import near_uniform

if TYPE_CHECKING:
    from lesions.experiment import Plan

KINDS: tuple[Kind, ...] = ("gaussian", "square")
TITLES = {
    "gaussian": "Gaussian lesions",
    "square": "square lesions",
    "volume": "3D, middle plane",
    "untrained": "untrained",
}
LOOK = {"cmap": "gray", "vmin": 0, "vmax": 1, "interpolation": "nearest"}


def draw(plan: Plan, results: dict[str, Any], folder: Path) -> None:
    """Write every figure of a finished run into ``folder``."""
    images = {path.stem: _images(path) for path in sorted(folder.glob("*.npz"))}
    of_lesions(clean_slices("test", 24, step=plan.step)).savefig(folder / "figure-1.png", dpi=110)
    of_layers(plan.layers, images).savefig(folder / "figure-2.png", dpi=110)
    channels = {net["name"]: net["method_channel"] for net in results["nets"]}
    for number, kind in enumerate(KINDS, 3):
        title = f"{TITLES[kind]}, channel {channels[f'{kind}-0']} of conv5"
        of_methods(images[f"{kind}-0"], title).savefig(folder / f"figure-{number}.png", dpi=110)
    for name in ("gaussian-0", "square-0", "untrained-0"):
        for setting in ("paper", "centre"):
            sheet(images[name][f"{setting}/conv5"]).savefig(folder / f"conv5-{setting}-{name}.png", dpi=80)
    of_nets(results["statistics"]).savefig(folder / "statistics.png", dpi=110)


def _images(path: Path) -> dict[str, NDArray[np.float32]]:
    with np.load(path) as file:
        return {name: file[name].astype(np.float32) for name in file.files if file[name].dtype == np.float16}


def _show(ax: Axes, image: NDArray[np.float32], title: str = "") -> None:
    if image.ndim == 3:
        image = image[len(image) // 2]
    ax.imshow(image, **LOOK)  # type: ignore[arg-type]
    if near_uniform(image[None])[0]:
        title = f"{title} *"
    ax.set_title(title, fontsize=7)


def _bare(figure: Figure) -> Figure:
    for ax in figure.axes:
        ax.set_xticks([])
        ax.set_yticks([])
    return figure


def of_lesions(clean: Clean) -> Figure:
    """Figure 1: held-out slices with each kind of lesion."""
    figure = Figure((8, 4.2), layout="constrained")
    grid = figure.subplots(2, 4, squeeze=False)
    for row, kind in zip(grid, KINDS, strict=True):
        # Planes far apart.
        images, labels, _ = with_lesions(clean, range(0, len(clean), 3), kind, np.random.default_rng(0))
        for ax, index in zip(row, np.flatnonzero(labels), strict=True):
            _show(ax, images[index, 0], TITLES[kind])
    return _bare(figure)


def of_layers(layers: tuple[str, ...], images: dict[str, dict[str, NDArray[np.float32]]]) -> Figure:
    """Figure 2: three random filters of every layer of four nets."""
    from lesions.experiment import shown

    kinds = ("gaussian", "square", "volume", "untrained")
    figure = Figure((13, 1.2 * len(layers) + 0.8), layout="constrained")
    grid = figure.subplots(len(layers), 3 * len(kinds), squeeze=False)
    for row, layer in zip(grid, layers, strict=True):
        for number, kind in enumerate(kinds):
            heading = f"{TITLES[kind]}\n" if layer == layers[0] else ""
            held = images[f"{kind}-0"][f"paper/{layer}"]
            # Of the volume net only these were made.
            chosen = held if kind == "volume" else held[shown(layer)]
            three = zip(row[3 * number : 3 * number + 3], chosen, shown(layer), strict=True)
            for place, (ax, image, channel) in enumerate(three):
                _show(ax, image, f"{heading if place == 1 else ''}{channel}")
        row[0].set_ylabel(layer)
    return _bare(figure)


def of_methods(images: dict[str, NDArray[np.float32]], title: str) -> Figure:
    """Figures 3 and 4: one channel of the fifth convolution by each method."""
    held = {name.removeprefix("method/"): image[0] for name, image in images.items() if name.startswith("method/")}
    figure = Figure((9, 5), layout="constrained")
    figure.suptitle(title, fontsize=9)
    for ax, (name, image) in zip(figure.subplots(2, 6).flat, held.items(), strict=True):
        _show(ax, image, name)
    return _bare(figure)


def sheet(images: NDArray[np.float32]) -> Figure:
    """Every channel of a layer, in order, 16 a row."""
    count, height, width = images.shape
    rows = -(-count // 16)
    # One picture: an axis for each channel takes seconds to draw.
    tiles = np.ones((rows * 16, height + 2, width + 2), np.float32)
    tiles[:count, 1:-1, 1:-1] = images
    whole = tiles.reshape(rows, 16, height + 2, width + 2).swapaxes(1, 2).reshape(rows * (height + 2), -1)
    figure = Figure((14, 14 * whole.shape[0] / whole.shape[1]))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.imshow(whole, **LOOK)  # type: ignore[arg-type]
    return _bare(figure)


def of_nets(statistics: dict[str, Any]) -> Figure:
    """A point for each net: both statistics in both settings."""
    figure = Figure((9, 3), layout="constrained")
    panels = [(setting, statistic) for setting in statistics for statistic in statistics[setting]]
    for ax, (setting, statistic) in zip(figure.subplots(1, len(panels), squeeze=False).flat, panels, strict=True):
        found = statistics[setting][statistic]
        for x, kind in enumerate(KINDS):
            numbers = [number for number in found[kind] if number is not None]
            ax.plot([x] * len(numbers), numbers, "o", color=f"C{x}", alpha=0.7)
        if found["untrained"] is not None:
            ax.axhline(found["untrained"], color="gray", linestyle=":")
        ax.set_xlim(-0.5, 1.5)
        ax.set_xticks([0, 1], ["Gaussian", "square"])
        p = "no p" if found["p"] is None else f"p = {found['p']:.3f}"
        ax.set_title(f"{setting}: {statistic}, {p}", fontsize=8)
    return figure
