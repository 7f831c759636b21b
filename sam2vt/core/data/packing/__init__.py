"""A dataset as Parquet shards for object storage: written once, read by row."""
