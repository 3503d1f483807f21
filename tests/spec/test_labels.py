"""Labels: exclusive classes, the regions made of them, and the label that each region writes."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

from actstore.errors import SpecError
from actstore.spec.labels import Labels
from actstore.spec.spec import Spec, load_spec
from conftest import WriteSpec

HEART = {"heart": [1, 2, 3], "left": [2, 3], "LV": [3]}


def test_plain_classes_are_exclusive_by_rising_label() -> None:
    labels = Labels.of({"LV": 3, "RV": 1, "MYO": 2})
    assert labels.names == ("background", "RV", "MYO", "LV")
    assert labels.values == (0, 1, 2, 3)
    assert labels.members == {"LV": (3,), "RV": (1,), "MYO": (2,)}
    assert labels.regions == {}
    assert labels.exclusive == {"RV": 1, "MYO": 2, "LV": 3}


@pytest.mark.parametrize(
    ("classes", "names", "members"),
    [
        (HEART, ["heart only", "left only", "LV"], {"heart": (1, 2, 3), "left": (2, 3), "LV": (3,)}),
        ({"all": [5, 9], "LV": 9}, ["all only", "LV"], {"all": (1, 2), "LV": (2,)}),
        ({"heart": [3, 1, 2]}, ["heart only (1)", "heart only (2)", "heart only (3)"], {"heart": (1, 2, 3)}),
        (
            {"heart": [1, 2], "LV": 2, "heart only (1)": 3},
            ["heart only", "LV", "heart only (1)"],
            {"heart": (1, 2), "LV": (2,), "heart only (1)": (3,)},
        ),
        ({"a": [1, 2], "b": [2, 3]}, ["a only", "a and b", "b only"], {"a": (1, 2), "b": (2, 3)}),
        ({"RV": 1, "LV": 2, "both": [1, 2]}, ["RV", "LV"], {"RV": (1,), "LV": (2,), "both": (1, 2)}),
    ],
)
def test_a_label_is_named_after_the_smallest_region_around_it(
    classes: dict[str, Any], names: list[str], members: dict[str, Any]
) -> None:
    labels = Labels.of(classes)
    assert labels.names == ("background", *names)
    assert labels.members == members
    assert list(labels.members) == list(classes)
    assert pickle.loads(pickle.dumps(labels)) == labels


def test_order_is_the_label_that_no_later_region_holds() -> None:
    assert Labels.of(HEART).order() == (1, 2, 3)
    assert Labels.of({"heart": [4, 7], "LV": 7}).order() == (1, 2)
    # The parts hold every label of the whole, which writes its smallest.
    assert Labels.of({"heart": [1, 2], "RV": 1, "LV": 2}).order() == (1, 1, 2)
    assert Labels.of(HEART).order([1, 2, 3]) == (1, 2, 3)
    assert Labels.of({"LV": 7, "heart": [4, 7]}).order([7, 4]) == (2, 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"heart": []}, "data.classes: 'heart' is an empty list: give the labels that the region holds"),
        ({"heart": [0, 1]}, "data.classes: 'heart' holds 0, which is the background: regions hold labels from 1 to"),
        ({"heart": [-1, 1]}, "data.classes: 'heart' holds -1, which is no label: regions hold labels from 1 to 255"),
        ({"heart": [1, 300]}, "data.classes: label 300 is too large: labels are 1 to 255"),
        ({"heart": [1, 2, 1]}, "data.classes: 'heart' lists label 1 2 times: list it once"),
        (
            {"heart": [1, 2], "all": [2, 1], "LV": 3},
            "data.classes: 'heart' and 'all' hold the same labels [1, 2]: keep one of them",
        ),
        ({"lv": [3], "LV": 3}, "data.classes: label 3 is given to 2 classes: give each class a label of its own"),
        (
            {"heart": [1, 2], "LV": 2, "heart only": 3},
            "data.classes: 'heart only' is what label 1 is called, which lies in a region and has no name of",
        ),
        ({"heart": [1, "2"]}, "data.classes.heart = [1, '2']: input should be a valid integer"),
        ({"heart": [1, True]}, "data.classes.heart = [1, True]: input should be a valid integer"),
        ({"heart": "1"}, "data.classes.heart = '1': input should be a valid integer"),
        ({"heart": 1.0}, "data.classes.heart = 1.0: input should be a valid integer"),
        ({"background": [1, 2]}, "data.classes: 'background' is label 0 already and cannot be named"),
    ],
)
def test_refused_classes(write_spec: WriteSpec, tmp_path: Path, change: dict[str, Any], words: str) -> None:
    _refused(write_spec(tmp_path, data__classes=change), words)


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ([1, 2], "regions_class_order = [1, 2] has 2 labels for 3 classes (heart, left, LV): give each the label that"),
        ([1, 2, 4], "regions_class_order = [1, 2, 4] names label 4, which no class holds: there are 1, 2, 3"),
        ([1, 2, 2], "'LV' = [3] holds none of regions_class_order = [1, 2, 2], so that no prediction could hold it"),
    ],
)
def test_refused_order(write_spec: WriteSpec, tmp_path: Path, order: list[int], words: str) -> None:
    spec = write_spec(tmp_path, data__classes=HEART, data__regions_class_order=order, perturb=[_darker("LV")])
    _refused(spec, words)


@pytest.mark.parametrize("output", [-1, 1.5, True, "", ["out"]])
def test_refused_output(write_spec: WriteSpec, tmp_path: Path, output: Any) -> None:
    words = f"model.output = {output!r}: must be the index of an entry of a tuple, from 0, or the key of an entry of a"
    _refused(write_spec(tmp_path, model__output=output), words)


@pytest.mark.parametrize("output", [0, 3, "out"])
def test_outputs_survive(write_spec: WriteSpec, tmp_path: Path, output: Any) -> None:
    spec = load_spec(write_spec(tmp_path, model__output=output))
    assert Spec.from_mapping(json.loads(spec.model_dump_json()), folder=tmp_path).model.output == output


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (1, "data.regions_class_order = 1: must be a list"),
        (["1"], "data.regions_class_order[0] = '1': input should be a valid integer"),
    ],
)
def test_order_of_another_type(write_spec: WriteSpec, tmp_path: Path, order: Any, words: str) -> None:
    _refused(write_spec(tmp_path, data__regions_class_order=order), words)


def test_a_larger_region_after_a_smaller_one_needs_an_order() -> None:
    labels = Labels.of({"LV": [3], "heart": [1, 2, 3]})
    words = "'heart' holds all labels of 'LV', which stands before it and which it would overwrite: list larger regions"
    with pytest.raises(SpecError, match=re.escape(words)):
        labels.order()


def test_targets_and_sources_may_be_regions(write_spec: WriteSpec, tmp_path: Path) -> None:
    fill = {"transform": "fill", "targets": ["LV"], "strengths": [1.0], "source": "left"}
    spec = load_spec(write_spec(tmp_path, data__classes=HEART, perturb=[_darker("heart"), fill]))
    assert [c.name for c in spec.conditions] == ["original", "brightness(heart, 0.1)", "fill(LV, 1, source=left)"]
    with pytest.raises(SpecError, match=re.escape("names the class 'left only': data.classes has heart, left, LV")):
        load_spec(write_spec(tmp_path, data__classes=HEART, perturb=[_darker("left only")]))


def test_regions_survive_json_and_identify_a_run(write_spec: WriteSpec, tmp_path: Path) -> None:
    order = {"data__regions_class_order": [1, 2, 3]}
    spec = load_spec(write_spec(tmp_path, data__classes=HEART, model__output="out", **order, perturb=[_darker("LV")]))
    again = Spec.from_mapping(json.loads(spec.model_dump_json()), folder=tmp_path)
    assert again == spec
    assert again.labels == spec.labels == Labels.of(HEART)
    assert again.class_names == ("background", "heart only", "left only", "LV")
    identity = json.loads(json.dumps(spec.identity()))
    assert identity["classes"] == HEART
    assert identity["regions_class_order"] == [1, 2, 3]
    assert identity["output"] == "out"


def test_a_spec_without_regions_is_dumped_as_before(write_spec: WriteSpec, tmp_path: Path) -> None:
    spec = load_spec(write_spec(tmp_path))
    dump = spec.model_dump(mode="json")
    assert "regions_class_order" not in dump["data"]
    assert "output" not in dump["model"]
    assert not {"regions_class_order", "output"} & spec.identity().keys()
    assert spec.identity()["classes"] == {"RV": 1, "MYO": 2, "LV": 3}


def _darker(target: str) -> dict[str, Any]:
    return {"transform": "brightness", "targets": [target], "strengths": [0.1]}


def _refused(path: Path, words: str) -> None:
    with pytest.raises(SpecError, match=re.escape(words)) as caught:
        load_spec(path)
    assert len(str(caught.value).splitlines()) == 1


def test_regions_that_overlap_in_part_need_an_order() -> None:
    labels = Labels.of({"x": [1, 2], "y": [2, 3]})
    with pytest.raises(SpecError, match="'x' and 'y' share labels and neither holds the other"):
        labels.order()
    assert labels.order([1, 3]) == (1, 3)
