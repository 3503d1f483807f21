"""What the explorer reads of a store: one chunk for a picture or map, and statistics once."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.classification import RIGHT, true_classes
from actstore.analysis.evidence import perturbations
from actstore.analysis.maps.masks import averaged
from actstore.analysis.members import mask_of
from actstore.analysis.segmentation.counts import true_pixels
from actstore.analysis.segmentation.overlap import dice
from actstore.errors import ActstoreError
from actstore.store.opening import require_committed
from actstore.tables.classification import accuracy_table
from actstore.tables.rows import sample_columns
from actstore.views.arrays import Bools, Floats
from actstore.views.explorer.channel_findings import ChannelFindings
from actstore.views.explorer.edits import Edits
from actstore.views.explorer.layer_optima import LayerOptima
from actstore.views.explorer.likeness import Likeness
from actstore.views.explorer.places import Places
from actstore.views.explorer.state import State, shown_dice, shown_mad
from actstore.views.figures.pixels import Place, place_of
from actstore.views.figures.selection import channel_suffix, input_channel_number, typical_sample, window

if TYPE_CHECKING:
    from actstore.store.store import Store


def written(store: Store) -> Hashable:
    """Differs whenever the store's metadata have been written anew."""
    return store.storage.written("zarr.json")


class Source(Places):
    """A store as the explorer sees it; all pages of a server share one."""

    def __init__(self, store: Store) -> None:
        require_committed(store)
        super().__init__(store)
        #: Another where another store has taken its place, as after a correction of the masks.
        self.written: Hashable = written(store)
        #: Whether the network classifies whole images.
        self.classified: bool = store.classified
        self.foreground: list[str] = list(store.members)
        #: Whether the store holds a layer's tensors.
        self.has_tensors: dict[str, bool] = {layer.name: layer.kept for layer in store.layout.layers}
        #: Names of the input's channels.
        self.input_channels: tuple[str, ...] = store.layout.input_channels
        #: Columns of the samples that name one.
        self.named_by: list[str] = sample_columns(store.samples)
        self.modules: dict[str, str] = {layer.name: layer.label for layer in store.layout.layers}
        #: Size of each layer's maps, ([z,] y, x).
        self.sizes: dict[str, tuple[int, ...]] = {layer.name: tuple(layer.space) for layer in store.layout.layers}
        self.confusion: xr.DataArray = store.confusion.compute()
        self.applies: xr.DataArray = store.applicable.compute()
        found = dice(self.confusion, applicable=self.applies, regions=store.members)
        #: Dice, float64 (sample, condition, class without background).
        self.dice: Floats = found.sel(class_name=self.foreground).transpose("sample", "condition", "class_name").values
        true = true_pixels(self.confusion.isel(condition=0), store.members)
        #: Whether the truth holds a class, bool (sample, class without background).
        self.present: Bools = (true.transpose("sample", "class_name") > 0).values
        #: :attr:`dice`, NaN where the sample does not contain the class: there Dice is 0 or 1, whatever else changes.
        self.present_dice: Floats = np.where(self.present[:, None], self.dice, np.nan)
        if self.classified:
            self.cases: NDArray[np.str_] = self._class_cases()
        else:
            self.cases = store.cases.compute().transpose("sample", "condition").values.astype(str)
        #: Samples as points of layers' spaces.
        self.likeness = Likeness(store)
        #: What interventions, activation maximisation, and statistics with explanations say of channels.
        self.edits = Edits(store, self.where)
        self.optima = LayerOptima(store)
        self.findings = ChannelFindings(store, self.likeness)
        self._typical_samples: dict[str, int] = {}
        self._accuracy: dict[int, pd.DataFrame] = {}

    def _class_cases(self) -> NDArray[np.str_]:
        """Of a classifier: "right" or "label→prediction", (sample, condition); of the original where it is alone."""
        if not self.alone:
            return self.store.cases.compute().transpose("sample", "condition").values.astype(str)
        names, label, predicted = np.array(self.store.class_names), self.labels, self.predicted
        mistaken = np.char.add(np.char.add(names[label], "→")[:, None], names[predicted])
        return np.where(label[:, None] == predicted, RIGHT, mistaken).astype(str)

    @cached_property
    def labels(self) -> NDArray[np.intp]:
        """Number of each image's class; of a segmentation, of the class of most pixels, -1 for none: (sample)."""
        if self.classified:
            return np.asarray(true_classes(self.confusion).values, np.intp)
        sizes = true_pixels(self.confusion.isel(condition=0), self.store.members)
        found = sizes.sel(class_name=self.foreground).transpose("sample", "class_name").values
        return np.where(found.any(axis=1), found.argmax(axis=1), -1)

    @cached_property
    def image_names(self) -> NDArray[Any]:
        """The name of each image of a classifier's: str (sample)."""
        return self.samples["image_name"].to_numpy(object)

    @cached_property
    def predicted(self) -> NDArray[np.intp]:
        """Number of the class that a classifier predicts: (sample, condition); 0 where a condition does not apply."""
        counts = self.confusion.transpose("sample", "condition", "true_class", "predicted_class").values
        return np.asarray(counts.sum(axis=2).argmax(axis=-1), np.intp)

    @cached_property
    def probability(self) -> Floats:
        """Softmax of a classifier's scores: float64 (sample, condition, class), NaN where not applicable."""
        from scipy.special import softmax

        score = self.store.score.transpose("sample", "condition", "class_name").values.astype(np.float64)
        return np.asarray(softmax(score, axis=-1), np.float64)

    @property
    def label_probability(self) -> Floats:
        """The probability of each image's own class: float64 (sample, condition)."""
        return np.take_along_axis(self.probability, self.labels[:, None, None], axis=2)[..., 0]

    def accuracy(self, condition: int) -> pd.DataFrame:
        """Rows of the table ``accuracy``, of the original and a condition."""
        if condition not in self._accuracy:
            at = sorted({0, condition})
            own = self.confusion.isel(condition=at)
            self._accuracy[condition] = accuracy_table(own, applicable=self.applies.isel(condition=at))
        return self._accuracy[condition]

    def has_maps(self, layer: str) -> bool:
        """Whether a layer has more than one value a sample and channel."""
        return int(np.prod(self.sizes[layer])) > 1

    def values(self, layer: str, sample: int) -> Floats:
        """Of a layer without maps, its values in one sample: (condition, channel), NaN where not applicable.

        The mean of the one value that each channel has, where the tensors were not kept.
        """
        array = self.store[layer] if self.has_tensors[layer] else self._means(layer)
        return self.recent(
            ("values", layer, sample),
            lambda: (
                array.isel(sample=sample).transpose("condition", "channel", ...).values.reshape(len(self.names), -1)
            ),
        )

    def _means(self, layer: str) -> xr.DataArray:
        self.need_statistics()
        return self.store.statistics(layer, ["mean"], persisted=True)["mean"]

    def channel_suffix(self, state: State) -> str:
        """Names the input channel of pictures in a title, where inputs have several: " · T1"."""
        return channel_suffix(self.store, self.input_channel(state))

    def input_channel(self, state: State) -> int:
        """The number of the input channel that pictures show."""
        return input_channel_number(self.store, state.input_channel, self.condition(state.condition))

    @property
    def colours(self) -> tuple[str, ...]:
        """What the map of channels can be coloured by, the default first."""
        own = ("maximum",) if self.alone else ("mad", "standardised", "frequency", "control")
        return (*own, *(edits.colour for edits in self.edits.offered))

    @cached_property
    def case_names(self) -> list[str]:
        """Kinds of failure that occur, the most usual first."""
        names, counts = np.unique(self.cases[self.cases != ""], return_counts=True)
        return [str(name) for name in names[np.argsort(-counts, kind="stable")]]

    def first_state(self, condition: str | None = None, place: Mapping[str, Any] | None = None) -> State:
        """The state that a link with at most a condition and a ``place`` shows: some of patient, frame, slice, patch.

        By default the first perturbation of a class that applies anywhere, its sample of median change in Dice, and the
        channel of the last layer but one that changes most there.
        """
        if condition is None:
            at = [int(c) for c in perturbations(self.confusion) if self.applicable[:, c].any()]
            condition = self.names[at[0] if at else min(1, len(self.names) - 1)]
        if place:
            patient = place.get("patient", self.patients[0])
            # The first patch is the default of an address.
            patch = place.get("patch", 0 if "slice" in place else None)
            shown = self.nearest(patient, place.get("frame"), place.get("slice"), condition, patch)
        else:
            usable = bool(self.applicable[:, self.condition(condition)].any() and self.target(condition))
            plain = self.nearest(self.patients[0], None, None, condition) if self.alone else self.at(0)
            shown = self.at(self._typical(condition)) if usable else plain
        layer = list(self.channels)[-2:][0]
        first = State(condition=condition, layer=layer, channel=0, colour=self.colours[0], **shown)
        first.channel = self.strongest(first)
        return first

    def _typical(self, condition: str) -> int:
        """The sample of median change in Dice, which every link asks for."""
        if condition not in self._typical_samples:
            self._typical_samples[condition] = typical_sample(self.store, condition)
        return self._typical_samples[condition]

    def strongest(self, state: State) -> int:
        """The channel of the state's layer that changes most in its sample, 0 where none does or MAD is unknown; of the
        original alone, that with the largest value."""
        try:
            read = self.sample_maximum(self.sample(state)) if self.alone else self._change(state)
            mad = read[self.where[state.layer]]
        except ActstoreError:
            return 0
        return int(np.nanargmax(mad)) if not np.isnan(mad).all() else 0

    def _change(self, state: State) -> Floats:
        return self.sample_mad(self.sample(state), self.condition(state.condition))

    @cached_property
    def short_names(self) -> list[tuple[str, str]]:
        """What to call each sample above a small picture: patient and "f1 · s4 p2", or image and label."""
        if self.classified:
            names = np.array(self.store.class_names, object)[self.labels]
            return list(zip(self.image_names.tolist(), names.tolist(), strict=True))
        # To look each up in a data frame takes longer than to draw it.
        numbers = self.samples[self.named_by[1:]].to_numpy().tolist()
        if self.is_3d:
            numbers = [[frame, *patch] for frame, _, *patch in numbers]
            letters = ["f", *("p" for _ in numbers[0][1:])]
        else:
            letters = [name[0] for name in self.named_by[1:]]
        places = [" · ".join(f"{letter}{n}" for letter, n in zip(letters, own, strict=True)) for own in numbers]
        return list(zip(self.samples["patient"].astype(str).tolist(), places, strict=True))

    def in_short(self, sample: int, plane: int) -> tuple[str, str]:
        """:attr:`short_names` of a sample; of a volume with ``plane``, the slice that a picture shows."""
        name, place = self.short_names[sample]
        return (name, f"{place} · s{plane}") if self.is_3d and not self.classified else (name, place)

    # Pictures

    def picture(
        self, name: str, sample: int, condition: int, plane: int | slice, input_channel: int = 0
    ) -> NDArray[Any]:
        """``image``, ``label`` or ``prediction`` of one sample: (y, x), of a volume its plane, or several.

        Of an image, one channel.
        """
        c = 0 if name == "label" else condition
        kind = cast(Any, name)
        key = (name, sample, c, input_channel)
        found = self.recent(key, lambda: self.store.picture(kind, sample, c, input_channel=input_channel))
        return found[plane] if self.is_3d else found

    def map(self, layer: str, sample: int, condition: int, channel: int, plane: int) -> Floats:
        """One channel's map of one sample: (y, x), of a volume the layer's plane where the input's ``plane`` is."""
        key = (layer, sample, condition, channel)
        found = self.recent(key, lambda: self.store.map(layer, sample, condition, channel))
        return found[self.plane(layer, plane)] if self.is_3d else found

    def maps(self, layer: str, sample: int, condition: int, plane: int) -> Floats:
        """All channels' maps of one sample, as :meth:`map`: (channel, y, x)."""
        channels = range(self.channels[layer])
        read = lambda: np.stack([self.store.map(layer, sample, condition, k) for k in channels])  # noqa: E731
        found = self.recent(("maps", layer, sample, condition), read)
        return found[:, self.plane(layer, plane)] if self.is_3d else found

    def cover(self, layer: str, sample: int, class_name: str, plane: int, region: Bools | None = None) -> Floats:
        """Share of each of a layer's pixels that a class of the truth covers, or in its place a ``region``: (y, x)."""

        def read(mask: Bools) -> Floats:
            return averaged(mask, self.sizes[layer], self.store.grids[layer])

        if region is not None:
            found = read(region)
        else:
            own = self.store.members[class_name]
            found = self.recent(("cover", layer, sample, class_name), lambda: read(mask_of(self._label(sample), own)))
        return found[self.plane(layer, plane)] if self.is_3d else found

    def _label(self, sample: int) -> NDArray[Any]:
        return self.recent(("label", sample, 0, 0), lambda: self.store.picture("label", sample))

    def target_window(self, state: State) -> tuple[slice, slice]:
        """Rows and columns around the class that the condition changes, in all slices of the volume shown.

        Around every class where the truth does not hold that one, the whole image where it holds none.
        """
        at = self._volumes[state.patient, state.frame]
        at = at[self.samples["patch"].to_numpy()[at] == state.patch] if self.patched else at
        every = np.stack([self._label(int(n)) for n in at]).reshape(-1, *self.space[-2:])
        target = self.target(state.condition)
        own = mask_of(every, self.store.members[target]) if target in self.store.members else every[:0]
        return window(own if own.any() else every)

    def plane(self, layer: str, plane: int) -> int:
        """The z of a layer in which the middle of the input's ``plane`` lies."""
        return self.store.grids[layer].pixel_at(plane, 0, self.sizes[layer][0])

    def place(self, layer: str) -> Place:
        """Where the pixels of a layer lie on the input."""
        return place_of(self.store.grids[layer])

    # Subsets

    def subset(self, state: State) -> Bools:
        """bool (sample): the samples that the condition applies to and that the state selects."""
        c = self.condition(state.condition)
        chosen = self.applicable[:, c].copy()
        if state.case:
            chosen &= self.cases[:, c] == state.case
        if state.dice:
            name, *ends = state.dice
            left, right, low, high = shown_dice(ends)
            original, perturbed = shown_dice(self.present_dice[:, [0, c], self.foreground.index(name)].T)
            chosen &= (original >= left) & (original <= right) & (perturbed >= low) & (perturbed <= high)
        if state.mad:
            mad = shown_mad(self.layer_mad(state.mad.layer, c))
            low, high = shown_mad(state.mad[1:])
            chosen &= (mad >= low) & (mad <= high)
        return chosen
