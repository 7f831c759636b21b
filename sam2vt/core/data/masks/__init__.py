"""Masks from references: `loading.KINDS` lists the kinds of annotation and how each is read."""
