"""What an import costs: looking at a store loads no network library, importing actstore nothing at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import SUPPORT

HEAVY = ("torch", "monai", "distributed", "holoviews", "bokeh", "matplotlib", "pydantic", "nibabel", "scipy")
ARRAYS = ("xarray", "zarr", "dask", "pandas", "numpy")

LOOK = """
import sys
import actstore
store = actstore.open(sys.argv[1])
assert len(store.layers) and len(store.samples) and len(store.conditions) and store.tree
from actstore import analysis
analysis.mad(store["L01"])
analysis.dice(store.confusion)
"""

#: Dask looks for a cluster of distributed's wherever it computes, and loads it to do so.
COMPUTE = """
import io
top = analysis.top_channels(analysis.mad(store["L01"]), k=1, applicable=store.applicable)
analysis.channel_frequency(top, by="patient").compute()
from actstore.tables.build import build_table, write_table
for name in ("top-channels", "frequency", "dice", "cases", "mad"):
    write_table(build_table(store, name), io.StringIO())
"""

REDUCE = """
import sys
import actstore
from actstore.jobs.reduce import reduce_store
reduce_store(actstore.open(sys.argv[1]))
actstore.open(sys.argv[1]).statistics("L01").compute()
"""


CAPTURE = """
import sys
from pathlib import Path
import actstore
sys.path.insert(0, sys.argv[3])
spec = actstore.load_spec(sys.argv[1])
assert actstore.capture(spec, store=Path(sys.argv[2]), cluster="inline", device="cpu").complete
"""

LIST = """
import sys
print(*{name.partition(".")[0] for name in sys.modules})
"""


def loaded_by(code: str, *arguments: object) -> set[str]:
    """Top-level modules that a fresh interpreter holds after ``code``."""
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", code + LIST, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return set(finished.stdout.split())


def test_importing_actstore_loads_nothing() -> None:
    loaded = loaded_by("import actstore; actstore.__version__; dir(actstore)")
    assert loaded.isdisjoint({*HEAVY, *ARRAYS})
    assert "actstore" in loaded


def test_the_command_line_helps_without_loading_anything() -> None:
    loaded = loaded_by("import sys; sys.argv[1:] = ['--help']\nimport actstore.cli.commands")
    assert loaded.isdisjoint({*HEAVY, *ARRAYS})


def test_looking_at_a_store_loads_no_network(tiny_store: Path) -> None:
    loaded = loaded_by(LOOK, tiny_store)
    assert loaded.isdisjoint({"torch", "monai", "distributed", "holoviews", "bokeh", "matplotlib"})
    assert {"xarray", "zarr"} <= loaded


def test_tables_and_analysis_load_no_network(tiny_store: Path) -> None:
    assert loaded_by(LOOK + COMPUTE, tiny_store).isdisjoint({"torch", "monai", "holoviews", "matplotlib"})


def test_reducing_a_store_loads_no_network(tiny_copy: Path) -> None:
    assert loaded_by(REDUCE, tiny_copy).isdisjoint({"torch", "monai", "holoviews", "matplotlib"})


@pytest.mark.parametrize(
    "name",
    [
        "errors",
        "spec.spec",
        "store.layout",
        "store.schema",
        "units",
        "store.fingerprint",
        "store.shards",
        "store.reader",
    ],
)
def test_the_lower_floors_stand_alone(name: str) -> None:
    loaded = loaded_by(f"import actstore.{name}")
    assert loaded.isdisjoint({"torch", "monai", "distributed", "holoviews", "zarr", "xarray", "dask"})


def test_reading_a_spec_loads_no_network(tiny_spec: Path) -> None:
    loaded = loaded_by("import sys, actstore\nactstore.load_spec(sys.argv[1])", tiny_spec)
    assert loaded.isdisjoint({"torch", "monai", "distributed", "holoviews", "xarray", "zarr"})


def test_an_inline_capture_needs_no_cluster(tiny_spec: Path, tmp_path: Path) -> None:
    loaded = loaded_by(CAPTURE, tiny_spec, tmp_path / "inline.zarr", SUPPORT)
    assert loaded.isdisjoint({"distributed", "holoviews", "matplotlib"})


def test_an_unknown_name_is_no_attribute() -> None:
    import actstore

    with pytest.raises(AttributeError, match="module 'actstore' has no attribute 'nothing'"):
        actstore.nothing  # noqa: B018
