"""Parts of the network that a CPU computes faster, switched by `model.speedups`."""
