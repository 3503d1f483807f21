"""Explanations of the tiny store, as its spec lists them."""

from __future__ import annotations

from typing import Any

CONDITION = "brightness(LV, 0.1)"
EXPLANATIONS: list[dict[str, Any]] = [
    {
        "name": "hidden",
        "method": "occlusion",
        "conditions": ["original", CONDITION],
        "window": 24,
        "stride": 20,
        "box": "image",
        "randomisation": [1],
    },
    {"name": "slope", "method": "gradient", "score": "logit", "targets": ["LV", "RV"], "deletion": 8},
    {"name": "guided", "method": "guided", "norm": "autograd", "deletion": False, "randomisation": []},
    {"name": "top", "method": "deconvnet", "layers": ["up", "bottom.1"], "top": 3},
]
