"""A record becomes a clip, clips become a batch."""
