"""What the terms of the loss are computed from."""
