"""Reductions over the pixels of inputs and activations."""
