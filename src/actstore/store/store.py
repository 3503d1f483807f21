"""A store opened for lazy reading of its committed blocks, without torch or the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.store import commits
from actstore.store.computed import case_rules_of, cases_of, mosaic_of, rescaling_of
from actstore.store.groups import Group, find_group, open_group, read_groups
from actstore.store.html import html_of
from actstore.store.layers import find_layer, kept_layer
from actstore.store.pixels import read_picture
from actstore.store.schema import Layer
from actstore.store.statistics import computed_statistics, layer_statistics, network_statistic
from actstore.store.stored import StoredArrays
from actstore.store.tree import tree_of
from actstore.units import counted

if TYPE_CHECKING:
    from actstore.case_rules import CaseRules


class Store(StoredArrays):
    """A store opened for reading. Every array is lazy; unused slots and uncommitted blocks are hidden.

    Examples
    --------
    >>> store.samples["patient"].nunique(), store.conditions.index[1]
    (5, 'brightness(LV, 0.1)')
    >>> store.layers["channels"].to_dict(), store.missing
    ({'L01': 2, 'L02': 4}, [])
    >>> store.classes
    {'background': 0, 'RV': 1, 'MYO': 2, 'LV': 3}
    >>> store["L02"].dims, store.confusion.dims
    (('sample', 'condition', 'channel', 'y', 'x'), ('sample', 'condition', 'true_class', 'predicted_class'))
    """

    def __getitem__(self, layer: str) -> xr.DataArray:
        """Activations of a layer, lazy: (sample, condition, channel, [z,] y, x), NaN where not applicable.

        Raises
        ------
        KeyError
            naming the layers that there are.
        StoreError
            if the layer's tensors were not kept.

        Examples
        --------
        >>> store["L01"].dims
        ('sample', 'condition', 'channel', 'y', 'x')
        """
        found = self.require_kept(find_layer(self.layout, layer))
        return self._arrays.sharded(self.layout.activation(found), "activation", found)

    def _ipython_key_completions_(self) -> list[str]:
        """What Tab offers after ``store["``: the layers whose tensors are kept."""
        return [layer.name for layer in self.layout.layers if layer.kept]

    def map(self, layer: str, sample: int, condition: int | str, channel: int) -> NDArray[np.floating]:
        """One channel of one sample in one condition: ([z,] y, x), NaN where not applicable.

        Reads and checks only the inner chunk that holds it, whatever the size of the layer.

        Raises
        ------
        KeyError, IndexError
            if there is no such layer or condition, sample or channel.
        StoreError
            if the chunk is damaged or missing, or the layer's tensors were not kept.

        Examples
        --------
        >>> store.map("L01", 5, "brightness(LV, 0.1)", 1).shape
        (64, 64)
        """
        array = self.layout.activation(self.require_kept(find_layer(self.layout, layer)))
        return self._arrays.single(array, sample, condition=condition, channel=channel)

    def picture(
        self,
        name: Literal["image", "label", "prediction"],
        sample: int,
        condition: int | str = 0,
        *,
        input_channel: int = 0,
    ) -> NDArray[Any]:
        """One sample's ``image``, ``label`` or ``prediction`` in one condition: ([z,] y, x), as the array of that name.

        Reads and checks only the inner chunk that holds it. A label is the same in every condition; ``input_channel``
        applies to an image. Of a classifier, the label and the prediction are the image's class in every pixel.

        Raises
        ------
        KeyError, IndexError
            if there is no such condition or sample.
        StoreError
            if the chunk is damaged or missing.

        Examples
        --------
        >>> store.picture("prediction", 5, "brightness(LV, 0.1)").shape
        (64, 64)
        """
        return read_picture(self._arrays, name, sample, condition, input_channel)

    def require_kept(self, layer: Layer, instead: str = "") -> Layer:
        """The layer itself.

        Raises
        ------
        StoreError
            if its tensors are not stored; the message says what to do ``instead``, by default to ask for statistics.

        Examples
        --------
        >>> store.require_kept(store.layout.layers[0]).name
        'L01'
        """
        return kept_layer(layer, self.path, self.attributes, instead)

    def mosaic(self, name: str, patient: str, frame: int = 0) -> xr.DataArray:
        """One volume's "image", "label", "prediction", or activations of the layer ``name``, each voxel from the patch
        that owns it: (condition, [input_channel or channel,] z, y, x), a label (z, y, x); lazy.

        In voxels of the preprocessed volume; see :func:`actstore.analysis.mosaic`. A prediction is the original's where
        a condition was not inferred for a sample, since its input is, and 0 where it applies to none of the volume.

        Raises
        ------
        KeyError, StoreError
            if there is no such volume or layer; its tensors were not kept, or the store is older than schema 4.

        Examples
        --------
        >>> store.mosaic("L01", "patient001", 1).dims
        ('condition', 'channel', 'z', 'y', 'x')
        """
        return mosaic_of(self, name, patient, frame)

    @property
    def case_rules(self) -> CaseRules:
        """The thresholds of the run's spec."""
        return case_rules_of(self)

    @property
    def cases(self) -> xr.DataArray:
        """The kind of failure of each prediction: (sample, condition) str, "" for none; lazy."""
        return cases_of(self)

    @property
    def rescaling(self) -> xr.DataArray:
        """Factor by which normalisation stretched unperturbed pixels: (sample, condition) float64; lazy.

        See :func:`actstore.analysis.rescaling`; reads inputs only if the run's normalisation can stretch them.
        """
        return rescaling_of(self)

    @property
    def reduced(self) -> bool:
        """Whether the statistics of every committed block are persisted."""
        return self.persisted.whole(self.committed)

    def statistics(
        self, layer: str, names: Sequence[str] | None = None, *, persisted: bool | None = None
    ) -> xr.Dataset:
        """Per-channel statistics of a layer, lazy; one pass over its shards computes all that are not persisted.

        Parameters
        ----------
        names
            of the metrics "mad", "mse", "mean_difference", "cosine", "psnr" and "ssim" against the original, "mean" and
            "max", all (sample, condition, channel), and "std" of the original, (sample, channel); float64.
            Definitions: :func:`actstore.analysis.statistics`. By default those that the store's schema persists.
        persisted
            read what capture or `reduce_store` persisted, which is "mad", "mse", "mean", "max" and "std", or reduce the
            activations; by default each name is read if every committed block has it, and reduced otherwise. Stores
            older than schema 4 persisted no "max", and "mean" of the original alone, (sample, channel).

        Raises
        ------
        KeyError
            naming the layers that there are.
        StoreError
            if a name is unknown, ``persisted`` is True for statistics that are not, or they need tensors not kept.

        Examples
        --------
        >>> list(store.statistics("L01"))
        ['mad', 'mse', 'mean', 'max', 'std']
        """
        found = find_layer(self.layout, layer)
        return self._arrays.dataset(layer_statistics(self, found, names, persisted), found)

    def compute_statistics(
        self, names: Sequence[str] | None = None, *, persisted: bool | None = None
    ) -> dict[str, xr.Dataset]:
        """Statistics of every layer, in memory: name of the layer to what :meth:`statistics` would give, computed.

        Parameters and errors are the same. All layers are reduced at once, with fewer tasks than if their lazy
        statistics were computed.

        Examples
        --------
        >>> store.compute_statistics(["mad"])["L02"]["mad"].dims
        ('sample', 'condition', 'channel')
        """
        found = computed_statistics(self, names, persisted)
        layers = self.layout.layers
        return {layer.name: self._arrays.dataset(arrays, layer) for layer, arrays in zip(layers, found, strict=True)}

    def network_statistic(self, name: str) -> xr.DataArray | None:
        """A persisted statistic of the channels of all layers, side by side: (sample, condition, channel), lazy.

        With the coordinates ``layer``, ``module`` and ``channel`` along channel; None where a committed block has none
        persisted, or the store's schema persists it layer by layer.

        Examples
        --------
        >>> store.network_statistic("mad").dims
        ('sample', 'condition', 'channel')
        """
        return network_statistic(self._arrays, self.persisted, name) if self.reduced else None

    def stored_statistic(self, name: str, block: int) -> NDArray[np.float64]:
        """A persisted statistic of all channels of one block, read now: (sample, condition, layer_channel).

        For a statistic of the original only, all other conditions are NaN.

        Raises
        ------
        DamageError
            if a file of it is damaged, or missing.

        Examples
        --------
        >>> store.stored_statistic("mad", 0).shape[1:]
        (15, 6)
        """
        return self.persisted.of_block(name, block, dict(self.block_samples)[block])

    @property
    def groups(self) -> Mapping[str, Group]:
        """Groups that further jobs added to the store, by path."""
        return {group.name: group for group in read_groups(self.storage)}

    def group(self, name: str) -> xr.Dataset:
        """The arrays of a further job's group, lazy, with coordinates; uncommitted units are left out.

        Raises
        ------
        KeyError
            naming the groups that there are.

        Examples
        --------
        >>> store.group("explain/slope")["map"].dims
        ('sample', 'condition', 'class_name', 'y', 'x')
        """
        found = find_group(self.storage, name)
        return open_group(self.storage, found, self.block_samples, self._arrays.coordinates(("sample",)))

    def group_committed(self, name: str) -> NDArray[np.bool_]:
        """Which units of a further job's group are done, bool (unit); a damaged record counts as not done.

        Examples
        --------
        >>> bool(store.group_committed("explain/slope").all())
        True
        """
        group = find_group(self.storage, name)
        return commits.committed(self.storage, group.schema, group.token, mending=True)

    @cached_property
    def tree(self) -> xr.DataTree:
        """The whole store as an `xarray.DataTree` in network order, coordinates attached to every group."""
        return tree_of(self)

    def __repr__(self) -> str:
        samples = self.block_samples.samples
        missing = len(self.missing)
        return (
            f"<actstore.Store {self.path}: {counted(len(self.block_samples), 'block')}"
            f"{f' ({missing} missing)' if missing else ''}, {counted(samples, 'sample')}, "
            f"{counted(self.layout.conditions, 'condition')}, "
            f"{counted(len(self.layout.layers), 'layer')}>"
        )

    def _repr_html_(self) -> str:
        return html_of(self)
