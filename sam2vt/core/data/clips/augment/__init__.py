"""Augmentation of clips, the same for frames and masks."""
