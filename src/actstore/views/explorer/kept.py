"""Arrays that were read last, for going back and forth."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Kept:
    """Arrays that were read last, up to a number of bytes."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._bytes = 0
        self._arrays: OrderedDict[Hashable, NDArray[Any]] = OrderedDict()

    def get(self, key: Hashable, read: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """The array of ``key``, read if it is not kept."""
        if key in self._arrays:
            self._arrays.move_to_end(key)
            return self._arrays[key]
        # A copy of its own: what is read may be a view of a whole chunk.
        found = np.array(read())
        self._arrays[key] = found
        self._bytes += found.nbytes
        while self._bytes > self.most and len(self._arrays) > 1:
            self._bytes -= self._arrays.popitem(last=False)[1].nbytes
        return found
