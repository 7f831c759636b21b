"""SAM 2 with gradient through its memory; the only package that imports `sam2`."""
