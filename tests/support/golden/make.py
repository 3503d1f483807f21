"""The golden stores of older schemas: small stores written by old code, packed with the values read from them.

==============  =================  ========================================================
archive         written by commit  which is
==============  =================  ========================================================
schema2.tar.xz  48bb847            the last of schema 2; one volume is missing
schema3.tar.xz  474ee7e            the last of schema 3; control regions, repeats, float16
==============  =================  ========================================================

Commit 474ee7e read the tables and ``facts.json`` of both: the code of schema 2 knew only 5 tables. To add a store of
the current schema, add its name to `SPECS` and run, from the repository's root::

    PYTHONPATH=src:tests/support python -m golden.make capture schema4 FOLDER
    PYTHONPATH=src:tests/support python -m golden.make expect schema4 FOLDER tests/support/golden

For another schema, ``capture`` runs with the ``src`` of the commit that writes it, ``expect`` with that of the commit
that reads it.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tarfile
import warnings
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from torch import Tensor, nn

import actstore
from actstore.data.phantom import write_phantom

#: Step of the pixels along both axes, so that a heart fits 24 x 24.
STEP = 4
#: Volumes per patient, slices per volume, and each store's part of the spec.
SPECS = {
    "schema2": (
        (2, 2, 2),
        2,
        """
store = {path = "store.zarr"}
perturb = [{transform = "brightness", targets = ["LV", "RV", "MYO"], strengths = [0.1, 0.6]}]
""",
    ),
    "schema3": (
        (1, 1, 1, 1, 1),
        4,
        """
store = {path = "store.zarr", dtype = "float16"}
perturb = [
    {transform = "brightness", targets = ["LV"], strengths = [0.4, 0.8, 1.3]},
    {transform = "brightness", targets = ["RV"], strengths = [0.4, 0.8]},
    {transform = "brightness", targets = ["MYO"], strengths = [0.4]},
]
controls = {region = true, noise = true}
""",
    ),
}
SPEC = """
data = {format = "phantom", root = "data", preprocess = {size = [24, 24]}, classes = {RV = 1, MYO = 2, LV = 3}}
model = {factory = "golden.make:network", layers = ["type:InstanceNorm2d"]}
run = {threads = 1, retries = 0}
"""


class Strided(nn.Module):
    """(batch, 1, y, x) to (batch, class, y, x), by two recorded layers at a quarter and an eighth of the size."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 2, 4, stride=4), nn.InstanceNorm2d(2), nn.ReLU())
        self.bottom = nn.Sequential(nn.Conv2d(2, 8, 3, stride=2, padding=1), nn.InstanceNorm2d(8))
        self.up = nn.ConvTranspose2d(8, 4, 8, stride=8)
        self.by_intensity = nn.Conv2d(1, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.up(self.bottom(self.down(x))) + self.by_intensity(x)
        return result


def network() -> nn.Module:
    """Fixed weights: dark pixels are background, grey ones muscle, bright ones blood."""
    made, rng = Strided(), np.random.default_rng(5)
    with torch.no_grad():
        for weights in made.parameters():
            weights.copy_(torch.from_numpy(rng.normal(0, 0.3, tuple(weights.shape)).astype(np.float32)))
        made.by_intensity.weight[:, 0, 0, 0] = torch.tensor([0.0, 8.0, 4.0, 8.0])
        made.by_intensity.bias[:] = torch.tensor([0.0, -3.0, -0.8, -3.0])
    return made


def write_data(root: Path, volumes: tuple[int, ...], slices: int) -> None:
    """A phantom of few coarse slices; ``volumes`` of each patient."""
    write_phantom(root, patients=len(volumes), seed=0)
    for folder, kept in zip(sorted(root.glob("patient*")), volumes, strict=True):
        for i, path in enumerate(sorted(folder.glob("*.nii.gz"))):
            if i >= 2 * kept:
                path.unlink()
                continue
            whole: Any = nibabel.load(path)
            first = (whole.shape[2] - slices) // 2
            pixels = np.asarray(whole.dataobj)[::STEP, ::STEP, first : first + slices]
            nibabel.save(nibabel.Nifti1Image(pixels, whole.affine @ np.diag([STEP, STEP, 1, 1])), path)


def write_spec(name: str, folder: Path) -> Path:
    """The spec of a store, and its data beside it."""
    volumes, slices, own = SPECS[name]
    write_data(folder / "data", volumes, slices)
    path = folder / "spec.toml"
    path.write_text(own + SPEC, encoding="utf-8")
    return path


def capture(name: str, folder: Path) -> None:
    """Write the store ``name`` below ``folder``; for schema 2 remove the last volume again."""
    folder.mkdir(parents=True, exist_ok=True)
    summary = actstore.capture(actstore.load_spec(write_spec(name, folder)), cluster="inline", device="cpu")
    assert summary.complete, summary.failed
    if name == "schema2":
        for path in summary.store.rglob(f"c.{sum(SPECS[name][0]) - 1}*"):
            path.unlink()


def facts(store: actstore.Store) -> dict[str, Any]:
    """A store's tables, and the dims and SHA-256 of its arrays, as plain JSON."""
    arrays: dict[str, Any] = {
        name: getattr(store, name) for name in ("image", "label", "prediction", "applicable", "confusion")
    }
    for layer in store.layers.index:
        arrays[f"{layer}/activation"] = store[layer]
        arrays |= {f"{layer}/{key}": found for key, found in store.statistics(layer, persisted=True).items()}
    return {
        "schema": store.attributes["schema"],
        "missing": store.missing,
        "classes": store.classes,
        # Without bytes, which depend on the layout of tensors.
        "layers": _plain(store.layers.drop(columns="bytes")),
        "samples": _plain(store.samples),
        "conditions": _plain(store.conditions),
        "arrays": {key: _digest(found) for key, found in arrays.items()},
    }


def _plain(table: Any) -> dict[str, Any]:
    """Columns as lists, NaN as null."""
    found: dict[str, Any] = json.loads(table.reset_index().to_json(orient="split", double_precision=15, index=False))
    return dict(zip(found["columns"], map(list, zip(*found["data"], strict=True)), strict=True))


def _digest(array: Any) -> dict[str, Any]:
    values = array.values
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), values.dtype.type(np.nan), values)
    # Without axes of length 1, since a schema may give images an axis for their single channel.
    sizes = [[dim, n] for dim, n in array.sizes.items() if n != 1]
    return {"dtype": str(values.dtype), "sizes": sizes, "sha256": hashlib.sha256(values.tobytes()).hexdigest()}


def expect(name: str, folder: Path, into: Path) -> None:
    """Pack the store ``name`` below ``folder``, its tables and facts as they are read, as ``into/NAME.tar.xz``."""
    from actstore.tables.build import write_csv
    from actstore.tables.catalogue import TABLES, Unanswerable
    from actstore.tables.findings import Findings

    root = folder / "store.zarr"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=UserWarning)  # of missing volumes
        store = actstore.open(root)
    findings = Findings(store)
    (folder / "tables").mkdir(exist_ok=True)
    refused = {}
    for table in TABLES:
        try:
            write_csv(findings.table(table), folder / f"tables/{table}.csv")
        except Unanswerable as error:
            refused[table] = str(error)
    text = json.dumps(facts(store) | {"refused": refused}, indent=1, ensure_ascii=False)
    (folder / "facts.json").write_text(f"{text}\n", encoding="utf-8")
    paths = [folder / "facts.json", *(folder / "tables").iterdir(), *root.rglob("*")]
    with tarfile.open(into / f"{name}.tar.xz", "w:xz", preset=9) as packed:
        for path in sorted(path for path in paths if path.is_file()):
            entry = tarfile.TarInfo(path.relative_to(folder).as_posix())  # without times and users
            entry.size = path.stat().st_size
            with path.open("rb") as content:
                packed.addfile(entry, content)


if __name__ == "__main__":
    step, which, *folders = sys.argv[1:]
    {"capture": capture, "expect": expect}[step](which, *map(Path, folders))
