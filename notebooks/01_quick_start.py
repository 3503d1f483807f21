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
# ---

# %% [markdown]
# # Quick start
#
# You have a network that segments the heart in short-axis MRI, and you ask: *if I darken the left ventricle, what
# changes inside the network, and what becomes of the segmentation?*
#
# Here the patients are synthetic and the weights come with actstore, so nothing has to be prepared. The first run takes
# about half a minute.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import actstore
from actstore import analysis
from actstore.jobs.capture import capture
from actstore.spec.spec import load_spec
from actstore.tables.build import build_table
from actstore.tables.summaries import case_summary, dice_summary

# %% [markdown]
# ## A run is one file
#
# It names the data, the network, the layers to record, and what to change in the image: here each of three classes is
# darkened to a tenth of its intensity, one class at a time.

# %%
print(Path("phantom.toml").read_text())

# %% [markdown]
# ## Run the network once
#
# `capture` perturbs every slice, runs the network, and writes what the chosen layers put out to a Zarr store. If it is
# interrupted, run it again: it continues. From here on the network is not needed any more.

# %%
spec = load_spec("phantom.toml")
summary = capture(spec, cluster="inline")
store = actstore.open(summary.store)

patients = store.samples.patient.nunique()
print(f"{len(store.samples)} slices of {patients} patients, {len(store.layers)} layers, {store.nbytes / 1e6:.0f} MB")
store.conditions[["transform", "target", "strength"]]

# %% [markdown]
# ## Look before you count
#
# One slice in the middle of the ventricle, as the network saw it, with what the network made of it. White: the true
# outline of the left ventricle.

# %%
middle = int(np.flatnonzero((store.samples["patient"] == "patient001") & (store.samples["slice"] == 4))[0])
names = ["RV", "MYO", "LV"]
colours = dict(zip(names, ["#0072b2", "#e69f00", "#cc79a7"], strict=True))

image, prediction = store.image[middle].isel(input_channel=0).compute(), store.prediction[middle].compute()
truth = store.label[middle].compute()

fig, axes = plt.subplots(1, 4, figsize=(12, 3.4), layout="constrained")
for ax, condition in zip(axes, store.conditions.index, strict=True):
    ax.imshow(image.sel(condition=condition), cmap="gray")
    for name in names:
        mask = prediction.sel(condition=condition) == store.classes[name]
        if mask.any():
            ax.contour(mask, levels=[0.5], colors=[colours[name]], linewidths=1.5)
    ax.contour(truth == store.classes["LV"], levels=[0.5], colors="white", linewidths=0.8)
    ax.set_title(condition, fontsize=10)
    ax.set_axis_off()
fig.legend([plt.Line2D([], [], color=colours[name]) for name in names], names, loc="outside lower center", ncols=3)
plt.show()

# %% [markdown]
# ## What becomes of the segmentation
#
# Mean Dice over the slices that contain a class, the original on the same slices as the perturbation.

# %%
dice_summary(store).round(3)

# %% [markdown]
# Darkening a class takes the class itself away, and the neighbours suffer to different degrees. Means hide patients, so
# here is the Dice of each patient, original and perturbed, for the class that was darkened.

# %%
keys = ["patient", "frame", "slice", "class_name"]
dice = build_table(store, "dice")
original = dice[dice.condition == "original"].set_index(keys)["dice"].rename("original")
own = dice[dice.class_name == dice.target].join(original, on=keys)

fig, axes = plt.subplots(1, 3, figsize=(10, 3), sharey=True, layout="constrained")
for ax, name in zip(axes, names, strict=True):
    mean = own[own.class_name == name].groupby("patient")[["original", "dice"]].mean()
    ax.plot([0, 1], mean.T, marker="o", color=colours[name])
    ax.set_xticks([0, 1], ["original", "darkened"])
    ax.set_xlim(-0.3, 1.3)
    ax.set_title(f"{name}, {len(mean)} patients")
axes[0].set_ylabel("mean Dice")
plt.show()

# %% [markdown]
# ## How it fails
#
# Each prediction is given one kind of failure from its confusion counts alone
# ([how](../docs/statistics.md#kinds-of-failure)).

# %%
case_summary(store).round(2)

# %% [markdown]
# ## Which feature maps change
#
# The mean absolute difference (MAD) of a channel says how much its map moved. The statistics were taken while the
# network ran, so this comes back at once; without them it would be reduced from the stored maps.

# %%
mad = {layer: store.statistics(layer)["mad"] for layer in store.layers.index}
top = {layer: analysis.top_channels(score, k=3) for layer, score in mad.items()}
frequency = {layer: analysis.channel_frequency(ranks).compute() for layer, ranks in top.items()}


# %% [markdown]
# How often is each channel among the three that change most in its layer? Layers run down in network order; a row ends
# where its layer has no more channels.


# %%
def share(condition):
    rows = np.full((len(frequency), store.layers.channels.max()), np.nan)
    for row, counted in enumerate(frequency.values()):
        one = counted.sel(condition=condition)
        rows[row, : one.sizes["channel"]] = one["count"] / one["n"]
    return rows


fig, axes = plt.subplots(3, 1, figsize=(10, 10), sharex=True, layout="constrained")
for ax, name in zip(axes, names, strict=True):
    shown = ax.imshow(share(f"brightness({name}, 0.1)"), aspect="auto", vmin=0, vmax=1, interpolation="nearest")
    ax.set_yticks(range(len(frequency)), list(frequency), fontsize=7)
    ax.set_title(f"{name} darkened", loc="left")
axes[-1].set_xlabel("channel")
fig.colorbar(shown, ax=axes, label="share of slices in which the channel is in its layer's top 3", shrink=0.5)
plt.show()

# %% [markdown]
# ## One of them, closely
#
# The channel of L20 that is most often in the top 3 when the left ventricle is darkened.

# %%
condition, layer = "brightness(LV, 0.1)", "L20"
channel = int(frequency[layer]["count"].sel(condition=condition).argmax())
before, after = (store.map(layer, middle, name, channel) for name in ("original", condition))

fig, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
low, high = min(before.min(), after.min()), max(before.max(), after.max())
most = abs(after - before).max()
for ax, values, title, style in (
    (axes[0], before, "original", {"vmin": low, "vmax": high}),
    (axes[1], after, "LV darkened", {"vmin": low, "vmax": high}),
    (axes[2], after - before, "difference", {"vmin": -most, "vmax": most, "cmap": "RdBu_r"}),
):
    fig.colorbar(ax.imshow(values, **style), ax=ax, shrink=0.8)
    ax.set_title(f"{layer}, channel {channel}: {title}", fontsize=9)
    ax.set_axis_off()
plt.show()

# %% [markdown]
# The right ventricle's part of the map changes as well, where not one pixel of the image did. That fits the
# segmentation, which loses it, too.
#
# ## Where next
#
# - The same for your own data and network: [the tutorial](../docs/tutorial.md) and its how-tos.
# - `actstore report runs/phantom-128.zarr` writes all of it as one HTML page.
# - Questions of your own: [03 Querying](03_querying.ipynb), and by eye: [04 Exploration](04_exploration.ipynb).
