"""The order of a file's axes: the same network's input, turned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actstore.data.discovery import find_volumes
from actstore.inputs.plain import Plain
from actstore.inputs.prepare import Prepared, prepare
from actstore.spec.spec import Spec, load_spec
from conftest import WriteSpec


def prepared(spec: Spec) -> Prepared:
    pipeline = Plain(spec)
    return prepare(spec, pipeline, pipeline.read(find_volumes(spec.data)[0]))


@pytest.mark.parametrize("normalize", ["minmax-slice", "percentile-slice", "minmax-volume"])
def test_volumes_are_the_same_turned(write_spec: WriteSpec, tmp_path: Path, normalize: str) -> None:
    found = {}
    for axes, size in (("simpleitk", [9, 40, 32]), ("nibabel", [32, 40, 9]), ("monai", [32, 40, 9])):
        preprocess: dict[str, Any] = {"size": size, "normalize": normalize}
        found[axes] = prepared(load_spec(write_spec(tmp_path, data__preprocess=preprocess, data__axes=axes)))
    turned = found["simpleitk"]
    for axes in ("nibabel", "monai"):
        np.testing.assert_array_equal(found[axes].inputs, turned.inputs.transpose(0, 1, 2, 5, 4, 3))
        np.testing.assert_array_equal(found[axes].label, turned.label.transpose(0, 3, 2, 1))
        np.testing.assert_array_equal(found[axes].applicable, turned.applicable)
    assert (turned.inputs[0, 1] != turned.inputs[0, 0]).any()


def test_slices_are_the_same_turned(write_spec: WriteSpec, tmp_path: Path) -> None:
    default = prepared(load_spec(write_spec(tmp_path, data__preprocess__size=[32, 40])))
    preprocess = {"data__preprocess__size": [40, 32], "data__axes": "simpleitk"}
    turned = prepared(load_spec(write_spec(tmp_path, **preprocess)))
    np.testing.assert_array_equal(default.inputs, turned.inputs.swapaxes(-1, -2))
    np.testing.assert_array_equal(default.label, turned.label.swapaxes(-1, -2))
    same = prepared(load_spec(write_spec(tmp_path, data__preprocess__size=[32, 40], data__axes="monai")))
    np.testing.assert_array_equal(default.inputs, same.inputs)
