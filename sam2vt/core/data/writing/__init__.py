"""Datasets written: packs, other layouts, sample data."""
