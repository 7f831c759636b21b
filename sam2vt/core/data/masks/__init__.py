"""Masks from references, one file for each kind of annotation."""
