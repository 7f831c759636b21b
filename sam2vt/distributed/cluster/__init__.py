"""The Ray cluster: its capacity, what a run needs of it, and the session of a driver."""
