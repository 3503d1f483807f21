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
# # Querying a store
#
# Everything in a store is an xarray object that is read only when it is computed. This notebook asks questions that no
# table of actstore answers: of some patients only, with a reduction of one's own, on more data than fits in memory, on
# a cluster, and without actstore.

# %%
import dask
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from distributed import Client, LocalCluster

import actstore
from actstore import analysis
from actstore.jobs.capture import capture
from actstore.spec.spec import load_spec

store = actstore.open(capture(load_spec("phantom.toml"), cluster="inline").store)  # nothing to do after notebook 01
a = store["L07"]
print(a.dims, dict(a.sizes), a.dtype)

# %% [markdown]
# ## Subsets
#
# Patient, frame, slice, phase and group are coordinates along `sample`; transform, target and strength along
# `condition`. Any of them selects.

# %%
systole = a.isel(sample=(a.phase == "ES").values)
one = a.isel(sample=np.isin(a.patient, ["patient001", "patient003"]))
ventricles = a.isel(condition=np.isin(a.target, ["", "LV", "RV"]))
{name: dict(part.sizes) for name, part in {"systole": systole, "one": one, "ventricles": ventricles}.items()}

# %% [markdown]
# The functions of `actstore.analysis` take such a part as they take the whole. Most changed channels in systole alone:

# %%
top = analysis.top_channels(analysis.mad(systole), k=3)
frequency = analysis.channel_frequency(top, most=3).compute()
frequency["channel"].to_pandas()

# %% [markdown]
# ## A reduction of one's own
#
# MAD says how much a map moved, not over what area: a strong change in one corner and a weak one everywhere can have
# the same. So: what share of a channel's map moved by more than half of its own standard deviation?

# %%
original = a.isel(condition=0, drop=True)
moved = abs(a - original) > 0.5 * original.std(("y", "x"))
share = moved.mean(("y", "x")).where(store.applicable)
print(share.dims, "not computed yet:", dask.is_dask_collection(share))

mean = share.isel(condition=slice(1, None)).mean("sample").compute()
mean.to_pandas().round(2)

# %%
fig, ax = plt.subplots(figsize=(8, 2.4), layout="constrained")
shown = ax.imshow(mean, aspect="auto", vmin=0, vmax=1)
ax.set_yticks(range(mean.sizes["condition"]), mean.condition.values)
ax.set_xlabel("channel of L07")
fig.colorbar(shown, label="share of the map")
plt.show()

# %% [markdown]
# ## Patients before slices
#
# Slices of one patient are alike, so average within patients first; what is left varies between patients.

# %%
by_patient = share.groupby("patient").mean().compute()
spread = by_patient.sel(condition="brightness(LV, 0.1)")
print(f"channel 15: {float(spread.sel(channel=15).mean()):.2f} ± {float(spread.sel(channel=15).std(ddof=1)):.2f}")
print(f"over {by_patient.sizes['patient']} patients")

# %% [markdown]
# ## Larger than memory
#
# A chunk holds as many slices as fit 64 MiB, so a reduction needs that much for each thread, and what its own
# arithmetic makes of it, however many patients there are. Five would fit; three hundred ask nothing else of this code.

# %%
last = store["L21"]
chunk = np.prod([max(sizes) for sizes in last.chunks]) * last.dtype.itemsize
print(f"L21: {last.nbytes / 1e6:.0f} MB in {last.data.npartitions} chunks of at most {chunk / 1e6:.0f} MB,", end=" ")
print(f"{analysis.mad(last).nbytes / 1e3:.0f} kB once it is reduced")

# %% [markdown]
# Ask for several results together and each chunk is read once. Here the MAD and the standard deviation of every channel
# of the network, from the stored maps, and where it changes most for its own measure.

# %%
layers = {name: analysis.statistics(store[name], ["mad", "std"]) for name in store.layers.index}
network = analysis.stack_layers(layers)
relative = (network["mad"] / network["std"]).isel(condition=slice(1, None)).mean("sample")
(relative,) = dask.compute(relative)

strongest = relative.isel(channel=relative.argmax("channel"))
strongest.to_dataframe("MAD ÷ std")[["layer", "channel", "MAD ÷ std"]].round(2)

# %% [markdown]
# Some reductions need a whole channel over all samples, such as a median. Then chunk along channels instead; dask moves
# the pieces.

# %%
median = share.chunk(sample=-1, channel=4).median("sample").compute()
median.isel(condition=1).values.round(2)

# %% [markdown]
# ## On a cluster
#
# Nothing changes but where it runs: a client of any Dask scheduler takes the work. Here two processes on this machine;
# `SLURMCluster` or a scheduler's address work the same way.

# %%
with (
    LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
    Client(cluster) as client,
):
    on_cluster = share.isel(condition=slice(1, None)).mean("sample").compute()
    print(len(client.scheduler_info()["workers"]), "workers")

xr.testing.assert_allclose(on_cluster, mean)

# %% [markdown]
# ## Keep a result
#
# Beside the store, not in it: a store is checked byte by byte against what the capture wrote. In Zarr version 2, since
# version 3 has no settled form for fixed-width text yet.

# %%
kept = share.rename("share").drop_vars(["spacing_z", "spacing_y", "spacing_x"]).to_dataset()
kept.to_zarr("../runs/share-L07.zarr", mode="w", zarr_format=2)
again = xr.open_zarr("../runs/share-L07.zarr")["share"]
xr.testing.assert_allclose(again.isel(condition=slice(1, None)).mean("sample").compute(), mean)

# %% [markdown]
# ## Without actstore
#
# The store is plain Zarr v3. Two things that `actstore.open` does are then yours: drop the slots that no slice uses
# (`valid`), and look which volumes are done (`committed`; 0 is not).

# %%
tree = xr.open_datatree("../runs/phantom-128.zarr", engine="zarr", chunks={})
root = tree.to_dataset()
done = (root.committed != 0).values[root.coords["block"].values]
used = root.valid.values & done
print(f"{used.size} slots, {used.sum()} used and committed")

plain = tree["layers/L07/activation"].isel(sample=used)
own = abs(plain - plain.isel(condition=0)).mean(("y", "x"))
np.testing.assert_allclose(own, analysis.mad(a), rtol=1e-5, atol=1e-7)

# %% [markdown]
# Chunks are one slice each when opened like this, which is slow for reductions over many: give `chunks` as large as a
# volume, `{"sample": slots}`, where `slots = root.attrs["slots"]`. How the arrays lie: [the store](../docs/store.md).
