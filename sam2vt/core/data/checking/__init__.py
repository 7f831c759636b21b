"""Faults of a dataset, found without training on it."""
