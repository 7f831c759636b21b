"""Masks on new videos: prompts in, objects tracked, masks written."""
