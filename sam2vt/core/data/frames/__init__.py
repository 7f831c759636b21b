"""Frames from references: images, video files and packs."""
