"""Checkpoints of a run: stored, found again, resumed from."""
