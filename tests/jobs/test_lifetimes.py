"""A store's whole life in any order: captured in parts, killed, resumed, damaged, verified, repaired, reduced, read."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import actstore
from actstore.errors import StoreError
from actstore.jobs.capture import capture
from actstore.jobs.reduce import reduce_store
from actstore.jobs.repair import repair
from actstore.spec.spec import load_spec
from actstore.store.files.local import LocalSink, LocalStorage
from actstore.store.opening import MissingBlocksWarning
from actstore.store.store import Store
from actstore.store.verify import verify
from conftest import WriteSpec
from damage import DAMAGE
from stores import committed, expect_same, files_of

pytestmark = pytest.mark.slow

#: Damage that only `verify` can see: what these files say is not needed to read values, or is not read by actstore.
UNSEEN = ("stray temporary file", "stray file", "bit in the copy of metadata")
METADATA = ("bit in metadata", "missing metadata")


class Killed(BaseException):
    """Ends a capture where it stands, as SIGKILL does: nothing is cleaned up."""


@contextmanager
def killed_after(operations: int) -> Iterator[None]:
    left = operations

    def counted(plain: Any) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return plain(*arguments, **more)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalSink, "append", counted(LocalSink.append))
        patch.setattr(LocalSink, "close", counted(LocalSink.close))
        patch.setattr(LocalSink, "abandon", lambda _: None)
        patch.setattr(LocalStorage, "write", counted(LocalStorage.write))
        yield


class Lifetime(RuleBasedStateMachine):
    """Against a model of what should be there: which blocks are committed, and whether anything was damaged."""

    spec: ClassVar[Any]
    expected: ClassVar[Path]
    blocks: ClassVar[int]

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lifetime-"))
        self.root = self.folder / "a.zarr"
        self.done: set[int] = set()
        self.wounds: set[str] = set()
        self.made = False

    def teardown(self) -> None:
        shutil.rmtree(getattr(self, "folder", "none"), ignore_errors=True)

    def run(self) -> Any:
        return capture(self.spec, store=self.root, cluster="inline", device="cpu")

    @precondition(lambda self: not self.wounds)
    @rule(operations=st.integers(0, 140))
    def capture_and_kill(self, operations: int) -> None:
        with killed_after(operations), suppress(Killed):
            self.run()
        self.made = self.made or self.root.exists()
        after = set(committed(self.root)) if self.made else set()
        assert self.done <= after, "what was committed stays"
        self.done = after

    @precondition(lambda self: not self.wounds)
    @rule()
    def resume(self) -> None:
        before = {key: (self.root / key).stat().st_mtime_ns for key in self.owned()} if self.made else {}
        summary = self.run()
        assert (summary.done, summary.skipped) == (self.blocks - len(self.done), len(self.done))
        assert {key: (self.root / key).stat().st_mtime_ns for key in before} == before, "no finished block is touched"
        self.made, self.done = True, set(range(self.blocks))
        expect_same(self.root, self.expected)

    def owned(self) -> list[str]:
        blocks = {f"c.{block}" for block in self.done}
        return [key for key in files_of(self.root) if ".".join(key.rpartition("/")[2].split(".")[:2]) in blocks
                and key.count("/") and key.split("/")[0] in ("layers", "inputs", "outputs", "committed")]  # fmt: skip

    @precondition(lambda self: len(self.done) == self.blocks)
    @rule(kind=st.sampled_from(sorted(DAMAGE)), seed=st.integers(0, 2**16))
    def damage(self, kind: str, seed: int) -> None:
        try:
            DAMAGE[kind](self.root, random.Random(seed))
        except (FileNotFoundError, ValueError, StoreError):
            return  # an earlier wound took what this one needs
        self.wounds.add(kind)

    @precondition(lambda self: self.made)
    @rule()
    def verify(self) -> None:
        found = verify(self.root)
        assert found.whole == (not self.wounds and len(self.done) == self.blocks)
        if not self.wounds:
            assert found.committed == len(self.done)
            assert {damage.kind for damage in found.damage} <= {"commit", "stray"}

    @precondition(lambda self: self.made)
    @rule()
    def mend(self) -> None:
        try:
            found = verify(self.root)
            repair(self.root, found.damage, cluster="inline", device="cpu")
        except StoreError as error:
            assert "the copy of the metadata too" in str(error)
            assert {"bit in the copy of metadata"} <= self.wounds
            shutil.rmtree(self.root)
            self.made, self.done = False, set()
            self.wounds.clear()
            return
        self.wounds.clear()
        self.done = set(range(self.blocks))
        expect_same(self.root, self.expected)

    @precondition(lambda self: self.made and not self.wounds and self.done)
    @rule(seed=st.integers(0, 99))
    def lose_statistics_and_reduce(self, seed: int) -> None:
        rng = random.Random(seed)
        store = self.open()
        lost = rng.sample(sorted(self.done), rng.randint(0, len(self.done)))
        for block in lost:
            small = rng.choice([*store.layout.statistics.arrays, store.layout.statistics.record])
            (self.root / small.key(block)).unlink()
        assert reduce_store(self.open()) == len(lost)

    def open(self) -> Store:
        if len(self.done) < self.blocks and not self.wounds:
            with pytest.warns(MissingBlocksWarning, match=f"{self.blocks - len(self.done)} of {self.blocks} blocks"):
                return actstore.open(self.root)
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MissingBlocksWarning)
            return actstore.open(self.root)

    @precondition(lambda self: self.made)
    @rule()
    def read(self) -> None:
        """Every value that comes back is right, or an error names what is not; never a fill value."""
        whole = actstore.open(self.expected)
        try:
            store = self.open()
        except StoreError:
            assert self.wounds - {*UNSEEN}
            return
        blocks = whole.samples["block"].to_numpy()
        mine = np.isin(blocks, [block for block, _ in store.block_samples])
        for name in whole.layers.index:
            try:
                found = store[name].values
            except StoreError as error:
                assert self.wounds, error
                assert str(self.root) in str(error)
                continue
            np.testing.assert_array_equal(found, whole[name].values[mine])

    @invariant()
    def nobody_sees_half_a_block(self) -> None:
        if getattr(self, "made", False) and not self.wounds:
            assert set(committed(self.root)) == self.done


@pytest.mark.parametrize(
    ("examples", "steps"), [(6, 8), pytest.param(100, 25, marks=pytest.mark.faults)], ids=["short", "long"]
)
def test_any_life_of_a_store(write_spec: WriteSpec, tmp_path: Path, examples: int, steps: int) -> None:
    path = write_spec(tmp_path, data__patients=["patient001"])
    Lifetime.spec = load_spec(path)
    summary = capture(Lifetime.spec, store=tmp_path / "expected.zarr", cluster="inline", device="cpu")
    Lifetime.expected, Lifetime.blocks = Path(str(summary.store)), summary.done
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Lifetime,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
