"""Photographs that belong together, from their vectors, contents and capture times."""
