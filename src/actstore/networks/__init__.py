"""Networks as a run needs them: weights that load without running code, outputs that depend on one input alone."""
