"""Records to clips to batches; nothing here knows the model.

Each room imports only from those before it:

- json_files, workers
- records: references to videos
- packed: rows of shards
- frames: pixels
- masks
- formats: layouts on disk to records
- clips: record to clip to batch
- checking, writing
- opening, videos, dataset

Nothing up to formats loads torch, nor does drawing clips without augmentation. So decode actors and the
planning of a split need no torch.
"""
