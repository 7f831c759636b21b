"""The verbs of `sam2vt`, one file each."""
