"""Predicts what a run will do and cost before it computes anything: network, data, budget, identity."""
