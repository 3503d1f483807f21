"""Stores that are legitimate and odd: every table and section is made without a warning of NumPy, pandas or another."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

import actstore
from actstore import Findings
from actstore.jobs.capture import capture
from actstore.spec.spec import load_spec
from actstore.store.opening import MissingBlocksWarning
from actstore.tables.catalogue import TABLES, Unanswerable
from actstore.views.report.render import rendered
from actstore.views.report.sections.order import sections_of
from actstore.views.report.study import Study
from conftest import WriteSpec

pytestmark = pytest.mark.slow

SIZE = 16
Volume = tuple[NDArray[np.float64], NDArray[np.uint8]]


def plain(rng: np.random.Generator, slices: int) -> Volume:
    """Noise (slice, y, x) with a square of each class, in every slice."""
    label = np.zeros((slices, SIZE, SIZE), dtype=np.uint8)
    label[:, 2:6, 2:6], label[:, 6:10, 6:10], label[:, 10:14, 10:14] = 1, 2, 3
    return rng.normal(100, 20, label.shape) + 50 * label, label


def constant(rng: np.random.Generator, slices: int) -> Volume:
    """A first slice of one intensity."""
    image, label = plain(rng, slices)
    image[0] = 7.0
    return image, label


def without_lv(rng: np.random.Generator, slices: int) -> Volume:
    """The perturbed class is nowhere."""
    image, label = plain(rng, slices)
    return image, np.where(label == 3, 0, label).astype(np.uint8)


def empty(rng: np.random.Generator, slices: int) -> Volume:
    """No class at all."""
    image, label = plain(rng, slices)
    return image, np.zeros_like(label)


def bright(rng: np.random.Generator, slices: int) -> Volume:
    """Intensities near the end of float32."""
    image, label = plain(rng, slices)
    return image * 1e30, label


@dataclass(frozen=True)
class Odd:
    """A data set and a spec."""

    name: str
    patients: int = 3
    slices: int = 2
    volume: Callable[[np.random.Generator, int], Volume] = plain
    changes: Mapping[str, Any] = field(default_factory=dict)
    #: Volumes that are not committed.
    lost: int = 0
    #: Whether its figures are saved too, which takes long.
    drawn: bool = False
    #: Of the figures that can be others than a plain store's: how their names begin.
    figures: tuple[str, ...] = ("",)


def everything(*targets: str) -> dict[str, Any]:
    """Each of ``targets`` at three strengths, with controls."""
    perturb = [{"transform": "brightness", "targets": list(targets), "strengths": [0.1, 0.5, 1.5]}]
    return {"perturb": perturb, "controls": {"region": True, "noise": True}}


EVERYTHING = everything("LV", "RV")
#: How names of figures begin that show activations or sums of them.
OF_NUMBERS = ("inputs", "activation", "gallery", "layers", "heterogeneity", "regions", "similarity", "projection")
ODD = [
    Odd("one slice", patients=1, slices=1, changes=EVERYTHING),
    Odd("no class", patients=2, volume=empty, changes=everything("LV"), drawn=True),
    Odd("constant slice", volume=constant, changes=everything("LV"), lost=1),
    Odd("a class nowhere", patients=2, volume=without_lv, changes=EVERYTHING),
    Odd(
        "huge intensities",
        patients=2,
        volume=bright,
        changes={"data__preprocess__normalize": "none"},
        figures=OF_NUMBERS,
    ),
    Odd("float16", patients=1, changes={"store": {"path": "tiny.zarr", "dtype": "float16"}}, figures=OF_NUMBERS),
    Odd(
        "a constant network",
        patients=2,
        changes=everything("LV")
        | {"model__factory": "networks:blind", "store": {"path": "tiny.zarr", "keep": "statistics"}},
    ),
    Odd("two classes", patients=2, changes={"data__classes": {"LV": 1}, "model__arguments": {"classes": 2}}),
]


def write_volume(path: Path, image: NDArray[Any], label: NDArray[np.uint8]) -> None:
    nifti: Any = nibabel
    path.parent.mkdir(parents=True, exist_ok=True)
    for name, values in ((f"{path}.nii.gz", image.astype(np.float32)), (f"{path}_gt.nii.gz", label)):
        nifti.save(nifti.Nifti1Image(values.transpose(2, 1, 0), np.diag([-1.5, -1.5, 8.0, 1.0])), name)


@pytest.fixture(scope="module", params=ODD, ids=lambda odd: odd.name)
def odd_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, write_spec: WriteSpec) -> Any:
    odd: Odd = request.param
    folder, rng = tmp_path_factory.mktemp("odd"), np.random.default_rng(3)
    for patient in range(1, odd.patients + 1):
        for frame in (1, 8):
            image, label = odd.volume(rng, odd.slices)
            if odd.name == "two classes":
                label = (label == 3).astype(np.uint8)
            name = f"patient{patient:03d}"
            write_volume(folder / "data" / name / f"{name}_frame{frame:02d}", image, label)
    changes: dict[str, Any] = {"data__root": folder / "data", "data__preprocess__size": [SIZE, SIZE]}
    changes |= {"perturb": [{"transform": "brightness", "targets": ["LV"], "strengths": [0.1]}]} | odd.changes
    summary = capture(load_spec(write_spec(folder, **changes)), cluster="inline", device="cpu")
    assert summary.complete
    for block in range(odd.lost):
        (Path(summary.store) / "committed" / f"c.{block}").unlink()
    if odd.lost:
        with pytest.warns(MissingBlocksWarning):
            return odd, actstore.open(summary.store)
    return odd, actstore.open(summary.store)


@pytest.fixture(scope="module")
def findings(odd_store: tuple[Odd, Any]) -> Findings:
    return Findings(odd_store[1], resamples=20)


def test_every_table(findings: Findings) -> None:
    for name in TABLES:
        with contextlib.suppress(Unanswerable):
            assert list(findings.table(name).columns), name


def test_every_section(odd_store: tuple[Odd, Any], findings: Findings, tmp_path: Path) -> None:
    odd, store = odd_store
    study = Study(store, findings)
    said: list[str] = []
    for key, ask in sections_of(study.store).items():
        section = ask(study)
        if odd.drawn:
            rendered(section, tmp_path)
        else:
            for figure in section.figures:
                if figure.key.startswith(odd.figures):
                    figure.draw()
        captions = [part.caption for part in (*section.figures, *section.tables)]
        said += [f"{key}: {text}" for text in (*section.words, *section.findings, *captions)]
    assert [text for text in said if re.search(r"\b1 (patients|slices|samples|volumes|channels|classes)\b", text)] == []
