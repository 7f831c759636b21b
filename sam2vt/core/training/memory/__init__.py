"""What a training needs in memory, before it runs and where it ran out of it."""
