"""Do channels of lesion nets show the shape of the lesions? Trains the nets, maximises their channels, decides.

    python jobs/lesions/run.py -o runs/lesions

Two processes of one thread each; with --small a few seconds, to see that it runs. nilearn, which ships the template,
is in the extra "test". docs/lesions.md says what it showed.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from lesions.experiment import SMALL, Plan, run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="tiny sizes, one net a kind; its numbers mean nothing")
    parser.add_argument("--workers", type=int, help="processes; one for each core")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/lesions"), help="folder for tables and figures")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    plan = SMALL if arguments.small else Plan()
    if arguments.workers:
        plan = replace(plan, workers=arguments.workers)
    results = run(plan, arguments.output)
    print(json.dumps({name: results[name] for name in ("accurate", "statistics", "seconds")}, indent=1))


if __name__ == "__main__":
    main()
