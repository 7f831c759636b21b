"""Terms of the loss, and the sums over pixels and entries that they are computed from."""
