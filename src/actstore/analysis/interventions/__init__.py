"""What edits of channels do to predictions: effects, tests against other channels, curves, agreement of rankings."""
