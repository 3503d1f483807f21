"""What histograms of scores add to a capture, and what curves from them cost against scikit-learn on all pixels.

UNetHeart 8-4-4 with the shipped weights on phantom volumes, all 21 layers in float32; captures with and without
histograms in turn, warm, in one process. ``--keep statistics`` stores no tensors, where histograms weigh most. Then, of
a captured store, the area under the curve and average precision of every class and condition: from its histograms,
read from disk, and by scikit-learn on the logits of all pixels, held in memory.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch
from common import interleave, parser, phantom_spec, require_free, show

from actstore.jobs.plan.plan import Plan, make_plan
from actstore.jobs.runner import releasing, run_unit
from actstore.spec.spec import Spec
from attended import prepare_store


def plan_of(spec: Spec, folder: Path, *, histogram: bool, keep: str) -> Plan:
    changed = spec.store.model_copy(update={"histogram": histogram, "keep": keep, "path": folder / f"{histogram}.zarr"})
    return make_plan(spec.model_copy(update={"store": changed}), workers=1, timing=False)


def fresh_store(plan: Plan) -> None:
    shutil.rmtree(plan.store.location, ignore_errors=True)
    prepare_store(plan)


def captured(plan: Plan, used: list[float]) -> None:
    """Like one worker: two blocks at once in one process. Adds the process's seconds of computing to ``used``."""
    start = time.process_time()
    with ThreadPoolExecutor(2) as pool:
        failed = [report for report in pool.map(partial(run_unit, plan.task), plan.blocks) if report.failed]
    if failed:
        raise RuntimeError(failed[0])
    used.append(time.process_time() - start)


def main() -> None:
    options = parser(__doc__, runs=8, patients=4)
    options.add_argument("--keep", default="all", choices=["all", "statistics"])
    arguments = options.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=arguments.folder)))
        stack.enter_context(releasing())
        spec = phantom_spec(folder, patients=arguments.patients)
        plans = {
            "without": plan_of(spec, folder, histogram=False, keep=arguments.keep),
            "with": plan_of(spec, folder, histogram=True, keep=arguments.keep),
        }
        require_free(folder, 3 * plans["with"].bytes)
        torch.set_num_threads(plans["with"].threads)
        used: dict[str, list[float]] = {name: [] for name in plans}
        seconds = interleave(
            {name: (partial(fresh_store, plan), partial(captured, plan, used[name])) for name, plan in plans.items()},
            runs=arguments.runs,
        )
        more = plans["with"].bytes / plans["without"].bytes - 1
        note = f"{100 * more:.2f} % more bytes"
        show(f"Capture, keep = {arguments.keep}", seconds, base="without", note=note)
        cores = {name: values[1:] for name, values in used.items()}
        show(f"Seconds of cores, keep = {arguments.keep}", cores, base="without", note=note)


if __name__ == "__main__":
    main()
