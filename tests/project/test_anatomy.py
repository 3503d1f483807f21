"""The comparison of three classifiers of anatomy: a small run of all of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import actstore
from actstore.spec.spec import load_spec
from anatomy.networks import SIDE
from anatomy.run import NETS, differences, run
from anatomy.train import changed, few_of_each, images_of
from classifiers import CLASSES, images


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame, pd.DataFrame]:
    """The folder of a run on 36 small images, and its tables."""
    folder = tmp_path_factory.mktemp("anatomy")
    found, labels = images(12, side=SIDE)
    np.savez(folder / "all.npz", image=found, label=labels, names=np.array(list(CLASSES)))
    return folder, *run(folder / "all.npz", folder / "out", each=4, epochs=1, cluster="inline")


def test_the_three_are_compared_on_the_same_images(compared: tuple[Path, pd.DataFrame, pd.DataFrame]) -> None:
    folder, accuracies, pairs = compared
    stores = {name: actstore.open(folder / "out" / f"{name}.zarr") for name, _, _ in NETS}
    names = [store.samples["image_name"].tolist() for store in stores.values()]
    assert names[0] == names[1] == names[2]
    assert len(names[0]) == 18
    for name, store in stores.items():
        whole = accuracies[(accuracies["network"] == name) & (accuracies["class_name"] == "all")].iloc[0]
        predicted = np.asarray(store.class_names)[store.score.values[:, 0].argmax(1)]
        assert whole["accuracy"] == (predicted == store.samples["label"]).mean()
        assert whole["low"] < whole["accuracy"] < whole["high"] or whole["accuracy"] in (0, 1)
    assert pairs[["first", "second"]].to_numpy().tolist() == [
        ["shallow", "deeper"],
        ["shallow", "augmented"],
        ["deeper", "augmented"],
    ]
    pd.testing.assert_frame_equal(differences(stores), pairs)
    assert pairs["p"].between(0, 1).all()


def test_no_test_image_is_trained_on(compared: tuple[Path, pd.DataFrame, pd.DataFrame]) -> None:
    folder, *_ = compared
    test = actstore.open(folder / "out/shallow.zarr")
    trained_on, _ = images_of(load_spec(folder / "out/shallow-train.toml"))
    seen = {image.tobytes() for image in trained_on}
    assert len(seen) == 18
    assert not seen & {image.tobytes() for image in test.image.values[:, 0].astype(np.float32)}


def test_few_of_each_are_as_many_of_every_class() -> None:
    inputs, labels = images(5)
    chosen, own = few_of_each((inputs[:, None].astype(np.float32), labels), 3, seed=1)
    assert np.bincount(own).tolist() == [3, 3, 3]
    assert len({image.tobytes() for image in chosen}) == 9


def test_augmentation_moves_images_and_keeps_their_range() -> None:
    inputs, _ = images(2, side=SIDE)
    batch = torch.from_numpy(inputs[:, None].astype(np.float32))
    moved = changed(batch, torch.Generator().manual_seed(0))
    assert moved.shape == batch.shape
    assert moved.min() >= batch.min() - 1e-3
    assert moved.max() <= batch.max() + 1e-3
    assert (moved - batch).abs().mean() > 1
