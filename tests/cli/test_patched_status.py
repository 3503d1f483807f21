"""What `actstore status` and `actstore table` say of a store with patches and several input channels."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from actstore.cli.commands import main
from patched import patched_store


@pytest.mark.slow
@pytest.mark.parametrize(
    ("space", "samples"),
    [
        ((16, 16), "204, the patches of 52 slices, at most 6 each"),
        ((8, 16, 16), "38, the patches of 6 volumes, at most 12 each"),
    ],
)
def test_status_counts_patches_and_names_input_channels(tmp_path: Path, space: tuple[int, ...], samples: str) -> None:
    store, _ = patched_store(tmp_path, space)
    result = CliRunner().invoke(main, ["status", str(store.path)])
    assert result.exit_code == 0
    lines = [line.split(maxsplit=1) for line in result.output.splitlines() if line[:1].isalpha()]
    assert ["samples", samples] in lines
    assert ["input", "2 channels: T1, T2"] in lines
    table = CliRunner().invoke(main, ["table", str(store.path), "dice"])
    assert list(pd.read_csv(io.StringIO(table.output)).columns)[:4] == ["patient", "frame", "slice", "patch"]


def test_other_stores_say_neither(tiny_store: Path) -> None:
    result = CliRunner().invoke(main, ["status", str(tiny_store)])
    assert "patch" not in result.output
    assert "\ninput " not in result.output
