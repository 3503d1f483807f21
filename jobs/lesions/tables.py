"""Markdown tables of a finished run, for the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def tables(results: dict[str, Any]) -> str:
    """What ``results.json`` holds, as Markdown: accuracies, statistics, counts of images."""
    parts = [_accuracies(results["nets"])]
    parts += [_statistics(found, setting) for setting, found in results["statistics"].items()]
    parts.append(_images(results["images"]))
    return "\n".join(parts)


def _accuracies(nets: Sequence[dict[str, Any]]) -> str:
    rows = [
        [
            net["name"],
            f"{len(net['trained']['validation'])}",
            f"{net['trained']['epoch'] + 1}",
            f"{max(net['trained']['validation']):.2%}",
            f"{net['trained']['test']:.2%}",
            *(f"{net['seconds'].get(part, 0.0):.0f}" for part in ("training", "paper", "centre")),
        ]
        for net in sorted(nets, key=lambda net: str(net["name"]))
        if net["trained"]["test"] is not None
    ]
    parts = ("training, s", "images, s", "images at the centre, s")
    return _table(["network", "epochs", "kept", "best on validation", "held out", *parts], rows)


def _statistics(found: dict[str, Any], setting: str) -> str:
    rows = [
        [
            statistic,
            _numbers(numbers["gaussian"]),
            _numbers(numbers["square"]),
            _numbers([numbers["untrained"]]),
            _numbers([numbers["difference"]]),
            _numbers([numbers["p"]]),
            _numbers([numbers["auc_of_channels"]]),
        ]
        for statistic, numbers in found.items()
    ]
    names = ["Gaussian nets", "square nets", "untrained", "difference", "p", "AUC over channels"]
    return _table([f"statistic ({setting})", *names], rows)


def _images(counts: Sequence[dict[str, Any]]) -> str:
    rows = [
        [
            row["kind"],
            row["setting"],
            row["layer"],
            *(f"{row[name]}" for name in ("images", "near_uniform", "not_live")),
        ]
        for row in counts
    ]
    return _table(["kind", "setting", "layer", "images", "near-uniform", "not live"], rows)


def _numbers(values: Sequence[float | None]) -> str:
    return ", ".join("–" if value is None else f"{value:.3f}" for value in values)


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
