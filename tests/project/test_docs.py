"""The pages: built without a warning, every link leads somewhere, and what they say to run runs."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import matplotlib
import nbformat
import nibabel
import numpy as np
import pytest
from click.testing import CliRunner
from markdown_it import MarkdownIt
from markdown_it.token import Token
from matplotlib import pyplot
from nbclient import NotebookClient
from traitlets.config import Config

from actstore import __version__, analysis, views
from actstore.cli.commands import main
from actstore.jobs.capture import capture
from actstore.spec.spec import load_spec
from conftest import WriteSpec
from nnunet_folders import REFERENCE, needs_reference
from texts import in_shell

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [*ROOT.glob("*.md"), *(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)],
)
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
#: Pages about trained networks, whose code runs where there are some.
TRAINED = ("nnunet.md", "bundle.md")
#: The page whose code runs in a kernel, as it says.
IN_A_KERNEL = "notebooks.md"
#: Pages whose code runs as it stands.
TO_RUN = [
    pytest.param(page, marks=[needs_reference, pytest.mark.slow] if page.name in TRAINED else [])
    for page in [*sorted((DOCS / "howto").glob("*.md")), DOCS / "tutorial.md", DOCS / "install.md"]
    if page.name != IN_A_KERNEL
]

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"# (\S+\.(?:py|toml))\n")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def texts(page: Path) -> list[str]:
    """The Markdown of a page, or of a notebook's cells."""
    if page.suffix == ".md":
        return [page.read_text(encoding="utf-8")]
    cells = nbformat.read(page, as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "markdown"]


def inline(text: str) -> list[Token]:
    blocks = MarkdownIt("commonmark").enable("table").parse(text)
    return [child for block in blocks for child in block.children or ()]


def links(page: Path) -> list[str]:
    """Targets of links and images."""
    found = [token.attrGet("href") or token.attrGet("src") for text in texts(page) for token in inline(text)]
    return [unquote(str(target)) for target in found if target]


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings."""
    parsed = [token for text in texts(page) for token in MarkdownIt("commonmark").parse(text)]
    made: Counter[str] = Counter()
    found = set()
    for opening, heading in pairwise(parsed):
        if opening.type == "heading_open":
            words = "".join(child.content for child in heading.children or ())
            slug = re.sub(r"[^\w\- ]", "", words.strip().lower()).replace(" ", "-")
            found.add(f"{slug}-{made[slug]}" if made[slug] else slug)
            made[slug] += 1
    return found


def dead(page: Path) -> list[str]:
    """Links of a page that lead nowhere in this repository."""
    found = []
    for link in links(page):
        if re.match(r"(https?|mailto):", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        inside = target.is_relative_to(ROOT)
        if not inside or not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    assert dead(page) == []


def test_dead_links_are_noticed(tmp_path: Path) -> None:
    page = DOCS / "store.md"
    assert "shape-of-it" not in anchors(page)
    assert anchors(DOCS / "performance.md") >= {"codecs-and-lossy-types"}
    assert len(links(ROOT / "README.md")) > 5
    outside = tmp_path / "page.md"
    outside.write_text("[a](missing.md) [b](#nothing) [c](https://example.org) ![d](e.png)\n# Here\n", encoding="utf-8")
    assert dead(outside) == ["missing.md", "#nothing", "e.png"]


def test_pages_are_built_without_a_warning(tmp_path: Path) -> None:
    """As `make docs` builds them, beside those of another version."""
    html = tmp_path / "html" / __version__
    (html.parent / "0.0.9").mkdir(parents=True)
    (html.parent / "0.0.9" / "index.html").touch()
    (html.parent / "drafts").mkdir()
    command = [sys.executable, "-m", "sphinx", "-n", "-W", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run([*command, "-d", tmp_path / "doctrees", DOCS, html], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = {path.relative_to(html).with_suffix(".md").as_posix() for path in html.rglob("*.html")}
    assert {page.relative_to(DOCS).as_posix() for page in PAGES if page.is_relative_to(DOCS)} <= pages
    for package in (analysis, views):
        own = html / "reference" / package.__name__.rpartition(".")[2]
        described = "".join(page.read_text(encoding="utf-8") for page in own.glob("*.html"))
        functions = [name for name in package.__all__ if inspect.isfunction(getattr(package, name))]
        assert [name for name in functions if f'id="{package.__name__}.{name}"' not in described] == []
    notebook = (html / "notebooks" / "01_quick_start.html").read_text(encoding="utf-8")
    assert notebook.count("data:image/png") == 4
    trouble = re.sub(r"<[^>]+>", "", (html / "troubleshooting.html").read_text(encoding="utf-8"))
    assert "does not exist or is empty: give the path of an actstore store" in trouble
    for built in html.rglob("*.html"):
        page = built.read_text(encoding="utf-8")
        asked = re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"(?:https?:)?//[^\"]+", page)
        assert asked == [], f"{built.name} asks another server"
        assert f"<option selected>{__version__}</option>" in page, f"{built.name} does not name its version"
    versions = (html.parent / "versions.js").read_text(encoding="utf-8")
    assert json.loads(versions.partition("= ")[2].strip(";\n")) == [__version__, "0.0.9"]
    for place, up in (("index", ".."), ("reference/views", "../..")):
        page = (html / f"{place}.html").read_text(encoding="utf-8")
        assert f'src="{up}/versions.js"' in page
        assert f'"{up}/" + name' in page
    for style in html.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", style.read_text(encoding="utf-8")), style.name


def test_every_command_is_in_the_reference() -> None:
    """Its page is made of the program itself; this is of what the other pages say to type."""
    known = set(main.commands)
    for page in PAGES:
        for language, body in FENCE.findall(page.read_text(encoding="utf-8")):
            if language == "sh":
                subprocess.run(["bash", "-n"], input=body, text=True, check=True)
                named = {words[1] for words in in_shell(body) if words[0] == "actstore"}
                assert named <= known, name(page)


def test_tables_of_the_reference_name_every_key() -> None:
    """A table that a spec has, and the page has not, would be missing without a word."""
    from pydantic import BaseModel

    from actstore.spec import spec

    def tables(model: type[BaseModel]) -> set[type[BaseModel]]:
        inner = {t for field in model.model_fields.values() for t in _models(field.annotation)}
        return inner | {deeper for table in inner for deeper in tables(table)}

    shown = re.findall(r"spec-table\} (\S+):(\w+)", (DOCS / "reference" / "spec.md").read_text(encoding="utf-8"))
    assert {(table.__module__, table.__name__) for table in tables(spec.Spec)} == set(shown)


def _models(annotation: object) -> list[type]:
    from typing import get_args

    from pydantic import BaseModel

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, write_spec: WriteSpec) -> Path:
    """A folder like the demo's: the same network and layers, two patients, small images."""
    folder = tmp_path_factory.mktemp("study")
    spec = write_spec(
        folder,
        model__factory="actstore.models:unet_heart_8_4_4",
        model__weights="package:unet_heart_8_4_4_phantom.safetensors",
        model__layers=["*.adn.N"],
        perturb=[{"transform": "brightness", "targets": ["LV", "RV", "MYO"], "strengths": [0.1]}],
        store__path="phantom.zarr",
    )
    assert capture(load_spec(spec), cluster="inline", device="cpu").complete
    images = '[visualise]\nlayers = ["*.submodule.1.submodule.conv.unit0.conv"]\nchannels = [0, 1]\nsteps = 4\n'
    images += '[[explain]]\nname = "lv"\nmethod = "guided"\ntargets = ["LV"]\n'
    images += '[[intervene]]\nname = "restore"\nedit = "patch"\ninto = ["brightness(LV, 0.1)"]\n'
    images += 'layers = ["model.2.0.adn.N"]\nsamples = 2\n'
    (folder / "demo.toml").write_text(f"{spec.read_text(encoding='utf-8')}{images}", encoding="utf-8")
    return folder


def trained_networks(folder: Path, part_of_volume: tuple[slice, ...]) -> None:
    """The folders that pages about trained networks name, with a part of one volume in the data set."""
    reference = Path(str(REFERENCE))
    shutil.copytree(reference / "nnunet_v2" / "results", folder / "nnUNet_results")
    shutil.copytree(reference / "bundle", folder / "bundles" / "spleen")
    source, data = reference / "nnunet_v2" / "raw" / "Dataset001_Heart", folder / "nnUNet_raw" / "Dataset001_Heart"
    for part in ("imagesTr", "labelsTr"):
        (data / part).mkdir(parents=True)
        for file in (source / part).glob("patient002_frame01*"):
            whole: Any = nibabel.load(file)  # type: ignore[no-untyped-call]
            nibabel.save(whole.slicer[part_of_volume], data / part / file.name)  # type: ignore[no-untyped-call]
    shutil.copy(source / "dataset.json", data)
    (folder / "data").mkdir()
    (folder / "data" / "images").symlink_to(data)


@pytest.mark.parametrize("page", TO_RUN, ids=name)
def test_what_pages_say_to_run_runs(page: Path, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of its own, one block after another; the demo's store is a smaller one."""
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("nnUNet_raw", raising=False)
    (tmp_path / "actstore-demo").symlink_to(study)
    if page.name in TRAINED:
        # The 2D network sees slices one by one, the other overlapping boxes.
        trained_networks(tmp_path, np.s_[:, :, 4:5] if page.name == "nnunet.md" else np.s_[50:180, 80:210, :])
    variables: dict[str, object] = {"__name__": page.stem}
    for number, (language, body) in enumerate(FENCE.findall(page.read_text(encoding="utf-8"))):
        file = FILE.match(body)
        if file and language in ("python", "toml"):
            Path(file[1]).write_text(body, encoding="utf-8")
            if language == "toml":
                load_spec(file[1])
        elif language == "python":
            exec(compile(body, f"{page.name} block {number}", "exec"), variables)
        elif language == "toml":
            tomllib.loads(body)
        elif language == "sh":
            for words in in_shell(body):
                run(words)
    pyplot.close("all")
    if page.name not in TRAINED:
        assert variables.keys() > {"__name__", "__builtins__"}


def test_what_the_readme_shows_in_python_runs(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "acdc.zarr").symlink_to(study / "phantom.zarr")
    blocks = [body for language, body in FENCE.findall((ROOT / "README.md").read_text("utf-8")) if language == "python"]
    for body in blocks:
        exec(compile(body, "README.md", "exec"), {"__name__": "README"})
    assert len(blocks) == 1


def test_what_the_page_on_notebooks_shows_runs_in_a_kernel(study: Path, tmp_path: Path) -> None:
    (tmp_path / "actstore-demo").symlink_to(study)
    blocks = FENCE.findall((DOCS / "howto" / IN_A_KERNEL).read_text(encoding="utf-8"))
    cells = [body for language, body in blocks if language == "python"]
    complete = "get_ipython().Completer.complete('store[\"')[1]"
    notebook = nbformat.v4.new_notebook(
        cells=list(map(nbformat.v4.new_code_cell, [*cells, "store", "figure", complete]))
    )
    config = Config(KernelManager={"transport": "ipc", "ip": str(tmp_path / "kernel")})
    here = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, kernel_name="python3", timeout=300, resources=here, config=config).execute()
    every = "".join(json.dumps(cell.outputs) for cell in notebook.cells)
    asked = re.findall(r"js_urls = \[\W*https?:", every)
    assert asked == [], "scripts come from another server"
    assert "js_urls = [" in every
    own, drawn, layers = (json.dumps(cell.outputs) for cell in notebook.cells[-3:])
    assert "volumes committed" in own
    assert "application/vnd.holoviews_exec" in drawn
    assert "L07" in layers


def run(words: list[str]) -> None:
    """A command line of ours; what computes in this process, and no demo, which is what ``study`` stands for.

    No report of a trained network either, which takes a minute: `tests/views` makes one of patches.
    """
    program, command, *rest = words
    assert program == "actstore"
    if command == "demo" or (command == "report" and Path("nnUNet_raw").exists()):
        return
    if command in ("capture", "explain", "intervene", "visualise"):
        rest += ["--cluster", "inline"]
    done = CliRunner().invoke(main, [command, *rest])
    assert done.exit_code == 0, f"{shlex.join(words)}: {done.output}"
