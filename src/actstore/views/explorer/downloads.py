"""Files to take away from the page: its pictures, the numbers of its samples, and code that shows it in a notebook."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from actstore.analysis.classification import RIGHT
from actstore.paths import is_url
from actstore.views.arrays import Bools, Floats
from actstore.views.explorer.pictures import absent
from actstore.views.explorer.source import Source
from actstore.views.explorer.state import DICE_DECIMALS, MAD_DIGITS, State, shown_dice, shown_mad
from actstore.views.figures import pixels, saving
from actstore.views.figures.images import activation, frame_of, inputs
from actstore.views.figures.pixels import outlines
from actstore.views.figures.scales import Limits, extremes, of_inputs, of_maps
from actstore.views.figures.theme import GREY, grid, panel, styled

#: Pixels a side of a picture before it is enlarged to :data:`DPI`.
SIDE = 278
DPI = 200
#: Characters of a file's name before its suffix.
LONGEST = 120


def png(source: Source, state: State) -> bytes:
    """Input and activation rows as a PNG, with a title that names what they show.

    The input row alone for a layer whose tensors were not kept.

    Raises
    ------
    StoreError
        if the condition does not apply to the sample, or the store is damaged.
    """
    store, sample = source.store, source.sample(state)
    plane = state.slice if source.is_3d else None
    shown, drawn = _drawn(source, state)
    if source.alone:
        panels = _alone(source, state)
    else:
        panels = list(inputs(store, sample, state.condition, z=plane, **shown))
        if _with_maps(source, state.layer):
            panels += list(activation(store, state.layer, state.channel, sample, state.condition, z=plane, **drawn))
    figure = grid(panels, 2 if source.alone else 3, (SIDE, SIDE), hspace=0.3, vspace=0.2)
    # HoloViews fills in braces.
    title = _caption(source, state).replace("{", "{{").replace("}", "}}")
    figure = styled(figure, matplotlib={"title": title, "fontsize": {"title": 9}})
    with tempfile.TemporaryDirectory() as folder:
        return saving.save_png(figure, Path(folder) / "view.png", dpi=DPI).read_bytes()


def _with_maps(source: Source, layer: str) -> bool:
    """Whether there are maps of a layer to draw."""
    return source.has_tensors[layer] and source.has_maps(layer)


def _alone(source: Source, state: State) -> list[Any]:
    """The input and the map of the original, where it is the only condition."""
    store, sample = source.store, source.sample(state)
    image = source.picture("image", sample, 0, state.slice, source.input_channel(state)).astype(np.float32)
    within = frame_of(*map(slice, image.shape))
    lines = []
    if not source.classified:
        label, prediction = (source.picture(name, sample, 0, state.slice) for name in ("label", "prediction"))
        lines = outlines(store, label if state.truth else None, *((prediction,) if state.prediction else ()))
    cmap, limits = of_inputs([image] * 3, state.scale, state.contrast)[0]
    own = [pixels.image(image, cmap, limits), *lines]
    panels = [panel(own, (SIDE, SIDE), title=f"original{source.channel_suffix(state)}", **within)]
    if _with_maps(source, state.layer):
        values = source.map(state.layer, sample, 0, state.channel, state.slice).astype(np.float32)
        cmap, limits = _map_scale(state, values)
        drawn = pixels.image(values, cmap, limits, place=source.place(state.layer), colorbar=True)
        below = [pixels.image(image, GREY, extremes(image))] if state.opacity < 100 else []
        maps = [*below, styled(drawn, alpha=state.opacity / 100)]
        panels.append(panel(maps, (SIDE, SIDE), title=f"{state.layer} channel {state.channel}", **within))
    return panels


def _map_scale(state: State, values: Floats) -> tuple[str, Limits]:
    """Colour map and limits of the only map of a run without perturbations."""
    return of_maps([values, values, values - values], state.scale, state.contrast, state.chosen_colours)[0]


def _drawn(source: Source, state: State) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of :func:`actstore.views.inputs` and :func:`actstore.views.activation` that draw as the page does."""
    # Every pixel of a classifier's image has its class: there is nothing to outline.
    truth, prediction = (flag and not source.classified for flag in (state.truth, state.prediction))
    shown: dict[str, Any] = {"truth": truth, "prediction": prediction, "crop": False, "scale": state.scale}
    if len(source.input_channels) > 1:
        shown["input_channel"] = source.input_channels[source.input_channel(state)]
    drawn = {"scale": state.scale, "outline": truth}
    if state.opacity < 100:
        drawn |= {"opacity": state.opacity} | {name: shown[name] for name in ("input_channel",) if name in shown}
    if state.chosen_colours:
        drawn["colours"] = state.chosen_colours
    contrast = {"contrast": state.contrast} if state.contrast < 100 else {}
    return shown | contrast, drawn | contrast


def _caption(source: Source, state: State) -> str:
    name = str(source.store.path).rstrip("/").rpartition("/")[2]
    place = [name, state.patient, f"frame {state.frame}", f"slice {state.slice}"]
    place += [*([f"patch {state.patch}"] if source.patched else []), state.condition]
    absent_maps = "" if source.has_tensors[state.layer] else " (tensors not kept)"
    return " · ".join([*place, f"{state.layer} {source.modules[state.layer]}", f"channel {state.channel}{absent_maps}"])


def csv(source: Source, state: State, subset: Bools) -> str:
    """A row a sample of ``subset`` (sample) with its case, Dice of every class, and MAD of the shown channel.

    Columns ``patient, frame, slice[, patch], condition, target, case``, of each class ``dice_original_…`` and
    ``dice_perturbed_…``, and ``layer, module, channel, mad``; MAD is empty if it is not persisted. Of a classifier also
    ``image_name, label``, and the probabilities ``probability_original_…`` and ``probability_perturbed_…`` for Dice.
    Without perturbations there are no columns of one.
    """
    at, c = np.flatnonzero(subset), source.condition(state.condition)
    table = source.samples.iloc[at][source.named_by].reset_index(drop=True)
    table["condition"], table["target"] = state.condition, source.target(state.condition)
    table["case"] = source.cases[at, c]
    if source.classified:
        what, values, names = "probability", source.probability, list(source.store.class_names)
        table["image_name"], table["label"] = source.image_names[at], np.array(names, object)[source.labels[at]]
    else:
        what, values, names = "dice", source.dice, source.foreground
    for k, name in enumerate(names):
        table[f"{what}_original_{name}"] = values[at, 0, k]
        if not source.alone:
            table[f"{what}_perturbed_{name}"] = values[at, c, k]
    table["layer"], table["module"], table["channel"] = state.layer, source.modules[state.layer], state.channel
    if not source.alone:
        table["mad"] = _mad(source, state)[at]
    return str(table.to_csv(index=False))


def _mad(source: Source, state: State) -> Any:
    if not source.store.reduced:
        return np.full(len(source.samples), np.nan)
    return source.persisted_mad(state.layer)[:, source.condition(state.condition), state.channel]


def code(source: Source, state: State) -> str:
    """Python that shows this view in a notebook: ``view``, and ``samples``, those of the subset."""
    path = source.store.path
    where = str(path) if is_url(path) else str(Path(path).resolve())
    plane = ", z=z" if source.is_3d else ""
    shown, drawn = ("".join(f", {name}={value!r}" for name, value in part.items()) for part in _drawn(source, state))
    row = source.samples.iloc[source.sample(state)]
    lines = [
        "import holoviews as hv",
        *(["import numpy as np"] if source.alone and state.case else []),
        "",
        "import actstore",
        "from actstore import analysis, views" if state.dice or state.mad else "from actstore import views",
        "",
        'hv.extension("bokeh", logo=False, inline=True)',
        f"store = actstore.open({where!r})",
        f"condition, layer, channel = {state.condition!r}, {state.layer!r}, {state.channel}",
        f"patient, frame, slice_ = {state.patient!r}, {state.frame}, {int(row['slice'])}",
        *([f"patch = {state.patch}"] if source.patched else []),
        *([f"z = {state.slice}"] if source.is_3d else []),
        "",
        "samples = store.samples",
        'shown = (samples["patient"] == patient) & (samples["frame"] == frame) & (samples["slice"] == slice_)',
        *(['shown &= samples["patch"] == patch'] if source.patched else []),
        "sample = int(samples.index[shown][0])",
        *_narrowing(source, state),
        "",
    ]
    if not source.applicable[source.sample(state), source.condition(state.condition)]:
        lines += [f"# {state.condition} was not inferred here: {absent(source, state)}"]
        lines += ["view = store.samples.loc[[sample]]"]
        return "\n".join([*lines, "view", ""])
    if source.alone:
        return "\n".join([*lines, *_pictures_alone(source, state), "view", ""])
    lines.append(f"view = views.inputs(store, sample, condition{plane}{shown})")
    if not source.has_maps(state.layer):
        lines.append(f"# {state.layer} has one value a sample and channel: there are no maps to show.")
    elif source.has_tensors[state.layer]:
        maps = f"views.activation(store, layer, channel, sample, condition{plane}{drawn})"
        lines.append(f"view = (view + {maps}).cols(3)")
    else:
        lines.append(f"# The tensors of {state.layer} were not kept: there are no maps to show.")
    return "\n".join([*lines, "view", ""])


def _pictures_alone(source: Source, state: State) -> list[str]:
    """Code that shows the input and the map of the original, the only condition."""
    z, at = ("[z]", f"[{source.plane(state.layer, state.slice)}]") if source.is_3d else ("", "")
    image = f'store.picture("image", sample, input_channel={source.input_channel(state)}){z}'
    shown = source.picture("image", source.sample(state), 0, state.slice, source.input_channel(state))
    cmap, limits = of_inputs([shown.astype(np.float32)] * 3, state.scale, state.contrast)[0]
    lines = [f'view = hv.Raster({image}).opts(cmap={cmap!r}, clim={limits}, title="original")']
    if _with_maps(source, state.layer):
        maps = f"hv.Raster(store.map(layer, sample, 0, channel){at})"
        values = source.map(state.layer, source.sample(state), 0, state.channel, state.slice).astype(np.float32)
        cmap, limits = _map_scale(state, values)
        lines.append(f'view += {maps}.opts(cmap={cmap!r}, clim={limits}, title=f"{{layer}} channel {{channel}}")')
    return lines


def _narrowing(source: Source, state: State) -> list[str]:
    """Code that keeps the samples of the subset."""
    lines = ["", "subset = store.applicable.sel(condition=condition).values"]
    if state.case:
        cases = "store.cases.sel(condition=condition).values"
        if source.alone:
            lines += [
                'true = store.confusion.isel(condition=0).sum("predicted_class").argmax("true_class").values',
                'predicted = store.confusion.isel(condition=0).sum("true_class").argmax("predicted_class").values',
                "names = store.class_names",
                'cases = [f"{names[t]}→{names[p]}" for t, p in zip(true, predicted)]',
                f'cases = np.where(true == predicted, "{RIGHT}", cases)',
            ]
            cases = "cases"
        lines.append(f"subset &= {cases} == {state.case!r}")
    if state.dice:
        name, *ends = state.dice
        left, right, low, high = shown_dice(ends).tolist()
        regions = ", regions=store.members" if source.store.regions else ""
        dice = f"analysis.dice(store.confusion, applicable=store.applicable{regions}).sel(class_name={name!r})"
        lines += [
            f"dice = {dice}.round({DICE_DECIMALS})  # as the page shows it",
            "original, perturbed = dice.isel(condition=0).values, dice.sel(condition=condition).values",
            f"true = analysis.class_size(store.confusion{regions}).sel(class_name={name!r}).values",
            "subset &= true > 0  # Dice of an absent class is 0 or 1, whatever else changes",
            f"subset &= (original >= {left!r}) & (original <= {right!r})",
            f"subset &= (perturbed >= {low!r}) & (perturbed <= {high!r})",
        ]
    if state.mad:
        low, high = shown_mad(state.mad[1:]).tolist()
        lines += [
            f'mad = store.statistics({state.mad.layer!r}, ["mad"])["mad"].sel(condition=condition)',
            f'mad = analysis.significant(mad.mean("channel").values, {MAD_DIGITS})  # as the page shows it',
            f"subset &= (mad >= {low!r}) & (mad <= {high!r})",
        ]
    return [*lines, "samples = samples[subset]"]


def filename(state: State, suffix: str) -> str:
    """A name for a download that every file system takes: letters, digits, ``.``, ``_`` and ``-``.

    Such as ``patient001-f1-s4-brightness-LV-0.1-L20-c1.png``.
    """
    patch = f"-p{state.patch}" if state.patch else ""
    place = f"{state.patient}-f{state.frame}-s{state.slice}{patch}"
    name = re.sub(r"[^A-Za-z0-9._]+", "-", f"{place}-{state.condition}-{state.layer}-c{state.channel}")
    name = re.sub(r"-?\.{2,}-?", "-", name)[:LONGEST].strip("-._")
    return f"{name}.{suffix.lstrip('.')}"
