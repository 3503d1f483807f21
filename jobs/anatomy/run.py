"""Three classifiers of anatomy, trained, captured on test images, and compared.

    python jobs/anatomy/run.py mednist_6x300.npz -o runs/anatomy

The NPZ has the arrays image (n, 64, 64), label (n) and names. Half of each class is to test, a part of the rest to
train on; docs/howto/classifiers.md says what came of it.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pandas as pd
import torch

import actstore
from actstore import analysis
from actstore.spec.spec import Spec, load_spec
from actstore.tables.compare import Comparison
from anatomy.networks import SIDE
from anatomy.train import build, few_of_each, images_of, train

#: Name, factory, whether it is trained with augmentation.
NETS = (("shallow", "shallow", False), ("deeper", "deeper", False), ("augmented", "deeper", True))

SPEC = """\
[data]
format = "images"
root = "{root}"
[data.preprocess]
normalize = "minmax-slice"
size = [{side}, {side}]
[data.split]
share = 0.5
seed = {seed}
use = "{use}"
[data.classes]
{classes}
[model]
factory = "anatomy.networks:{factory}"
arguments = {{ classes = {count} }}
weights = "{name}.pt"
layers = ["type:Conv2d", "type:ReLU", "type:Linear"]
[store]
path = "{name}.zarr"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="the NPZ of images")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/anatomy"), help="folder for specs and stores")
    parser.add_argument("--each", type=int, default=150, help="images of each class to train on")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    made = run(chosen.root, chosen.output, each=chosen.each, epochs=chosen.epochs, seed=chosen.seed)
    for table in made:
        print(table.to_string(index=False))


def run(
    root: Path, output: Path, *, each: int, epochs: int, seed: int = 0, cluster: str | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train, capture and compare the three, on ``cluster``: tables of `accuracies` and `differences`, also as CSV."""
    output.mkdir(parents=True, exist_ok=True)
    with np.load(root, allow_pickle=False) as content:
        classes = content["names"].tolist()
    for name, factory, augmented in NETS:
        start = time.monotonic()
        trained_on = write_spec(output, root, classes, name, factory, seed, "train")
        network = build(factory, len(classes), seed)
        images = few_of_each(images_of(trained_on), each, seed)
        losses = train(network, images, epochs=epochs, seed=seed, augmented=augmented)
        torch.save(network.state_dict(), output / f"{name}.pt")
        print(
            f"{name}: {len(images[1])} images, {epochs} epochs, loss {losses[-1]:.4f}, {time.monotonic() - start:.0f} s"
        )
        spec = write_spec(output, root, classes, name, factory, seed, "test")
        summary = actstore.capture(spec, cluster=cluster, device="cpu")
        if not summary.complete:
            raise SystemExit(f"{name}: {summary.failed[0].error}")
    stores = {name: actstore.open(output / f"{name}.zarr") for name, _, _ in NETS}
    tables = accuracies(stores), differences(stores)
    for table, name in zip(tables, ("accuracies", "differences"), strict=True):
        table.to_csv(output / f"{name}.csv", index=False)
    return tables


def write_spec(output: Path, root: Path, classes: list[str], name: str, factory: str, seed: int, use: str) -> Spec:
    """The spec of one network on one split; that of the test split is what is captured."""
    path = output / (f"{name}.toml" if use == "test" else f"{name}-{use}.toml")
    numbers = "\n".join(f"{label} = {number}" for number, label in enumerate(classes))
    path.write_text(
        SPEC.format(
            root=root.resolve(),
            side=SIDE,
            seed=seed,
            use=use,
            classes=numbers,
            factory=factory,
            count=len(classes),
            name=name,
        ),
        encoding="utf-8",
    )
    return load_spec(path)


def accuracies(stores: dict[str, actstore.Store]) -> pd.DataFrame:
    """Of each network the part of test images that it classifies right, with a 95 % interval, of all and each class."""
    rows = []
    for name, store in stores.items():
        table = analysis.accuracy_table(store.confusion.compute())
        rows.append(table.assign(network=name)[["network", "class_name", "samples", "accuracy", "low", "high"]])
    return pd.concat(rows, ignore_index=True)


def differences(stores: dict[str, actstore.Store]) -> pd.DataFrame:
    """Of each pair of networks, images that one alone classifies right, and McNemar's exact p-value."""
    rows = []
    for first, second in itertools.combinations(stores, 2):
        found = Comparison(stores[first], stores[second]).accuracy.iloc[0]
        names = {"first_alone": "a_alone", "second_alone": "b_alone", "p": "p"}
        rows.append({"first": first, "second": second} | {name: found[column] for name, column in names.items()})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
