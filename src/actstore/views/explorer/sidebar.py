"""Widgets that choose sample, condition, kind of failure, layer, channel, and how they are drawn."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import pandas as pd
import panel as pn
import param

from actstore.conditions import CONTROL
from actstore.views.explorer.html import failure, html_pane, style_sheet
from actstore.views.explorer.navigator import offered_colours
from actstore.views.explorer.part import Part, Session, of_state
from actstore.views.explorer.source import Source
from actstore.views.explorer.state import SAMPLE, State

#: The entry of the menu that does not narrow the kind of failure.
EVERY = "every kind"
#: The outlines that can be drawn.
OUTLINES = ("truth", "prediction")
#: Colours of maps in words.
COLOURS = {"of the scale": "own", "grey": "gray", "viridis": "viridis", "magma": "magma", "blue to red": "RdBu_r"}
#: What makes conditions alike.
_WEIGHTS = {"sort": 4, "target": 2, "strength": 1}


def sorts(conditions: pd.DataFrame) -> pd.DataFrame:
    """``sort``, ``target`` and ``strength`` as the menus offer them, of each condition but the original, by name."""
    rows = conditions.iloc[1:]
    source = np.where(rows["perturbation_source"] != "", " from " + rows["perturbation_source"], "")
    channels = rows["channels"] if "channels" in rows else pd.Series("", index=rows.index)
    inside = np.where(channels != "", " in " + channels, "")
    where = np.where(rows["region"] == CONTROL, ", control region", "")
    plain = rows["target"] == ""
    sort = np.where(plain, rows.index, rows["transform"] + source + inside + where)
    strength = np.where(plain, "", rows["strength"].map("{:g}".format))
    target = np.where(plain, "", rows["target"])
    return pd.DataFrame({"sort": sort, "target": target, "strength": strength}, index=rows.index)


class Sidebar(Part):
    """The widgets. To set one to what the state already is changes nothing, so that they can follow it."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        source = session.source
        self._sorts = sorts(source.conditions)
        perturbed = not source.alone
        wide: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": (2, 0, 6, 0), "stylesheets": [style_sheet()]}
        self.patient = pn.widgets.Select(label="Patient", options=source.patients, **wide)
        # An image of a classifier has a number alone.
        number = "Image" if source.classified and not source.is_3d else "Slice"
        self.frame = pn.widgets.RadioButtonGroup(label="Frame", options=[0], visible=not source.classified, **wide)
        self.slice = pn.widgets.DiscreteSlider(label=number, options=[0], **wide)
        self.patch = pn.widgets.DiscreteSlider(label="Patch", options=[0], visible=source.patched, **wide)
        there = wide | {"visible": perturbed}
        self.sort = pn.widgets.Select(label="Perturbation", options=list(dict.fromkeys(self._sorts["sort"])), **there)
        self.target = pn.widgets.RadioButtonGroup(label="Target class", options=[""], **there)
        self.strength = pn.widgets.Select(label="Strength", options=[""], **there)
        self.case = pn.widgets.Select(
            label="Label → prediction" if source.classified else "Kind of failure",
            options={EVERY: ""},
            **wide | {"visible": perturbed or source.classified},
        )
        self.layer = pn.widgets.Select(label="Layer", options=_layers(source), **wide)
        #: The module's whole path, for which a menu has no room.
        self.module = html_pane(styles={"break-before": "avoid"})
        self.channel = pn.widgets.IntInput(label="Channel", start=0, end=0, **wide)
        channels = source.input_channels
        self.input_channel = pn.widgets.Select(
            label="Input channel",
            options={name: i for i, name in enumerate(channels)},
            visible=len(channels) > 1,
            **wide,
        )
        self.scale = pn.widgets.RadioButtonGroup(options={"shared scale": "shared", "own scale": "own"}, **wide)
        self.outlines = pn.widgets.CheckButtonGroup(
            options={name: name for name in OUTLINES}, **wide | {"visible": not source.classified}
        )
        self.opacity = pn.widgets.IntSlider(label="Map over image, %", start=0, end=100, step=5, **wide)
        self.contrast = pn.widgets.IntSlider(label="Contrast, % of the range", start=5, end=100, step=5, **wide)
        self.colours = pn.widgets.Select(label="Colours of maps", options=COLOURS, **wide)
        self.colour = pn.widgets.Select(
            label="Channels coloured by", options=offered_colours(source), **wide | {"margin": 0}
        )
        for widget, name in (
            (self.patient, "patient"),
            (self.frame, "frame"),
            (self.case, "case"),
            (self.layer, "layer"),
            (self.channel, "channel"),
            (self.input_channel, "input_channel"),
            (self.scale, "scale"),
            (self.colour, "colour"),
            (self.opacity, "opacity"),
            (self.contrast, "contrast"),
            (self.colours, "colours"),
        ):
            self._watch(widget, name)
        # Not `value_throttled`: it does not change where a key has moved the slider in between.
        self._watch(self.slice, "slice")
        self._watch(self.patch, "patch")
        for name in _WEIGHTS:
            getattr(self, name).param.watch(lambda event, name=name: self._perturbed(name, event.new), "value")
        outlined = lambda event: session.go(**{name: name in event.new for name in OUTLINES})  # noqa: E731
        self.outlines.param.watch(outlined, "value")
        self.view = pn.Column(
            self._title("Sample"),
            self.patient,
            html_pane(object="<label>Frame</label>", visible=not source.classified),
            self.frame,
            self.slice,
            self.patch,
            *([self._title("Perturbation")] if perturbed else []),
            self.sort,
            self.target,
            self.strength,
            self.case,
            self._title("Inside the network"),
            self.layer,
            self.module,
            self.channel,
            self._title("Drawn with"),
            self.input_channel,
            self.scale,
            self.outlines,
            self.opacity,
            self.contrast,
            self.colours,
            sizing_mode="stretch_width",
            margin=0,
        )

    @staticmethod
    def _title(text: str) -> pn.pane.HTML:
        return html_pane(object=f"<h2>{text}</h2>")

    def _watch(self, widget: Any, name: str) -> None:
        def chosen(event: Any) -> None:
            # Not where the page shows in a menu what it went to.
            if event.new not in (None, getattr(self.state, name)):
                self.session.go(**{name: event.new})

        widget.param.watch(chosen, "value")

    def _perturbed(self, column: str, chosen: str) -> None:
        """Go to the condition most like the choice: the sort counts most, then the class, then the strength."""
        table = self._sorts
        wanted = table.loc[self.state.condition].to_dict()
        if chosen is None or chosen == wanted[column]:
            return
        wanted[column] = chosen
        like = sum(weight * (table[name] == wanted[name]) for name, weight in _WEIGHTS.items())
        self.session.go(condition=str(like.idxmax()))

    @param.depends(*of_state(*SAMPLE, "condition", "input_channel"))
    def _show_sample(self) -> None:
        source, state = self.source, self.state
        self.patient.value = state.patient
        frames = source.volumes(state.patient)
        _set(self.frame, {source.frame_name(state.patient, frame): frame for frame in frames}, state.frame)
        slices = source.slices(state.patient, state.frame)
        _set(self.slice, slices, state.slice)
        self.slice.visible = len(slices) > 1 or not source.classified
        _set(self.patch, source.patches(state.patient, state.frame, state.slice), state.patch)
        self.input_channel.value = source.input_channel(state)

    @param.depends(*of_state("condition", "case"))
    def _show_condition(self) -> None:
        if not self.source.alone:
            own = self._sorts.loc[self.state.condition]
            self.sort.value = own["sort"]
            alike = self._sorts[self._sorts["sort"] == own["sort"]]
            _set(self.target, list(dict.fromkeys(alike["target"])), own["target"])
            # A repeat of the original changes no class.
            self.target.visible = self.strength.visible = bool(own["target"])
            alike = alike[alike["target"] == own["target"]]
            _set(self.strength, list(dict.fromkeys(alike["strength"])), own["strength"])
        _set(self.case, self._cases(self.source, self.state), self.state.case)

    @param.depends(*of_state("layer", "channel"))
    def _show_channel(self) -> None:
        source, state = self.source, self.state
        self.layer.value = state.layer
        self.module.object = f'<p class="module">{escape(source.modules[state.layer])}</p>'
        last = source.channels[state.layer] - 1
        self.channel.param.update(label=f"Channel (0–{last})", end=last, value=state.channel)

    @param.depends(*of_state("scale", "truth", "prediction", "colour", "opacity", "contrast", "colours"))
    def _show_drawing(self) -> None:
        for name in ("opacity", "contrast", "colours"):
            getattr(self, name).value = getattr(self.state, name)
        self.scale.value = self.state.scale
        self.outlines.value = [name for name in OUTLINES if getattr(self.state, name)]
        self.colour.value = self.state.colour

    @staticmethod
    def _cases(source: Source, state: State) -> dict[str, str]:
        c = source.condition(state.condition)
        names, counts = np.unique(source.cases[source.applicable[:, c], c], return_counts=True)
        found = {str(name): int(n) for name, n in zip(names, counts, strict=True) if name}
        found.setdefault(state.case, 0)
        ordered = sorted((name for name in found if name), key=lambda name: -found[name])
        return {EVERY: "", **{f"{failure(name)} ({found[name]})": name for name in ordered}}


def _set(widget: Any, options: Any, value: Any) -> None:
    if widget.options != options:
        widget.param.update(options=options, value=value)
    widget.value = value


def _layers(source: Source) -> dict[str, str]:
    """Entries of the menu of layers: name, channels and size, module path."""
    return {
        f"{name} · {' × '.join([str(channels), *_size(source.sizes[name])])} · {source.modules[name]}": name
        for name, channels in source.channels.items()
    }


def _size(size: tuple[int, ...]) -> list[str]:
    """Of a layer's maps: "12×12"; nothing where it has none."""
    return ["×".join(map(str, size))] if size else []
