"""Everything that a person can get wrong: what is said, and that nothing already stored is lost."""

from __future__ import annotations

import gzip
import importlib
import itertools
import os
import pickle
import pkgutil
import re
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import psutil
import pytest
import torch
import zarr

import actstore
from actstore.errors import (
    ActstoreError,
    BlockError,
    DataError,
    ModelError,
    PlanError,
    SpecError,
    StoreError,
    one_line,
)
from actstore.jobs import creation
from actstore.jobs.capture import Summary, capture
from actstore.jobs.plan import plan as planning
from actstore.networks.model import weights_digest
from actstore.networks.weights import load_weights
from actstore.spec.spec import load_spec
from conftest import WriteSpec
from networks import tiny_unet
from stores import edit_attributes

pytestmark = pytest.mark.slow

FRAME = "patient001 frame 01"
MENDS = re.compile(
    r"\b(add|choose|correct|fetch|give|install|keep|leave|lower|make|name|put|read|rename|replace|restore|run|save|set|"
    r"split|start|take|use|free|check|return|move)\b",
    re.IGNORECASE,
)


def run(spec: Path, **options: Any) -> Summary:
    return capture(load_spec(spec), cluster="inline", device="cpu", **options)


def refused(spec: Path, kind: type[ActstoreError], words: str, **options: Any) -> str:
    """``capture`` raises ``kind`` with ``words`` in one line that offers a mend. Returns the line."""
    with pytest.raises(kind) as caught:
        run(spec, **options)
    message = one_line(caught.value)
    assert words in message
    assert MENDS.search(message), message
    return message


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below ``folder``: when it was written, and what it holds."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def image_of(root: Path, patient: int = 1, frame: str = "01") -> Path:
    return root / f"patient{patient:03d}" / f"patient{patient:03d}_frame{frame}.nii.gz"


def mask_of(root: Path, patient: int = 1, frame: str = "01") -> Path:
    image = image_of(root, patient, frame)
    return image.with_name(image.name.replace(".nii", "_gt.nii"))


def rewrite(path: Path, change: Callable[[Any], Any], dtype: Any = None) -> None:
    """Change the pixels (row, column, slice) of a NIfTI file."""
    volume: Any = nibabel.load(path)
    pixels = np.asarray(volume.dataobj)
    changed = np.asarray(change(pixels.astype(dtype or pixels.dtype)))
    nibabel.save(nibabel.Nifti1Image(changed, volume.affine), path)


@pytest.fixture
def stored(tiny_copy: Path) -> Any:
    """A captured store that must be left as it is."""
    before = files(tiny_copy)
    yield tiny_copy
    assert files(tiny_copy) == before


# The package's own name is the function.
capturing = importlib.import_module("actstore.jobs.capture")


class TestErrors:
    @pytest.mark.parametrize("by", [pickle.HIGHEST_PROTOCOL, 2])
    def test_every_class_survives_pickling(self, by: int) -> None:
        for module in pkgutil.walk_packages(actstore.__path__, "actstore."):
            if not module.name.startswith("actstore.views"):
                importlib.import_module(module.name)
        kinds = {ActstoreError}
        while more := {sub for kind in kinds for sub in kind.__subclasses__()} - kinds:
            kinds |= more
        assert {SpecError, DataError, ModelError, PlanError, StoreError, BlockError} <= kinds
        for kind in kinds:
            error = kind("patient001", "no slices") if issubclass(kind, BlockError) else kind("no slices")
            again = pickle.loads(pickle.dumps(error, by))
            assert type(again) is kind
            assert again.__dict__ == error.__dict__
            assert str(again) == str(error)

    def test_block_error_carries_its_volume(self) -> None:
        error = pickle.loads(pickle.dumps(BlockError("patient001", "no slices")))
        assert (error.volume, error.message, str(error)) == ("patient001", "no slices", "patient001: no slices")

    def test_one_line(self) -> None:
        assert one_line(StoreError("a\n  b")) == "a b"
        assert one_line(KeyError("a")) == "KeyError: 'a'"
        assert one_line(MemoryError()) == "MemoryError"


class TestData:
    """What is found before anything is computed."""

    def test_image_without_mask(self, write_spec: WriteSpec, tmp_path: Path, phantom_copy: Path) -> None:
        mask_of(phantom_copy).unlink()
        words = "1 image(s) without a mask: patient001/patient001_frame01.nii.gz; add the missing files"
        refused(write_spec(tmp_path, data__root=phantom_copy), DataError, words)
        assert not (tmp_path / "tiny.zarr").exists()

    def test_mask_without_image(self, write_spec: WriteSpec, tmp_path: Path, phantom_copy: Path) -> None:
        image_of(phantom_copy).unlink()
        words = "1 mask(s) without an image: patient001/patient001_frame01_gt.nii.gz; add the missing files"
        refused(write_spec(tmp_path, data__root=phantom_copy), DataError, words)

    def test_two_files_for_one_volume(self, write_spec: WriteSpec, tmp_path: Path, phantom_copy: Path) -> None:
        image = image_of(phantom_copy)
        image.with_suffix("").write_bytes(gzip.decompress(image.read_bytes()))
        message = refused(write_spec(tmp_path, data__root=phantom_copy), DataError, f"{FRAME}: 2 files for one image")
        assert message.endswith("keep one of them")

    def test_no_patient_matches(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        words = "no patient patient042; there are 2 (patient001, patient002): correct data.patients"
        refused(write_spec(tmp_path, data__patients=["patient042"]), DataError, words)

    @pytest.mark.parametrize("format", ["acdc", "nnunet"])
    def test_no_such_root(self, write_spec: WriteSpec, tmp_path: Path, format: str) -> None:
        spec = write_spec(tmp_path, data__root=tmp_path / "none", data__format=format)
        refused(spec, DataError, f"{tmp_path / 'none'}: no such folder")

    def test_another_format(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        refused(write_spec(tmp_path, data__format="nnunet"), DataError, "no such folder; correct data.root or data.fo")

    def test_no_volume_can_be_read(self, write_spec: WriteSpec, tmp_path: Path, phantom_copy: Path) -> None:
        for path in phantom_copy.rglob("*.nii.gz"):
            path.write_bytes(b"no image")
        words = f"none of 4 volumes in {phantom_copy} can be read: "
        refused(write_spec(tmp_path, data__root=phantom_copy), DataError, words)
        assert not (tmp_path / "tiny.zarr").exists()


def truncate(root: Path) -> None:
    path = image_of(root)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garble(root: Path) -> None:
    image_of(root).write_bytes(bytes(range(256)) * 8)


def empty(root: Path) -> None:
    image_of(root).write_bytes(b"")


def set_pixel(value: float) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        def change(pixels: Any) -> Any:
            pixels[3, 4, 1] = value
            return pixels

        rewrite(image_of(root), change, np.float32)

    return damage


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated": (truncate, "patient001_frame01.nii.gz: truncated, the compressed data end early; restore the file"),
    "garbage": (garble, "patient001_frame01.nii.gz: not a NIfTI file"),
    "empty": (empty, "patient001_frame01.nii.gz: not a NIfTI file (0 bytes"),
    "shape": (
        lambda root: rewrite(mask_of(root), lambda pixels: pixels[:-1]),
        f"{FRAME}: the image is ",
    ),
    "label": (
        lambda root: rewrite(mask_of(root), lambda pixels: np.where(pixels == 3, 7, pixels)),
        "label value 7 (",
    ),
    "nan": (set_pixel(np.nan), "patient001_frame01.nii.gz: 1 pixels are NaN or infinite, the first at (1, 3, 4)"),
    "infinite": (set_pixel(-np.inf), "1 pixels are NaN or infinite, the first at (1, 3, 4)"),
    "constant": (
        lambda root: rewrite(image_of(root), lambda pixels: np.full_like(pixels, 5)),
        "constant, every pixel is 5, so there is nothing to perturb; leave the patient out of data.patients",
    ),
}


class TestOneBadVolume:
    """A volume that cannot be used fails by itself; once mended, it alone is computed."""

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_others_finish_and_a_mended_one_alone_is_computed(
        self, write_spec: WriteSpec, tmp_path: Path, phantom_root: Path, phantom_copy: Path, damage: str
    ) -> None:
        spoil, words = DAMAGES[damage]
        spoil(phantom_copy)
        spec = write_spec(tmp_path, data__root=phantom_copy)
        seen: list[tuple[str, int, int]] = []
        first = run(spec, progress=lambda report, done, total: seen.append((report.name, done, total)))
        assert not first.complete
        assert (first.done, first.skipped) == (3, 0)
        (failed,) = first.failed
        assert failed.name == FRAME
        assert words in failed.error
        assert MENDS.search(failed.error), failed.error
        assert [finished for _, finished, _ in seen] == [1, 2, 3, 4]
        with pytest.warns(UserWarning, match=rf"1 of 4 blocks are missing \({FRAME}\); `actstore capture"):
            store = actstore.open(first.store)
        assert set(zip(store.samples["patient"], store.samples["frame"], strict=True)).isdisjoint({("patient001", 1)})

        before = files(first.store)
        for path in (image_of(phantom_root), mask_of(phantom_root)):
            shutil.copy(path, phantom_copy / path.relative_to(phantom_root))
        second = run(spec)
        assert second.complete
        assert (second.done, second.skipped) == (1, 3)
        after = files(first.store)
        assert {name for name in before if after[name] != before[name]} <= {
            *(f"{name}/c.0" for name in ("valid", "depth", "height", "width")),
            *(f"{name}/c.0.0" for name in ("spacing", "origin", "owned_start", "owned_stop")),
        }
        slices = int(nibabel.load(image_of(phantom_root)).shape[2])  # type: ignore[attr-defined]
        samples = actstore.open(first.store).samples
        of_block = samples[(samples["patient"] == "patient001") & (samples["frame"] == 1)]
        assert list(of_block["slice"]) == list(range(slices))

    @pytest.mark.parametrize("damage", [truncate, garble])
    def test_mended_with_fewer_slices(
        self, write_spec: WriteSpec, tmp_path: Path, phantom_root: Path, phantom_copy: Path, damage: Any
    ) -> None:
        damage(phantom_copy)
        spec = write_spec(tmp_path, data__root=phantom_copy)
        assert not run(spec).complete
        shutil.copy(image_of(phantom_root), image_of(phantom_copy))
        for path in (image_of(phantom_copy), mask_of(phantom_copy)):
            rewrite(path, lambda pixels: pixels[..., 2:5])
        summary = run(spec)
        assert (summary.done, summary.skipped, summary.samples) == (1, 3, 3)
        samples = actstore.open(summary.store).samples
        assert list(samples[(samples["patient"] == "patient001") & (samples["frame"] == 1)]["slice"]) == [0, 1, 2]
        assert run(spec).skipped == 4

    def test_mended_with_more_slices_than_slots(
        self, write_spec: WriteSpec, tmp_path: Path, phantom_root: Path, phantom_copy: Path
    ) -> None:
        garble(phantom_copy)
        spec = write_spec(tmp_path, data__root=phantom_copy)
        store = run(spec).store
        before = files(store)
        shutil.copy(image_of(phantom_root), image_of(phantom_copy))
        for path in (image_of(phantom_copy), mask_of(phantom_copy)):
            rewrite(path, lambda pixels: np.concatenate([pixels, pixels], axis=2))
        message = refused(spec, StoreError, f"{store} has room for ")
        assert re.search(rf"room for \d+ samples a volume, {FRAME} has \d+ now: choose another store path", message)
        assert files(store) == before

    def test_a_committed_volume_whose_file_changed(
        self, write_spec: WriteSpec, tmp_path: Path, phantom_copy: Path
    ) -> None:
        spec = write_spec(tmp_path, data__root=phantom_copy)
        store = run(spec).store
        before = files(store)
        rewrite(image_of(phantom_copy), lambda pixels: pixels + 1)
        words = f"{store} holds other data: {FRAME}: its files changed since it was captured; restore the files or"
        refused(spec, StoreError, words)
        garble(phantom_copy)
        refused(spec, StoreError, words)
        assert files(store) == before

    def test_a_transform_that_leaves_the_mask(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        table = {"transform": "networks:outside", "targets": ["LV"], "strengths": [0.1]}
        summary = run(write_spec(tmp_path, data__patients=["patient001"], perturb=[table]))
        assert len(summary.failed) == 2
        assert "transform 'networks:outside' changed" in summary.failed[0].error
        assert "write inside of mask only" in summary.failed[0].error

    def test_disk_fills_while_a_block_is_written(
        self, write_spec: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spec = write_spec(tmp_path, data__patients=["patient001"])
        pwrite, calls = os.pwrite, itertools.count()

        def sometimes_full(*arguments: Any) -> int:
            if next(calls) == 7:
                raise OSError(28, os.strerror(28))
            return pwrite(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", sometimes_full)
            summary = run(spec)
        (failed,) = summary.failed
        assert "No space left on device" in failed.error
        assert summary.done == 1
        assert not list(summary.store.rglob("*.partial*"))
        again = run(spec)
        assert (again.done, again.skipped) == (1, 1)

    def test_a_file_that_changes_after_planning(
        self, write_spec: WriteSpec, tmp_path: Path, phantom_copy: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spec = write_spec(tmp_path, data__root=phantom_copy, data__patients=["patient001"])

        def spoil(*arguments: Any, **more: Any) -> Any:
            for path in (image_of(phantom_copy), mask_of(phantom_copy)):
                rewrite(path, lambda pixels: pixels[..., :3])
            return create(*arguments, **more)

        create = creation.files_of
        monkeypatch.setattr(creation, "files_of", spoil)
        (failed,) = run(spec).failed
        assert "has 3 samples, 7 when the run was planned: run capture again" in failed.error
        assert run(spec).complete

    def test_activations_beyond_float16(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        changes = {"data__patients": ["patient001"], "model__factory": "networks:loud", "store__dtype": "float16"}
        summary = run(write_spec(tmp_path, **changes))
        assert len(summary.failed) == 2
        assert "L02" in summary.failed[0].error
        assert "float32" in summary.failed[0].error

    def test_control_flow_that_depends_on_the_input(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        summary = run(write_spec(tmp_path, data__patients=["patient001"], model__factory="networks:moody"))
        assert [r.error for r in summary.failed] == [
            "a forward pass ran 1 of 2 recorded layers: the network's control flow depends on its input, "
            "which cannot be recorded"
        ] * 2


class Run:
    """What unpickling it would run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


class TestModel:
    def test_pattern_that_matches_nothing(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        spec = write_spec(tmp_path, model__layers=["type:InstanceNorm2d", "*.adn.N"])
        words = (
            "layer pattern '*.adn.N' matches no module of TinyUNet (module types: Conv2d, ConvTranspose2d, Identity, "
        )
        refused(spec, ModelError, words)
        assert not (tmp_path / "tiny.zarr").exists()

    def test_module_that_never_runs(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        spec = write_spec(tmp_path, model__layers=["unused"])
        refused(
            spec, ModelError, "layer pattern 'unused' matches only modules that never run in a forward pass (unused)"
        )

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            (
                {"factory": "no_such_module:unet"},
                "model.factory 'no_such_module:unet': cannot import 'no_such_module' (",
            ),
            ({"factory": "networks:no_unet"}, "model.factory 'networks:no_unet': 'networks' has no 'no_unet'; correct"),
            (
                {"factory": "networks:nn.__name__"},
                "model.factory 'networks:nn.__name__' is a str, not callable; name a",
            ),
            (
                {"factory": "networks:broken"},
                "model.factory 'networks:broken' failed with LookupError: no such backbone, ",
            ),
            (
                {"factory": "networks:no_module"},
                "model.factory 'networks:no_module' returned a dict: it must return a ",
            ),
            ({"factory": "networks:odd"}, "'networks:odd' fails on an input of (1, 1, 64, 64): OddError: not today; "),
            (
                {"factory": "networks:pair"},
                "'networks:pair' returns a tuple of 0: (4, 64, 64), 1: (1, 64, 64): name the one of its logits in "
                "model.output",
            ),
            (
                {"arguments": {"depth": 3}},
                "'networks:tiny_unet' failed with TypeError: tiny_unet() got an unexpected key",
            ),
            (
                {"arguments": {"classes": 3}},
                "'networks:tiny_unet' returns (3, 64, 64) for one sample: expected (4, 64, 64), one channel for each "
                "of background, RV, MYO, LV, at data.preprocess.size; correct",
            ),
        ],
    )
    def test_factory(self, write_spec: WriteSpec, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
        kind = SpecError if "'networks:n" in words and "returned" not in words else ActstoreError
        spec = write_spec(tmp_path, **{f"model__{name}": value for name, value in changes.items()})
        refused(spec, kind, words)
        assert not (tmp_path / "tiny.zarr").exists()

    @pytest.mark.parametrize(
        ("size", "words"),
        [
            ([63, 64], "returns (4, 64, 64) for one sample: expected (4, 63, 64)"),
            ([8, 64, 64], "fails on an input of (1, 1, 8, 64, 64): "),
            ([1, 1], "fails on an input of (1, 1, 1, 1): "),
        ],
    )
    def test_wrong_input_size(self, write_spec: WriteSpec, tmp_path: Path, size: list[int], words: str) -> None:
        refused(write_spec(tmp_path, data__preprocess__size=size), ModelError, f"'networks:tiny_unet' {words}")

    def test_module_that_ends_the_process(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        (tmp_path / "ends_the_process.py").write_text("raise SystemExit(0)")
        refused(
            write_spec(tmp_path, model__factory="ends_the_process:x"), SpecError, "cannot import 'ends_the_process'"
        )

    def weights(self, write_spec: WriteSpec, folder: Path, content: Any, name: str = "w.pt") -> Path:
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            torch.save(content, folder / name)
        return write_spec(folder, model__weights=name)

    def test_weights_of_another_architecture(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        state = tiny_unet(width=3).state_dict()
        state["head.weight"] = state.pop("up.bias")
        message = refused(
            self.weights(write_spec, tmp_path, state), ModelError, f"weights {tmp_path / 'w.pt'} do not fit"
        )
        for words in (
            "do not fit TinyUNet: 1 missing: up.bias; 1 unexpected: head.weight; 5 differently shaped: "
            "bottom.0.bias is (6,), the network has (4,), ",
            ", … (1 more)",
            "Name the factory and arguments that these weights were trained with",
        ):
            assert words in message

    def test_weights_that_run_code(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        proof = tmp_path / "it ran"
        contents: dict[str, Any] = {
            "zip.pt": {"a": Run(proof)},
            "plain.pt": pickle.dumps(Run(proof)),
            "old.pt": pickle.dumps(Run(proof), 2),
            "named.safetensors": pickle.dumps(Run(proof)),
        }
        for name, content in contents.items():
            refused(self.weights(write_spec, tmp_path, content, name), ModelError, f"weights {tmp_path / name} ")
            assert not proof.exists(), name
        words = "hold pickled objects (pathlib.Path.touch) that would run code, and are not loaded: save a plain state"
        refused(write_spec(tmp_path, model__weights="zip.pt"), ModelError, words.split(" (")[0])
        pickle.loads(contents["plain.pt"])
        assert proof.exists()

    def test_a_whole_pickled_network(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        spec = self.weights(write_spec, tmp_path, tiny_unet())
        refused(
            spec, ModelError, "hold pickled objects (networks.TinyUNet) that would run code, and are not loaded: save"
        )

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("w.pt", b""),
            ("w.pt", b"<html>not found</html>"),
            ("w.pt", b"\0" * 1000),
            ("w.pt", b"PK\x03\x04 cut off"),
            ("w.safetensors", b"\0" * 4),
            ("w.safetensors", b"<html>not found</html>"),
        ],
    )
    def test_weights_that_are_none(
        self, write_spec: WriteSpec, tmp_path: Path, name: str, content: bytes, recwarn: pytest.WarningsRecorder
    ) -> None:
        message = refused(
            self.weights(write_spec, tmp_path, content, name), ModelError, f"weights {tmp_path / name} are"
        )
        assert "fetch the file again" in message
        assert "weights_only" not in message

    @pytest.mark.parametrize("content", [{}, {"a": 1}, {1: torch.zeros(1)}, [torch.zeros(1)], torch.zeros(1)])
    def test_checkpoints_without_a_state_dict(self, write_spec: WriteSpec, tmp_path: Path, content: Any) -> None:
        words = "hold no state dict: save model.state_dict(), bare or under one of model_state_dict"
        refused(self.weights(write_spec, tmp_path, content), ModelError, words)

    def test_no_such_weights(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        for name in ("none.pt", "none.safetensors", "."):
            path = (tmp_path / name).resolve()
            refused(
                write_spec(tmp_path, model__weights=name), ModelError, f"weights {path} do not exist: give the path"
            )

    def test_weights_that_diverged(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        state = tiny_unet().state_dict()
        state["up.bias"][2] = float("nan")
        spec = self.weights(write_spec, tmp_path, state)
        refused(spec, ModelError, "hold NaN or infinity in 1 of 6 tensors: up.bias; choose a checkpoint from before")

    def test_a_mask_of_infinity_is_no_divergence(self, tmp_path: Path) -> None:
        network = tiny_unet()
        network.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
        path = tmp_path / "w.pt"
        torch.save(network.state_dict(), path)
        load_weights(network, path)
        network.get_buffer("mask")[0] = torch.nan
        torch.save(network.state_dict(), path)
        with pytest.raises(ModelError, match="hold NaN or infinity in 1 of 7 tensors: mask; choose"):
            load_weights(network, path)

    def test_weights_that_differ_at_every_call(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        words = "model.factory 'networks:unseeded' makes other weights at every call, so that no two workers would run"
        message = refused(write_spec(tmp_path, model__factory="networks:unseeded"), ModelError, words)
        assert message.endswith("give model.weights, or let the factory fix its seed")
        torch.save(tiny_unet().state_dict(), tmp_path / "w.pt")
        assert run(write_spec(tmp_path, model__factory="networks:unseeded", model__weights="w.pt")).complete

    def test_unknown_transform_of_ones_own(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        table = {"transform": "networks:nothing", "targets": ["LV"], "strengths": [0.1]}
        refused(write_spec(tmp_path, perturb=[table]), SpecError, "transform 'networks:nothing': 'networks' has no")

    def test_strength_beyond_a_fraction(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        table = {"transform": "shuffle", "targets": ["LV"], "strengths": [1.5]}
        refused(
            write_spec(tmp_path, perturb=[table]), SpecError, "strength 1.5 of 'shuffle' is a fraction: use at most 1"
        )


class TestStorePath:
    """Where a store cannot be made, or is another run's."""

    def test_a_file(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        (tmp_path / "tiny.zarr").write_text("mine")
        words = f"{tmp_path / 'tiny.zarr'} holds something else than an actstore store: choose another path"
        refused(write_spec(tmp_path), StoreError, words)
        assert (tmp_path / "tiny.zarr").read_text() == "mine"

    def test_a_folder_of_other_files(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        (tmp_path / "tiny.zarr").mkdir()
        (tmp_path / "tiny.zarr" / "notes.txt").write_text("mine")
        refused(write_spec(tmp_path), StoreError, "holds something else than an actstore store: choose another path")
        refused(write_spec(tmp_path, store__path="."), StoreError, f"{tmp_path} holds something else than an actstore")
        assert (tmp_path / "tiny.zarr" / "notes.txt").read_text() == "mine"

    def test_another_zarr_store(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        path = tmp_path / "tiny.zarr"
        zarr.create_group(path, zarr_format=3, attributes={"schema": 1}).create_array("a", shape=(3,), dtype="f4")
        before = files(path)
        refused(write_spec(tmp_path), StoreError, f"{path} holds something else than an actstore store")
        assert files(path) == before

    def test_an_empty_folder_is_free(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "tiny.zarr").symlink_to(tmp_path / "real")
        summary = run(write_spec(tmp_path, data__patients=["patient001"]), store=tmp_path / "tiny.zarr")
        assert summary.complete
        assert (tmp_path / "real" / "zarr.json").exists()

    def test_below_a_file(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")
        for path in ("file/tiny.zarr", "file/runs/tiny.zarr"):
            words = f"no store can be made at {tmp_path / path}: "
            message = refused(write_spec(tmp_path, store__path=path), StoreError, words)
            assert message.endswith("; choose a folder you may write")

    @pytest.mark.parametrize("number", [30, 13])
    def test_read_only_folder(
        self, write_spec: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        mkdir = os.mkdir

        def refuse(path: Any, *arguments: Any, **more: Any) -> None:
            if str(tmp_path) in str(path):
                raise OSError(number, os.strerror(number), str(path))
            mkdir(path, *arguments, **more)

        monkeypatch.setattr(os, "mkdir", refuse)
        words = f"no store can be made at {tmp_path / 'tiny.zarr'}: {os.strerror(number)} ("
        message = refused(write_spec(tmp_path), StoreError, words)
        assert message.endswith("; choose a folder you may write")
        assert [path.name for path in tmp_path.iterdir()] == ["spec.toml"]

    def test_disk_fills_while_the_store_is_made(
        self, write_spec: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: Any, **__: Any) -> None:
            raise OSError(28, os.strerror(28))

        monkeypatch.setattr(Path, "write_bytes", full)
        words = f"no store can be made at {tmp_path / 'tiny.zarr'}: No space left on device; check the folder"
        refused(write_spec(tmp_path), StoreError, words)
        assert [path.name for path in tmp_path.iterdir()] == ["spec.toml"]

    def test_other_weights(self, write_spec: WriteSpec, tmp_path: Path, stored: Path) -> None:
        spec = write_spec(tmp_path, model__arguments={"seed": 0}, model__factory="networks:tiny_unet")
        torch.save(tiny_unet(seed=5).state_dict(), tmp_path / "w.pt")
        spec = write_spec(tmp_path, model__weights="w.pt")
        digests = " → ".join(weights_digest(tiny_unet(seed=seed))[:12] for seed in (0, 5))
        words = f"{stored} belongs to another run: other weights (sha256 {digests}); choose another store path"
        refused(spec, StoreError, words)

    def test_other_data(self, write_spec: WriteSpec, tmp_path: Path, stored: Path) -> None:
        words = "belongs to another run: other data (2 gone: patient002 frame 01, patient002 frame "
        refused(write_spec(tmp_path, data__patients=["patient001"]), StoreError, words)

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"store__dtype": "float16"}, 'another spec (dtype: "float32" → "float16"); choose another store path'),
            ({"run__seed": 3}, "another spec (seed: 0 → 3)"),
            (
                {"data__preprocess__normalize": "none", "data__preprocess__size": [48, 64]},
                'preprocess.normalize: "minmax-slice" → "none"; preprocess.size: [64, 64] → [48, 64])',
            ),
            ({"model__layers": ["down.1"]}, 'another spec (layers: ["type:InstanceNorm2d"] → ["down.1"])'),
            ({"perturb": [{"transform": "blur", "targets": ["LV"], "strengths": [2]}]}, "another spec (perturb: [{"),
            ({"controls": {"noise": True}}, "another spec (controls.noise: false → true)"),
        ],
    )
    def test_another_spec(
        self, write_spec: WriteSpec, tmp_path: Path, stored: Path, changes: dict[str, Any], words: str
    ) -> None:
        assert "weights" not in refused(write_spec(tmp_path, **changes), StoreError, words)

    def test_all_at_once(self, write_spec: WriteSpec, tmp_path: Path, stored: Path) -> None:
        spec = write_spec(tmp_path, model__arguments={"seed": 5}, data__patients=["patient002"], run__seed=1)
        message = refused(spec, StoreError, f"{stored} belongs to another run: other weights (sha256 ")
        assert ", other data (2 gone: " in message
        assert ", another spec (arguments.seed: null → 5; seed: 0 → 1)" in message

    def test_newer_schema(self, write_spec: WriteSpec, tmp_path: Path, tiny_copy: Path) -> None:
        edit_attributes(tiny_copy, lambda attributes: attributes.update(schema=99))
        before = files(tiny_copy)
        words = f"{tiny_copy} has schema 99, this actstore reads 2 to 4: install a newer actstore"
        refused(write_spec(tmp_path), StoreError, words)
        with pytest.raises(StoreError, match=re.escape(words)):
            actstore.open(tiny_copy)
        assert files(tiny_copy) == before

    @pytest.mark.parametrize("schema", ["1", None, True, [1]])
    def test_schema_that_is_no_number(self, tiny_copy: Path, schema: Any) -> None:
        edit_attributes(tiny_copy, lambda attributes: attributes.update(schema=schema))
        with pytest.raises(StoreError, match=r"has schema .*, which is no number: its zarr\.json is damaged"):
            actstore.open(tiny_copy)

    def test_damaged_metadata(self, tiny_copy: Path) -> None:
        for content in (b"", b"{", b"[]", b"\xff\xff", b'{"attributes": {}}'):
            (tiny_copy / "zarr.json").write_bytes(content)
            with pytest.raises(StoreError, match=r"is damaged: its zarr\.json cannot be read; `actstore verify"):
                actstore.open(tiny_copy)
        shutil.rmtree(tiny_copy / "metadata")
        with pytest.raises(StoreError, match="holds something else than an actstore store"):
            actstore.open(tiny_copy)

    @pytest.mark.parametrize("key", ["classes", "identity", "layers", "blocks", "slots"])
    def test_attribute_that_is_gone(self, tiny_copy: Path, key: str) -> None:
        edit_attributes(tiny_copy, lambda attributes: attributes.pop(key))
        with pytest.raises(StoreError, match=f"is damaged: .*{key}.*restore"):
            actstore.open(tiny_copy)

    def test_coordinate_that_is_gone(self, tiny_copy: Path) -> None:
        (tiny_copy / "patient" / "c.0").write_bytes(b"nothing")
        with pytest.raises(StoreError, match=r"is damaged: its coordinates cannot be read .*verify STORE --repair"):
            actstore.open(tiny_copy)

    def test_no_store(self, tmp_path: Path) -> None:
        with pytest.raises(
            StoreError, match=r"none\.zarr does not exist or is empty: give the path of an actstore store"
        ):
            actstore.open(tmp_path / "none.zarr")
        with pytest.raises(StoreError, match="does not exist or is empty"):
            actstore.open(tmp_path)


class TestResources:
    def test_disk(self, write_spec: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        free = SimpleNamespace(total=10**12, used=10**12 - 10**6, free=10**6)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
        message = refused(write_spec(tmp_path), PlanError, f" MB at {tmp_path / 'tiny.zarr'}, which has 1.00 MB free (")
        assert re.match(
            r"the run needs \d+\.\d\d MB at .* alone takes \d+%\): free space, record fewer layers", message
        )
        assert not (tmp_path / "tiny.zarr").exists()

    def test_a_complete_store_needs_no_disk(
        self, write_spec: WriteSpec, tmp_path: Path, stored: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
        assert run(write_spec(tmp_path)).skipped == 4

    def test_memory(self, write_spec: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10**8))
        message = refused(write_spec(tmp_path), PlanError, "100.00 MB are available: use fewer --workers or a smaller")
        assert re.match(r"1 worker of \d+\.\d\d MB would take \d+\.\d\d MB of memory", message)
        assert not (tmp_path / "tiny.zarr").exists()

    @pytest.mark.parametrize(
        ("device", "words"),
        [
            ("gpu", "device 'gpu' is unknown: use auto, cpu, cuda or cuda:N"),
            ("cuda:99", "device 'cuda:99' is not there: torch sees "),
        ],
    )
    def test_device(self, write_spec: WriteSpec, tmp_path: Path, device: str, words: str) -> None:
        with pytest.raises(PlanError, match=re.escape(words)):
            capture(load_spec(write_spec(tmp_path)), cluster="inline", device=device)
        assert not (tmp_path / "tiny.zarr").exists()

    def test_unknown_cluster_is_refused_before_anything_is_written(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        with pytest.raises(SpecError, match="cluster 'clod' is unknown: use inline"):
            capture(load_spec(write_spec(tmp_path)), cluster="clod")
        assert not (tmp_path / "tiny.zarr").exists()


class TestNothingIsLeftBehind:
    def test_hooks_of_a_pass_that_failed(self) -> None:
        from actstore.networks.recording import probe
        from networks import odd

        network = odd()
        with pytest.raises(Exception, match="not today"):
            probe(network, (1, 8, 8), ["norm"])
        assert not any(module._forward_hooks for module in network.modules())

    def test_folders_and_threads_of_a_refused_run(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        (tmp_path / "tiny.zarr").write_text("mine")
        spec = write_spec(tmp_path)
        threads = set(threading.enumerate())
        refused(spec, StoreError, "holds something else")
        assert set(threading.enumerate()) <= threads
        assert sorted(path.name for path in tmp_path.iterdir()) == ["spec.toml", "tiny.zarr"]

    def test_modules_beside_one_spec_are_not_taken_for_those_beside_another(
        self, write_spec: WriteSpec, tmp_path: Path
    ) -> None:
        source = "import networks\n\ndef unet():\n    return networks.tiny_unet(seed={seed})\n"
        digests = []
        for seed in (1, 2, 1):
            folder = tmp_path / str(seed)
            folder.mkdir(exist_ok=True)
            (folder / "my_network.py").write_text(source.format(seed=seed))
            spec = load_spec(write_spec(folder, model__factory="my_network:unet"))
            digests.append(planning.make_plan(spec, timing=False).fingerprint.weights)
            assert str(folder) in sys.path
        assert digests == [weights_digest(tiny_unet(seed=seed)) for seed in (1, 2, 1)]
        assert str(tmp_path / "2") not in sys.path
