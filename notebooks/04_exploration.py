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

import actstore
from actstore import views
from actstore.jobs.capture import capture
from actstore.spec.spec import load_spec
from actstore.tables.build import build_table

hv.extension("matplotlib", logo=False)

# %%
store = actstore.open(capture(load_spec("phantom.toml"), cluster="inline").store)  # nothing to do after notebook 01
print(*store.conditions.index, sep="\n")

# %% [markdown]
# ## What the network saw
#
# Original, perturbed, and the difference. Solid outlines are the truth, dashed ones the prediction, a colour a class.
# Without a sample, that of median change in Dice is shown: a typical one, not a chosen one; without a condition, the
# first perturbation.

# %%
views.inputs(store)

# %% [markdown]
# A slice of your own, by patient, frame and slice, with another class darkened:

# %%
here = ("patient001", 1, 4)
views.inputs(store, here, "brightness(RV, 0.1)")

# %% [markdown]
# ## What became of the segmentation
#
# Dice of every slice, before (hollow) and after (filled). The spread says more than the mean: which class always
# breaks, and which in some slices only?

# %%
views.dice(store)

# %% [markdown]
# Slice by slice, before against after: below the dashed line a slice became worse.

# %%
views.dice_paired(store, "brightness(LV, 0.1)")

# %% [markdown]
# ## Where in the network
#
# The mean absolute difference of every layer, over all slices and in the one that was shown above.

# %%
views.mad_by_layer(store)

# %% [markdown]
# ## Which channels
#
# Share of slices in which a channel is among the three of its layer that change most: a row a layer, a column a
# channel, circles around the three most frequent. `colour="mad"` shows one slice, `"standardised"` the same in standard
# deviations of the channel, `"control"` the effect against a control; `samples` narrows it to a selection of yours.
# `views.frequency(store, "case")` has a map for each kind of failure.

# %%
views.network(store, condition="brightness(LV, 0.1)", colour="frequency")

# %% [markdown]
# Then one of them: in the last layer but one, the most frequent when the left ventricle is darkened.

# %%
table = build_table(store, "frequency", most=1)
first = table[(table["layer"] == "L20") & (table["target"] == "LV")].iloc[0]
channel = int(first["channel"])
views.activation(store, "L20", channel, here, "brightness(LV, 0.1)")

# %% [markdown]
# Is that slice typical of the channel? Its response patient by patient, a dot a slice; and the slices in which it is
# strongest, on one scale. In a study of three strengths or more `views.channel_dose(store, "L20", channel)` draws it
# against them.

# %%
views.mad_by_patient(store, "L20", channel, "brightness(LV, 0.1)")

# %%
views.strongest(store, "L20", channel, "brightness(LV, 0.1)", most=4)

# %% [markdown]
# ## Every map of a layer
#
# A cube has a frame for each sample, condition and channel; in a running notebook `views.cube(store, "L20")` shows
# them by sliders. Nothing is read until it is looked at, then the one map, whatever the store's size.

# %%
cube = views.cube(store, "L20", show="change")
print(cube)

# %% [markdown]
# It is indexed as an array is. One frame is an image with an outline, over which `*` draws anything in pixels of the
# input:

# %%
sample = int(store.samples.query("patient == 'patient001' and frame == 1 and slice == 4").index[0])
cube[sample, "brightness(LV, 0.1)", channel] * hv.Points([(64, 64)]).opts(color="black", marker="+", s=80)

# %% [markdown]
# With `dynamic=False` the frames that are named are drawn at once, on one scale. Here the same channel through the
# heart, from base to apex.

# %%
through = views.cube(
    store,
    "L20",
    samples=[("patient001", 1, number) for number in (2, 4, 6)],
    conditions=["brightness(LV, 0.1)"],
    channels=[channel],
    show="change",
    dynamic=False,
)
through.reindex(["sample"]).layout().cols(3).opts(sublabel_format="", hspace=0.3, vspace=0.2, fig_size=60)

# %% [markdown]
# Every channel of a layer at once, for one slice: which of them changed, and where.

# %%
channels = views.cube(
    store, "L08", samples=[sample], conditions=["brightness(LV, 0.1)"], show="change", dynamic=False, size=160
)
channels.reindex(["channel"]).layout().cols(6).opts(sublabel_format="", hspace=0.5, vspace=0.2, fig_size=60)

# %% [markdown]
# ## Side by side
#
# `+` sets figures beside each other. Inputs and activations lie on the same pixels.

# %%
both = views.inputs(store, here, "brightness(LV, 0.1)") + views.activation(store, "L20", channel, here, scale="own")
both.cols(3).opts(sublabel_format="", hspace=0.3, vspace=0.15)

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
# To keep a figure: `views.save(both, "both.svg")`, or a page with every slider in it, that opens without a server and
# without a network: `views.save(through, "through.html")`. All figures of a study at once, with captions and their data
# beside them: `actstore report`.
