"""Tables of explanations: their rows against the arrays of their groups, and what a store without them says."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import actstore
from actstore import Findings
from actstore.cli.commands import main
from actstore.errors import StoreError
from actstore.tables.catalogue import Unanswerable


def test_means_are_of_samples_in_which_the_class_is_predicted(explained: Path) -> None:
    store = actstore.open(explained)
    table = Findings(store, resamples=50).table("deletion")
    assert table["explanation"].unique().tolist() == ["hidden", "slope"], "made with deletion"
    for name in ("hidden", "slope"):
        left = store.group(f"explain/{name}")["deletion"].load()
        for row in table[table["explanation"] == name].itertuples():
            own = left.sel(condition=row.condition, class_name=row.class_name, deleted=row.deleted)
            values = own.sel(order=row.order).values
            there = np.isfinite(values)
            assert row.samples == there.sum()
            np.testing.assert_allclose(row.probability, values[there].mean() if there.any() else np.nan, rtol=1e-6)
            more = (values - own.sel(order="distance").values)[there]
            np.testing.assert_allclose(row.excess, more.mean() if there.any() else np.nan, atol=1e-7)
    assert (table.query("order == 'distance'")["excess"].dropna() == 0).all()
    kept = table.query("deleted == 0")
    assert kept.groupby(["explanation", "condition", "class_name"])["probability"].nunique().max() == 1


def test_correlations_of_classes_and_of_channels(explained: Path) -> None:
    store = actstore.open(explained)
    table = Findings(store, resamples=50).table("randomisation")
    assert table["explanation"].unique().tolist() == ["hidden", "slope", "top"]
    channels = table.query("explanation == 'top'")
    assert (channels["class_name"] == "").all()
    assert channels["layer"].unique().tolist() == ["L02", "up"]
    classes = table.query("explanation == 'slope'")
    assert classes["rank"].isna().all()
    assert (classes["layer"] == "").all()
    found = store.group("explain/top")["randomisation"].load()
    for row in channels.itertuples():
        own = found.sel(condition=row.condition, layer=row.layer, rank=row.rank, permuted=row.permuted, sign=row.sign)
        there = np.isfinite(own.values)
        assert row.samples == there.sum()
        if there.any():
            np.testing.assert_allclose(row.spearman, own.values[there].mean(), rtol=1e-5)


def test_landmarks_are_shares_of_squares(explained: Path) -> None:
    store = actstore.open(explained)
    table = Findings(store, of="slope", resamples=50).table("landmarks")
    assert table["explanation"].unique().tolist() == ["slope"]
    assert table["landmark"].unique().tolist() == ["background", "RV", "MYO", "LV"]
    maps = store.group("explain/slope")["map"].sel(class_name="LV").isel(condition=0).values
    label = store.label.values
    shares = []
    for values, classes in zip(maps, label, strict=True):
        on = classes == 3
        if on.any() and np.isfinite(values).all():
            squares = values.astype(float) ** 2
            shares.append(squares[on].sum() / squares.sum() / on.mean())
    (row,) = table.query("class_name == 'LV' and landmark == 'LV'").itertuples()
    assert row.samples == len(shares)
    np.testing.assert_allclose(row.concentration, np.mean(shares), rtol=1e-5)


def test_a_store_without_them_says_what_makes_them(tiny_store: Path, explained: Path) -> None:
    for name in ("deletion", "randomisation", "landmarks"):
        with pytest.raises(Unanswerable, match="the store holds no explanations: `actstore explain SPEC` makes them"):
            Findings(actstore.open(tiny_store)).table(name)
    store = actstore.open(explained)
    with pytest.raises(StoreError, match="no explanation 'other': there are guided, hidden, slope, top"):
        Findings(store, of="other").table("landmarks")
    with pytest.raises(Unanswerable, match="guided: made without deletion; set deletion = 16 below"):
        Findings(store, of="guided").table("deletion")
    done = CliRunner().invoke(main, ["table", str(explained), "landmarks", "--of", "slope"])
    assert done.exit_code == 0, done.output
    assert done.output.startswith("explanation,method,condition,class_name,layer,rank,landmark,")


def test_of_what_is_done_so_far(explained: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(explained, tmp_path / "tiny.zarr"))
    (copy / "explain/slope/committed/c.1").unlink()
    store = actstore.open(copy)
    rows = np.flatnonzero(store.samples["block"].to_numpy() != 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = Findings(store, of="slope", resamples=50).table("landmarks")
    maps = actstore.open(explained).group("explain/slope")["map"].sel(class_name="LV").isel(condition=0).values[rows]
    label = store.label.values[rows]
    there = np.isfinite(maps).all((1, 2)) & (label == 3).any((1, 2))
    (row,) = table.query("class_name == 'LV' and landmark == 'LV'").itertuples()
    assert row.samples == there.sum()
