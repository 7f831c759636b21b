"""The Ray cluster: what it holds, and whether a run fits."""
