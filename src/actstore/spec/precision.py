"""The precisions of a network's arithmetic; apart, since the command line offers them where pydantic is missing."""

from __future__ import annotations

from typing import Literal

Precision = Literal["float32", "tf32", "bf16"]
