"""What the report's pages show: a data set opened once, and functions that return tables and figures."""
