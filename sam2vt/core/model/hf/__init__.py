"""SAM 2 in the form of `transformers.Sam2VideoModel`: its names, its configuration, its model card."""
