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
# # What is like what
#
# Which slices are alike, in the network's eyes and in pixels? Where does a perturbation move them? Which layers see the
# same? And how well do scores tell classes apart, whatever the threshold? All of it is computed from what one capture
# left: statistics, predictions and counts of scores. The network is not loaded.

# %%
import holoviews as hv
import numpy as np

import actstore
from actstore import analysis, views
from actstore.jobs.capture import capture
from actstore.spec.spec import load_spec

hv.extension("matplotlib", logo=False)
spec = load_spec("phantom.toml")

# %%
store = actstore.open(capture(spec, cluster="inline").store)  # nothing to do after notebook 01
findings = actstore.Findings(store)

# %% [markdown]
# ## Samples as points
#
# In the space of a layer a slice is a point: the mean and the largest value of each channel. The mean right after an
# instance norm is 0 for every image, so that the maxima carry what there is.

# %%
points = analysis.embedding(store, "L13", pool="mean+max")
points

# %% [markdown]
# ## Whose slices are alike?
#
# Never of the same patient: a slice's own neighbours are the most like it, and say nothing.

# %%
views.neighbours(store, "L13", nearest=3)

# %%
pixels = analysis.neighbours(analysis.pixels(store.image.isel(condition=0)), k=3)
layer = analysis.neighbours(points, k=3)
shared = [len({*a} & {*b}) for a, b in zip(pixels["neighbour"].values, layer["neighbour"].values, strict=True)]
print(f"of three neighbours in pixels, {np.mean(shared):.1f} are neighbours in L13 too")

# %% [markdown]
# ## Where does a perturbation move them?
#
# Two principal components; trustworthiness says how far to believe the picture.

# %%
views.projection(findings.table("projection"))

# %% [markdown]
# ## Which layers see the same?
#
# Centred kernel alignment with the unbiased estimator: 1 for layers that differ by a rotation and a scale.

# %%
similarity = findings.table("similarity")
views.similarity(similarity)

# %% [markdown]
# ## What does the first convolution look for?

# %%
views.filters(store)

# %% [markdown]
# ## Curves instead of one threshold
#
# The capture counted pixels by their score, so that every threshold can still be chosen. The bound is how far the area
# may be from that of all pixels' scores.

# %%
views.roc(findings.table("roc"))

# %%
columns = ["condition", "class_name", "auc", "auc_bound", "average_precision", "ece", "f1", "f1_best", "threshold"]
findings.table("curves")[columns].round(4)

# %% [markdown]
# Are probabilities what they say?

# %%
views.calibration(findings.table("calibration"))
