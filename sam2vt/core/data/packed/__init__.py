"""Packs: datasets as Parquet shards, read."""
