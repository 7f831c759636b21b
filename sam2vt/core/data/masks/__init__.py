"""Masks from references: one file per kind of annotation; `loading.KINDS` lists them."""
