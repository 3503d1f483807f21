"""What interventions cost in passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from actstore.data.images import ImageGroup
from actstore.jobs.blocks import Block
from actstore.jobs.edits import number_of_edits
from actstore.networks.recording import probe
from actstore.spec.intervene import Intervene
from actstore.spec.spec import Spec
from actstore.store.schema import StoreLayout
from actstore.units import counted, human_seconds


@dataclass(frozen=True)
class InterveneCost:
    """What one intervention takes at most: conditions do not apply to all samples, and equal edits are made once."""

    name: str
    edits: int
    conditions: int
    #: Samples of the run, and the share of them that is drawn.
    samples: int
    share: float
    #: Whether the donor has to be computed in the same passes.
    recomputed: bool

    def text(self, seconds: float, noun: str = "sample") -> str:
        """In words; ``seconds`` is what a pass of all samples takes on all workers."""
        passes = self.edits * self.conditions * self.share
        what = f"{counted(self.edits, 'edit')} a {noun} and condition"
        every = f"at most {counted(round(passes * self.samples), 'pass')}, about {human_seconds(passes * seconds)}"
        again = "; the donor's maps are not stored as they were, and computed in the same passes"
        return f"{what}, {every}{again if self.recomputed else ''}"


def intervene_costs(
    spec: Spec, model: nn.Module, layout: StoreLayout, blocks: Sequence[Block]
) -> tuple[InterveneCost, ...]:
    """What each intervention of a spec costs.

    Raises
    ------
    ActstoreError
        if its layers match none.
    """
    samples = sum(block.samples for block in blocks)
    drawn_from = len(blocks) if layout.stitched else samples
    patients = len(_patients(blocks))
    exact = layout.keeps_all and layout.dtype == "float32" and not layout.stitched and not spec.store.mantissa_bits
    return tuple(
        InterveneCost(
            one.name,
            number_of_edits(one, _channels(one, model, layout)),
            len(one.into),
            samples,
            min(1.0, one.samples * patients / max(drawn_from, 1)) if one.samples else 1.0,
            one.edit == "patch" and not exact,
        )
        for one in spec.intervene
    )


def _patients(blocks: Sequence[Block]) -> set[str]:
    files = [block.file for block in blocks]
    named = {
        picture.patient or picture.name for file in files if isinstance(file, ImageGroup) for picture in file.pictures
    }
    return named | {file.key.patient for file in files if not isinstance(file, ImageGroup)}


def _channels(settings: Intervene, model: nn.Module, layout: StoreLayout) -> list[int]:
    """Channels of each layer that is edited."""
    if settings.layers is None:
        return [layer.channels for layer in layout.layers]
    shape, key = (len(layout.input_channels), *layout.space), f"intervene {settings.name!r}: layers"
    return [layer.channels for layer in probe(model, shape, settings.layers, key=key).layers]
