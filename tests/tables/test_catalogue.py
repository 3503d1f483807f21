"""The catalogue of tables: every entry can be built, and its options are checked."""

from __future__ import annotations

from typing import get_args

import pytest

from actstore.errors import StoreError
from actstore.tables import builders
from actstore.tables.catalogue import TABLES, Need, check_options


def test_every_table_has_a_builder_of_its_own_and_a_question() -> None:
    names = [table.builder for table in TABLES.values()]
    assert len({*names}) == len(names)
    assert all(callable(getattr(builders, name)) for name in names)
    assert all(table.question.endswith("?") for table in TABLES.values())
    assert {need for table in TABLES.values() for need in table.needs} == {*get_args(Need)}


def test_tables_of_a_group_lie_together() -> None:
    groups = [table.group for table in TABLES.values()]
    assert sorted(groups, key=groups.index) == groups


def test_an_option_goes_with_some_tables_only() -> None:
    check_options("dice", top=None, most=None, by=(), per=None)
    check_options("surface", per="volume")
    message = r"--per does not go with dice, only with segmentation, surface"
    with pytest.raises(StoreError, match=message):
        check_options("dice", per="volume")
