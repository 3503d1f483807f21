"""Histograms of scores in a store: against the network itself, and of stores that have none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import zarr

import actstore
from actstore import analysis
from actstore.errors import StoreError
from actstore.jobs.capture import capture
from actstore.jobs.scores import Scores
from actstore.measures.bins import BINS, edges
from actstore.networks.heads import Head
from actstore.spec.spec import load_spec
from actstore.store import commits
from actstore.store.store import Store
from actstore.store.verify import verify
from actstore.tables.catalogue import Unanswerable
from actstore.tables.findings import Findings
from conftest import WriteSpec
from counted import expect_counts, owned
from networks import tiny_unet

#: As on a device that is not the host.
FAR = {"on_host": False}


@pytest.fixture(scope="module")
def store(tiny_store: Path) -> Store:
    return actstore.open(tiny_store)


def test_counts_are_those_of_the_network(store: Store) -> None:
    model, counts, totals = tiny_unet(), store.histogram.compute(), store.calibration.compute()
    for sample, condition in np.argwhere(store.applicable.values)[::5]:
        with torch.inference_mode():
            image = store.image.isel(sample=sample, condition=condition).values
            logits = model(torch.from_numpy(image)[None])[0].numpy()
        at, box = {"sample": sample, "condition": condition}, owned(store, int(sample))
        label = store.label.values[sample][box]
        found = counts.isel(at).values.astype(int), totals.isel(at).values
        expect_counts(*found, logits[(slice(None), *box)], label, [(c,) for c in range(4)], "softmax")


def test_every_pixel_is_counted_once_in_every_class(store: Store) -> None:
    counts, confusion = store.histogram.sum("bin").compute(), store.confusion.sum("predicted_class").compute()
    for c, name in enumerate(store.layout.scored):
        true = confusion.isel(true_class=c).values
        np.testing.assert_array_equal(counts.sel(class_name=name, truth=1).values, true)
        np.testing.assert_array_equal(
            counts.sel(class_name=name).sum("truth").values, confusion.sum("true_class").values
        )
    assert not counts.values[~store.applicable.values].any()
    np.testing.assert_array_equal(store.calibration.sel(total="pixels").sum("probability_bin"), counts.sum("truth"))


def test_a_device_counts_what_the_host_does(
    store: Store, tiny_spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actstore.jobs.inference.Scores", lambda *args, **options: Scores(*args, **options | FAR))
    spec = load_spec(tiny_spec)
    assert capture(spec, store=tmp_path / "far.zarr", cluster="inline", device="cpu").complete
    far = actstore.open(tmp_path / "far.zarr")
    np.testing.assert_array_equal(store.prediction, far.prediction)
    mine, theirs = (found.histogram.astype(int).compute() for found in (store, far))
    assert (mine.sum("bin") == theirs.sum("bin")).all()
    # A pixel on an edge may fall on either side of it.
    assert np.abs(mine - theirs).sum().item() < 1e-3 * mine.sum().item()
    np.testing.assert_allclose(
        store.calibration.sum("probability_bin"), far.calibration.sum("probability_bin"), rtol=1e-5
    )


HEADS = {
    "argmax": Head("argmax", 4, 2),
    "sigmoid": Head("sigmoid", 1, 2),
    "regions": Head("regions", 3, 2, order=(3, 1, 2)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", HEADS)
def test_classes_and_nan_are_those_of_torch(kind: str, dtype: torch.dtype) -> None:
    """Of logits that are often equal, equal once rounded, infinite or NaN; the second sample owns a part of itself."""
    head, space = HEADS[kind], (40, 41)
    owned = [(slice(0, 40), slice(0, 41)), (slice(5, 40), slice(0, 30))]
    prepared: Any = SimpleNamespace(
        applicable=np.ones((2, 2), bool),
        space=space,
        label=np.zeros((2, *space), np.uint8),
        windows=SimpleNamespace(owned_in=lambda sample: owned[sample]),
    )
    members = {name: (c,) for c, name in enumerate("abc"[: head.channels], 1)}
    labels: Any = SimpleNamespace(members=members)
    scores = Scores(prepared, head, labels, stitched=False)
    cells = [(0, 0), (0, 1), (1, 0), (1, 1)]
    logits = torch.randint(-1, 2, (4, head.channels, *space), generator=torch.Generator().manual_seed(0)).to(dtype)
    logits += 1e-12 * torch.randint(0, 2, logits.shape, generator=torch.Generator().manual_seed(1))
    logits[:, :, 0, 0] = torch.inf
    logits[:, :, 39, 29] = -torch.inf
    broken, classes = scores.count(logits, cells)
    assert not broken.any()
    torch.testing.assert_close(classes, head.classes(logits), rtol=0, atol=0)
    counted = scores.arrays()["outputs/histogram"].sum((-1, -2))
    np.testing.assert_array_equal(counted, np.broadcast_to([[[40 * 41]], [[35 * 30]]], counted.shape))
    logits[1, -1, 39, 40] = logits[2, 0, 0, 0] = torch.nan
    assert scores.count(logits, cells)[0].tolist() == [False, True, True, False]


def test_edges_are_stored_with_the_counts(store: Store) -> None:
    group = zarr.open_group(store.path, mode="r")["outputs"]
    np.testing.assert_array_equal(group["bin"][...], edges())
    assert group["histogram"].shape[-3:] == (4, 2, BINS)
    assert group["class_name"][...].tolist() == list(store.layout.scored) == list(store.class_names)
    assert {"histogram", "calibration"} <= set(store.tree["outputs"].data_vars)


def test_tables_are_of_the_samples_that_a_condition_applies_to(store: Store) -> None:
    findings = Findings(store, resamples=50)
    row = findings.table("curves").set_index(["condition", "class_name"]).loc[("brightness(LV, 0.1)", "LV")]
    applies = store.applicable.sel(condition="brightness(LV, 0.1)")
    own = store.histogram.sel(condition="brightness(LV, 0.1)", class_name="LV").where(applies, 0)
    assert row["auc"] == analysis.auc(own)["auc"].item()
    assert row["samples"] == int(applies.sum())
    confusion = findings.table("confusion").query("condition == 'brightness(LV, 0.1)'")
    np.testing.assert_allclose(confusion.groupby("true_class")["percent"].sum(), 100)
    assert confusion["count"].sum() == row["count"]


def test_groups_of_samples_add_up(store: Store) -> None:
    findings = Findings(store, by=["patient"], resamples=50)
    table, whole = findings.table("curves"), Findings(store, resamples=50).table("curves")
    assert list(table.columns[:4]) == ["condition", "target", "patient", "class_name"]
    summed = table.groupby(["condition", "class_name"])[["count", "positives", "samples"]].sum()
    assert summed.equals(whole.set_index(["condition", "class_name"])[["count", "positives", "samples"]].sort_index())
    assert (table["patients"] == 1).all()
    failed = Findings(store, by=["case"]).table("confusion")
    assert set(failed["case"]) == {*store.cases.values.ravel()} - {""}


def test_a_store_without_histograms_goes_on_without(write_spec: WriteSpec, tmp_path: Path) -> None:
    spec = load_spec(write_spec(tmp_path, data__patients=["patient001"], store__histogram=False))
    assert capture(spec, cluster="inline", device="cpu").complete
    older = Store(spec.store.path)
    commits.withdraw(older.storage, older.layout.capture, {1})
    # As a spec from before the key: on by default.
    continued = load_spec(write_spec(tmp_path, data__patients=["patient001"]))
    summary = capture(continued, cluster="inline", device="cpu")
    assert (summary.done, summary.skipped) == (1, 1)
    assert not verify(spec.store.path).damage
    store = actstore.open(spec.store.path)
    assert "histogram" not in store.tree["outputs"]
    why = r"no histograms of scores, which curves are made of: .*capture to another store path with store.histogram"
    with pytest.raises(StoreError, match=why):
        _ = store.histogram
    with pytest.raises(Unanswerable, match=why):
        Findings(store).table("roc")
    assert len(Findings(store).table("confusion"))
