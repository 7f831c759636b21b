"""A configuration read, checked and documented from what `sam2vt.config` declares."""
