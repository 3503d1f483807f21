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
# # Where in the image
#
# Which pixels does a prediction rest on, and what in a sample excites a channel? `actstore explain SPEC` goes back from
# classes and channels into the stored inputs, as the spec's tables `[[explain]]` say. A map is easily made and easily
# believed; so beside each stand the checks that say how far to trust it.

# %%
import holoviews as hv

import actstore
from actstore import views
from actstore.jobs.capture import capture
from actstore.jobs.explain import explain
from actstore.spec.spec import load_spec
from actstore.tables.build import build_table

hv.extension("matplotlib", logo=False)
spec = load_spec("phantom.toml")

# %%
store = actstore.open(capture(spec, cluster="inline").store)  # nothing to do after notebook 01
for done in explain(spec, cluster="inline"):
    print(done.complete, "in", done.group)

# %% [markdown]
# ## Maps of a class
#
# Occlusion fills one window after the other and asks how much of the class's probability is lost; the gradient asks
# what a small change of each pixel does; guided backpropagation passes only what is positive. The black line encloses
# the pixels whose score is explained.

# %%
(
    views.explanation(store, "occlusion") + views.explanation(store, "gradient") + views.explanation(store, "guided")
).cols(2)

# %% [markdown]
# ## Is what they call important so?
#
# Tiles of the body are deleted, those first that the map calls important, and the class's probability is predicted
# anew. Beside it, tiles at random; and, as the trivial answer that needs no network, those nearest to the middle of the
# class. A map that does not fall below that one knows less than a ruler.

# %%
deletion = build_table(store, "deletion")
views.deletion(deletion)

# %%
columns = ["explanation", "class_name", "order", "probability", "low", "high", "excess", "excess_low", "excess_high"]
deletion[deletion["deleted"] == 0.05][columns].round(2)

# %% [markdown]
# ## Do they depend on what the network learned?
#
# The same maps of a network whose weights are shuffled, layer after layer from the output backwards (Adebayo et al.
# 2018). A map that stays alike shows the image, not the network.

# %%
randomisation = build_table(store, "randomisation")
views.randomisation(randomisation)

# %% [markdown]
# ## Where do they lie?
#
# The share of a map's energy on each class of the label, over the share of the area: 1 is no more than chance.

# %%
landmarks = build_table(store, "landmarks").query("class_name == 'LV'")
landmarks.pivot(index="landmark", columns="explanation", values="concentration").round(1)

# %% [markdown]
# ## The slice that is segmented worst
#
# Of those in which the class is predicted: without a prediction there is nothing to explain.

# %%
pixels = store.group("explain/occlusion")["pixels"].sum("class_name").values
dice = build_table(store, "dice").query("condition == 'original' and class_name == 'LV'")
worst = dice[pixels > 0].dropna().sort_values("dice").iloc[0]
print(f"Dice of LV {worst['dice']:.2f} in {worst['patient']}, frame {worst['frame']}, slice {worst['slice']}")
views.explanation(store, "occlusion", (worst["patient"], worst["frame"], worst["slice"]))

# %% [markdown]
# ## What excites channels
#
# The strongest channels of the bottleneck in one slice, each sent back into the input by a network turned round
# (Zeiler and Fergus 2014), and where the five and the twenty-five strongest look together. The grid comes from strides.

# %%
sample = int(pixels.argmax())
views.projections(store, "top25", sample=sample, most=7)

# %%
views.focus(store, "top25", sample=sample, most=(5, 25))
