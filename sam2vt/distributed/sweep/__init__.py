"""Sweeps: many runs of one configuration with other values, by Ray Tune over Ray Train."""
