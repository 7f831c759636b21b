"""The report of a sweep: one HTML page that needs nothing else, with its charts as SVG."""
