"""Torch, Lightning and SAM 2; never Ray, never Hydra."""
