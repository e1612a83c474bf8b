"""Ratings of a data set's photographs: what was said, about which of them, tables in and out."""
