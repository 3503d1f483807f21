"""Heads: which output of a network holds its logits, and how logits become classes."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from actstore.errors import ModelError
from actstore.jobs.plan.plan import make_plan
from actstore.networks.heads import Head, head_of
from actstore.spec.labels import Labels
from actstore.spec.spec import Spec, load_spec
from classifiers import spec_tables, write_images
from conftest import WriteSpec

PLAIN = {"RV": 1, "MYO": 2, "LV": 3}
HEART = {"heart": [1, 2, 3], "left": [2, 3], "LV": [3]}
SIZE = (6, 8)


def made(
    classes: dict[str, Any] = PLAIN, *, output: Any = None, order: list[int] | None = None, size: Any = SIZE
) -> Spec:
    data = {"format": "phantom", "root": "data", "preprocess": {"size": list(size)}, "classes": classes}
    data |= {"axes": "simpleitk"} if len(size) == 3 else {}
    data |= {} if order is None else {"regions_class_order": order}
    model = {"factory": "networks:tiny_unet", "layers": ["*"]} | ({} if output is None else {"output": output})
    perturb = [{"transform": "brightness", "targets": [next(iter(classes))], "strengths": [0.1]}]
    content = {"data": data, "model": model, "perturb": perturb, "store": {"path": "x.zarr"}}
    return Spec.from_mapping(content, folder=Path.cwd())


def out(channels: int, *size: int) -> Tensor:
    return torch.empty(1, channels, *(size or SIZE), device="meta")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class TestClasses:
    def test_largest_logit_the_first_of_equals(self) -> None:
        logits = random(3, 4, *SIZE).mul(2).round()
        found = Head("argmax", 4, 2).classes(logits)
        assert found.dtype == torch.uint8
        np.testing.assert_array_equal(found, logits.numpy().argmax(axis=1))

    def test_one_sigmoid(self) -> None:
        logits = random(3, 1, *SIZE)
        logits[0, 0, 0, 0] = 0
        found = Head("sigmoid", 1, 2).classes(logits)
        assert found.dtype == torch.uint8
        np.testing.assert_array_equal(found, logits.sigmoid().numpy()[:, 0] > 0.5)

    def test_later_regions_overwrite_earlier_ones(self) -> None:
        logits, order = random(2, 3, 4, *SIZE), (2, 3, 1)
        found = Head("regions", 3, 3, order=order).classes(logits)
        expected = np.zeros((2, 4, *SIZE), np.uint8)
        for i, written in enumerate(order):  # as nnU-Net's convert_logits_to_segmentation
            expected[logits.sigmoid().numpy()[:, i] > 0.5] = written
        assert found.dtype == torch.uint8
        np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize(
        "head", [Head("argmax", 3, 2), Head("sigmoid", 1, 2), Head("regions", 3, 2, order=(1, 1, 2))]
    )
    def test_of_one_input(self, head: Head) -> None:
        logits = random(2, head.channels, *SIZE)
        assert torch.equal(head.classes(logits[1]), head.classes(logits)[1])


class TestChoice:
    @pytest.mark.parametrize(
        ("spec", "output", "head"),
        [
            (made(), out(4), Head("argmax", 4, 2)),
            (made(size=(4, 6, 8)), out(4, 4, 6, 8), Head("argmax", 4, 3)),
            (made({"LV": 3}), out(2), Head("argmax", 2, 2)),
            (made({"LV": 3}), out(1), Head("sigmoid", 1, 2)),
            (made({"LV": [3]}), out(2), Head("argmax", 2, 2)),
            (made({"heart": [1, 2, 3]}), out(1), Head("regions", 1, 2, order=(1,))),
            (made(HEART), out(3), Head("regions", 3, 2, order=(1, 2, 3))),
            (made(HEART), out(4), Head("argmax", 4, 2)),
            (made(HEART, order=[]), out(4), Head("argmax", 4, 2)),
            (made({**PLAIN, "heart": [1, 2, 3]}, order=[]), out(4), Head("argmax", 4, 2)),
            (
                made({"heart": [1, 2, 3], **PLAIN}, order=[1, 1, 2, 3]),
                out(4),
                Head("regions", 4, 2, order=(1, 1, 2, 3)),
            ),
            (made(PLAIN, order=[1, 2, 3]), out(3), Head("regions", 3, 2, order=(1, 2, 3))),
            (made(), [out(4), out(4, 3, 4)], Head("argmax", 4, 2, (0,))),
            (made(), (out(4, 3, 4), out(4)), Head("argmax", 4, 2, (1,))),
            (made(HEART), [out(3), out(3, 3, 4)], Head("regions", 3, 2, (0,), (1, 2, 3))),
            (made(), (out(4),), Head("argmax", 4, 2, (0,))),
            (made(), {"out": out(4)}, Head("argmax", 4, 2, ("out",))),
            (made(output="out"), {"out": out(4), "aux": out(4)}, Head("argmax", 4, 2, ("out",))),
            (made(output=1), (out(1), out(4)), Head("argmax", 4, 2, (1,))),
            (made(output=3), [out(4)] * 4, Head("argmax", 4, 2, (3,))),
            (made(output="out"), {"out": [out(4), out(4, 3, 4)], "aux": 1}, Head("argmax", 4, 2, ("out", 0))),
        ],
    )
    def test_fits(self, spec: Spec, output: Any, head: Head) -> None:
        assert head_of(spec, spec.data.preprocess.size, output) == head

    @pytest.mark.parametrize(
        ("spec", "output", "words"),
        [
            (
                made(),
                out(3),
                "'networks:tiny_unet' returns (3, 6, 8) for one sample: expected (4, 6, 8), one channel for each of "
                "background, RV, MYO, LV, at data.preprocess.size; correct data.classes, data.preprocess.size or ",
            ),
            (
                made(),
                out(4, 6, 6),
                "returns (4, 6, 6) for one sample: expected (4, 6, 8), one channel for each of back",
            ),
            (made(), torch.empty(1, 4, device="meta"), "returns (4,) for one sample: expected (4, 6, 8), one"),
            (made(), None, "returns NoneType for one sample: expected (4, 6, 8)"),
            (made(), [], "returns a list of nothing: name the one of its logits in model.output"),
            (
                made({"LV": 3}),
                out(3),
                "expected (2, 6, 8), one channel for each of background, LV, or (1, 6, 8), one sigmoid for LV, at data",
            ),
            (
                made(HEART),
                out(2),
                "returns (2, 6, 8) for one sample: expected (4, 6, 8), one channel for each of background, heart only, "
                "left only, LV, or (3, 6, 8), one sigmoid for each of heart, left, LV, at data.preprocess.size",
            ),
            (made(HEART, order=[1, 2, 3]), out(4), "expected (3, 6, 8), one sigmoid for each of heart, left, LV, at"),
            (made(HEART, order=[]), out(3), "expected (4, 6, 8), one channel for each of background, heart only, left"),
            (
                made({"heart": [1, 2, 3], **PLAIN}),
                out(4),
                "returns 4 channels: one for each of background, RV, MYO, LV, or one sigmoid for each of heart, RV, "
                "MYO, LV; give data.regions_class_order for sigmoids, or data.regions_class_order = [] for exclusive",
            ),
            (
                made({"LV": [3], "left": [2, 3], "heart": [1, 2, 3]}),
                out(3),
                "'left' holds all labels of 'LV', which stands before it and which it would overwrite: list larger",
            ),
            (
                made(),
                (out(4), out(1)),
                "returns a tuple of 0: (4, 6, 8), 1: (1, 6, 8): name the one of its logits in model.output",
            ),
            (made(), [out(4), out(4)], "returns a list of 0: (4, 6, 8), 1: (4, 6, 8): name the one of its logits in"),
            (
                made(),
                {"out": out(4), "aux": out(4, 3, 4)},
                "returns a dict of 'out': (4, 6, 8), 'aux': (4, 3, 4): name the one of its logits in model.output",
            ),
            (
                made(output="main"),
                {"out": out(4), "aux": out(4)},
                "model.output = 'main': 'networks:tiny_unet' returns a dict of 'out': (4, 6, 8), 'aux': (4, 6, 8); "
                "there are 'out', 'aux'",
            ),
            (made(output=2), (out(4), out(4)), "model.output = 2: 'networks:tiny_unet' returns a tuple of"),
            (made(output=0), out(4), "model.output = 0: 'networks:tiny_unet' returns (4, 6, 8); take it out"),
            (
                made(output="out"),
                {"out": [out(4), out(4)]},
                "returns as output ['out'] a list of 0: (4, 6, 8), 1: (4, 6, 8): return one tensor of logits there",
            ),
        ],
    )
    def test_refused(self, spec: Spec, output: Any, words: str) -> None:
        with pytest.raises(ModelError, match=re.escape(words)) as caught:
            head_of(spec, spec.data.preprocess.size, output)
        assert len(str(caught.value).splitlines()) == 1


def test_logits_lie_at_the_end_of_the_path() -> None:
    logits = random(2, 4, *SIZE)
    assert Head("argmax", 4, 2).logits(logits) is logits
    assert Head("argmax", 4, 2, ("out", 1)).logits({"out": [0, logits]}) is logits


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ([random(1, 4, *SIZE)], "the network returned a list of 0: (4, 6, 8), without the output 1 of the trial pass"),
        (random(1, 4, *SIZE)[:, :1], "without the output 1 of the trial pass"),
        ([0, random(1, 3, *SIZE)], "the network returned (3, 6, 8), (batch, 4, space) in the trial pass"),
        ([0, None], "the network returned NoneType, (batch, 4, space) in the trial pass"),
    ],
)
def test_other_output_than_in_the_trial_pass(output: Any, words: str) -> None:
    with pytest.raises(ModelError, match=re.escape(words)):
        Head("argmax", 4, 2, (1,)).logits(output)


def test_a_head_survives_pickle_and_only_a_plain_one_is_plain() -> None:
    head = Head("regions", 3, 3, ("out", 0), (1, 2, 3))
    assert pickle.loads(pickle.dumps(head)) == head
    assert head.as_json() == {"kind": "regions", "path": ["out", 0], "order": [1, 2, 3]}
    assert Head("argmax", 4, 2).is_plain
    assert not Head("argmax", 4, 2, (0,)).is_plain
    assert not Head("sigmoid", 1, 2).is_plain


def test_a_head_says_what_it_does() -> None:
    labels = Labels.of(HEART)
    assert Head("argmax", 4, 2, (1,)).described_for(labels) == (
        "of output [1], one channel for each of background, heart only, left only, LV: the largest"
    )
    assert Head("sigmoid", 1, 2).described_for(Labels.of({"LV": 3})) == "one sigmoid for LV"
    assert Head("regions", 3, 2, order=(1, 2, 3)).described_for(labels) == (
        "one sigmoid for each region, later ones over earlier ones: heart as heart only, left as left only, LV as LV"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("softmax", 4, 2), "kind = 'softmax': give 'argmax', 'sigmoid' or 'regions'"),
        (("sigmoid", 2, 2), "a sigmoid head has one channel, not 2: use 'regions'"),
        (("regions", 3, 2), "order = () for 3 channels of 'regions'"),
    ],
)
def test_impossible_heads(arguments: Any, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        Head(*arguments)


@pytest.mark.parametrize("kind", ["segments", "classifies"])
def test_probabilities_are_no_logits(write_spec: WriteSpec, tmp_path: Path, kind: str) -> None:
    """Their softmax would be other probabilities, without a word."""
    if kind == "segments":
        changes: dict[str, Any] = {"model__factory": "networks:softmax_unet"}
    else:
        changes = spec_tables(write_images(tmp_path / "images", 1))
        changes["model"] = {"factory": "classifiers:softmaxed", "layers": ["0.first"]}
    with pytest.raises(
        ModelError, match=r"probabilities, which sum to 1 over its .*, where logits are needed"
    ) as refused:
        make_plan(load_spec(write_spec(tmp_path, **changes)), timing=False)
    assert "\n" not in str(refused.value)
    if kind == "segments":
        spec = load_spec(write_spec(tmp_path, **changes, store__histogram=False))
        assert not make_plan(spec, timing=False).layout.scored
