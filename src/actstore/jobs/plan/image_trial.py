"""Classifies some images as a capture will, to notice images that the network sees otherwise than in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from actstore.data.images import ImageGroup
from actstore.data.pictures import Picture
from actstore.errors import DataError, one_line
from actstore.inputs.images import ImagePipeline
from actstore.jobs.plan.network import Network
from actstore.networks.heads import normalised_warning
from actstore.networks.repeatable import kept_generators
from actstore.spec.spec import Spec
from actstore.units import counted

#: Images of each class that are classified.
EACH = 4
#: Below this share of the way from chance to 1, the result counts as near chance.
NEAR_CHANCE = 0.25


@dataclass(frozen=True)
class ClassifierTrial:
    """How often some images are classified as they are labelled."""

    images: int
    right: int
    #: Of each class that is there, the part of its images that is classified right.
    each: Mapping[str, float]
    #: Part that is right by chance.
    chance: float
    #: Why nothing could be classified, or "".
    problem: str = ""
    #: Why outputs are no logits, or "".
    normalised: str = ""

    @property
    def suspicious(self) -> bool:
        accuracy = self.right / self.images if self.images else 1.0
        return not self.problem and accuracy < self.chance + NEAR_CHANCE * (1 - self.chance)

    def text(self) -> str:
        """The result on one line."""
        if self.problem:
            return f"images cannot be classified: {self.problem}"
        each = ", ".join(f"{name} {part:.2f}" for name, part in self.each.items())
        return (
            f"{self.right} of {counted(self.images, 'image')} classified right ({each}), where chance gives "
            f"{self.chance * self.images:.0f}"
        )

    def warning(self) -> str | None:
        """What to look at, on one line, or ``None`` if the result is well above chance."""
        if self.normalised or not self.suspicious:
            return self.normalised or None
        return (
            f"the classes do not fit the labels: {self.text()}. Look at the numbers of data.classes first, which are "
            "those of the network's outputs; then at data.preprocess.normalize, data.preprocess.size and "
            'data.images.colour. run.check = "off" silences this'
        )

    def as_json(self) -> dict[str, Any]:
        """Root attribute ``check`` of a store."""
        return {
            "images": self.images,
            "right": self.right,
            "each": {name: round(part, 4) for name, part in self.each.items()},
            "chance": round(self.chance, 4),
            **({"problem": self.problem} if self.problem else {}),
            **({"normalised": True} if self.normalised else {}),
        }


def try_images(
    spec: Spec, pipeline: ImagePipeline, network: Network, groups: Sequence[ImageGroup]
) -> ClassifierTrial | None:
    """Classify `EACH` images of each class; ``None`` if none of them can be read."""
    chosen: dict[int, list[Picture]] = {}
    for picture in (picture for group in groups for picture in group.pictures):
        own = chosen.setdefault(picture.label, [])
        if len(own) < EACH:
            own.append(picture)
    plain = ImagePipeline(spec.model_copy(update={"perturb": (), "controls": type(spec.controls)()}))
    right: dict[int, list[bool]] = {}
    normalised = True
    try:
        for label in sorted(chosen):
            group = replace(groups[0], pictures=tuple(chosen[label]))
            inputs = plain.prepare(pipeline.read(group)).images(slice(None), np.ones((len(chosen[label]), 1), bool))
            with torch.inference_mode(), kept_generators():
                for image in inputs[:, 0]:
                    logits = network.head.logits(network.model(torch.from_numpy(image)[None]))
                    normalised = normalised and network.head.is_normalised(logits)
                    right.setdefault(label, []).append(int(network.head.scores(logits)[0].argmax()) == label)
    except DataError:
        return None
    except Exception as error:  # a user's network may raise anything
        return ClassifierTrial(0, 0, {}, 0.0, problem=one_line(error))
    if not right:
        return None
    every = [one for own in right.values() for one in own]
    each = {spec.class_names[label]: float(np.mean(own)) for label, own in right.items()}
    why = normalised_warning(spec) if normalised else ""
    return ClassifierTrial(len(every), sum(every), each, 1 / len(spec.class_names), normalised=why)
