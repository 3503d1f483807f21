"""Measures the cost of copying all layers of UNetHeart 8-4-4 into reused shard buffers, without writing.

The bare forward pass runs the same inputs in the same batches. Target: at most 1.25 times its time.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from common import interleave, phantom_spec, show

from actstore.inputs.prepare import prepare
from actstore.jobs.engine import Engine
from actstore.jobs.inference import Inference, batches
from actstore.jobs.plan.plan import make_plan
from actstore.networks.recording import recording


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--batch", type=int, default=None, help="model inputs a forward pass")
    parser.add_argument("--threads", type=int, default=None, help="torch threads")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        spec = phantom_spec(Path(folder), patients=1)
        run = spec.run.model_copy(update={"batch_size": arguments.batch, "threads": arguments.threads})
        plan = make_plan(spec.model_copy(update={"run": run}), workers=1, timing=False)
        engine = Engine(plan.job, plan.device)
        block = plan.blocks[0]
        prepared = prepare(spec, plan.pipeline, plan.pipeline.read(block.file))
        inference = Inference(engine.device, plan.layout, plan.batch_size, spec, prepared, plan.head)
        inputs, applicable = prepared.inputs, prepared.applicable
        pieces = [
            (first, min(plan.ring_samples, block.samples - first))
            for first in range(0, block.samples, plan.ring_samples)
        ]
        stacked = [
            torch.cat([torch.from_numpy(inputs[first + r.start : first + r.stop, r.condition]) for r in runs])
            for first, count in pieces
            for runs in batches(applicable[first : first + count], plan.batch_size)
        ]

        def forward() -> None:
            with torch.inference_mode():
                for batch in stacked:
                    engine.model(batch)

        def record() -> None:
            with recording(engine.model, plan.layout.layers) as forward:
                for first, count in pieces:
                    inference.infer(first, *engine.ring.take().place(first, count), forward)

        seconds = interleave({"forward": forward, "forward, recorded into shard buffers": record}, runs=arguments.runs)
        note = f"{int(applicable.sum())} inputs, {plan.batch_size} a pass, {plan.threads} threads"
        show("Recording, nothing written", seconds, base="forward", note=note)


if __name__ == "__main__":
    main()
