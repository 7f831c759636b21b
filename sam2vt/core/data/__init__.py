"""Records to clips to batches; nothing here knows the model."""
