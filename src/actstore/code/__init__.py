"""Code that a spec names: imported from beside the spec, and digested as it ran."""
