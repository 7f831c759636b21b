"""Parts of the network computed faster, with equal results."""
