"""Cost of interventions by that of as many bare forward passes, for UNetHeart 8-4-4 at 256², on one core.

Each channel of each recorded layer is patched alone: 532 passes a slice. Maps, labels and inputs are read from a store
and predictions are counted, as in `actstore intervene`, which also writes some megabytes. The bare passes run the
network on as many inputs, in batches of the same size.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import interleave, machine, parser, phantom_spec, show
from numpy.typing import NDArray

from actstore.jobs.capture import capture
from actstore.jobs.intervene import InterveneJob
from actstore.jobs.intervening import Intervening
from actstore.jobs.out import Out
from actstore.jobs.plan.intervene import plan_intervene
from actstore.networks.model import build_model
from actstore.spec.intervene import Intervene
from actstore.store.store import Store
from actstore.units import counted

CONDITION = "brightness(LV, 0.1)"


class Unwritten(Out):
    """Counts what it is given: files of a round before would be in the way of the next."""

    def put(self, name: str, values: NDArray[Any]) -> None:
        self.bytes += values.nbytes


def edit_one_block(of: Intervening, block: int) -> None:
    job = InterveneJob.of_run(of)
    unit = job.units()[block]
    with job.open("cpu") as compute:
        compute(unit, Unwritten(of.storage, job.schema, unit.index, unit.samples, 0))


def main() -> None:
    options = parser(__doc__, runs=5, patients=1)
    options.add_argument("--samples", type=int, default=4, help="slices of the patient")
    given = options.parse_args()
    torch.set_num_threads(1)
    print(machine())
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        spec = phantom_spec(Path(folder), patients=1, targets=("LV",))
        assert capture(spec, cluster="inline", device="cpu").complete
        table = Intervene(name="restore", edit="patch", into=(CONDITION,), samples=given.samples)
        (plan,) = plan_intervene(spec.model_copy(update={"intervene": (table,)}), device="cpu")
        store = Store(spec.store.path)
        # All drawn slices count as of the block that has the most of them.
        edited = plan.of.edited(store)[:, 0]
        blocks = np.bincount(store.samples["block"].to_numpy(), weights=edited)
        block, slices = int(blocks.argmax()), int(blocks.max())
        edits = len(plan.of.edits)
        model = build_model(spec)
        image = torch.from_numpy(store.image.isel(sample=0, condition=0).values)

        def bare() -> None:
            with torch.inference_mode():
                for _ in range(slices):
                    for first in range(0, edits, plan.of.batch_size):
                        model(image.expand(min(plan.of.batch_size, edits - first), *image.shape).contiguous())

        rounds = {"bare forward passes": bare, "patching": lambda: edit_one_block(plan.of, block)}
        seconds = interleave(rounds, runs=given.runs)
        show(
            f"{edits} edits of {counted(slices, 'slice')}, batches of {plan.of.batch_size}",
            seconds,
            base="bare forward passes",
        )


if __name__ == "__main__":
    main()
