"""Effects of channels that interventions edit alone: the table ``effects``, read once for each intervention."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from actstore.analysis.classification import EVERY
from actstore.analysis.interventions.effects import SHARES, quantity_of
from actstore.conditions import ORIGINAL
from actstore.errors import StoreError
from actstore.tables.findings import Findings
from actstore.tables.passes import EACH, INTERVENTIONS
from actstore.units import first_few
from actstore.views.arrays import Floats
from actstore.views.wording import interval, number

if TYPE_CHECKING:
    from actstore.store.store import Store

#: What the colours of effects begin with.
EFFECT = "effect"


@dataclass(frozen=True)
class ChannelEdits:
    """One intervention that edits each channel alone, as the page offers it."""

    name: str
    #: What its effects are, in words.
    quantity: str
    #: The class that effects are on; "" for that which the shown condition perturbs.
    class_name: str = ""

    @property
    def colour(self) -> str:
        """What an address calls it, as a colour of the map of channels."""
        return ":".join([EFFECT, self.name, *([self.class_name] if self.class_name else [])])

    @property
    def label(self) -> str:
        """What the menu of colours calls it."""
        on = f" of {self.class_name}" if self.class_name else ""
        return f"{self.quantity}{on} ({self.name}), all patients"


@dataclass(frozen=True)
class Effects:
    """Effects of one intervention on one class."""

    #: "restoration (share)", "necessity (Dice)", …
    quantity: str
    class_name: str
    #: Along all channels of the network in order, NaN where a channel was not edited: float64 (channel).
    values: Floats
    #: In words, by the number of each channel that was edited: ``mean``, ``interval``, ``p`` (corrected) and ``note``.
    words: pd.DataFrame

    def hover(self, channel: int) -> str:
        """ "0.41 (0.32 to 0.50), corrected p 0.003" of a channel of the network; "" where it was not edited."""
        if channel not in self.words.index:
            return ""
        own = self.words.loc[channel]
        ends = f" ({own['interval']})" if own["interval"] else ""
        return f"{own['mean']}{ends}" + (f", corrected p {own['p']}" if own["p"] else "")


class Edits:
    """The interventions of one store that edit each channel alone.

    Parameters
    ----------
    where
        layer name to its channels among all channels of the network.
    """

    def __init__(self, store: Store, where: Mapping[str, slice]) -> None:
        self._store = store
        self._where = where
        #: In alphabetical order; without perturbations one for each class.
        self.offered: list[ChannelEdits] = list(_offered(store))
        self._tables: dict[str, pd.DataFrame] = {}
        self._effects: dict[tuple[ChannelEdits, str], Effects] = {}
        self._lock = threading.Lock()

    def of_colour(self, colour: str) -> ChannelEdits | None:
        """Those that a colour of the map of channels is of, or None."""
        return next((edits for edits in self.offered if edits.colour == colour), None)

    def loaded(self, edits: ChannelEdits) -> bool:
        """Whether :meth:`effects` returns at once."""
        return edits.name in self._tables

    def load(self, edits: ChannelEdits) -> None:
        """Compute the table ``effects`` of an intervention, once; may be called from a thread of its own."""
        with self._lock:
            if edits.name not in self._tables:
                self._tables[edits.name] = Findings(self._store, of=edits.name).table("effects")

    def effects(self, edits: ChannelEdits, condition: str) -> Effects:
        """Effects on the class that ``condition`` perturbs, of the passes in which it is undone or put in.

        Of edits of the original, on that class without the perturbation.

        Raises
        ------
        StoreError
            if the intervention edits no such pass, or its effects are not known.
        """
        key = (edits, condition)
        if key not in self._effects:
            self.load(edits)
            self._effects[key] = self._selected(edits, condition)
        return self._effects[key]

    def _selected(self, edits: ChannelEdits, condition: str) -> Effects:
        table = self._tables[edits.name]
        class_name = edits.class_name or str(self._store.conditions.loc[condition, "target"])
        if not class_name:
            raise StoreError(f"{condition} perturbs no class: choose another condition or colour")
        alone = table[(table["order"] == EACH) & (table["class_name"] == class_name)]
        about = alone["condition"].where(alone["condition"] != ORIGINAL, alone["donor"])
        own = alone[about.isin(["", condition])]
        if own.empty:
            names = first_few(list(dict.fromkeys(about)), 4)
            raise StoreError(f"{edits.name} was made for {names}: choose one of these conditions, or another colour")
        if own["effect"].isna().all():
            raise StoreError(f"{edits.name}: {own['note'].iloc[0]}: choose another condition or colour")
        quantity = str(own["quantity"].iloc[0])
        unit = "share" if quantity in SHARES else "accuracy" if self._store.classified else "Dice"
        at = [
            self._where[layer].start + int(channel) for layer, channel in zip(own["layer"], own["channel"], strict=True)
        ]
        values = np.full(max(where.stop for where in self._where.values()), np.nan)
        values[at] = own["effect"].to_numpy(float)
        return Effects(f"{quantity} ({unit})", class_name, values, _in_words(own).set_axis(at))


def progress_of(store: Store) -> list[tuple[str, int]]:
    """Which interventions a store has, and how many of their blocks are committed."""
    groups = [INTERVENTIONS.prefix + name for name in INTERVENTIONS.names(store)]
    return [(path, int(store.group_committed(path).sum())) for path in groups]


def _offered(store: Store) -> Iterator[ChannelEdits]:
    targets = store.conditions["target"]
    perturbed = set(targets.index[targets != ""])
    classes = [""] if len(targets) > 1 else [EVERY] if store.classified else list(store.members)
    for name in INTERVENTIONS.names(store):
        settings = store.groups[INTERVENTIONS.prefix + name].identity[INTERVENTIONS.settings]
        if settings["channels"] != EACH:
            continue
        donor = settings.get("donor")
        kinds = [quantity_of(settings["edit"], into, donor, perturbed) for into in settings["into"]]
        for class_name in classes:
            yield ChannelEdits(name, " or ".join(dict.fromkeys(kinds)), class_name)


def _in_words(rows: pd.DataFrame) -> pd.DataFrame:
    columns = zip(*(rows[name].tolist() for name in ("effect", "low", "high", "error", "q", "note")), strict=True)
    written = [
        (
            number(effect),
            " to ".join(interval(effect, low, high, error)) if np.isfinite([low, high, error]).all() else "",
            number(q) if np.isfinite(q) else "",
            note,
        )
        for effect, low, high, error, q, note in columns
    ]
    return pd.DataFrame(written, columns=["mean", "interval", "p", "note"])
