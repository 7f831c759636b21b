"""The loss, the optimizer, and Lightning around them."""
