"""What an import costs: looking at a store loads no network library, importing actstore nothing at all."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from conftest import SUPPORT

pytestmark = pytest.mark.process

HEAVY = ("torch", "monai", "distributed", "holoviews", "bokeh", "matplotlib", "pydantic", "nibabel", "scipy")
ARRAYS = ("xarray", "zarr", "dask", "pandas", "numpy")

#: Each part is followed by what is loaded until then.
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
from actstore.jobs.reduce import reduce_store
reduce_store(actstore.open(sys.argv[1]))
actstore.open(sys.argv[1]).statistics("L01").compute()
"""

LOAD = """
import sys
import actstore
spec = actstore.load_spec(sys.argv[1])
"""

CAPTURE = """
from pathlib import Path
sys.path.insert(0, sys.argv[3])
assert actstore.capture(spec, store=Path(sys.argv[2]), cluster="inline", device="cpu").complete
"""

LIST = """
import sys
print(*{name.partition(".")[0] for name in sys.modules})
"""


def loaded_by(*parts: str, arguments: Sequence[object] = ()) -> list[set[str]]:
    """Top-level modules that a fresh interpreter holds after each part of its code, which it reads from its input."""
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-", *map(str, arguments)],
        input="".join(part + LIST for part in parts),
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return [set(line.split()) for line in finished.stdout.splitlines()]


def test_importing_actstore_loads_nothing() -> None:
    [loaded] = loaded_by("import actstore; actstore.__version__; dir(actstore)")
    assert loaded.isdisjoint({*HEAVY, *ARRAYS})
    assert "actstore" in loaded


def test_the_command_line_helps_without_loading_anything() -> None:
    [loaded] = loaded_by("import sys; sys.argv[1:] = ['--help']\nimport actstore.cli.commands")
    assert loaded.isdisjoint({*HEAVY, *ARRAYS})


def test_a_page_that_cannot_be_served_is_refused_before_figures_are_loaded(tiny_store: Path, tmp_path: Path) -> None:
    explore = """
import sys
from actstore.cli.commands import main
store, address = sys.argv.pop(), sys.argv.pop()
try:
    main(["explore", store, "--no-open", "--port", "0", "--address", address], standalone_mode=False)
except BaseException as error:
    assert getattr(error, "exit_code", 1) == 1, error
else:
    raise AssertionError("nothing refused it")
"""
    # An address of documentation: no machine's own.
    for address, store in (("203.0.113.9", tiny_store), ("127.0.0.1", tmp_path / "no.zarr")):
        [loaded] = loaded_by(explore, arguments=[address, store])
        assert loaded.isdisjoint({"panel", "holoviews", "bokeh", "matplotlib"})


def test_looking_tables_and_reducing_load_no_network(tiny_copy: Path) -> None:
    looked, computed, reduced = loaded_by(LOOK, COMPUTE, REDUCE, arguments=[tiny_copy])
    assert looked.isdisjoint({"torch", "monai", "distributed", "holoviews", "bokeh", "matplotlib"})
    assert {"xarray", "zarr"} <= looked
    assert computed.isdisjoint({"torch", "monai", "holoviews", "matplotlib"})
    assert reduced.isdisjoint({"torch", "monai", "holoviews", "matplotlib"})


def test_the_lower_floors_stand_alone() -> None:
    names = (
        *("errors", "spec.spec", "store.layout", "store.schema", "units", "store.fingerprint"),
        *("store.shards", "store.reader"),
    )
    loaded = loaded_by(*(f"import actstore.{name}" for name in names))
    for name, found in zip(names, loaded, strict=True):
        assert found.isdisjoint({"torch", "monai", "distributed", "holoviews", "zarr", "xarray", "dask"}), name


def test_reading_a_spec_loads_no_network_and_an_inline_capture_no_cluster(tiny_spec: Path, tmp_path: Path) -> None:
    read, captured = loaded_by(LOAD, CAPTURE, arguments=[tiny_spec, tmp_path / "inline.zarr", SUPPORT])
    assert read.isdisjoint({"torch", "monai", "distributed", "holoviews", "xarray", "zarr"})
    assert captured.isdisjoint({"distributed", "holoviews", "matplotlib"})


def test_an_unknown_name_is_no_attribute() -> None:
    import actstore

    with pytest.raises(AttributeError, match="module 'actstore' has no attribute 'nothing'"):
        actstore.nothing  # noqa: B018
