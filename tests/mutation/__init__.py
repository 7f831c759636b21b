"""Small faults put into the package, to see that its tests notice: `make mutate`."""
