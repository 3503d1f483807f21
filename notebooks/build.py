"""Run the notebooks and write them beside their scripts: `python notebooks/build.py [NAME…]`, or `make notebooks`.

The scripts are the source. What depends on the machine or the moment is taken out of what they show.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from traitlets.config import Config

HERE = Path(__file__).parent
#: Shows patients' data, so it is committed without what it showed.
NOT_SHOWN = {"02_cardiac_study"}
PICTURE = re.compile(r"<img[^>]+src=['\"]data:image/png;base64,([^'\"]+)")
SCRIPTS = sorted(HERE.glob("[0-9]*.py"))


def run(script: Path, folder: Path) -> NotebookNode:
    """The notebook of ``script``, executed in ``folder``.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        with the traceback of the cell that failed.
    """
    notebook = jupytext.read(script)
    # Sockets in a folder of our own: over TCP, others on the machine could read what a kernel says.
    with TemporaryDirectory() as sockets:
        config = Config(KernelManager={"transport": "ipc", "ip": f"{sockets}/kernel"})
        here = {"metadata": {"path": str(folder)}}
        NotebookClient(notebook, kernel_name="python3", timeout=600, resources=here, config=config).execute()
    return tidied(notebook)


def tidied(notebook: NotebookNode) -> NotebookNode:
    """Without times of execution, progress and warnings on standard error, scripts, and the kernel's version."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(still, cell.outputs) if output is not None]
    notebook.metadata.pop("language_info", None)
    return notebook


def still(output: NotebookNode) -> NotebookNode | None:
    """What a page without scripts can show of an output: HoloViews wraps its pictures in HTML, which GitHub drops."""
    if output.get("name") == "stderr":
        return None
    data = output.get("data", {})
    if picture := PICTURE.search(data.get("text/html", "")):
        data["image/png"] = picture[1]
        del data["text/html"]
    return output if "data" not in output or data.keys() & {"image/png", "text/plain"} else None


def write(script: Path) -> Path:
    """Execute ``script`` and write its notebook; a notebook that is not shown is written without running."""
    notebook = jupytext.read(script) if script.stem in NOT_SHOWN else run(script, HERE)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
    path = script.with_suffix(".ipynb")
    nbformat.write(notebook, path)
    return path


if __name__ == "__main__":
    for chosen in SCRIPTS:
        if len(sys.argv) == 1 or chosen.stem in sys.argv[1:]:
            print(write(chosen).name)
