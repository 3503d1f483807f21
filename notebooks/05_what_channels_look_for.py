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
# # What channels look for
#
# A channel that changes under a perturbation has a number. What it looks for, two kinds of picture show: the samples
# of your own data that drive it most, and an image made for it, by gradient ascent from noise. `actstore visualise
# SPEC` makes both for every channel of the layers in the spec's table `[visualise]`, and puts them into the store.
# Here, eight channels of the network's bottleneck.

# %%
import holoviews as hv
import numpy as np

import actstore
from actstore import views
from actstore.errors import ModelError
from actstore.jobs.capture import capture
from actstore.jobs.visualise import visualise
from actstore.maximisation.maximise import maximise
from actstore.networks.model import build_model
from actstore.spec.spec import load_spec
from actstore.tables.build import build_table

hv.extension("matplotlib", logo=False)
spec = load_spec("phantom.toml")

# %%
store = actstore.open(capture(spec, cluster="inline").store)  # nothing to do after notebook 01
done = visualise(spec, cluster="inline")
print(done.complete, "in", done.group)

# %% [markdown]
# ## A layer at a glance
#
# One image a channel; all share one scale of grey, so that one that is nearly uniform looks so.

# %%
layer = "model.1.submodule.1.submodule.1.submodule.conv.unit0.conv"
views.optima(store, layer)

# %% [markdown]
# ## One channel, and the samples that drive it
#
# The optimum, its ascent, its value beside those of the data, and the slices in which the channel's mean is highest.
# The frame holds most of the gradient of the place where the map is largest. Behind an instance norm every pixel of a
# slice has a say, so the frames are wide.

# %%
views.optimum(store, layer, 2)

# %% [markdown]
# ## In numbers
#
# `final` is the objective of the image as it is, without the shifts it was made under. It exceeds what any slice of
# the data reaches in every live channel. That says how far the ascent went, not that the image is like a scan.

# %%
columns = ["channel", "status", "start", "final", "data_max", "above_data", "patient", "slice"]
build_table(store, "optima")[columns].round(3)

# %% [markdown]
# ## What cannot be asked
#
# The mean of a map behind an instance norm is the same for every image. An ascent would follow rounding errors and
# show noise; it is refused instead:

# %%
norm = spec.visualise.model_copy(update={"layers": ("*.submodule.1.submodule.conv.unit0.adn.N",)})
try:
    maximise(build_model(spec), norm, size=spec.data.preprocess.size)
except ModelError as error:
    print(error)

# %% [markdown]
# ## Without regularisers
#
# In memory, for any network: the same channels without the random shifts. Fine detail grows, since nothing is said
# against it; the share of power above a quarter of a cycle a pixel:

# %%
without = spec.visualise.model_copy(update={"regularize": ()})
plain = maximise(build_model(spec), without, size=spec.data.preprocess.size)[layer]
shifted = store.group("features/optima")["image"].values[:, 0]


def fine(images):
    """Share of a spectrum's power at high frequencies, (image)."""
    power = np.abs(np.fft.fft2(images - images.mean((-2, -1), keepdims=True))) ** 2
    one = np.fft.fftfreq(images.shape[-1])
    frequency = np.hypot(one[:, None], one)
    return (power * (frequency > 0.25)).sum((-3, -2, -1)) / power.sum((-3, -2, -1))


print("with shifts   ", fine(shifted).round(2))
print("without shifts", fine(plain.image).round(2))
