"""Clips through Ray Data: planned, decoded, split, batched."""
