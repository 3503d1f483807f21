"""Contents of a store that a capture wrote, as lazy arrays and tables of its committed blocks."""

from __future__ import annotations

from functools import cached_property

import pandas as pd
import xarray as xr

from actstore.geometry import Grid
from actstore.store import commits
from actstore.store.arrays import Arrays
from actstore.store.attributes import layout_of, members_of, read_attributes, regions_of, token_of
from actstore.store.files import storage_at
from actstore.store.files.base import Location
from actstore.store.filters import read_filters
from actstore.store.listings import layer_grids, layer_listing, patch_listing
from actstore.store.pixels import read_confusion, read_image, read_label, read_prediction
from actstore.store.scores import no_scores, read_calibration, read_histogram, read_score
from actstore.store.statistics import PersistedStatistics


class StoredArrays:
    """Contents of a store that a capture wrote: listings, inputs, outputs and counts."""

    def __init__(self, location: Location) -> None:
        self.storage = storage_at(location)
        self.attributes = read_attributes(self.storage)
        self.layout = layout_of(self.attributes)
        #: The exclusive classes of ``label`` and ``prediction`` in order, background first.
        self.class_names: tuple[str, ...] = tuple(self.attributes["classes"])
        #: Regions and the indices of their classes, none in a run without; they may overlap.
        self.regions: dict[str, tuple[int, ...]] = regions_of(self.attributes)
        #: What results are of, each with the indices of its classes: the classes and regions that the spec lists. A
        #: class that only fills a region up, such as "heart only", is in ``class_names`` alone.
        self.members: dict[str, tuple[int, ...]] = members_of(self.attributes)
        self.token = token_of(self.attributes)
        #: Which blocks are done, bool (block).
        self.committed = commits.finished(self.storage, self.layout.capture, self.token)
        self._arrays = Arrays(self.storage, self.attributes, self.layout, self.committed)
        #: Number of samples in each committed block, in order: (block, samples).
        self.block_samples = self._arrays.blocks
        self.persisted = PersistedStatistics(self.storage, self.layout, self.token)

    @property
    def path(self) -> Location:
        """Path or URL of the store."""
        return self.storage.location

    @property
    def missing(self) -> list[str]:
        """Volumes that are not committed."""
        return [name for name, done in zip(self.attributes["blocks"], self.committed, strict=True) if not done]

    @property
    def classes(self) -> dict[str, int]:
        """Class name to index in ``label`` and ``prediction``."""
        return {name: i for i, name in enumerate(self.class_names)}

    @cached_property
    def layers(self) -> pd.DataFrame:
        """One row per layer in network order: module, type, channels, size, bytes of its tensors stored so far."""
        return layer_listing(self.layout, self.block_samples.samples)

    @cached_property
    def grids(self) -> dict[str, Grid]:
        """Position of each layer's pixels on the network's input, as found when the store was made.

        Older stores hold only the shift of each layer, to 1/8 of an input pixel, or nothing; the step between pixels is
        then the ratio of the sizes.
        """
        return layer_grids(self.layout, self.attributes.get("grid"))

    @cached_property
    def samples(self) -> pd.DataFrame:
        """One row per sample: patient, frame, slice (and patch where :attr:`patched`), phase, group, block, size in
        pixels, spacing in millimetres."""
        return pd.DataFrame(self._arrays.sample).rename_axis("sample")

    @property
    def patched(self) -> bool:
        """Whether a sample is a patch: a slice, or a volume of a 3D network, has several."""
        return "patch" in self._arrays.sample

    @cached_property
    def patches(self) -> pd.DataFrame:
        """The patch of each sample, one row a sample.

        Along z, y and x and in voxels, the origin of the patch in the volume, negative where the input is padded, and
        the box that the sample owns, from ``owned_start`` up to ``owned_stop``.

        Raises
        ------
        StoreError
            if the store is older than schema 4, which introduced patches.
        """
        return patch_listing(self._arrays.patch, self.path, self.layout)

    @cached_property
    def conditions(self) -> pd.DataFrame:
        """One row per condition: its name, transform, target class, strength, source, and the changed region.

        In a run with chosen input channels, ``channels`` too: their names joined by "+", "" for all of them.
        """
        return pd.DataFrame(self._arrays.condition).set_index("condition")

    @property
    def classified(self) -> bool:
        """Whether the network classifies whole samples: then there are scores, no labels and predictions of pixels."""
        return self.layout.classified

    @property
    def image(self) -> xr.DataArray:
        """Inputs as the network saw them: (sample, condition, input_channel, [z,] y, x) float32.

        NaN where not applicable."""
        return read_image(self._arrays)

    @property
    def score(self) -> xr.DataArray:
        """(sample, condition, class_name) float32, a classifier's logits, NaN where not applicable.

        Their softmax over ``class_name`` are its probabilities.

        Raises
        ------
        StoreError
            if the network segments.
        """
        return read_score(self._arrays)

    @property
    def label(self) -> xr.DataArray:
        """Ground truth: (sample, [z,] y, x) uint8 class index; of a classifier the image's class in every pixel."""
        return read_label(self._arrays)

    @property
    def prediction(self) -> xr.DataArray:
        """The network's class index: (sample, condition, [z,] y, x) uint8, 0 where not applicable.

        Of a classifier the image's class in every pixel.
        """
        return read_prediction(self._arrays)

    @property
    def applicable(self) -> xr.DataArray:
        """(sample, condition) bool: whether the condition was inferred for the sample."""
        return self._arrays.small(self.layout.applicable, "applicable")

    @property
    def confusion(self) -> xr.DataArray:
        """(sample, condition, true_class, predicted_class) int64 pixel counts inside the image; of a classifier 1."""
        return read_confusion(self._arrays)

    @property
    def filters(self) -> xr.DataArray:
        """Weight of the convolution that runs first, (out_channel, input_channel, [z,] y, x) float32, read now.

        With its module's path and number of groups as attributes. The second dim is ``in_channel`` where it is not the
        network's own input channels that the convolution takes, or where it takes them in groups.

        Raises
        ------
        StoreError
            if the network has no convolution, or the store is from before filters were stored.
        """
        return read_filters(self.storage, self.attributes)

    @property
    def histogram(self) -> xr.DataArray:
        """(sample, condition, class_name, truth, bin) uint32, pixels by their score, 0 where not applicable.

        The score of a class is the logit of its probability; ``truth`` is 1 for pixels of the class, and ``bin`` the
        lower edge of each of 1024 bins, the first -inf. Pixels inside the image that a sample owns, as in `confusion`.

        Raises
        ------
        StoreError
            if the store has none.
        """
        return read_histogram(self._arrays)

    @property
    def calibration(self) -> xr.DataArray:
        """(sample, condition, class_name, probability_bin, total) float64, pixels by probability.

        ``total`` is "pixels", "true", those of the class, and "probability", the sum of what the network gives them;
        ``probability_bin`` the lower edge of each of 30 bins. 0 where not applicable.

        Raises
        ------
        StoreError
            if the store has none.
        """
        return read_calibration(self._arrays)

    @property
    def no_scores(self) -> str:
        """What a store without histograms lacks, and how to get them."""
        return no_scores(self.path)

    @property
    def nbytes(self) -> int:
        """Bytes of the committed blocks."""
        return sum(self.layout.capture.block_bytes(n) for _, n in self.block_samples)
