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
# # The cardiac study
#
# Güler, “Visualization of neuronal activations under class-specific perturbations” (University of Bonn, 2025), asked of
# a U-Net trained on [ACDC](https://doi.org/10.1109/TMI.2018.2837502): when a ventricle or the myocardium is darkened to
# a tenth, which channels change, are they the same for every patient, and do they go with the kind of failure? This
# notebook answers from a store, in the study's own terms: top-3 channels by MAD, the seven most frequent of them, in
# general, by class and by case.
#
# It needs patients' data, which it does not come with, so its results are not shown here:
#
# 1. Get ACDC and weights, and set `data.root` and `model.weights` in [jobs/acdc.toml](../jobs/acdc.toml).
# 2. `actstore capture jobs/acdc.toml`
# 3. Set `ACTSTORE_STORE` to the store, if it is not `runs/acdc.zarr`, and start this notebook.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython import get_ipython
from IPython.display import display

import actstore
from actstore import analysis
from actstore.tables.build import build_table
from actstore.tables.summaries import case_summary, dice_summary

path = Path(os.environ.get("ACTSTORE_STORE", "../runs/acdc.zarr"))
if not path.exists():
    print(
        "There is no store yet, so all cells below do nothing. Follow the three steps above, then restart the kernel."
    )
    get_ipython().input_transformers_cleanup.append(lambda lines: [])

# %%
store = actstore.open(path)
print(f"{len(store.samples)} slices of {store.samples.patient.nunique()} patients, {len(store.layers)} layers")
targets = [target for target in store.conditions["target"].unique() if target]
store.conditions[["transform", "target", "strength"]]

# %% [markdown]
# ## Dice, before and after
#
# Mean Dice of each class over slices that contain it, the original on the same slices. The study's means over five
# patients and *all* slices, original → perturbed: LV 0.936 → 0.053, RV 0.730 → 0.119, MYO 0.864 → 0.844.

# %%
dice_summary(store).round(3)

# %%
keys = ["patient", "frame", "slice", "class_name"]
dice = build_table(store, "dice")
original = dice[dice.condition == "original"].set_index(keys)["dice"].rename("original")
own = dice[dice.class_name == dice.target].join(original, on=keys)

fig, axes = plt.subplots(1, len(targets), figsize=(3.4 * len(targets), 3.2), sharey=True, layout="constrained")
for ax, target in zip(axes, targets, strict=True):
    values = list(own.loc[own.class_name == target, ["original", "dice"]].to_numpy().T)
    ax.boxplot(values, tick_labels=["original", "perturbed"], widths=0.5, showfliers=False)
    for x, column in enumerate(values, start=1):
        ax.plot(np.full(len(column), x) + np.linspace(-0.15, 0.15, len(column)), column, ".", alpha=0.4)
    ax.set_title(target)
axes[0].set_ylabel("Dice of the perturbed class, a dot a slice")
plt.show()

# %% [markdown]
# ## Kinds of failure

# %%
case_summary(store).round(3)

# %% [markdown]
# ## Top 3, then the seven most frequent
#
# For every slice and condition the three channels of a layer with the highest MAD; over all slices, the seven channels
# that are most often among them. This is what the study calls *general* channels.

# %%
layers = list(store.layers.index)
top = {layer: analysis.top_channels(store.statistics(layer)["mad"], k=3).compute() for layer in layers}
general = {layer: analysis.channel_frequency(ranks, most=7) for layer, ranks in top.items()}


def listed(ranked):
    """Channels in order of frequency, each with the slices that it was in the top 3 of."""
    pairs = zip(ranked["channel"].values, ranked["count"].values, strict=True)
    return ", ".join(f"{channel} ({count})" for channel, count in pairs if channel >= 0)


conditions = [f"brightness({target}, 0.1)" for target in targets]
with pd.option_context("display.max_colwidth", None):
    display(pd.DataFrame({c: {layer: listed(general[layer].sel(condition=c)) for layer in layers} for c in conditions}))

# %% [markdown]
# ## Channels of one class
#
# In a layer's top 7 for one class and for no other: candidates for channels that are specific to it. (The smaller a
# layer, the less can be specific: of eight channels, seven are listed.)


# %%
def members(layer, condition):
    return {int(channel) for channel in general[layer]["channel"].sel(condition=condition).values if channel >= 0}


specific = {}
for layer in layers:
    found = {target: members(layer, c) for target, c in zip(targets, conditions, strict=True)}
    alone = {t: own - set().union(*(other for s, other in found.items() if s != t)) for t, own in found.items()}
    specific[layer] = {t: ", ".join(map(str, sorted(own))) for t, own in alone.items()}
pd.DataFrame(specific).T

# %% [markdown]
# ## General against case-specific
#
# The same frequencies in one layer, counted apart for each kind of failure. Do the same channels lead?

# %%
layer = "L13" if "L13" in layers else layers[len(layers) // 2]
by_case = analysis.channel_frequency(top[layer], by=store.cases, most=7)
rows = {}
for condition in conditions:
    rows[condition, "all"] = listed(general[layer].sel(condition=condition))
    for case in by_case["case"].values:
        one = by_case.sel(condition=condition, case=case)
        if one["n"] > 0:
            rows[condition, f"{case} (n = {int(one['n'])})"] = listed(one)
with pd.option_context("display.max_colwidth", None):
    display(pd.Series(rows, name=f"channels of {layer}").to_frame())

# %% [markdown]
# ## MAD from layer to layer
#
# Mean over slices and channels, each patient a thin line: where in the network the change is large, and whether
# patients agree. Raw values of different layers are on different scales, so each is given in standard deviations of
# what its channels do on the original.

# %%
fig, axes = plt.subplots(1, len(targets), figsize=(4 * len(targets), 3), sharey=True, layout="constrained")
standardised = {}
for layer in layers:
    found = store.statistics(layer)
    standardised[layer] = (found["mad"] / found["std"]).mean("channel").compute()
for ax, target, condition in zip(axes, targets, conditions, strict=True):
    lines = pd.DataFrame(
        {name: values.sel(condition=condition).groupby("patient").mean() for name, values in standardised.items()},
    )
    ax.plot(lines.T.to_numpy(), color="0.75", linewidth=1)
    ax.plot(lines.mean().to_numpy(), color="#0072b2", linewidth=2)
    ax.set_xticks(range(0, len(layers), 4), layers[::4])
    ax.set_title(target)
axes[0].set_ylabel("MAD ÷ standard deviation")
plt.show()

# %% [markdown]
# `actstore report` draws all of this, with intervals over patients, as one page; `actstore table` writes the tables.
