"""Memory that a training needs, estimated before it runs."""
