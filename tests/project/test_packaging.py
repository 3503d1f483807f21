"""What a user installs: the wheel's files, the extras, and the versions that are named."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

import actstore
from lowest import lowest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "actstore"
#: Cannot be installed beside the rest, or only on machines of their own.
NOT_TESTED = {"dask-cuda", "dask-kubernetes", "openTSNE", "jupyterlab"}
#: Names on conda-forge that differ from PyPI's.
ON_CONDA = {"dask": "dask-core", "torch": "pytorch", "matplotlib": "matplotlib-base", "pydantic_core": "pydantic-core"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A wheel and an sdist, by the backend itself: `make wheel` fetches it anew."""
    pytest.importorskip("hatchling", reason="hatchling is missing: pip install '.[dev]'")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    return wheel, sdist


def sources() -> set[str]:
    """Files of the package, relative to the folder that holds it."""
    files = (path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(PACKAGE.parent).as_posix() for path in files}


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(built: tuple[Path, Path]) -> None:
    with ZipFile(built[0]) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == sources()
    assert {"actstore/py.typed", "actstore/weights/unet_heart_8_4_4_phantom.safetensors"} <= held


def test_the_sdist_holds_the_package_its_tests_and_what_builds_them(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[1]) as sdist:
        held = {member.name.partition("/")[2] for member in sdist if member.isfile()}
    assert {f"src/{name}" for name in sources()} <= held
    assert {"pyproject.toml", "README.md", "LICENSE", "constraints.txt", "Makefile", "tests/conftest.py"} <= held
    assert not any(name.startswith((".venv", ".ci", "runs", "dist", "actstore-demo")) for name in held)


def test_the_wheel_says_what_each_extra_needs(built: tuple[Path, Path]) -> None:
    with ZipFile(built[0]) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(wheel.read(name).decode())
    extras = set(metadata.get_all("Provides-Extra", []))
    assert extras == {
        *("capture", "nnunet", "views", "parquet", "representations", "tsne", "s3", "slurm", "kubernetes", "cuda"),
        *("all", "dicom", "notebook"),
        *("dev", "docs", "test"),
    }
    plain = [needed for needed in metadata.get_all("Requires-Dist", []) if "extra ==" not in needed]
    heavy = (
        "torch",
        "monai",
        "nibabel",
        "distributed",
        "holoviews",
        "panel",
        "bokeh",
        "matplotlib",
        "pydantic",
        "scikit",
    )
    assert not [needed for needed in plain if needed.startswith((*heavy, "pyarrow"))]


def version(text: str) -> tuple[int, ...]:
    """To compare releases by; what follows the numbers is left out."""
    return tuple(int(part) for part in text.split(".") if part.isdecimal())


def test_each_lowest_version_is_below_the_one_that_is_tested() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.partition(";")[0].strip().lower().split("==") for line in lines if "==" in line)
    for name, bound in lowest().items():
        if name not in NOT_TESTED:
            assert version(bound) <= version(pins[name]), name


def test_a_requirement_without_one_lower_bound_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text('[project]\ndependencies = ["numpy<3"]\noptional-dependencies = {}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="'numpy<3' has no lower bound"):
        lowest(path)
    path.write_text('[project]\ndependencies = ["a>=1"]\noptional-dependencies = {b = ["a>=2"]}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="a has two lower bounds, 1 and 2"):
        lowest(path)


def test_all_holds_every_extra_but_those_of_one_kind_of_machine_and_of_development() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    (everything,) = extras["all"]
    named = set(everything.removeprefix("actstore[").removesuffix("]").split(","))
    assert named == set(extras) - {"all", "cuda", "notebook", "dev", "docs", "test"}


def test_the_conda_recipe_needs_what_the_package_needs() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    recipe = yaml.safe_load((ROOT / "conda" / "recipe.yaml").read_text(encoding="utf-8"))
    base, whole = (output["requirements"]["run"] for output in recipe["outputs"])
    extras = project["optional-dependencies"]
    of_views = [*extras["views"], *extras["parquet"], *extras["representations"]]
    assert set(base[1:]) == on_conda(project["dependencies"])
    assert set(whole[1:]) == on_conda([*extras["capture"], *of_views])
    assert recipe["context"]["version"] == actstore.__version__
    assert base[0] == "python >=${{ python_min }}"
    assert project["requires-python"] == f">={recipe['context']['python_min']}"


def on_conda(requirements: list[str]) -> set[str]:
    """Requirements of PyPI as a recipe writes them, without extras."""
    found = set()
    for requirement in requirements:
        name, bound = re.split(r"[\[>]", requirement)[0], requirement.rpartition(">=")[2]
        if name != "actstore":
            found.add(f"{ON_CONDA.get(name, name)} >={bound}")
    return found


def test_the_version_is_the_same_everywhere() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == actstore.__version__
    assert f"## {actstore.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
