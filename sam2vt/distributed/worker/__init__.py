"""The training as one Ray Train worker runs it."""
