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
# # Does it matter?
#
# The study lists the channels that change most when a class is darkened. A channel that changes need not be why the
# segmentation fails. `actstore intervene SPEC` finds out by experiment, as the spec's tables `[[intervene]]` say: it
# puts the original's maps into the darkened pass, runs the rest of the network, and counts the prediction again. What
# comes back is the effect, as a share of the Dice that darkening cost: 0 is nothing, 1 is all of it.
#
# Two slices of each patient keep this notebook short. A study takes all of them.

# %%
import holoviews as hv

import actstore
from actstore import views
from actstore.jobs.capture import capture
from actstore.jobs.intervene import intervene
from actstore.spec.spec import load_spec

hv.extension("matplotlib", logo=False)
spec = load_spec("phantom.toml")

# %%
store = actstore.open(capture(spec, cluster="inline").store)  # nothing to do after notebook 01
for done in intervene(spec, cluster="inline"):
    print(done.complete, "in", done.group)
findings = actstore.Findings(store)

# %% [markdown]
# ## Which way does it take?
#
# All channels of one layer at a time. A layer that every path leads through gives everything back. One that a skip
# connection passes by need not: what is lost arrives on the other path.

# %%
effects = findings.table("effects")
whole = effects.query("intervention == 'whole' and class_name == target")
whole[["layer", "unedited", "edited", "effect", "low", "high"]].round(2)

# %% [markdown]
# ## One channel at a time
#
# In two layers, one before the first skip connection and one on the way up. Circles mark channels whose effect is
# larger than that of a random channel of their layer: labels of channels are permuted within each patient, and q is
# corrected over channels, layers and classes.

# %%
views.effects(effects)

# %%
alone = effects.query("intervention == 'restore' and class_name == target").sort_values("effect", ascending=False)
alone[["layer", "channel", "effect", "low", "high", "q", "note"]].head(8).round(3)

# %% [markdown]
# ## More and more channels
#
# Channels are put back in the order of the study's frequency, in that of their own effects, and at random. An order
# that finds what matters rises sooner than chance. The order by effect was made from the same slices, so that it looks
# better than it would on others.

# %%
views.cumulative(findings.table("cumulative"))

# %%
areas = findings.table("areas").query("class_name == target")
areas[["layer", "order", "area", "low", "high"]].round(3)

# %% [markdown]
# ## Are the channels that change most those that matter?
#
# Each dot is a channel: its place in the study's ranking, and its effect. If both rankings were one, dots would fall
# from left to right. `shared` counts channels that are among the seven most frequent and among the seven with the
# largest effects; `expected` is how many unrelated rankings would share.

# %%
views.rankings(findings.table("rankings"))

# %%
agreement = findings.table("agreement")
agreement[["layer", "frequent", "large", "shared", "expected", "q", "spearman_frequency", "spearman_mad"]].round(2)

# %% [markdown]
# ## What it says, and what not
#
# - An effect is of this network, this perturbation, and an edit of this one place. Everything behind it sees the edit;
#   what came before it does not.
# - A channel without an effect alone may matter together with others: compare the whole layer and the curves.
# - Where Dice is at its floor, one channel cannot lift any pixel over the others, and small effects stay hidden.
# - A map of the original among maps of the darkened image is a mixture that the network never saw.
# - Five synthetic patients show how to read the figures, and nothing about hearts. An interval is over patients; with
#   fewer than five there is none.
