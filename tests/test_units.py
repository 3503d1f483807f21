"""Numbers as a person reads them."""

from __future__ import annotations

from actstore.units import counted


def test_one_and_many() -> None:
    assert [counted(n, "volume") for n in (0, 1, 2)] == ["0 volumes", "1 volume", "2 volumes"]
    assert [counted(n, "class", "classes") for n in (1, 3)] == ["1 class", "3 classes"]
    assert counted(1, "block is", "blocks are") == "1 block is"
