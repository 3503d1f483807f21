"""From numbers of images to one number a net, and to what the nets show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lesions.networks import LAYERS
from lesions.statistic import LEVEL, auc, permutation_p


def live(row: dict[str, Any]) -> bool:
    """Whether an image counts: its channel responds, and it shows something."""
    return row["status"] == "live" and not row["near_uniform"]


def of_net(rows: Sequence[dict[str, Any]], name: str, setting: str, statistic: str) -> float | None:
    """A net's number: the mean over its live channels of the fifth convolution, None without any."""
    values = [row[statistic] for row in _fifth(rows, setting) if row["net"] == name and live(row)]
    return float(np.mean(values)) if values else None


def _fifth(rows: Sequence[dict[str, Any]], setting: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["layer"] == LAYERS[-1] and row["setting"] == setting]


def decide(rows: Sequence[dict[str, Any]], setting: str) -> dict[str, Any]:
    """The statistics of every net, and what the permutation of nets says of their difference."""
    names = {kind: sorted({row["net"] for row in rows if row["kind"] == kind}) for kind in ("square", "gaussian")}
    found: dict[str, Any] = {}
    for statistic in ("match", "axes"):
        per_net: dict[str, list[Any]] = {
            kind: [of_net(rows, n, setting, statistic) for n in names[kind]] for kind in names
        }
        channels = {
            kind: np.array([row[statistic] for row in _fifth(rows, setting) if row["kind"] == kind and live(row)])
            for kind in names
        }
        found[statistic] = {**per_net, "untrained": of_net(rows, "untrained-0", setting, statistic)}
        if None in [*per_net["square"], *per_net["gaussian"]]:
            # Without a number for every net there is no comparison.
            found[statistic] |= {"difference": None, "p": None, "auc_of_channels": None, "differs": False}
            continue
        p = permutation_p(per_net["square"], per_net["gaussian"])
        found[statistic] |= {
            "difference": float(np.mean(per_net["square"]) - np.mean(per_net["gaussian"])),
            "p": p,
            "auc_of_channels": auc(channels["square"], channels["gaussian"]),
            "differs": p <= LEVEL,
        }
    return found


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """How many images of a kind of net, setting and layer are live, dead, or near-uniform."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["kind"], row["setting"], row["layer"]), []).append(row)
    return [
        {
            **dict(zip(("kind", "setting", "layer"), key, strict=True)),
            "images": len(group),
            "near_uniform": sum(row["near_uniform"] for row in group),
            "not_live": sum(row["status"] != "live" for row in group),
        }
        for key, group in groups.items()
    ]
