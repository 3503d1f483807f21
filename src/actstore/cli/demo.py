"""The demo: phantom, capture, reduce, tables, figure and report, with nothing to prepare."""

from __future__ import annotations

import shlex
from pathlib import Path

from actstore.cli import text
from actstore.cli.terminal import program, say_made
from actstore.errors import ActstoreError
from actstore.jobs.capture import capture
from actstore.jobs.intervene import intervene
from actstore.jobs.reduce import reduce_store
from actstore.jobs.visualise import visualise
from actstore.paths import given
from actstore.spec.spec import load_spec
from actstore.store.opening import open_store
from actstore.store.store import Store
from actstore.tables.summaries import case_summary, dice_summary, frequency_summary, original_dice
from actstore.units import counted
from actstore.views.figures.channels import frequency
from actstore.views.figures.optima import optima
from actstore.views.figures.saving import save_png
from actstore.views.report.write import write_report

#: The shipped weights were not trained on this phantom.
SEED = 7
SPEC = """\
# Written by `actstore demo`: darken each ventricle, and the myocardium, to 10 %.
[data]
format = "phantom"
root = "phantom"
[data.phantom]
patients = {patients}
seed = {seed}
[data.preprocess]
normalize = "minmax-slice"
size = [256, 256]
[data.classes]
RV = 1
MYO = 2
LV = 3
[model]
factory = "actstore.models:unet_heart_8_4_4"
weights = "package:unet_heart_8_4_4_phantom.safetensors"
layers = ["*.adn.N"]
[[perturb]]
transform = "brightness"
targets = ["LV", "RV", "MYO"]
strengths = [0.1]
[store]
path = "phantom.zarr"
[visualise]
layers = ["*.submodule.1.submodule.conv.unit0.conv"]
channels = [0, 1, 2, 3]
steps = 48
batch_size = 4
[[explain]]
name = "lv"
method = "guided"
targets = ["LV"]
[[intervene]]
name = "restore"
edit = "patch"
into = ["brightness(LV, 0.1)"]
layers = ["model.2.0.adn.N"]
samples = 2
"""


def run_demo(folder: str | Path, *, patients: int, cluster: str = "local", workers: int | None = None) -> None:
    """Run the main job on the phantom in ``folder`` and show the results. A second run continues.

    Raises
    ------
    ActstoreError
        if a block failed, or the folder holds a demo of another size.
    """
    folder = given(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "demo.toml"
    taken = [name for name in ("report.html", "frequency.png", "phantom.zarr") if (folder / name).exists()]
    if taken and not path.exists():
        raise ActstoreError(f"{folder} holds {', '.join(taken)} of something else: give another --folder")
    content = SPEC.format(patients=patients, seed=SEED)
    if path.exists() and path.read_text(encoding="utf-8") != content:
        raise ActstoreError(f"{path} is of another demo: delete {folder} or give another --folder")
    path.write_text(content, encoding="utf-8")
    spec = load_spec(path)
    text.say(f"capture: {path}")
    with text.unit_progress("volume") as progress:
        summary = capture(spec, cluster=cluster, workers=workers, progress=progress, stopping=text.say_stopping)
    text.show_summary(summary)
    if not summary.complete:
        raise ActstoreError(f"{counted(len(summary.failed), 'volume')} of the demo failed: run again to continue")
    store = open_store(spec.store.path)
    with text.unit_progress("volume") as progress:
        reduce_store(store, progress=progress)
    text.say("visualise: what four channels of the bottleneck respond to")
    with text.unit_progress() as progress:
        made = visualise(spec, cluster="inline", progress=progress, stopping=text.say_stopping)
    if not made.complete:
        raise ActstoreError("images of the demo's channels are missing: run again to continue")
    text.say("intervene: how much of what darkening costs each channel of the last layer restores")
    with text.unit_progress("volume") as progress:
        (restored,) = intervene(spec, cluster="inline", progress=progress, stopping=text.say_stopping)
    if not restored.complete:
        raise ActstoreError("edited passes of the demo are missing: run again to continue")
    store = open_store(spec.store.path)
    text.show_frame(original_dice(store), "Mean Dice of untouched images, over slices that contain the class")
    text.show_frame(dice_summary(store), "Mean Dice, original → perturbed, on the same slices")
    text.show_frame(case_summary(store), "Kinds of failure")
    text.show_frame(
        frequency_summary(store), "The seven channels most often in a layer's top 3 by MAD: channel (samples)"
    )
    figure = save_png(frequency(store, "condition", columns=1), folder / "frequency.png")
    sheet = save_png(optima(store, _visualised(store)), folder / "optima.png")
    text.say("report: figures and tables of what was found")
    report = write_report(store, folder / "report.html", made=say_made)
    text.say(
        f"figures {figure}, {sheet}\nreport  {report}\nstore   {store.path}\n"
        f"look    {shlex.join([program(), 'explore', str(store.path)])}"
    )


def _visualised(store: Store) -> str:
    """The layer whose channels the demo maximises."""
    return str(store.group("features/optima")["layer"].values[0])
