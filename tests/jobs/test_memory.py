"""Memory is known before a run, and does not grow with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from actstore.spec.spec import load_spec
from conftest import WriteSpec
from memory import Measured, expect_predicted, measure, measure_patches

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory, write_spec: WriteSpec) -> Measured:
    return measure(tmp_path_factory.mktemp("memory") / "ten", write_spec, 10)


def test_a_peak_grows_neither_with_volumes_nor_with_other_data(
    ten: Measured, tmp_path: Path, write_spec: WriteSpec
) -> None:
    """A child process inherits what ``getrusage`` says of its parent: a notebook's arrays are no worker's memory."""
    sixty = measure(tmp_path / "sixty", write_spec, 60, ballast=900 * 2**20)
    assert (ten.done, sixty.done) == (10, 60)
    assert ten.predicted == sixty.predicted
    expect_predicted(ten)
    expect_predicted(sixty)
    assert abs(sixty.peak - ten.peak) <= 0.1 * ten.peak


def test_a_peak_of_large_buffers_is_predicted(ten: Measured, tmp_path: Path, write_spec: WriteSpec) -> None:
    """Here activations, not libraries, are most of the memory."""
    large = measure(tmp_path / "large", write_spec, 2, size=(256, 256), width=32, shape=(200, 180, 10), batch_size=4)
    assert large.predicted > 1.8 * ten.predicted
    expect_predicted(large)


def test_memory_of_the_whole_is_refused_before_anything_runs(
    tmp_path: Path, write_spec: WriteSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    from actstore.errors import PlanError
    from actstore.jobs.capture import capture

    spec = load_spec(write_spec(tmp_path))
    little = psutil.virtual_memory()._replace(available=300 * 2**20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    with pytest.raises(PlanError, match=r"1 worker of \S+ MB would take \S+ MB of memory, 314\.57 MB are available: "):
        capture(spec, cluster="inline", device="cpu")
    assert not spec.store.path.exists()


def test_a_peak_of_overlapping_patches_is_predicted(tmp_path: Path) -> None:
    """Seven conditions of patches that are averaged, of which only statistics are stored."""
    patched = measure_patches(tmp_path)
    expect_predicted(patched)
