"""Tables of a made-up study with the columns of findings, for figures and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

STRENGTHS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


def made_up_tables(
    layers: Mapping[str, int], targets: Sequence[str], classes: Sequence[str], patients: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """Every table, for ``layers`` (name to channels), one darkening of each of ``targets``, and ``patients``."""
    rng = np.random.default_rng(0)
    few = f"{len(patients)} patients: too few for an interval" if len(patients) < 5 else ""
    rests: dict[str, Any] = {"samples": 9 * len(patients), "patients": len(patients), "note": few}
    conditions = {f"brightness({target}, 0.1)": target for target in targets}
    by_layer = [
        {"layer": layer, "module": f"net.{layer}", "condition": condition, "target": target}
        for condition, target in conditions.items()
        for layer in layers
    ]
    by_channel = [row | {"channel": c} for row in by_layer for c in range(layers[row["layer"]])]
    cases = ("error", "empty prediction", "MYO + others")
    tables: dict[str, pd.DataFrame] = {}

    def put(name: str, rows: list[dict[str, Any]], **columns: Any) -> None:
        frame = pd.DataFrame(rows)
        tables[name] = frame.assign(**{key: make(len(frame)) for key, make in columns.items()})

    def between(low: float, high: float) -> Any:
        return lambda n: rng.uniform(low, high, n)

    put(
        "dice-mean",
        [{"class_name": name, "condition": c, "target": t, **rests} for c, t in conditions.items() for name in classes],
        original=between(0.9, 0.97),
        original_low=between(0.85, 0.9),
        original_high=between(0.97, 1.0),
        perturbed=between(0.2, 0.5),
        perturbed_low=between(0.1, 0.2),
        perturbed_high=between(0.5, 0.6),
        change=between(-0.6, -0.5),
        change_low=between(-0.8, -0.6),
        change_high=between(-0.5, -0.3),
    )
    put(
        "segmentation",
        [
            {"patient": p, "frame": 1, "slice": s, "condition": c, "target": t, "class_name": name}
            for c, t in {"original": "", **conditions}.items()
            for p in patients
            for s in range(5)
            for name in classes
        ],
        **{
            name: between(0.2, 1.0)
            for name in ("dice", "jaccard", "sensitivity", "specificity", "precision", "position")
        },
        volume_difference=between(-9, 9),
        relative_volume_difference=between(-0.5, 0.5),
    )
    put(
        "surface",
        [
            {"patient": p, "frame": 1, "condition": c, "target": t, "class_name": name}
            for c, t in {"original": "", **conditions}.items()
            for p in patients
            for name in classes
        ],
        hd95=between(1, 30),
        assd=between(0.5, 9),
    )
    put("layers", [row | rests for row in by_layer], mad=between(0.1, 0.3), standardised=between(0.1, 0.8))
    mad = tables["layers"]["mad"]
    tables["layers"] = tables["layers"].assign(low=mad * 0.8, high=mad * 1.2, mean_network_rank=mad.rank(pct=True))
    put(
        "certainty",
        [row | rests for row in by_channel if row["channel"] < 7],
        count=lambda n: rng.integers(1, 50, n),
        frequency=between(0.3, 0.9),
        low=between(0.1, 0.3),
        high=between(0.9, 1.0),
        selected=between(0.7, 1.0),
    )
    sets = [row | {"k": 3, "most": most} | rests for row in by_layer for most in (3, 7)]
    put("stability", sets, overlap=between(0.5, 0.9), low=between(0.3, 0.5), high=between(0.9, 1.0))
    put(
        "sensitivity",
        [row | {"k": k, "most": m} | rests for row in by_layer for k in (1, 3, 5) for m in (5, 7, 9)],
        overlap=between(0.4, 1.0),
    )
    put(
        "comparison",
        [
            {
                "layer": layer,
                "module": f"net.{layer}",
                "channel": c,
                "targets": ", ".join(chosen),
                "number": len(chosen),
            }
            for layer, count in layers.items()
            for c in range(min(count, 10))
            if (chosen := [t for t in targets if rng.random() < 0.6])
        ],
    )
    shared = tables["comparison"]
    shared["specific"] = [t if n == 1 else "" for t, n in zip(shared["targets"], shared["number"], strict=True)]
    shared["specific_share"] = np.where(shared["number"] == 1, rng.uniform(0.5, 1, len(shared)), np.nan)
    put(
        "general-specific",
        [row | {"case": case} | rests for row in by_layer for case in cases],
        correlation=between(-0.4, 1.0),
        gained=lambda n: rng.choice(["", "5"], n),
        lost=lambda n: rng.choice(["", "6"], n),
    )
    put(
        "heterogeneity",
        [row | rests for row in by_channel],
        count=lambda n: rng.integers(1, 50, n),
        statistic=between(0, 30),
        p=between(0, 0.5),
        q=between(0, 1.0),
        tests=lambda n: np.full(n, n),
        highest=lambda n: rng.choice(list(patients), n),
        share=between(0, 1),
    )
    put(
        "leave-one-out",
        [row | {"patient": p, "samples": 9 * len(patients) - 9} for row in by_layer for p in patients],
        lost=lambda n: rng.choice(["", "2", "0, 13"], n),
    )
    out = tables["leave-one-out"]
    tables["leave-one-out"] = out.assign(shared=7 - out["lost"].str.count(r"\d+"), gained=out["lost"])
    put("regions", [row | rests | {"stride": 2.0} for row in by_channel], mad=between(0.1, 0.3))
    parts = rng.dirichlet([4, 2, 3], len(tables["regions"]))
    for k, kind in enumerate(("inside", "rim", "outside")):
        tables["regions"][kind] = parts[:, k] * 0.3
        tables["regions"][f"{kind}_share"] = parts[:, k]
    put(
        "controls",
        [row | rests for row in by_channel],
        mad=between(0.1, 0.3),
        control=between(0.05, 0.3),
        difference=between(-0.1, 0.2),
        effect=between(-1, 3),
        effect_low=between(-2, -1),
        effect_high=between(3, 4),
        p=between(0, 0.2),
        q=between(0, 0.2),
        tests=lambda n: np.full(n, n),
        rescaled=lambda n: np.zeros(n, dtype=int),
    )
    tables["controls"]["sensitive"] = (tables["controls"]["q"] < 0.05) & (tables["controls"]["effect"] > 0)
    put(
        "noise",
        [
            {"layer": layer, "module": f"net.{layer}", "channel": c, "condition": name, "samples": 9, "patients": 2}
            for name in ("repeat", "repeat(batch=1)")
            for layer, count in layers.items()
            for c in range(count)
        ],
    )
    other = tables["noise"]["condition"] == "repeat(batch=1)"
    tables["noise"]["mad"] = np.where(other, rng.uniform(1e-8, 1e-7, len(other)), 0.0)
    tables["noise"]["largest"] = tables["noise"]["mad"] * 3
    dose = [
        {"transform": "brightness", "target": t, "class_name": name, "strength": s, **rests}
        for t in targets
        for name in classes
        for s in STRENGTHS
    ]
    put("dose", dose)
    fall = [0.95 - 0.9 * abs(row["strength"] - 1) * (row["class_name"] == row["target"]) for row in dose]
    tables["dose"]["dice"] = np.clip(fall, 0.02, 1)
    tables["dose"] = tables["dose"].assign(
        low=(tables["dose"]["dice"] - 0.05).clip(lower=0), high=(tables["dose"]["dice"] + 0.04).clip(upper=1)
    )
    ends = ["half_below", "half_below_low", "half_below_high", "half_above", "half_above_low", "half_above_high"]
    put(
        "dose-half",
        [
            {"transform": "brightness", "target": t, "class_name": name, "baseline": 0.95, **rests}
            | dict(zip(ends, (0.47, 0.4, 0.5, 1.53, 1.5, 1.6) if name == t else [np.nan] * 6, strict=True))
            for t in targets
            for name in classes
        ],
    )
    put(
        "dose-channels",
        [
            {key: row[key] for key in ("layer", "module", "channel", "target")} | {"transform": "brightness", **rests}
            for row in by_channel
        ],
        slope_below=between(-0.5, 0),
        slope_above=between(0, 0.5),
        threshold_below=between(0, 0.9),
        threshold_above=between(1, 2),
    )
    put(
        "dose-cases",
        [
            {"patient": p, "frame": 1, "slice": s, "transform": "brightness", "target": t}
            | {"strength": STRENGTHS[at], "previous_strength": STRENGTHS[at + 1]}
            | {"case": cases[(s + 1) % 3], "previous_case": cases[s % 3]}
            for t in targets
            for p in patients
            for s in range(4)
            for at in [int(rng.integers(0, 5))]
        ],
    )
    put(
        "association",
        [row | rests | {"class_name": name} for row in by_channel for name in classes],
        correlation=between(-0.8, 0.8),
        low=between(-0.9, -0.8),
        high=between(0.8, 0.9),
        p=between(0, 0.3),
        q=between(0, 0.3),
        tests=lambda n: np.full(n, n),
        size_correlation=between(-0.8, 0.8),
        size_baseline=lambda n: np.full(n, 0.6),
        frequency=between(0, 1),
        frequency_rank=lambda n: rng.integers(1, 8, n),
        association_rank=lambda n: rng.integers(1, 8, n),
    )
    names = list(layers)
    pairs = [(one, other) for i, one in enumerate(names) for other in names[i + 1 :]]
    put(
        "similarity",
        [
            *({"layer": a, "other_layer": b, "condition": "original", "target": ""} | rests for a, b in pairs),
            *({**row, "other_layer": row["layer"]} | rests for row in by_layer),
        ],
        cka=between(-0.01, 1),
        rsa=between(-0.1, 1),
    )
    put(
        "projection",
        [
            {"layer": layer, "patient": p, "frame": 1, "slice": s, "condition": condition, "target": target}
            | {"method": "pca", "trustworthiness": 0.91, "share": 0.6}
            for layer in names
            for condition, target in {"original": "", **conditions}.items()
            for p in patients
            for s in range(3)
        ],
        x=between(-2, 2),
        y=between(-1, 1),
        moved=between(0, 1),
    )
    return tables
