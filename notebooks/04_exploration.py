# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3

# %% [markdown]
# # Exploration
#
# Before a question is a statistic it is a look. `actstore.views` returns HoloViews objects: they show themselves in a
# notebook, are put side by side with `+`, and are drawn by matplotlib (as here, still pictures) or, after
# `hv.extension("bokeh")`, by bokeh, to zoom and hover.

# %%
import holoviews as hv
import numpy as np

import actstore
from actstore import views
from actstore.capture import capture
from actstore.spec import load_spec
from actstore.tables import build_table

hv.extension("matplotlib", logo=False)

# %%
store = actstore.open(capture(load_spec("phantom.toml"), cluster="inline").store)  # nothing to do after notebook 01
print(*store.conditions.index, sep="\n")

# %% [markdown]
# ## What the network saw
#
# Original, perturbed, and the difference. Solid outlines are the truth, dashed ones the prediction, a colour a class.
# Without a sample, that of median change in Dice is shown: a typical one, not a chosen one.

# %%
views.inputs(store, "brightness(LV, 0.1)")

# %% [markdown]
# The same slice with another class darkened:

# %%
here = (store.samples["patient"] == "patient001") & (store.samples["slice"] == 4)
sample = int(np.flatnonzero(here)[0])
views.inputs(store, "brightness(RV, 0.1)", sample)

# %% [markdown]
# ## What became of the segmentation
#
# Dice of every slice, before (hollow) and after (filled). The spread says more than the mean: which class always
# breaks, and which in some slices only?

# %%
views.dice(store)

# %% [markdown]
# ## Which channels
#
# Share of slices in which a channel is among the three of its layer that change most: a row a layer, a column a
# channel.

# %%
views.frequency(store, "condition", columns=1)

# %% [markdown]
# Then one of them: in the last layer but one, the most frequent when the left ventricle is darkened.

# %%
table = build_table(store, "frequency", most=1)
first = table[(table["layer"] == "L20") & (table["target"] == "LV")].iloc[0]
channel = int(first["channel"])
views.activation(store, "L20", channel, "brightness(LV, 0.1)", sample)

# %% [markdown]
# ## Views of your own
#
# A `HoloMap` is a picture for each value of one or more keys: in a running notebook a slider, and on paper a row. Here
# the same channel through the heart, from base to apex. `store.map` reads just the one map, whatever the store's size.


# %%
def change(slice_number, condition="brightness(LV, 0.1)", layer="L20"):
    at = int(np.flatnonzero(here_patient & (store.samples["slice"] == slice_number))[0])
    before, after = (store.map(layer, at, name, channel) for name in ("original", condition))
    image = hv.Image(after - before, bounds=(0, 0, 1, 1), vdims=hv.Dimension("change", range=(-4, 4)))
    return image.opts(cmap="RdBu_r", xaxis=None, yaxis=None)


here_patient = (store.samples["patient"] == "patient001") & (store.samples["phase"] == "ED")
through = hv.HoloMap({number: change(number) for number in range(2, 8)}, kdims="slice")
through.layout().cols(6).opts(hspace=0.1, fig_size=80)

# %% [markdown]
# Every channel of a layer at once, for one slice: which of them changed, and where.

# %%
from_layer = "L08"
maps = {}
for number in range(store.layers.loc[from_layer, "channels"]):
    before, after = (store.map(from_layer, sample, name, number) for name in ("original", "brightness(LV, 0.1)"))
    maps[number] = hv.Image(after - before, bounds=(0, 0, 1, 1), vdims=hv.Dimension("change", range=(-4, 4)))
grid = hv.HoloMap(maps, kdims="channel").opts(hv.opts.Image(cmap="RdBu_r", xaxis=None, yaxis=None))
grid.layout().cols(8).opts(hspace=0.1, vspace=0.1, fig_size=60)

# %% [markdown]
# ## Numbers beside pictures
#
# Any xarray or pandas object becomes a figure. Does the change of one channel go with the loss of Dice? A dot is a
# slice, a colour a patient; slices of one patient are alike, which is why tests are over patients.

# %%
keys = ["patient", "frame", "slice"]
dice = build_table(store, "dice").query("class_name == 'RV'").set_index([*keys, "condition"])["dice"].unstack()
loss = (dice["original"] - dice["brightness(LV, 0.1)"]).rename("loss of Dice, RV")
mad = store.statistics("L20")["mad"].sel(condition="brightness(LV, 0.1)", channel=channel).compute()
present = (store.confusion.sel(condition="original", true_class="RV").sum("predicted_class") > 0).values
both = mad.to_dataframe("MAD")[present].set_index(keys)[["MAD"]].join(loss).dropna().reset_index()

scatter = hv.Points(both, ["MAD", "loss of Dice, RV"], "patient")
scatter.opts(color="patient", cmap="Set2", s=30, show_legend=False, aspect=1.6, fig_size=150)

# %% [markdown]
# To keep a figure: `hv.save(scatter, "figure.svg")`. All of them at once, with captions and their data beside them:
# `actstore report`.
