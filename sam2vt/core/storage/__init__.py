"""Everything that opens a path or URI."""
