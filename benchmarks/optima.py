"""In how many live channels of a run's network the optimum exceeds what any sample of the run reaches, by layer.

python benchmarks/optima.py SPEC     computes `actstore visualise SPEC --layers '*.conv'` where that is not done
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from common import machine

import actstore
from actstore.analysis.optima import STATUSES
from actstore.jobs.visualise import visualise
from actstore.spec.spec import load_spec
from actstore.tables.build import build_table

NAME = "convolutions"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--layers", nargs="+", default=["*.conv"])
    parser.add_argument("--workers", type=int, default=None)
    options = parser.parse_args()
    spec = load_spec(options.spec)
    settings = spec.visualise.model_copy(update={"layers": tuple(options.layers)})

    def progress(report: object, finished: int, total: int) -> None:
        print(f"{finished}/{total}", file=sys.stderr)

    found = visualise(
        spec.model_copy(update={"visualise": settings}), name=NAME, workers=options.workers, progress=progress
    )
    if not found.complete:
        sys.exit(f"{len(found.failed)} units failed: {found.failed[:1]}")
    table = build_table(actstore.open(found.store), "optima", of=NAME)
    print(f"\n{machine()}; `python {' '.join(sys.argv)}`; {settings.steps} steps\n")
    print(f"| layer | channels | {' | '.join(STATUSES)} | live above the data |\n|---|---|{'---|' * len(STATUSES)}---|")
    for layer, rows in [*table.groupby("layer", sort=False), ("all", table)]:
        live = rows[rows["status"] == "live"]
        counts = " | ".join(str((rows["status"] == status).sum()) for status in STATUSES)
        print(f"| {layer} | {len(rows)} | {counts} | {live['above_data'].sum()} ({live['above_data'].mean():.0%}) |")


if __name__ == "__main__":
    main()
