"""J and F over whole videos, overlays, tables and curves."""
