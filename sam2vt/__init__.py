"""Fine-tune SAM 2 for video object segmentation, from a laptop to an autoscaling Ray cluster."""

__version__ = "0.1.0"
