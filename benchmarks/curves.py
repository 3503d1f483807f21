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

import numpy as np
import torch
from common import interleave, parser, phantom_spec, require_free, show
from numpy.typing import NDArray
from sklearn import metrics

from actstore import analysis
from actstore.inputs.prepare import prepare
from actstore.jobs.plan.plan import Plan, make_plan
from actstore.jobs.runner import releasing, run_unit
from actstore.networks.model import build_model
from actstore.spec.spec import Spec
from actstore.store.opening import open_store
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


class Pixels:
    """The log-odds of every pixel that a condition applies to, and the label: what scikit-learn needs in memory."""

    def __init__(self, plan: Plan) -> None:
        model, spec = build_model(plan.spec), plan.spec
        odds: list[list[NDArray[np.float32]]] = [[] for _ in spec.conditions]
        labels: list[list[NDArray[np.uint8]]] = [[] for _ in spec.conditions]
        for block in plan.blocks:
            prepared = prepare(spec, plan.pipeline, plan.pipeline.read(block.file))
            inputs = prepared.inputs
            for sample, condition in np.argwhere(prepared.applicable):
                with torch.inference_mode():
                    logits = model(torch.from_numpy(inputs[sample, condition][None]))[0]
                owned = prepared.windows.owned_in(sample)[-2:]
                others = [torch.cat([logits[:c], logits[c + 1 :]]).logsumexp(0) for c in range(len(logits))]
                odds[condition].append((logits - torch.stack(others)).numpy()[:, *owned].reshape(len(logits), -1))
                labels[condition].append(prepared.label[sample][owned].ravel())
        self.odds = [np.concatenate(parts, 1) for parts in odds]
        self.labels = [np.concatenate(parts) for parts in labels]

    def areas(self) -> NDArray[np.float64]:
        """AUC and average precision by scikit-learn: (measure, condition, foreground class)."""
        found = np.empty((2, len(self.odds), len(self.odds[0]) - 1))
        for i, (rows, label) in enumerate(zip(self.odds, self.labels, strict=True)):
            for c in range(1, len(rows)):
                found[0, i, c - 1] = metrics.roc_auc_score(label == c, rows[c])
                found[1, i, c - 1] = metrics.average_precision_score(label == c, rows[c])
        return found


def from_store(path: Path) -> NDArray[np.float64]:
    """The same from the histograms of a store, opened and read; then the bounds of both."""
    store = open_store(path)
    counts = store.histogram.isel(class_name=slice(1, None)).sum("sample").compute()
    area, precision = analysis.auc(counts), analysis.average_precision(counts)
    return np.stack([area["auc"], precision["average_precision"], area["bound"], precision["bound"]])


def against_scikit_learn(plan: Plan, runs: int) -> None:
    pixels, path = Pixels(plan), Path(str(plan.store.location))
    found, expected = from_store(path), pixels.areas()
    off = np.abs(found[:2] - expected)
    np.testing.assert_array_less(off, found[2:] + 1e-9)
    steps = {"scikit-learn": pixels.areas, "histograms": partial(from_store, path)}
    number = sum(map(len, pixels.labels))
    show(
        "Areas of every class and condition",
        interleave(steps, runs=runs),
        base="scikit-learn",
        note=f"{number:,} pixels, {off[0].size} curves; AUC off by at most {off[0].max():.1e} (bound "
        f"{found[2].max():.1e}), average precision by {off[1].max():.1e} (bound {found[3].max():.1e})",
    )


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
        against_scikit_learn(plans["with"], 3)


if __name__ == "__main__":
    main()
