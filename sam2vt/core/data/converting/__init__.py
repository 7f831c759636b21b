"""Datasets in another layout, for other tools: DAVIS trees, SA-V, COCO video JSON."""
