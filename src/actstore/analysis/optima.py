"""What activation maximisation found for each channel, and how that compares with the samples of the data."""

from __future__ import annotations

#: What became of an image, by the code that a store holds: its channel responds; the channel is 0 everywhere, as behind
#: a ReLU that nothing passes; the objective is the same for every image; or it has a bound that depends on the size of
#: the image alone, as one position behind an instance norm does.
STATUSES = ("live", "dead", "constant", "bounded")
