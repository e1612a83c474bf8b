"""The report: notebooks and the strict runner that executes them."""
