"""The verbs of the command line, one per file: its arguments beside what it does."""
