"""Sentences on what is like what, against the tables that they are made of."""

from __future__ import annotations

import pandas as pd

from actstore.views.report.sentences import likeness as on


def rows(*cells: tuple[object, ...], columns: str) -> pd.DataFrame:
    return pd.DataFrame(list(cells), columns=columns.split())


def test_layers_and_conditions() -> None:
    table = rows(
        ("L01", "L02", "original", 0.9),
        ("L01", "L03", "original", None),
        ("L02", "L03", "original", -0.004),
        ("L01", "L01", "dark", 0.99),
        ("L02", "L02", "dark", 0.3),
        columns="layer other_layer condition cka",
    ).assign(samples=20)
    assert on.alike(table) == [
        "On the original, L01 and L02 see samples most alike (CKA 0.90), L02 and L03 least (CKA −0.004)."
    ]
    assert on.kept(table, lambda condition: f"making it {condition}") == [
        "Under making it dark, L02 keeps least of how samples lie to each other (CKA 0.30 with the original), L01 most "
        "(CKA 0.99)."
    ]
    few = table.assign(samples=19)
    assert on.alike(few) == on.kept(few, str) == []
    assert on.alike(table.iloc[3:]) == on.kept(table.iloc[:3], str) == []


def test_nearest_are_counted_against_pixels() -> None:
    columns = "layer patient frame slice rank neighbour_patient neighbour_frame neighbour_slice"
    table = rows(
        ("L01", "a", 1, 0, 1, "b", 1, 0),
        ("L01", "b", 1, 0, 1, "a", 1, 1),
        ("L01", "b", 1, 0, 2, "a", 1, 0),
        ("L02", "a", 1, 0, 1, "b", 1, 4),
        ("L02", "b", 1, 0, 1, "a", 1, 1),
        ("pixels", "a", 1, 0, 1, "b", 1, 0),
        ("pixels", "b", 1, 0, 1, "a", 1, 0),
        columns=columns,
    )
    assert on.nearest(table, "slice") == [
        "The nearest slice of another patient is the one that the pixels have in L01 for 1 of 2 slices (50 %), the "
        "most of any layer, and in L02 for 0, the fewest."
    ]
    assert on.nearest(table[table["layer"] != "pixels"], "slice") == []


def test_two_networks() -> None:
    table = rows(
        ("L01", "L01", 0.2, 0.01, 0.02, 2), ("L01", "L02", 0.8, 0.6, 0.6, 2), columns="layer_a layer_b cka p q tests"
    ).assign(samples=44)
    assert on.networks(table) == [
        "L01 of a and L02 of b see samples most alike (CKA 0.80); the best match of a layer of a has CKA 0.80 in "
        "median.",
        "1 of 2 pairs (50 %) of layers are more alike than with patients exchanged (q < 0.05, corrected over 2 tests).",
    ]
    means = rows(
        ("dark", "LV", 0.5, 0.9, 0.4, 0.1, 0.6),
        ("dark", "RV", 0.5, 0.6, 0.1, -0.1, 0.2),
        columns="condition class_name dice_a dice_b difference low high",
    )
    assert on.dice_differs(means) == [
        "Mean Dice differs, its 95 % interval without 0, in 1 of 2 comparisons (50 %): LV under dark (0.50 to 0.90)."
    ]
    assert on.dice_differs(means.iloc[1:]) == [
        "In none of 1 comparison of mean Dice does the 95 % interval leave out 0."
    ]
