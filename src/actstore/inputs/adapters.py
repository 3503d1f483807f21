"""Which pipeline a spec asks for."""

from __future__ import annotations

from actstore.inputs.pipeline import Pipeline
from actstore.inputs.plain import Plain
from actstore.spec.spec import Spec


def pipeline_of(spec: Spec) -> Pipeline:
    """What turns a volume into what the network of ``spec`` sees."""
    return Plain(spec)
