"""Clips through Ray Data: planned, decoded, split over workers, batched."""
